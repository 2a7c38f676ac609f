//! The detectors that are compared, and how their scores become incidents.

use std::time::Duration;

use windrow_common::{Course, EventTime, IncidentKind};
use windrow_incidents::{Rules, Track, Window};
use windrow_model::{Gamma, TrainDetector};

use crate::Args;
use crate::fitted::Fitted;
use crate::fleet::Sensor;

pub(crate) const DAY_MS: i64 = 86_400_000;

/// A detector with everything that is chosen about it.
#[derive(Clone)]
pub(crate) struct Step {
    pub(crate) name: String,
    pub(crate) method: Method,
    /// Whether it is trained again every day, and not only before the first.
    daily: bool,
    /// The number of windows that it is trained on.
    pub(crate) last: usize,
    /// What a model sees of a window.
    pub(crate) features: &'static str,
    hold: Hold,
    threshold: f64,
    /// How many of how many windows open an incident.
    open_after: (u32, u32),
    /// How many normal windows close it.
    quiet: u32,
}

#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Method {
    Svm {
        nu: f64,
        gamma: Gamma,
        /// Whether it gets a seasonal profile, if one is worth it.
        seasonal: bool,
    },
    /// Another detector that is trained here, with a seasonal profile if one is worth it.
    Trained { detector: TrainDetector, nu: f64 },
    /// What a back-test of the last windows before the time that is scored chooses, for each sensor.
    Tuned,
    /// Anomalous is what scores above this quantile of the training windows.
    Forest { quantile: f64 },
    /// Anomalous is what is farther from the median than this many times the scaled median absolute deviation.
    RobustZ { limit: f64 },
    /// Anomalous is what differs from the same time yesterday and last week by more than this many standard deviations of
    /// such differences.
    SeasonalNaive { limit: f64 },
}

/// What becomes of anomalous windows.
#[derive(Clone, Copy, PartialEq)]
enum Hold {
    /// Each is an alarm.
    None,
    /// They are collected to incidents.
    Incidents,
    /// Silent and stuck sensors are incidents, too.
    WithHealth,
}

/// Returns the steps, each with what the one before has and more, and then the other detectors.
pub(crate) fn all(args: &Args) -> Vec<Step> {
    let a = Step {
        name: "a static model, every flag an alarm".to_owned(),
        method: Method::Svm {
            nu: 0.01,
            gamma: Gamma::Scale,
            seasonal: false,
        },
        daily: false,
        last: 3_000,
        features: "mean",
        hold: Hold::None,
        threshold: 0.0,
        open_after: (1, 1),
        quiet: args.quiet,
    };
    let mut steps = vec![a];
    let mut then = |name: &str, change: &dyn Fn(&mut Step)| {
        let mut next = steps[steps.len() - 1].clone();
        next.name = name.to_owned();
        change(&mut next);
        steps.push(next);
    };
    then("b + incidents", &|step| step.hold = Hold::Incidents);
    then("b' + silent and stuck sensors", &|step| {
        step.hold = Hold::WithHealth;
    });
    then("c + retrained daily on the last 3,000 windows", &|step| {
        step.daily = true;
    });
    let svm = |seasonal| Method::Svm {
        nu: 0.005,
        gamma: Gamma::PerFeature(3.0),
        seasonal,
    };
    then("d + nu 0.005, gamma 3/d, score above 0.3", &|step| {
        step.method = svm(false);
        step.threshold = 0.3;
    });
    then("e + seasonal profile", &|step| step.method = svm(true));
    then("f + on the last 5,000 windows", &|step| step.last = 5_000);
    then("g + standard deviation, minimum and maximum", &|step| {
        step.features = "mean,std,min,max";
    });
    let all = "mean,std,min,max";
    for (name, detector, features) in [
        ("robust z, of models train", TrainDetector::RobustZ, "mean"),
        (
            "robust z, of models train, four features",
            TrainDetector::RobustZ,
            all,
        ),
        ("nearest neighbour", TrainDetector::NearestNeighbours, "mean"),
        (
            "nearest neighbour, four features",
            TrainDetector::NearestNeighbours,
            all,
        ),
        (
            "principal components, four features",
            TrainDetector::PrincipalComponents,
            all,
        ),
    ] {
        steps.push(Step {
            name: name.to_owned(),
            method: Method::Trained { detector, nu: 0.005 },
            daily: true,
            last: 5_000,
            features,
            hold: Hold::WithHealth,
            threshold: args.threshold,
            ..steps[0].clone()
        });
    }
    for (name, features) in [("tuned, from f", "mean"), ("tuned, from g", all)] {
        steps.push(Step {
            name: name.to_owned(),
            method: Method::Tuned,
            features,
            ..steps[steps.len() - 1].clone()
        });
    }
    let peers = [
        (
            "isolation forest",
            Method::Forest {
                quantile: args.quantile,
            },
        ),
        ("robust z", Method::RobustZ { limit: args.limit }),
        ("seasonal naive", Method::SeasonalNaive { limit: args.limit }),
    ];
    for (name, method) in peers {
        let hold = Hold::WithHealth;
        steps.push(Step {
            name: name.to_owned(),
            method,
            hold,
            daily: true,
            ..steps[0].clone()
        });
    }
    steps
}

/// Returns a step under many rules.
pub(crate) fn sweep(step: &Step) -> Vec<Step> {
    let mut steps = Vec::new();
    for threshold in [0.2, 0.3, 0.45, 0.6, 1.0] {
        for open_after in [(1, 1), (2, 3), (2, 6)] {
            for quiet in [6, 60, 144] {
                steps.push(Step {
                    name: format!("{threshold} {}/{} {quiet}", open_after.0, open_after.1),
                    threshold,
                    open_after,
                    quiet,
                    ..step.clone()
                });
            }
        }
    }
    steps
}

impl Step {
    /// Returns the incidents of the time that is scored.
    pub(crate) fn courses(&self, sensor: &Sensor, scores: &[f64]) -> Vec<Course> {
        let first = sensor.windows.len() - scores.len();
        let windows = sensor.windows.iter().zip(
            // The history is normal: it only tells what pauses and repetitions are usual.
            std::iter::repeat_n(f64::MIN, first).chain(scores.iter().copied()),
        );
        let windows = windows.map(|(aggregate, score)| Window::of(aggregate, sensor.length, score));
        let mut courses = Vec::new();
        if self.hold == Hold::None {
            let flagged = windows.filter(|window| window.score > self.threshold);
            courses.extend(flagged.map(|window| alarm(&window)));
        } else {
            let rules = self.rules();
            rules.check().unwrap();
            let mut track = Track::default();
            for window in windows {
                track.take(&window, &rules, &mut courses);
            }
            courses.extend(track.open(sensor.end, &rules));
        }
        courses.retain(|course| course.until > sensor.scored);
        courses
    }

    pub(crate) fn rules(&self) -> Rules {
        let defaults = Rules::default();
        let health = self.hold == Hold::WithHealth;
        Rules {
            threshold: self.threshold,
            open_after: self.open_after.0,
            of: self.open_after.1,
            quiet: self.quiet,
            silent_after: if health {
                defaults.silent_after
            } else {
                Duration::ZERO
            },
            stuck_after: if health { defaults.stuck_after } else { 0 },
            // Other sensors' rates vary too much to be told from faults here.
            rate_after: 0,
            ..defaults
        }
    }

    /// Returns whether another step gives the same scores.
    pub(crate) fn scores_like(&self, other: &Self) -> bool {
        let of = |step: &Self| (step.method, step.daily, step.last, step.features);
        of(self) == of(other)
    }

    /// Returns the scores of the windows from the start of scoring on.
    pub(crate) fn scores(&self, sensor: &Sensor) -> Vec<f64> {
        let windows = &sensor.windows;
        let position = |time: EventTime| windows.partition_point(|window| window.window_start < time);
        let mut scores = Vec::new();
        let mut fitted = Fitted::None;
        let mut day = sensor.scored;
        let recipe = self.recipe(sensor);
        while day < sensor.end {
            let next = match self.daily {
                true => EventTime::from_millis(day.as_millis() + DAY_MS),
                false => sensor.end,
            };
            let (from, to) = (position(day), position(next));
            let training = from.saturating_sub(self.last)..from;
            if let Some(new) = self.fit(windows, training, &recipe) {
                fitted = new;
            }
            fitted.score(windows, from..to, &mut scores);
            day = next;
        }
        scores
    }
}

fn alarm(window: &Window) -> Course {
    Course {
        closed: Some(window.end),
        windows: 1,
        ..Course::begun(IncidentKind::Anomaly, window.start, window.end)
    }
}
