//! How the detector of a step is trained, and scores.

use windrow_common::{Aggregate, EventTime};
use windrow_model::{
    Gamma, Model, ProfileChoice, Scores, Scratch, TrainOptions, TrainingWindows, train_windows,
};
use windrow_tuning::{History, Recipe, Trial, recipes, tune};

use crate::fleet::Sensor;
use crate::forest::Forest;
use crate::step::{DAY_MS, Method, Step};

/// A detector that has been trained.
pub(crate) enum Fitted {
    None,
    Model(Box<Model>),
    Forest { forest: Forest, limit: f64 },
    RobustZ { median: f64, limit: f64 },
    SeasonalNaive { limit: f64 },
}

/// Returns what a chosen recipe is when its first model is stored.
fn trained_first(chosen: &Trial, windows: &[Aggregate]) -> Recipe {
    let features = chosen.recipe.features.clone();
    let newest = &windows[windows.len().saturating_sub(chosen.recipe.most_windows())..];
    let mut rows = Vec::new();
    features.extract(newest, &mut rows);
    let starts: Vec<EventTime> = newest.iter().map(|window| window.window_start).collect();
    let windows = TrainingWindows {
        starts: &starts,
        rows: &rows,
    };
    let (_, options) = chosen.train(windows).unwrap();
    Recipe { features, options }
}

impl Step {
    /// Returns what a sensor's model is trained on, and how.
    pub(crate) fn recipe(&self, sensor: &Sensor) -> Recipe {
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
        match tune(history, &recipes(&present), &self.rules(), 1.0) {
            Ok(tuned) if !tuned.stays() => trained_first(tuned.choice(), history.windows),
            _ => present,
        }
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
    pub(crate) fn fit(
        &self,
        all: &[Aggregate],
        training: std::ops::Range<usize>,
        recipe: &Recipe,
    ) -> Option<Fitted> {
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
    pub(crate) fn score(&self, all: &[Aggregate], which: std::ops::Range<usize>, scores: &mut Vec<f64>) {
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
