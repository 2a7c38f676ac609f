//! The detectors that are compared, and how their scores become incidents.

use std::time::Duration;

use windrow_alerter::incident::{Rules, Track, Window};
use windrow_common::{Aggregate, Course, EventTime, IncidentKind};
use windrow_model::{
    Gamma, Model, ProfileChoice, Scores, Scratch, TrainDetector, TrainOptions, TrainingWindows, train_windows,
};

use windrow_tuning::{History, Recipe, recipes, tune};

use crate::Args;
use crate::fleet::Sensor;
use crate::forest::Forest;

const DAY_MS: i64 = 86_400_000;

/// A detector with everything that is chosen about it.
#[derive(Clone)]
pub(crate) struct Step {
    pub(crate) name: String,
    method: Method,
    /// Whether it is trained again every day, and not only before the first.
    daily: bool,
    /// The number of windows that it is trained on.
    last: usize,
    /// What a model sees of a window.
    features: &'static str,
    hold: Hold,
    threshold: f64,
    /// How many of how many windows open an incident.
    open_after: (u32, u32),
    /// How many normal windows close it.
    quiet: u32,
}

#[derive(Clone, Copy, PartialEq)]
enum Method {
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

    fn rules(&self) -> Rules {
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

/// A detector that has been trained.
enum Fitted {
    None,
    Model(Box<Model>),
    Forest { forest: Forest, limit: f64 },
    RobustZ { median: f64, limit: f64 },
    SeasonalNaive { limit: f64 },
}

impl Step {
    /// Returns what a sensor's model is trained on, and how.
    fn recipe(&self, sensor: &Sensor) -> Recipe {
        let present = Recipe {
            features: self.features.parse().unwrap(),
            options: self.options(),
        };
        if self.method != Method::Tuned {
            return present;
        }
        let present = Recipe {
            options: TrainOptions {
                max_rows: self.last,
                ..present.options
            },
            ..present
        };
        let before = sensor
            .windows
            .partition_point(|window| window.window_start < sensor.scored);
        let history = History {
            windows: &sensor.windows[before.saturating_sub(10_000)..before],
            length: sensor.length,
            anomalies: &[],
            left_out: &[],
        };
        let tuned = tune(history, &recipes(&present), &self.rules(), 1.0);
        tuned.map_or(present, |tuned| tuned.choice().recipe.clone())
    }

    /// Returns how a model is trained.
    fn options(&self) -> TrainOptions {
        let seasonal = ProfileChoice::by_hours_of("UTC").unwrap();
        let options = TrainOptions {
            max_rows: 20_000,
            ..TrainOptions::default()
        };
        match self.method {
            Method::Svm {
                nu,
                gamma,
                seasonal: profile,
            } => TrainOptions {
                nu,
                gamma,
                profile: if profile { seasonal } else { ProfileChoice::Never },
                ..options
            },
            Method::Trained { detector, nu } => TrainOptions {
                nu,
                detector,
                profile: seasonal,
                ..options
            },
            Method::Tuned => TrainOptions {
                gamma: Gamma::for_features(&self.features.parse().unwrap()),
                profile: seasonal,
                ..options
            },
            _ => options,
        }
    }

    /// Trains on some of the windows; returns `None` if they are too few.
    fn fit(&self, all: &[Aggregate], training: std::ops::Range<usize>, recipe: &Recipe) -> Option<Fitted> {
        /// A sensor with fewer windows is not worth a model.
        const LEAST: usize = 100;
        if training.len() < LEAST {
            return None;
        }
        let values: Vec<f64> = all[training.clone()].iter().map(|window| window.mean).collect();
        match self.method {
            Method::Svm { .. } | Method::Trained { .. } | Method::Tuned => {
                let Recipe { features, options } = recipe.clone();
                let listed = features.as_slice();
                let of = |window| listed.iter().map(move |feature| feature.of(window));
                let rows: Vec<f64> = all[training.clone()].iter().flat_map(of).collect();
                let starts: Vec<EventTime> = all[training].iter().map(|window| window.window_start).collect();
                let windows = TrainingWindows {
                    starts: &starts,
                    rows: &rows,
                };
                let (model, _) = train_windows(windows, features, &options).unwrap();
                Some(Fitted::Model(Box::new(model)))
            }
            Method::Forest { quantile } => {
                let forest = Forest::fit(&values);
                let scores = values.iter().map(|value| forest.score(*value)).collect();
                let limit = quantile_of(scores, quantile);
                Some(Fitted::Forest { forest, limit })
            }
            Method::RobustZ { limit } => {
                let median = quantile_of(values.clone(), 0.5);
                let deviations = values.iter().map(|value| (value - median).abs()).collect();
                let deviation = 1.4826 * quantile_of(deviations, 0.5);
                Some(Fitted::RobustZ {
                    median,
                    limit: limit * deviation,
                })
            }
            Method::SeasonalNaive { limit } => {
                let differences: Vec<f64> = training.filter_map(|at| difference(all, at)).collect();
                let squares = differences
                    .iter()
                    .map(|difference| difference * difference)
                    .sum::<f64>();
                let deviation = (squares / differences.len() as f64).sqrt();
                (!differences.is_empty()).then_some(Fitted::SeasonalNaive {
                    limit: limit * deviation,
                })
            }
        }
    }
}

impl Fitted {
    /// Adds the scores of some windows to `scores`; above the step's threshold is anomalous.
    fn score(&self, all: &[Aggregate], which: std::ops::Range<usize>, scores: &mut Vec<f64>) {
        let values = all[which.clone()].iter().map(|window| window.mean);
        match self {
            Self::None => scores.extend(values.map(|_| f64::MIN)),
            Self::Model(model) => {
                let mut out = Scores::default();
                model
                    .score(&all[which], &mut Scratch::default(), &mut out)
                    .unwrap();
                scores.append(&mut out.scores);
            }
            Self::Forest { forest, limit } => scores.extend(values.map(|value| forest.score(value) - limit)),
            Self::RobustZ { median, limit } => {
                scores.extend(values.map(|value| (value - median).abs() - limit));
            }
            Self::SeasonalNaive { limit } => {
                scores.extend(which.map(|at| difference(all, at).map_or(f64::MIN, |off| off - limit)));
            }
        }
    }
}

/// Returns how far a window is from the nearer of those a day and a week before it.
fn difference(all: &[Aggregate], at: usize) -> Option<f64> {
    let Aggregate {
        window_start, mean, ..
    } = all[at];
    let before = |days: i64| {
        let time = EventTime::from_millis(window_start.as_millis() - days * DAY_MS);
        let found = all[..at].binary_search_by_key(&time, |window| window.window_start);
        found.ok().map(|found| (mean - all[found].mean).abs())
    };
    before(1).into_iter().chain(before(7)).reduce(f64::min)
}

fn quantile_of(mut values: Vec<f64>, quantile: f64) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    values[((values.len() - 1) as f64 * quantile).ceil() as usize]
}
