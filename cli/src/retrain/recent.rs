//! The last windows of sensors, from the predictions in a store.

use std::collections::HashMap;

use futures::{StreamExt, TryStreamExt};
use windrow_common::{EventTime, Length, Prediction, SensorId};
use windrow_model::Features;
use windrow_store::{Hour, Store};

use crate::error::CliError;
use crate::train::Sample;

/// Number of hours whose rows are in memory at once.
const HOURS_AT_ONCE: usize = 2;

/// The newest windows of a sensor, the newest first.
#[derive(Debug)]
struct Recent {
    features: Features,
    /// Length of its newest window; windows of another length are of another time.
    length: Option<Length>,
    starts: Vec<EventTime>,
    values: Vec<f64>,
    most: usize,
    /// Stretches of event time whose windows are left out; their ends are not part of them.
    kept_out: Vec<(EventTime, EventTime)>,
    /// Number of windows that were left out.
    left_out: u64,
}

/// The newest windows of some sensors.
#[derive(Debug, Default)]
pub(crate) struct RecentWindows {
    of_sensors: HashMap<SensorId, Recent>,
    /// Number of sensors that still take windows.
    hungry: usize,
}

impl RecentWindows {
    /// Begins to gather up to `most` windows of a sensor, without those in the stretches that are kept out.
    pub(crate) fn want(
        &mut self,
        sensor: SensorId,
        features: Features,
        most: usize,
        kept_out: Vec<(EventTime, EventTime)>,
    ) {
        let recent = Recent {
            features,
            length: None,
            starts: Vec::new(),
            values: Vec::new(),
            most,
            kept_out,
            left_out: 0,
        };
        self.of_sensors.insert(sensor, recent);
        self.hungry += 1;
    }

    /// Reads hours, the newest first, until all sensors have as many windows as they want.
    pub(crate) async fn read(&mut self, store: &Store, hours: &[Hour]) -> Result<(), CliError> {
        // Decoding takes longer than taking, so a few hours are read ahead.
        let newest_first: Vec<Hour> = hours.iter().rev().cloned().collect();
        let mut read = futures::stream::iter(newest_first)
            .map(|hour| {
                let store = store.clone();
                async move { store.predictions(&hour).await }
            })
            .buffered(HOURS_AT_ONCE);
        while self.hungry > 0
            && let Some(hour) = read.try_next().await?
        {
            self.take(hour.rows);
        }
        Ok(())
    }

    /// Takes the windows of one hour, which are ordered by sensor and time.
    fn take(&mut self, rows: Vec<Prediction>) {
        let mut rows = rows.into_iter().rev().peekable();
        while let Some(row) = rows.next() {
            let sensor = row.sensor.clone();
            let Some(recent) = self.of_sensors.get_mut(&sensor) else {
                while rows.next_if(|next| next.sensor == sensor).is_some() {}
                continue;
            };
            let was_hungry = recent.is_hungry();
            recent.add(&row);
            while let Some(next) = rows.next_if(|next| next.sensor == sensor) {
                recent.add(&next);
            }
            self.hungry -= usize::from(was_hungry && !recent.is_hungry());
        }
    }

    /// Returns how many windows were left out, for each sensor with any. They are newer than the oldest that was taken.
    pub(super) fn left_out(&self) -> impl Iterator<Item = u64> {
        let counts = self.of_sensors.values().map(|recent| recent.left_out);
        counts.filter(|count| *count > 0)
    }

    /// Returns what was gathered, in order of time; sensors without a window are left out.
    pub(crate) fn into_samples(self) -> Vec<(SensorId, Sample)> {
        let mut samples: Vec<(SensorId, Sample)> = (self.of_sensors.into_iter())
            .filter_map(|(sensor, recent)| Some((sensor, recent.into_sample()?)))
            .collect();
        samples.sort_by(|(a, _), (b, _)| a.cmp(b));
        samples
    }
}

impl Recent {
    fn is_hungry(&self) -> bool {
        self.starts.len() < self.most
    }

    fn add(&mut self, row: &Prediction) {
        let length = *self.length.get_or_insert(row.window_length);
        if !self.is_hungry() || row.window_length != length {
            return;
        }
        if self.is_kept_out(row) {
            self.left_out += 1;
            return;
        }
        self.starts.push(row.aggregate.window_start);
        self.features
            .extract(std::slice::from_ref(&row.aggregate), &mut self.values);
    }

    /// Returns whether any of a window lies in a stretch that is kept out.
    fn is_kept_out(&self, row: &Prediction) -> bool {
        let start = row.aggregate.window_start;
        let end = start.saturating_add(row.window_length.as_duration());
        self.kept_out.iter().any(|(from, to)| start < *to && end > *from)
    }

    fn into_sample(mut self) -> Option<Sample> {
        let length = self.length.filter(|_| !self.starts.is_empty())?;
        self.starts.reverse();
        let rows = self.values.chunks_exact(self.features.len()).rev();
        let values = rows.flatten().copied().collect();
        Some(Sample::of_all(self.starts, values, length))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use windrow_common::Aggregate;

    fn prediction(tag: &str, minute: i64, window_ms: i64) -> Prediction {
        #[allow(clippy::cast_precision_loss)]
        let value = minute as f64;
        Prediction {
            sensor: SensorId::new("d", tag).unwrap(),
            window_length: Length::from_millis(window_ms),
            aggregate: Aggregate {
                window_start: EventTime::from_millis(minute * 60_000),
                count: 1,
                mean: value,
                std: 0.0,
                min: value,
                max: value + 0.5,
                first: value,
                last: value,
            },
            decision: 1.0,
            score: Some(-1.0),
            threshold: None,
            anomaly: false,
            model_version: "v".into(),
            cause: None,
            shadow: None,
        }
    }

    #[test]
    fn a_sensor_has_its_newest_windows_of_one_length_in_order() {
        let mut recent = RecentWindows::default();
        let features: Features = "mean,max".parse().unwrap();
        for tag in ["a", "b", "never"] {
            recent.want(SensorId::new("d", tag).unwrap(), features.clone(), 3, Vec::new());
        }
        let hour = |from: i64| {
            let mut rows: Vec<Prediction> = (from..from + 2)
                .map(|minute| prediction("a", minute, 60_000))
                .collect();
            rows.extend((from..from + 2).map(|minute| prediction("b", minute, 60_000)));
            rows.extend((from..from + 2).map(|minute| prediction("not wanted", minute, 60_000)));
            rows
        };
        recent.take(hour(100));
        assert_eq!(recent.hungry, 3);
        // The window length was another one before.
        recent.take(vec![prediction("b", 70, 120_000)]);
        recent.take(hour(50));
        assert_eq!(recent.hungry, 1);
        recent.take(hour(10));
        let samples = recent.into_samples();
        let names: Vec<String> = samples.iter().map(|(sensor, _)| sensor.to_string()).collect();
        assert_eq!(names, ["d/a", "d/b"]);
        for (_, sample) in samples {
            let starts: Vec<i64> = sample
                .starts
                .iter()
                .map(|start| start.as_millis() / 60_000)
                .collect();
            assert_eq!(starts, [51, 100, 101]);
            assert_eq!(sample.values, [51.0, 51.5, 100.0, 100.5, 101.0, 101.5]);
            assert_eq!(sample.span.unwrap().1.as_millis(), 102 * 60_000);
        }
    }

    /// Returns the minutes that are taken, and the number of windows left out, of up to five windows of the minutes 0 to 59.
    fn taken(kept_out: &[(i64, i64)]) -> (Vec<i64>, u64) {
        let time = EventTime::from_millis;
        let kept_out = kept_out.iter().map(|(from, to)| (time(*from), time(*to)));
        let (mut recent, sensor) = (RecentWindows::default(), SensorId::new("d", "a").unwrap());
        recent.want(sensor, "mean".parse().unwrap(), 5, kept_out.collect());
        for hour in [30..60, 0..30] {
            recent.take(hour.map(|minute| prediction("a", minute, 60_000)).collect());
        }
        let left_out = recent.left_out().sum();
        let samples = recent.into_samples();
        let starts = samples.iter().flat_map(|(_, sample)| &sample.starts);
        (starts.map(|start| start.as_millis() / 60_000).collect(), left_out)
    }

    #[test]
    fn windows_of_labelled_incidents_are_left_out_and_older_ones_take_their_place_in_order() {
        const MINUTE: i64 = 60_000;
        assert_eq!(taken(&[]), ((55..60).collect(), 0));
        // An incident is from the start of its first window to the end of its last one: the windows that touch it stay.
        assert_eq!(
            taken(&[(56 * MINUTE, 58 * MINUTE)]),
            (vec![53, 54, 55, 58, 59], 2)
        );
        // Of a window of another length, a part in it is enough.
        assert_eq!(
            taken(&[(56 * MINUTE + MINUTE - 1, 58 * MINUTE + 1)]),
            (vec![52, 53, 54, 55, 59], 3)
        );
        // It may begin in an earlier hour; two may overlap, and a window is counted once.
        assert_eq!(
            taken(&[(28 * MINUTE, 57 * MINUTE), (50 * MINUTE, 59 * MINUTE)]),
            (vec![24, 25, 26, 27, 59], 31)
        );
        // Older than what is taken, it is not looked at; and nothing may be left.
        assert_eq!(taken(&[(0, 54 * MINUTE)]), ((55..60).collect(), 0));
        assert_eq!(taken(&[(0, 60 * MINUTE)]), (vec![], 60));
    }
}
