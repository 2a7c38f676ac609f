//! Tries a recipe: fits it to the older windows and judges it by the newer ones.

use std::ops::Range;
use std::time::Duration;

use windrow_common::{Aggregate, EventTime, Length};
use windrow_incidents::Rules;
use windrow_model::{
    Model, ProfileChoice, Replaced, Scores, Scratch, TrainError, TrainOptions, TrainingWindows, train_windows,
};

use crate::inject::{self, INJECTIONS, LABELLED_COUNT};
use crate::{History, Recipe, TuneError, raised};

/// Fewest windows to split.
pub(crate) const FEWEST: usize = 60;

/// One in this many windows is held out: the newest.
const HELD_OUT: usize = 4;

/// Mean length of a month, as budgets are promised by the month.
const MONTH: Duration = Duration::from_secs(2_629_746);

/// The result of trying a recipe.
#[derive(Clone, Debug)]
pub struct Trial {
    /// The recipe.
    pub recipe: Recipe,
    /// Whether its model has a seasonal profile.
    pub profile: bool,
    /// Number of injected anomalies that it found, out of [`INJECTIONS`].
    pub found: usize,
    /// Number of labelled anomalies that it found, out of [`Trial::labelled`].
    pub labelled_found: usize,
    /// Number of anomalies that people have labelled.
    pub labelled: usize,
    /// Number of incidents that it raised on unmodified windows that it was not trained on.
    pub incidents: usize,
    /// Why it could not be tried.
    pub failed: Option<String>,
}

/// The windows of a sensor, as recipes see them.
pub(crate) struct Backtest<'a> {
    rules: &'a Rules,
    length: Length,
    older: Vec<Aggregate>,
    /// Number of the oldest windows, which no recipe is trained on.
    unlearnt: usize,
    held_out: Vec<Aggregate>,
    /// The windows of anomalies that people have found.
    labelled: Vec<Vec<Aggregate>>,
    /// For each injected anomaly, the range of held-out windows around it, and their copies with the anomaly.
    injected: Vec<(Range<usize>, Vec<Aggregate>)>,
}

impl<'a> Backtest<'a> {
    /// Splits the windows, and puts anomalies into copies of the newer ones. A recipe is trained on `most` windows at most.
    pub(crate) fn new(history: History<'_>, most: usize, rules: &'a Rules) -> Result<Self, TuneError> {
        let length = history.length;
        let touches = |window: &Aggregate, when: &Range<EventTime>| {
            let end = window.window_start.saturating_add(length.as_duration());
            window.window_start < when.end && end > when.start
        };
        let windows = || history.windows.iter().copied();
        let of = |when: &Range<EventTime>| {
            windows()
                .filter(|window| touches(window, when))
                .collect::<Vec<_>>()
        };
        let labelled = history
            .anomalies
            .iter()
            .map(of)
            .filter(|windows| !windows.is_empty());
        let labelled = labelled.collect();
        let is_labelled = |window: &Aggregate| {
            let mut stretches = history.anomalies.iter().chain(history.left_out);
            stretches.any(|when| touches(window, when))
        };
        let mut older: Vec<Aggregate> = windows().filter(|window| !is_labelled(window)).collect();
        if older.len() < FEWEST {
            return Err(TuneError::TooFew(older.len()));
        }
        let held_out = older.split_off(older.len() - older.len() / HELD_OUT);
        // As many windows as decide together whether an incident opens.
        let around = rules.of.saturating_sub(1) as usize;
        let injections = inject::injections(held_out.len(), inject::deviation(&older));
        let injected = injections.into_iter().map(|injection| {
            let at = injection.at.clone();
            let around = at.start.saturating_sub(around)..(at.end + around).min(held_out.len());
            let mut windows = held_out[around.clone()].to_vec();
            let own = at.start - around.start..at.end - around.start;
            injection.put_into(&mut windows[own]);
            (around, windows)
        });
        Ok(Self {
            rules,
            length,
            injected: injected.collect(),
            unlearnt: older.len().saturating_sub(most),
            older,
            held_out,
            labelled,
        })
    }

    /// Returns the total length of the windows that no recipe is trained on, in months.
    #[allow(clippy::cast_precision_loss)] // Far below 2^53.
    pub(crate) fn months(&self) -> f64 {
        let windows = self.unlearnt + self.held_out.len();
        windows as f64 * self.length.as_duration().as_secs_f64() / MONTH.as_secs_f64()
    }

    /// Tries a recipe; and if its model has a seasonal profile, the same without it.
    pub(crate) fn trials(&self, recipe: &Recipe) -> Vec<Trial> {
        let trial = self.trial(recipe);
        let without = (trial.profile && recipe.options.profile != ProfileChoice::Never)
            .then(|| self.trial(&recipe.without_profile()));
        std::iter::once(trial).chain(without).collect()
    }

    fn trial(&self, recipe: &Recipe) -> Trial {
        let mut trial = Trial {
            recipe: recipe.clone(),
            profile: false,
            found: 0,
            labelled_found: 0,
            labelled: self.labelled.len(),
            incidents: 0,
            failed: None,
        };
        let judged = self.fit(recipe).and_then(|model| {
            trial.profile = model.profile().is_some();
            self.judge(&model, &mut trial)
        });
        trial.failed = judged.err();
        trial
    }

    fn fit(&self, recipe: &Recipe) -> Result<Model, String> {
        let older = &self.older[self.older.len().saturating_sub(recipe.most_windows())..];
        let mut rows = Vec::new();
        recipe.features.extract(older, &mut rows);
        let starts: Vec<EventTime> = older.iter().map(|window| window.window_start).collect();
        let windows = TrainingWindows {
            starts: &starts,
            rows: &rows,
        };
        let trained = train_windows(windows, recipe.features.clone(), &recipe.options);
        match trained.map_err(|error| error.to_string())? {
            // Such a model may do well in the held-out time, but not much longer.
            (_, Some(why @ Replaced::OnlyGrew)) => Err(why.to_string()),
            (model, _) => Ok(model),
        }
    }

    fn judge(&self, model: &Model, trial: &mut Trial) -> Result<(), String> {
        let (mut scratch, mut scores) = (Scratch::default(), Scores::default());
        let mut score = |windows: &[Aggregate]| {
            let scored = model.score(windows, &mut scratch, &mut scores);
            scored.map_err(|error| error.to_string())?;
            Ok::<_, String>(scores.scores.clone())
        };
        let usual = score(&self.held_out)?;
        let unlearnt = &self.older[..self.unlearnt];
        trial.incidents =
            self.incidents(unlearnt, &score(unlearnt)?) + self.incidents(&self.held_out, &usual);
        for windows in &self.labelled {
            let scores = score(windows)?;
            trial.labelled_found += usize::from(self.incidents(windows, &scores) > 0);
        }
        for (at, windows) in &self.injected {
            // An anomaly that is injected into a false alarm proves nothing, so it does not count as found.
            if self.incidents(&self.held_out[at.clone()], &usual[at.clone()]) > 0 {
                continue;
            }
            let scores = score(windows)?;
            trial.found += usize::from(self.incidents(windows, &scores) > 0);
        }
        Ok(())
    }

    fn incidents(&self, windows: &[Aggregate], scores: &[f64]) -> usize {
        let starts = windows.iter().map(|window| window.window_start);
        raised(starts, scores, self.length, self.rules).len()
    }
}

impl Trial {
    /// Trains the recipe on other windows, and returns the model and the options that it was trained with.
    ///
    /// The windows may show a season that those of the trial did not. A model with that profile was never tried, so
    /// this one gets no profile.
    pub fn train(&self, windows: TrainingWindows<'_>) -> Result<(Model, TrainOptions), TrainError> {
        let train = |recipe: Recipe| {
            let (model, _) = train_windows(windows, recipe.features, &recipe.options)?;
            Ok((model, recipe.options))
        };
        let trained = train(self.recipe.clone())?;
        if trained.0.profile().is_some() && !self.profile {
            return train(self.recipe.without_profile());
        }
        Ok(trained)
    }

    /// Returns the share of all anomalies that it found, from 0 to 1. One that people have found counts as `LABELLED_COUNT` that
    /// were put in.
    #[allow(clippy::cast_precision_loss)] // Far below 2^53.
    pub fn share(&self) -> f64 {
        let found = self.found + LABELLED_COUNT * self.labelled_found;
        let all = INJECTIONS + LABELLED_COUNT * self.labelled;
        found as f64 / all as f64
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{recipes, tune};
    use windrow_model::{Features, Gamma};

    const MINUTE: i64 = 60_000;

    /// Windows of six readings a minute, with the mean and the spread that a function returns.
    fn windows(count: i64, value: impl Fn(i64) -> (f64, f64)) -> Vec<Aggregate> {
        let window = |at| {
            let (mean, spread) = value(at);
            Aggregate {
                window_start: EventTime::from_millis(at * MINUTE),
                count: 6,
                mean,
                std: 0.6 * spread,
                min: mean - spread,
                max: mean + spread,
                first: mean - 0.5 * spread,
                last: mean + 0.5 * spread,
            }
        };
        (0..count).map(window).collect()
    }

    fn noise(at: i64, seed: i64) -> f64 {
        let draw = |by: i64| (((at * 7_919 + seed * 104_729 + by * 15_485_863) % 9_973) as f64) / 9_973.0;
        (0..12).map(draw).sum::<f64>() - 6.0
    }

    fn present(list: &str) -> Recipe {
        let features: Features = list.parse().unwrap();
        let options = TrainOptions {
            gamma: Gamma::for_features(&features),
            ..TrainOptions::default()
        };
        Recipe { features, options }
    }

    fn history<'a>(windows: &'a [Aggregate], anomalies: &'a [Range<EventTime>]) -> History<'a> {
        History {
            windows,
            length: Length::from_millis(MINUTE),
            anomalies,
            left_out: &[],
        }
    }

    #[test]
    fn a_counter_is_judged_by_its_growth_and_the_same_windows_choose_the_same() {
        let counter = windows(2_000, |at| (3.0 * at as f64, 1.5 + 0.1 * noise(at, 1)));
        let all = recipes(&present("mean,std,min,max"));
        let tuned = || tune(history(&counter, &[]), &all, &Rules::default(), 1.0).unwrap();
        let chosen = tuned();
        assert!(!chosen.stays());
        assert_eq!(chosen.choice().recipe.features.to_string(), "std,range");
        let failed = chosen.present().failed.as_ref();
        assert!(failed.is_some_and(|why| why.contains("only grew")), "{failed:?}");
        assert_eq!(chosen.why(), tuned().why());
    }

    #[test]
    fn what_people_found_is_not_learnt_and_has_to_be_found() {
        let wrong = 300..330;
        let value = |at: i64| {
            let off = if wrong.contains(&at) { 40.0 } else { 0.0 };
            (20.0 + 0.2 * noise(at, 1) + off, 0.5)
        };
        let all = windows(800, value);
        let stretch = EventTime::from_millis(300 * MINUTE)..EventTime::from_millis(330 * MINUTE);
        let labelled = [stretch];
        let rules = Rules::default();
        let backtest = Backtest::new(history(&all, &labelled), 5_000, &rules).unwrap();
        assert_eq!(backtest.older.len() + backtest.held_out.len(), 770);
        let [trial] = &backtest.trials(&present("mean"))[..] else {
            panic!("no profile is worth it");
        };
        assert_eq!((trial.labelled, trial.labelled_found), (1, 1));
        assert_eq!(trial.incidents, 0);
        // At 48 deviations every shift is found.
        assert!(trial.found >= 20, "{}", trial.found);
        // Without the label it is learnt, and nobody counts it.
        let backtest = Backtest::new(history(&all, &[]), 5_000, &rules).unwrap();
        assert_eq!(backtest.trials(&present("mean"))[0].labelled, 0);
    }

    #[test]
    fn a_recipe_with_a_profile_is_tried_without_it() {
        let day = |at: i64| 10.0 * (at as f64 / 1_440.0 * std::f64::consts::TAU).sin();
        let daily = windows(5 * 1_440, |at| (day(at) + 0.1 * noise(at, 1), 0.2));
        let rules = Rules::default();
        let backtest = Backtest::new(history(&daily, &[]), 5_000, &rules).unwrap();
        let trials = backtest.trials(&present("mean"));
        let profiles: Vec<bool> = trials.iter().map(|trial| trial.profile).collect();
        assert_eq!(profiles, [true, false]);
        assert!(trials[1].recipe.to_string().ends_with("no profile"));
    }

    #[test]
    fn too_few_windows_are_named() {
        let few = windows(59, |_| (1.0, 0.0));
        let refused = tune(
            history(&few, &[]),
            &recipes(&present("mean")),
            &Rules::default(),
            1.0,
        );
        assert_eq!(refused.unwrap_err(), TuneError::TooFew(59));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(12))]
        #[test]
        fn any_numbers_choose_something(
            values in proptest::collection::vec(prop_oneof![Just(0.0), -1e6..1e6_f64, any::<f64>()], 1..8),
            votes in 1_u32..4,
        ) {
            let finite = |at: i64| {
                let value = values[usize::try_from(at * at % 31).unwrap() % values.len()];
                if value.is_finite() { value } else { 1.0 }
            };
            let odd = windows(80, |at| (finite(at), 0.0));
            let rules = Rules { open_after: 1, of: votes, ..Rules::default() };
            match tune(history(&odd, &[]), &recipes(&present("mean")), &rules, 1.0) {
                Ok(tuned) => {
                    prop_assert!(tuned.chosen < tuned.trials.len());
                    prop_assert!(tuned.trials.iter().all(|trial| trial.found <= INJECTIONS));
                }
                Err(why) => {
                    prop_assert_eq!(why, crate::TuneError::Untrainable);
                    prop_assert!(values.iter().any(|value| value.abs() > 1e6), "{:?}", values);
                }
            }
        }
    }
}
