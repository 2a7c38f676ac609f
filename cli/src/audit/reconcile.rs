//! Compares the dispatched windows of one hour with its predictions and with the dead letters.

use std::cmp::Ordering;
use std::collections::{HashMap, HashSet};

use serde::Serialize;
use windrow_common::{EventTime, Length, Prediction, ScoringTask, SensorId};
use windrow_queue::DeadLetter;
use windrow_store::DispatchedWindow;

use super::tally::Tally;
use super::waiting::Missing;

/// Maximum number of windows that are listed for each kind of finding.
const SHOWN: usize = 20;

/// The windows that dead letters hold, with their numbers of readings.
#[derive(Debug, Default)]
pub(super) struct DeadWindows(HashMap<(SensorId, EventTime, Length), u64>);

/// The first windows of each kind of finding.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Findings {
    /// Lost windows, each as its sensor and window start.
    pub(crate) lost: Vec<String>,
    /// Windows whose prediction has another number of readings, each with both numbers.
    pub(crate) differing: Vec<String>,
    /// All windows whose prediction, or a prediction of all readings, is missing.
    #[serde(skip)]
    pub(super) missing: Missing,
}

impl DeadWindows {
    /// Returns the windows of the dead letters. A dead letter that cannot be decoded adds none, so its windows count as
    /// lost.
    pub(super) fn of(dead: &[DeadLetter]) -> Self {
        let mut windows = HashMap::new();
        for dead_letter in dead {
            let message = match ScoringTask::decode(&dead_letter.message.body) {
                Ok(ScoringTask::Sensor(message)) => message,
                // No producer has dispatched it.
                Ok(ScoringTask::Group(_)) => continue,
                Err(error) => {
                    tracing::warn!(id = dead_letter.message.id, %error, "cannot decode a dead letter");
                    continue;
                }
            };
            for aggregate in &message.aggregates {
                let key = (
                    message.sensor.clone(),
                    aggregate.window_start,
                    message.window_length,
                );
                let count = windows.entry(key).or_default();
                *count = aggregate.count.max(*count);
            }
        }
        Self(windows)
    }

    /// Returns the number of readings of the window in the dead letters; 0 if none holds it.
    fn count(&self, window: &DispatchedWindow) -> u64 {
        let key = (window.sensor.clone(), window.window_start, window.window_length);
        self.0.get(&key).copied().unwrap_or(0)
    }
}

/// Leaves out the windows of `later`, which were dispatched after the audit began: their messages may not have been
/// published when the audit looked at the queue.
pub(super) fn leave_out(
    later: &[DispatchedWindow],
    left: &mut Vec<DispatchedWindow>,
    right: &mut Vec<Prediction>,
) {
    let later: HashSet<_> = later
        .iter()
        .map(|window| (&window.sensor, window.window_start, window.window_length))
        .collect();
    left.retain(|window| !later.contains(&(&window.sensor, window.window_start, window.window_length)));
    right.retain(|row| !later.contains(&(&row.sensor, row.aggregate.window_start, row.window_length)));
}

/// Compares both sides, each sorted by (sensor, window start, window length), with one row for each window.
pub(super) fn reconcile(
    dispatched: &[DispatchedWindow],
    predictions: &[Prediction],
    dead: &DeadWindows,
    tally: &mut Tally,
    findings: &mut Findings,
) {
    let mut predictions = predictions.iter().peekable();
    let order = |window: &DispatchedWindow, prediction: &Prediction| {
        (&window.sensor, window.window_start, window.window_length).cmp(&(
            &prediction.sensor,
            prediction.aggregate.window_start,
            prediction.window_length,
        ))
    };
    for window in dispatched {
        tally.dispatched += 1;
        while predictions
            .next_if(|prediction| order(window, prediction) == Ordering::Greater)
            .is_some()
        {
            tally.unexpected += 1;
        }
        let prediction = predictions.next_if(|prediction| order(window, prediction) == Ordering::Equal);
        let predicted = prediction.map_or(0, |prediction| prediction.aggregate.count);
        // A dead letter with fewer readings was corrected: it does not stand for the correction.
        if predicted < window.count && dead.count(window) >= window.count {
            tally.dead_lettered += 1;
        } else if prediction.is_none() {
            tally.lost += 1;
            findings.missing.add(window);
            note(&mut findings.lost, || {
                format!("{} {}", window.sensor, window.window_start)
            });
        } else {
            tally.predicted += 1;
            if predicted < window.count {
                tally.fewer += 1;
                findings.missing.add(window);
            }
            tally.more += u64::from(predicted > window.count);
            if predicted != window.count {
                note(&mut findings.differing, || {
                    let (sensor, start, count) = (&window.sensor, window.window_start, window.count);
                    format!("{sensor} {start}: {predicted} readings predicted, {count} dispatched")
                });
            }
        }
    }
    tally.unexpected += predictions.count() as u64;
}

pub(super) fn note(list: &mut Vec<String>, line: impl FnOnce() -> String) {
    if list.len() < SHOWN {
        list.push(line());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use windrow_common::Aggregate;

    fn window(tag: &str, minute: i64) -> DispatchedWindow {
        DispatchedWindow {
            sensor: SensorId::new("d", tag).unwrap(),
            window_start: EventTime::from_millis(minute * 60_000),
            window_length: Length::from_millis(60_000),
            count: 3,
            source: "s".into(),
        }
    }

    fn prediction(tag: &str, minute: i64, count: u64) -> Prediction {
        Prediction {
            sensor: SensorId::new("d", tag).unwrap(),
            window_length: Length::from_millis(60_000),
            aggregate: Aggregate {
                window_start: EventTime::from_millis(minute * 60_000),
                count,
                mean: 0.0,
                std: 0.0,
                min: 0.0,
                max: 0.0,
                first: 0.0,
                last: 0.0,
            },
            decision: 1.0,
            score: Some(-1.0),
            anomaly: false,
            model_version: "v".into(),
            shadow: None,
            threshold: None,
            cause: None,
        }
    }

    fn dead(tag: &str, count: u64) -> ((SensorId, EventTime, Length), u64) {
        let window = window(tag, 0);
        ((window.sensor, window.window_start, window.window_length), count)
    }

    #[test]
    fn every_window_is_accounted_for_by_name() {
        let dispatched = [
            window("a", 0),
            window("a", 1),
            window("b", 0),
            window("c", 0),
            window("d", 0),
            window("e", 0),
        ];
        let predictions = [
            prediction("a", 0, 3),
            prediction("aa", 0, 3),
            prediction("b", 0, 2),
            prediction("d", 0, 4),
            prediction("f", 0, 3),
        ];
        let dead = DeadWindows(HashMap::from([dead("c", 3), dead("e", 2)]));
        let (mut tally, mut findings) = (Tally::default(), Findings::default());
        reconcile(&dispatched, &predictions, &dead, &mut tally, &mut findings);
        let right = Tally {
            dispatched: 6,
            predicted: 3,
            dead_lettered: 1,
            lost: 2,
            unexpected: 2,
            fewer: 1,
            more: 1,
            ..Tally::default()
        };
        assert_eq!(tally, right);
        assert_eq!(
            findings.lost,
            ["d/a 1970-01-01T00:01:00Z", "d/e 1970-01-01T00:00:00Z"]
        );
        assert_eq!(
            findings.differing,
            [
                "d/b 1970-01-01T00:00:00Z: 2 readings predicted, 3 dispatched",
                "d/d 1970-01-01T00:00:00Z: 4 readings predicted, 3 dispatched"
            ]
        );
        assert_eq!((tally.missing(), findings.missing.messages()), (3, 3));
        assert!(tally.contradicts());
        let superseded = Tally {
            superseded: 3,
            repeats: 2,
            ..Tally::default()
        };
        assert!(!superseded.contradicts() && superseded.explanations().is_empty());
    }

    #[test]
    fn the_correction_of_a_window_may_be_a_dead_letter() {
        let dispatched = [window("a", 0)];
        let (mut tally, mut findings) = (Tally::default(), Findings::default());
        let dead = DeadWindows(HashMap::from([dead("a", 3)]));
        reconcile(
            &dispatched,
            &[prediction("a", 0, 2)],
            &dead,
            &mut tally,
            &mut findings,
        );
        assert_eq!((tally.dead_lettered, tally.fewer), (1, 0));
        assert_eq!(tally.missing(), 0);
    }

    #[test]
    fn what_was_dispatched_after_the_audit_began_is_left_out() {
        let mut left = vec![window("a", 0), window("b", 0)];
        let mut right = vec![prediction("b", 0, 3), prediction("c", 0, 3)];
        // Of "b" and "c", the rows are newer; "c" is not in the rows that the audit began with.
        leave_out(&[window("b", 0), window("c", 0)], &mut left, &mut right);
        assert_eq!((left, right), (vec![window("a", 0)], Vec::new()));
    }
}
