//! Which row of a window counts.
//!
//! A window (sensor, window start, window length) may have several rows: a crash wrote a row twice, a message was
//! delivered again after another model had become current, or late readings led to a correction. Exactly one of them
//! counts: **the one with the most readings, then with the greatest model version, then with the greatest values in
//! column order**, where a row without a shadow orders before one with a shadow. The rule looks at the rows alone, so
//! neither the names of parts nor the order in which they are read matter. People apply it in SQL (docs/formats.md).
//!
//! A model's version is a hash, so the greatest is not the newest. Nothing in a row says which model is newer; with the
//! same readings, what matters is that everybody chooses the same one.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::sync::Arc;

use windrow_common::Prediction;

use super::DispatchedWindow;

/// The rows of one hour that count, one for each window.
#[derive(Clone, Debug)]
pub struct HourRows<T> {
    /// The rows, ordered by sensor, window start and window length.
    pub rows: Vec<T>,
    /// Number of rows that were dropped because an equal one exists, as after a crash.
    pub repeats: u64,
    /// Number of rows that were dropped because the one that counts has more readings or another model version.
    pub superseded: u64,
    /// Number of dropped rows that differ in values from the row that counts, although both have as many readings and
    /// the same model version. It is 0 unless different readings went into the same window, or a model file was
    /// changed.
    pub conflicts: u64,
}

/// A row that may have rivals for its window.
pub(super) trait Rival {
    /// Orders rows by window.
    fn by_window(&self, other: &Self) -> Ordering;

    /// Orders the rows of one window: the greatest counts. Equal rows are equal bit for bit.
    fn by_precedence(&self, other: &Self) -> Ordering;

    /// Orders rows of equal precedence: the greatest has the values that older versions did not write.
    fn by_completeness(&self, _: &Self) -> Ordering {
        Ordering::Equal
    }

    /// Returns whether two rows of one window should be equal, because the same model scored as many readings.
    fn should_equal(&self, other: &Self) -> bool;
}

impl Rival for Prediction {
    fn by_window(&self, other: &Self) -> Ordering {
        let key = |p: &Self| (p.aggregate.window_start, p.window_length);
        self.sensor
            .cmp(&other.sensor)
            .then_with(|| key(self).cmp(&key(other)))
    }

    fn by_precedence(&self, other: &Self) -> Ordering {
        let values = |p: &Self| {
            let a = &p.aggregate;
            [a.mean, a.std, a.min, a.max, a.first, a.last, p.decision]
        };
        let by_values = values(self).into_iter().zip(values(other));
        (self.aggregate.count.cmp(&other.aggregate.count))
            .then_with(|| self.model_version.cmp(&other.model_version))
            .then_with(|| {
                by_values
                    .map(|(a, b)| a.total_cmp(&b))
                    .find(|order| order.is_ne())
                    .unwrap_or(Ordering::Equal)
            })
            .then_with(|| self.anomaly.cmp(&other.anomaly))
            .then_with(|| shadow_version(self).cmp(&shadow_version(other)))
            .then_with(|| {
                let decision = |p: &Self| p.shadow.as_ref().map_or(0.0, |shadow| shadow.decision);
                decision(self).total_cmp(&decision(other))
            })
    }

    fn by_completeness(&self, other: &Self) -> Ordering {
        let told = |p: &Self| {
            let bits = |value: Option<f64>| value.map(f64::to_bits);
            (bits(p.score), bits(p.threshold), p.cause.is_some())
        };
        told(self)
            .cmp(&told(other))
            .then_with(|| match (&self.cause, &other.cause) {
                (Some(cause), Some(other)) => cause.total_cmp(other),
                _ => Ordering::Equal,
            })
    }

    fn should_equal(&self, other: &Self) -> bool {
        self.aggregate.count == other.aggregate.count
            && self.model_version == other.model_version
            && shadow_version(self) == shadow_version(other)
    }
}

fn shadow_version(prediction: &Prediction) -> Option<&str> {
    prediction.shadow.as_ref().map(|shadow| &*shadow.version)
}

impl Rival for DispatchedWindow {
    fn by_window(&self, other: &Self) -> Ordering {
        let key = |window: &Self| (window.window_start, window.window_length);
        self.sensor
            .cmp(&other.sensor)
            .then_with(|| key(self).cmp(&key(other)))
    }

    fn by_precedence(&self, other: &Self) -> Ordering {
        (self.count, &self.source).cmp(&(other.count, &other.source))
    }

    fn should_equal(&self, other: &Self) -> bool {
        self.count == other.count
    }
}

/// Keeps the row of each window that counts.
pub(super) fn counting<T: Rival>(mut rows: Vec<T>) -> HourRows<T> {
    // The row that counts comes first in its window.
    rows.sort_by(|a, b| {
        a.by_window(b)
            .then_with(|| b.by_precedence(a))
            .then_with(|| b.by_completeness(a))
    });
    let all = rows.len();
    rows.dedup_by(|next, kept| kept.by_window(next).is_eq() && kept.by_precedence(next).is_eq());
    let repeats = all - rows.len();
    let (mut superseded, mut conflicts) = (0, 0);
    rows.dedup_by(|next, kept| {
        let same_window = kept.by_window(next).is_eq();
        if same_window && kept.should_equal(next) {
            conflicts += 1;
        } else if same_window {
            superseded += 1;
        }
        same_window
    });
    HourRows {
        rows,
        repeats: repeats as u64,
        superseded,
        conflicts,
    }
}

/// Returns the number of readings of each source. Of several rows of a source for one window, only the one with the
/// most readings counts.
pub(super) fn readings_by_source(rows: &[DispatchedWindow]) -> BTreeMap<Arc<str>, u64> {
    let mut rows: Vec<&DispatchedWindow> = rows.iter().collect();
    let by_source =
        |a: &DispatchedWindow, b: &DispatchedWindow| a.by_window(b).then_with(|| a.source.cmp(&b.source));
    rows.sort_by(|a, b| by_source(a, b).then_with(|| b.count.cmp(&a.count)));
    rows.dedup_by(|next, kept| by_source(kept, next).is_eq());
    let mut readings = BTreeMap::new();
    for row in rows {
        *readings.entry(Arc::clone(&row.source)).or_default() += row.count;
    }
    readings
}

#[cfg(test)]
mod tests {
    use super::*;
    use windrow_common::{Aggregate, Cause, EventTime, Length, SensorId, Shadow};

    fn prediction(start: i64, count: u64, version: &str, decision: f64) -> Prediction {
        Prediction {
            sensor: SensorId::new("d", "t").unwrap(),
            window_length: Length::from_millis(60_000),
            aggregate: Aggregate {
                window_start: EventTime::from_millis(start),
                count,
                mean: 1.0,
                std: 0.0,
                min: 1.0,
                max: 1.0,
                first: 1.0,
                last: 1.0,
            },
            decision,
            score: Some(-decision),
            anomaly: decision <= 0.0,
            model_version: version.into(),
            shadow: None,
            threshold: None,
            cause: None,
        }
    }

    /// Returns what counts of the rows in any order, and expects it to be the same in every order.
    fn counts(rows: &[Prediction]) -> HourRows<Prediction> {
        let right = counting(rows.to_vec());
        let mut rows = rows.to_vec();
        for _ in 0..rows.len() {
            rows.rotate_left(1);
            for mut rows in [rows.clone(), rows.iter().rev().cloned().collect()] {
                let middle = rows.len() / 2;
                rows.swap(0, middle);
                let again = counting(rows);
                assert_eq!(again.rows, right.rows);
                assert_eq!(
                    (again.repeats, again.superseded, again.conflicts),
                    (right.repeats, right.superseded, right.conflicts)
                );
            }
        }
        right
    }

    #[test]
    fn one_prediction_counts_for_each_window_in_whatever_order_the_rows_are_read() {
        let counted = counts(&[
            // Most readings first, whatever the model.
            prediction(0, 3, "ff", 0.5),
            prediction(0, 4, "aa", 0.1),
            // Then the greatest version, whatever the decision.
            prediction(60_000, 3, "aa", 0.9),
            prediction(60_000, 3, "bb", -0.1),
            prediction(60_000, 3, "aa", 0.9),
            // Then the greatest values.
            prediction(120_000, 3, "aa", -0.1),
            prediction(120_000, 3, "aa", 0.2),
            prediction(180_000, 1, "aa", 0.2),
        ]);
        assert_eq!(
            counted.rows,
            [
                prediction(0, 4, "aa", 0.1),
                prediction(60_000, 3, "bb", -0.1),
                prediction(120_000, 3, "aa", 0.2),
                prediction(180_000, 1, "aa", 0.2),
            ]
        );
        assert_eq!(
            (counted.repeats, counted.superseded, counted.conflicts),
            (1, 2, 1)
        );
    }

    #[test]
    fn a_row_of_a_version_without_scores_repeats_the_one_with_its_score() {
        let with_score = prediction(0, 3, "aa", 0.5);
        let without = Prediction {
            score: None,
            ..with_score.clone()
        };
        let counted = counts(&[without.clone(), with_score.clone(), without]);
        assert_eq!(counted.rows, [with_score]);
        assert_eq!(
            (counted.repeats, counted.superseded, counted.conflicts),
            (2, 0, 0)
        );
    }

    #[test]
    fn of_rows_that_differ_in_the_cause_alone_the_same_one_counts_in_every_order() {
        let with = |feature: &str, share, normal| Prediction {
            cause: Some(Cause {
                feature: feature.into(),
                value: 1.0,
                normal,
                share,
            }),
            ..prediction(0, 3, "aa", -0.5)
        };
        let rows = [
            with("mean", 0.5, Some((0.0, 0.5))),
            prediction(0, 3, "aa", -0.5),
            with("std", 0.75, None),
            with("std", 0.5, Some((0.0, 0.5))),
            with("std", 0.25, Some((0.0, 0.75))),
            with("std", 0.5, Some((-0.5, 0.75))),
        ];
        let counted = counts(&rows);
        assert_eq!(counted.rows, [rows[4].clone()]);
        assert_eq!(
            (counted.repeats, counted.superseded, counted.conflicts),
            (5, 0, 0)
        );
    }

    #[test]
    fn a_row_with_a_shadow_counts_rather_than_one_without_and_is_no_conflict() {
        let with = |version: &str, decision| Prediction {
            shadow: Some(Shadow {
                version: version.into(),
                decision,
                score: -decision,
            }),
            ..prediction(0, 3, "aa", 0.5)
        };
        // A shadow was set, and then another one, before the message was delivered again.
        let counted = counts(&[prediction(0, 3, "aa", 0.5), with("11", 0.5), with("22", -0.5)]);
        assert_eq!(counted.rows, [with("22", -0.5)]);
        assert_eq!(
            (counted.repeats, counted.superseded, counted.conflicts),
            (0, 2, 0)
        );
        let counted = counts(&[with("11", 0.5), with("11", 0.25), with("11", 0.5)]);
        assert_eq!(counted.rows, [with("11", 0.5)]);
        assert_eq!(
            (counted.repeats, counted.superseded, counted.conflicts),
            (1, 0, 1)
        );
    }

    #[test]
    fn a_correction_of_a_dispatched_window_counts() {
        let window = |count| DispatchedWindow {
            sensor: SensorId::new("d", "t").unwrap(),
            window_start: EventTime::from_millis(0),
            window_length: Length::from_millis(60_000),
            count,
            source: "s".into(),
        };
        let counted = counting(vec![window(3), window(5), window(3)]);
        assert_eq!(counted.rows, [window(5)]);
        assert_eq!(
            (counted.repeats, counted.superseded, counted.conflicts),
            (1, 1, 0)
        );
    }

    #[test]
    fn the_readings_of_a_window_count_once_for_each_source() {
        let window = |minute: i64, source: &str, count| DispatchedWindow {
            sensor: SensorId::new("d", "t").unwrap(),
            window_start: EventTime::from_millis(minute * 60_000),
            window_length: Length::from_millis(60_000),
            count,
            source: source.into(),
        };
        let rows = [
            window(0, "a", 3),
            window(0, "b", 4),
            window(0, "a", 5),
            window(1, "a", 1),
            window(0, "a", 5),
        ];
        let readings = readings_by_source(&rows);
        assert_eq!(readings, BTreeMap::from([("a".into(), 6), ("b".into(), 4)]));
    }
}
