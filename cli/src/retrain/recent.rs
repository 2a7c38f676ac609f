//! The last windows of sensors, from the predictions in a store.

use windrow_common::{EventTime, Length, SensorId};
use windrow_model::Features;
use windrow_store::{Hour, ScoredWindow, Store};

use crate::error::CliError;
use crate::sensor_lookup::SensorLookup;
use crate::train::Sample;

/// The newest windows of a sensor, the newest first.
#[derive(Debug)]
struct Recent {
    sensor: SensorId,
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
    /// The sensors, by the number that the index gives them.
    of_sensors: Vec<Recent>,
    index: SensorLookup,
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
        self.index.add(sensor.clone());
        self.of_sensors.push(Recent {
            sensor,
            length: None,
            // Room that is not used takes no memory.
            starts: Vec::with_capacity(most),
            values: Vec::with_capacity(most * features.len()),
            features,
            most,
            kept_out,
            left_out: 0,
        });
        self.hungry += 1;
    }

    /// Reads hours, the newest first, until all sensors have as many windows as they want.
    pub(crate) async fn read(&mut self, store: &Store, hours: &[Hour]) -> Result<(), CliError> {
        let mut reader = store.aggregates(hours.iter().rev().cloned());
        while self.hungry > 0 {
            let (index, of_sensors) = (&mut self.index, &self.of_sensors);
            let hungry = |device: &str, tag: &str| {
                let number = index.find(device, tag)?;
                let is_hungry = of_sensors[number].is_hungry();
                u32::try_from(number).ok().filter(|_| is_hungry)
            };
            let Some(rows) = reader.next_hour(hungry).await? else {
                break;
            };
            self.take(&rows);
        }
        Ok(())
    }

    /// Takes the windows of one hour, which are ordered by sensor and time.
    fn take(&mut self, rows: &[ScoredWindow]) {
        for rows in rows.chunk_by(|a, b| a.sensor == b.sensor) {
            let sensor = rows.first().map(|row| row.sensor as usize);
            let Some(recent) = sensor.and_then(|number| self.of_sensors.get_mut(number)) else {
                continue;
            };
            let was_hungry = recent.is_hungry();
            rows.iter().rev().for_each(|row| recent.add(row));
            self.hungry -= usize::from(was_hungry && !recent.is_hungry());
        }
    }

    /// Returns how many windows were left out, for each sensor with any. They are newer than the oldest that was taken.
    pub(super) fn left_out(&self) -> impl Iterator<Item = u64> {
        let counts = self.of_sensors.iter().map(|recent| recent.left_out);
        counts.filter(|count| *count > 0)
    }

    /// Returns what was gathered, in order of time; sensors without a window are left out.
    pub(crate) fn into_samples(self) -> Vec<(SensorId, Sample)> {
        let mut samples: Vec<(SensorId, Sample)> = (self.of_sensors.into_iter())
            .filter_map(|recent| Some((recent.sensor.clone(), recent.into_sample()?)))
            .collect();
        samples.sort_by(|(a, _), (b, _)| a.cmp(b));
        samples
    }
}

impl Recent {
    fn is_hungry(&self) -> bool {
        self.starts.len() < self.most
    }

    fn add(&mut self, row: &ScoredWindow) {
        let length = *self.length.get_or_insert(row.length);
        if !self.is_hungry() || row.length != length {
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
    fn is_kept_out(&self, row: &ScoredWindow) -> bool {
        let start = row.aggregate.window_start;
        let end = start.saturating_add(row.length.as_duration());
        self.kept_out.iter().any(|(from, to)| start < *to && end > *from)
    }

    fn into_sample(mut self) -> Option<Sample> {
        let length = self.length.filter(|_| !self.starts.is_empty())?;
        self.starts.reverse();
        self.values.reverse();
        for row in self.values.chunks_exact_mut(self.features.len()) {
            row.reverse();
        }
        Some(Sample::of_all(self.starts, self.values, length))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use windrow_common::{Aggregate, Prediction};
    use windrow_store::PartWriter;

    const MINUTE: i64 = 60_000;

    fn prediction(tag: &str, minute: i64, window_ms: i64) -> Prediction {
        #[allow(clippy::cast_precision_loss)]
        let value = minute as f64;
        Prediction {
            sensor: SensorId::new("d", tag).unwrap(),
            window_length: Length::from_millis(window_ms),
            aggregate: Aggregate {
                window_start: EventTime::from_millis(minute * MINUTE),
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

    /// Reads the predictions of a store that holds these rows.
    async fn read(recent: &mut RecentWindows, rows: Vec<Prediction>) {
        let store = Store::create("memory:///").unwrap();
        PartWriter::new(&store, "w").write_rows(rows).await.unwrap();
        let hours = store.hours("predictions", None, None).await.unwrap();
        recent.read(&store, &hours).await.unwrap();
    }

    #[tokio::test]
    async fn a_sensor_has_its_newest_windows_of_one_length_in_order() {
        let mut recent = RecentWindows::default();
        let features: Features = "mean,max".parse().unwrap();
        for tag in ["a", "b", "never"] {
            recent.want(SensorId::new("d", tag).unwrap(), features.clone(), 3, Vec::new());
        }
        let mut rows = Vec::new();
        for minute in [100, 101, 50, 51, 10, 11] {
            rows.extend(["a", "b", "not wanted"].map(|tag| prediction(tag, minute, MINUTE)));
        }
        // The window length was another one before.
        rows.push(prediction("b", 70, 2 * MINUTE));
        read(&mut recent, rows).await;
        assert_eq!(recent.hungry, 1);
        let samples = recent.into_samples();
        let names: Vec<String> = samples.iter().map(|(sensor, _)| sensor.to_string()).collect();
        assert_eq!(names, ["d/a", "d/b"]);
        for (_, sample) in samples {
            let starts: Vec<i64> = sample
                .starts
                .iter()
                .map(|start| start.as_millis() / MINUTE)
                .collect();
            assert_eq!(starts, [51, 100, 101]);
            assert_eq!(sample.values, [51.0, 51.5, 100.0, 100.5, 101.0, 101.5]);
            assert_eq!(sample.span.unwrap().1.as_millis(), 102 * MINUTE);
        }
    }

    /// Returns the minutes that are taken, and the number of windows left out, of up to five windows of the minutes 0 to 59. They
    /// begin half an hour after midnight, so that they are in two hours.
    async fn taken(kept_out: &[(i64, i64)]) -> (Vec<i64>, u64) {
        let time = |millis: i64| EventTime::from_millis(millis + 30 * MINUTE);
        let kept_out = kept_out.iter().map(|(from, to)| (time(*from), time(*to)));
        let (mut recent, sensor) = (RecentWindows::default(), SensorId::new("d", "a").unwrap());
        recent.want(sensor, "mean".parse().unwrap(), 5, kept_out.collect());
        let rows = (30..90).map(|minute| prediction("a", minute, MINUTE));
        read(&mut recent, rows.collect()).await;
        let left_out = recent.left_out().sum();
        let samples = recent.into_samples();
        let starts = samples.iter().flat_map(|(_, sample)| &sample.starts);
        (
            starts.map(|start| start.as_millis() / MINUTE - 30).collect(),
            left_out,
        )
    }

    #[tokio::test]
    async fn windows_of_labelled_incidents_are_left_out_and_older_ones_take_their_place_in_order() {
        assert_eq!(taken(&[]).await, ((55..60).collect(), 0));
        // An incident is from the start of its first window to the end of its last one: the windows that touch it stay.
        assert_eq!(
            taken(&[(56 * MINUTE, 58 * MINUTE)]).await,
            (vec![53, 54, 55, 58, 59], 2)
        );
        // Of a window of another length, a part in it is enough.
        assert_eq!(
            taken(&[(56 * MINUTE + MINUTE - 1, 58 * MINUTE + 1)]).await,
            (vec![52, 53, 54, 55, 59], 3)
        );
        // It may begin in an earlier hour; two may overlap, and a window is counted once.
        assert_eq!(
            taken(&[(28 * MINUTE, 57 * MINUTE), (50 * MINUTE, 59 * MINUTE)]).await,
            (vec![24, 25, 26, 27, 59], 31)
        );
        // Older than what is taken, it is not looked at; and nothing may be left.
        assert_eq!(taken(&[(0, 54 * MINUTE)]).await, ((55..60).collect(), 0));
        assert_eq!(taken(&[(0, 60 * MINUTE)]).await, (vec![], 60));
    }
}
