//! Which model suits a sensor, by back-test.
//!
//! [`tune`] fits [`recipes`] (detectors, kernels, features, with a seasonal profile or without) to the older three
//! quarters of a sensor's windows. If these are more than a model takes, it uses the newest of them. It judges each
//! recipe by the newest quarter: how many incidents it would have raised there, and how many anomalies it finds that
//! are injected into copies of these windows. Incidents are also counted in windows too old for any model to be trained
//! on. Labels by people count, too. The present model stays unless another is clearly better.
//!
//! | to | see |
//! |---|---|
//! | know what is tried | `recipe.rs` |
//! | know what anomalies are put in, and how large they are | `inject.rs` |
//! | know how a recipe is judged | `trial.rs` |
//! | know which one wins, and why | `choice.rs` |
//!
//! No I/O and no clock: the same windows always choose the same model.

mod choice;
mod inject;
mod raised;
mod recipe;
mod trial;

use std::ops::Range;

use windrow_common::{Aggregate, EventTime, Length};
use windrow_incidents::Rules;

pub use choice::Tuned;
pub use inject::INJECTIONS;
pub use raised::raised;
pub use recipe::{Recipe, recipes};
pub use trial::Trial;

/// A sensor's windows, and what is known of them.
#[derive(Clone, Copy, Debug)]
pub struct History<'a> {
    /// The windows, in order of time.
    pub windows: &'a [Aggregate],
    /// Their length.
    pub length: Length,
    /// When something was wrong. Models should find it, and are not trained on it. The ends are exclusive.
    pub anomalies: &'a [Range<EventTime>],
    /// When people worked on the machine. These windows are ignored.
    pub left_out: &'a [Range<EventTime>],
}

/// Why a sensor cannot be tuned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TuneError {
    /// There are fewer windows than can be split into an older part and a newer one.
    TooFew(usize),
    /// No recipe can be trained on the older part.
    Untrainable,
}

impl std::fmt::Display for TuneError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::TooFew(windows) => write!(
                f,
                "it has {windows} windows that no label leaves out; at least {} are needed",
                trial::FEWEST
            ),
            Self::Untrainable => f.write_str("no recipe can be trained on its older windows"),
        }
    }
}

impl std::error::Error for TuneError {}

/// Tries every recipe, of which the first is the present one, and chooses.
///
/// `rules` are those of the alerter, with the threshold of the sensor; `per_month` is the promised rate of false incidents.
pub fn tune(
    history: History<'_>,
    recipes: &[Recipe],
    rules: &Rules,
    per_month: f64,
) -> Result<Tuned, TuneError> {
    let most = recipes.iter().map(Recipe::most_windows).max().unwrap_or(0);
    let backtest = trial::Backtest::new(history, most, rules)?;
    let mut trials: Vec<Trial> = Vec::new();
    for recipe in recipes {
        trials.extend(backtest.trials(recipe));
    }
    if trials.iter().all(|trial| trial.failed.is_some()) {
        return Err(TuneError::Untrainable);
    }
    Ok(Tuned::of(trials, backtest.months(), per_month))
}
