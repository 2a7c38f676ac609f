//! Which recipe wins, and why.
//!
//! A recipe is worth the share of the anomalies that it found, minus a cost for its incidents beyond those that chance
//! allows: a tenth for each time that they would use up the budget. So a second incident within a day weighs more than
//! one within a month. The present one stays unless the best is worth a tenth more: the held-out windows of one sensor
//! are few, and a change costs people what they have learnt about its model.

use std::fmt::Write;

use crate::{INJECTIONS, Trial};

/// What it costs, as a share of the anomalies, to use up the budget once more than is allowed.
const COST_OF_BUDGET: f64 = 0.1;

/// How much more than the present one a recipe must be worth to take its place.
const MARGIN: f64 = 0.1;

/// A sensor that keeps its budget raises more incidents than are allowed with this probability at most.
const UNLIKELY: f64 = 0.05;

/// A model that finds a smaller share of the anomalies is hardly useful.
const NEXT_TO_NOTHING: f64 = 0.1;

/// From this mean on, a Poisson distribution counts as a normal one.
const MANY: f64 = 100.0;

/// The result of trying all recipes.
#[derive(Clone, Debug)]
pub struct Tuned {
    /// The trials; the first is that of the present recipe.
    pub trials: Vec<Trial>,
    /// Position of the chosen one.
    pub chosen: usize,
    /// Number of incidents that a sensor within its budget may raise by chance in the time that no model was trained
    /// on.
    pub allowed: usize,
    /// The budget for that time, in incidents.
    pub budget: f64,
}

impl Tuned {
    /// Chooses among trials, of which there is at least one; no model was trained on `months`.
    pub(crate) fn of(trials: Vec<Trial>, months: f64, per_month: f64) -> Self {
        let budget = per_month * months;
        let mut tuned = Self {
            trials,
            chosen: 0,
            allowed: likely_at_most(budget),
            budget,
        };
        let present = tuned.worth(tuned.present());
        let mut most = present;
        for (at, trial) in tuned.trials.iter().enumerate().skip(1) {
            let worth = tuned.worth(trial);
            // Among equals, the first wins, because it is closest to what people know. Only fewer incidents decide
            // otherwise.
            let fewer = worth == most && tuned.chosen > 0 && trial.incidents < tuned.choice().incidents;
            if worth > most || fewer {
                (tuned.chosen, most) = (at, worth);
            }
        }
        // Sums of shares differ by rounding.
        if most < present + MARGIN - 1e-9 {
            tuned.chosen = 0;
        }
        tuned
    }

    /// Returns the trial of the present recipe.
    pub fn present(&self) -> &Trial {
        &self.trials[0]
    }

    /// Returns the trial of the chosen one.
    pub fn choice(&self) -> &Trial {
        &self.trials[self.chosen]
    }

    /// Returns whether the present one stays.
    pub fn stays(&self) -> bool {
        self.chosen == 0
    }

    /// Returns what a trial is worth: at most 1; the smallest number if it failed.
    #[allow(clippy::cast_precision_loss)] // Far below 2^53.
    pub fn worth(&self, trial: &Trial) -> f64 {
        if trial.failed.is_some() {
            return f64::MIN;
        }
        let beyond = trial.incidents.saturating_sub(self.allowed) as f64;
        trial.share() - COST_OF_BUDGET * beyond / self.budget.max(f64::MIN_POSITIVE)
    }

    /// Explains the choice, for people.
    pub fn why(&self) -> String {
        let (present, choice) = (self.present(), self.choice());
        let mut text = match self.stays() {
            true => "no other is better by a tenth: it".to_owned(),
            false => "it".to_owned(),
        };
        self.add_figures(&mut text, choice);
        if !self.stays() {
            match &present.failed {
                Some(why) => _ = write!(text, "; the present one is out: {why}"),
                None => {
                    text += "; the present one";
                    self.add_figures(&mut text, present);
                }
            }
        }
        text
    }

    fn add_figures(&self, text: &mut String, trial: &Trial) {
        let _ = write!(text, " finds {} of {INJECTIONS} anomalies put in", trial.found);
        if trial.share() < NEXT_TO_NOTHING {
            text.push_str(" (next to nothing)");
        }
        if trial.labelled > 0 {
            let _ = write!(
                text,
                " and {} of {} labelled",
                trial.labelled_found, trial.labelled
            );
        }
        let _ = write!(
            text,
            ", and raises {} incidents of {} allowed",
            trial.incidents, self.allowed
        );
    }
}

/// Returns the smallest number that a Poisson distribution of this mean exceeds with a probability of at most [`UNLIKELY`].
#[allow(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss
)]
fn likely_at_most(mean: f64) -> usize {
    if mean > MANY {
        return (mean + 1.645 * mean.sqrt()).ceil() as usize;
    }
    let mut term = (-mean).exp();
    let (mut all, mut number) = (term, 0);
    while all < 1.0 - UNLIKELY {
        number += 1;
        term *= mean / number as f64;
        all += term;
    }
    number
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Recipe;

    fn trial(found: usize, incidents: usize) -> Trial {
        Trial {
            recipe: Recipe {
                features: "mean".parse().unwrap(),
                options: windrow_model::TrainOptions::default(),
            },
            profile: false,
            found,
            labelled_found: 0,
            labelled: 0,
            incidents,
            failed: None,
        }
    }

    fn chosen(trials: &[(usize, usize)]) -> usize {
        let trials = trials.iter().map(|(found, incidents)| trial(*found, *incidents));
        Tuned::of(trials.collect(), 1.0, 1.0).chosen
    }

    #[test]
    fn chance_allows_what_a_table_of_the_poisson_distribution_says() {
        for (mean, most) in [
            (0.0, 0),
            (0.05, 0),
            (0.25, 1),
            (1.0, 3),
            (5.0, 9),
            (30.0, 39),
            (400.0, 433),
        ] {
            assert_eq!(likely_at_most(mean), most, "{mean}");
        }
    }

    #[test]
    fn the_present_one_stays_unless_another_is_worth_a_tenth_more() {
        assert_eq!(chosen(&[(30, 0), (35, 0), (30, 0)]), 0);
        assert_eq!(chosen(&[(30, 0), (36, 0), (35, 0)]), 1);
        assert_eq!(chosen(&[(30, 0), (36, 0), (40, 1)]), 2);
        // Of equals the one with fewer incidents, and then the first.
        assert_eq!(chosen(&[(30, 0), (40, 1), (40, 0), (40, 0)]), 2);
        // In a month, each incident beyond the three that are allowed costs six of the sixty.
        assert_eq!(chosen(&[(30, 0), (60, 7), (40, 5)]), 1);
        assert_eq!(chosen(&[(30, 0), (60, 9), (40, 5)]), 0);
        assert_eq!(chosen(&[(50, 12), (20, 3), (58, 15)]), 1);
        // In a tenth of it, each costs all of the sixty.
        let day = Tuned::of(vec![trial(30, 0), trial(60, 2)], 0.1, 1.0);
        assert!(day.stays() && (day.worth(&day.trials[1]) - 0.0).abs() < 1e-9);
    }

    #[test]
    fn what_people_have_found_counts_more_than_what_was_put_in() {
        let labelled = |found, labelled_found| Trial {
            labelled_found,
            labelled: 4,
            ..trial(found, 0)
        };
        let tuned = Tuned::of(vec![labelled(30, 0), labelled(28, 3)], 0.25, 1.0);
        assert_eq!(tuned.chosen, 1);
        assert_eq!(
            tuned.why(),
            "it finds 28 of 60 anomalies put in and 3 of 4 labelled, and raises 0 incidents of 1 allowed; the present one \
             finds 30 of 60 anomalies put in and 0 of 4 labelled, and raises 0 incidents of 1 allowed"
        );
    }

    #[test]
    fn a_model_that_cannot_be_trained_is_replaced_by_one_that_can() {
        let failed = Trial {
            failed: Some("no".to_owned()),
            ..trial(0, 0)
        };
        let tuned = Tuned::of(vec![failed.clone(), trial(1, 4)], 0.25, 1.0);
        assert_eq!(tuned.chosen, 1);
        let why = tuned.why();
        assert!(
            why.contains("it finds 1 of 60 anomalies put in (next to nothing), and raises 4"),
            "{why}"
        );
        assert!(why.ends_with("the present one is out: no"), "{why}");
        assert!(Tuned::of(vec![trial(0, 40), failed], 0.25, 1.0).stays());
    }
}
