//! The threshold at which a fleet keeps its budget of false incidents.
//!
//! A model is trained on the older three quarters of its windows, and scores the newest quarter, which it has not seen. For each of
//! many thresholds the incidents are counted that these windows would have opened, by the alerter's own rules, so that N-of-M votes
//! and clusters of windows are part of the count. The counts of the sensors are added up, since scores compare between sensors: a
//! sensor alone has too few windows to tell what happens once a month. Continuing the tail of its own scores does not help: up to
//! the largest value that the training has seen they lie close to 0, and beyond it they grow with the square of the distance.

use std::time::Duration;

use windrow_common::{EventTime, Length};
use windrow_incidents::Rules;
use windrow_model::{Features, Scores, Scratch, TrainOptions, TrainingWindows, train_windows};

use super::gate::opened;
use crate::budget::MONTH;
use crate::train::Sample;

/// Number of thresholds that are tried.
const LEVELS: usize = 120;

/// Lowest threshold, and the factor from each to the next: the highest is about 10,000.
const LOWEST: f64 = 0.05;
const STEP: f64 = 1.108;

/// Fewest incidents that a budget has to allow in the time that is held out, so that a count says something.
const FEWEST_ALLOWED: f64 = 5.0;

/// The incidents that held-out windows would open at each threshold.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Counts {
    incidents: [u32; LEVELS],
    time: Duration,
}

/// Why there is no threshold for a budget.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct TooShort {
    /// Sensor-months that are held out.
    pub(super) months: f64,
    /// Sensor-months that the budget needs.
    pub(super) needed: f64,
}

/// Returns how many windows calibration needs of a sensor whose model is trained on `most` windows. The older part must
/// have `most` windows too, because a model trained on fewer knows less and raises more incidents.
pub(super) fn wanted(most: usize) -> usize {
    most + most / 3
}

/// Returns how many of `windows` belong to the older part, which is used for training.
fn older(windows: usize) -> usize {
    windows - windows / 4
}

fn level(at: usize) -> f64 {
    #[allow(clippy::cast_possible_truncation, clippy::cast_possible_wrap)] // At most 120.
    let power = at as i32;
    LOWEST * STEP.powi(power)
}

impl Default for Counts {
    fn default() -> Self {
        Self {
            incidents: [0; LEVELS],
            time: Duration::ZERO,
        }
    }
}

impl Counts {
    /// Counts what the newest quarter of a sample opens; nothing if it cannot be trained on the rest.
    pub(super) fn of(sample: &Sample, features: &Features, options: &TrainOptions, rules: &Rules) -> Self {
        let (rows, dimension) = (sample.starts.len(), features.len());
        let older = older(rows);
        let windows = |range: std::ops::Range<usize>| TrainingWindows {
            starts: &sample.starts[range.clone()],
            rows: &sample.values[range.start * dimension..range.end * dimension],
        };
        let Ok((model, _)) = train_windows(windows(0..older), features.clone(), options) else {
            return Self::default();
        };
        let (held_out, mut scores) = (windows(older..rows), Scores::default());
        match model.score_windows(held_out, &mut Scratch::default(), &mut scores) {
            Ok(()) => Self::of_scores(held_out.starts, &scores.scores, sample.window_length, rules),
            Err(_) => Self::default(),
        }
    }

    /// Counts the incidents of windows in order of time, at each threshold.
    fn of_scores(starts: &[EventTime], scores: &[f64], length: Length, rules: &Rules) -> Self {
        let mut counts = Self {
            time: length.as_duration() * u32::try_from(scores.len()).unwrap_or(u32::MAX),
            ..Self::default()
        };
        let highest = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        for (at, incidents) in counts.incidents.iter_mut().enumerate() {
            // None of the higher levels is reached either.
            if level(at) >= highest {
                break;
            }
            let rules = Rules {
                threshold: level(at),
                ..*rules
            };
            *incidents = u32::try_from(opened(starts, scores, length, &rules)).unwrap_or(u32::MAX);
        }
        counts
    }

    /// Adds the counts of another sensor.
    pub(super) fn add(&mut self, other: &Self) {
        for (sum, incidents) in self.incidents.iter_mut().zip(other.incidents) {
            *sum += incidents;
        }
        self.time += other.time;
    }

    /// Returns how long was held out, in months.
    pub(super) fn months(&self) -> f64 {
        self.time.as_secs_f64() / MONTH.as_secs_f64()
    }

    /// Returns the lowest threshold at which there are no more incidents than `per_month` allows.
    pub(super) fn threshold(&self, per_month: f64) -> Result<f64, TooShort> {
        let allowed = per_month * self.months();
        if allowed < FEWEST_ALLOWED {
            return Err(TooShort {
                months: self.months(),
                needed: FEWEST_ALLOWED / per_month,
            });
        }
        // Search from the highest threshold down, because counts may rise at first: at a low threshold, incidents
        // merge.
        let over = self
            .incidents
            .iter()
            .rposition(|incidents| f64::from(*incidents) > allowed);
        Ok(level(over.map_or(0, |over| over + 1)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Length = Length::from_millis(60_000);

    /// Three months of minutes with `peaks` of one window each, an hour and a half apart, that rise from 0 to 10.
    fn counts(peaks: usize, rules: &Rules) -> Counts {
        let windows = 3 * 43_830;
        let starts: Vec<EventTime> = (0..windows)
            .map(|at| EventTime::from_millis(at * 60_000))
            .collect();
        let mut scores = vec![-0.5; starts.len()];
        for peak in 0..peaks {
            #[allow(clippy::cast_precision_loss)]
            let height = 10.0 * (peak as f64 + 0.5) / peaks as f64;
            scores[peak * 90] = height;
        }
        Counts::of_scores(&starts, &scores, MINUTE, rules)
    }

    #[test]
    fn a_threshold_lets_as_many_incidents_through_as_the_budget_allows() {
        let counts = counts(1_000, &Rules::default());
        assert!((counts.months() - 3.0).abs() < 1e-3);
        for per_month in [2.0, 10.0, 100.0, 300.0] {
            let threshold = counts.threshold(per_month).unwrap();
            let allowed = 3.0 * per_month;
            // Peaks are a hundredth apart, and thresholds a tenth of their size.
            let above = 1_000.0 * (1.0 - threshold / 10.0);
            assert!(above <= allowed + 1.0, "{per_month}: {above}");
            let next = 1_000.0 * (1.0 - threshold / STEP / 10.0);
            assert!(next >= allowed - 1.0, "{per_month}: {next}");
        }
        // A budget that all incidents keep has the lowest threshold.
        assert_eq!(counts.threshold(1_000.0), Ok(LOWEST));
    }

    #[test]
    fn votes_and_quiet_windows_count_as_in_the_alerter() {
        // No two of three windows are above, so nothing opens.
        let votes = Rules {
            open_after: 2,
            of: 3,
            ..Rules::default()
        };
        assert_eq!(counts(1_000, &votes).threshold(2.0), Ok(LOWEST));
        // With a quiet time of more than their distance, all peaks are one incident.
        let long = Rules {
            quiet: 120,
            ..Rules::default()
        };
        assert_eq!(counts(1_000, &long).threshold(2.0), Ok(LOWEST));
    }

    #[test]
    fn as_many_windows_are_trained_on_as_later() {
        for most in [2, 3, 300, 4_032, 5_000, 20_000] {
            assert_eq!(older(wanted(most)), most);
        }
    }

    #[test]
    fn too_few_months_give_no_threshold() {
        let mut counts = counts(10, &Rules::default());
        let short = counts.threshold(1.0).unwrap_err();
        assert!(
            (short.needed - 5.0).abs() < 1e-9 && short.months < 3.01,
            "{short:?}"
        );
        let other = counts.clone();
        counts.add(&other);
        assert!(
            counts.threshold(1.0).is_ok(),
            "two sensors of three months are six"
        );
    }
}
