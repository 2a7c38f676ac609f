//! Reads scored aggregates hour by hour, to train models on.
//!
//! Training needs half of the columns, and only some of the sensors at a time. So memory holds a few parts, and only
//! those sensors' rows of one hour.

use std::cmp::Ordering;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use arrow_array::types::{Float64Type, Int64Type, TimestampMillisecondType};
use arrow_array::{Array, RecordBatch};
use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};

use super::reader::READS_IN_FLIGHT;
use super::table::{TableError, primitive};
use super::windows::{Names, projected};
use super::{Hour, Store, StoreError};
use windrow_common::{Aggregate, EventTime, Length};

/// The columns that decide which row of a window counts, and what its aggregate is.
const COLUMNS: [&str; 12] = [
    "device",
    "tag",
    "window_start",
    "window_ms",
    "count",
    "mean",
    "std",
    "min",
    "max",
    "first",
    "last",
    "model_version",
];

/// A window that was scored, of a sensor with a number.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ScoredWindow {
    /// The number that the caller has assigned to the sensor.
    pub sensor: u32,
    /// Length of the window; positive.
    pub length: Length,
    /// What was scored.
    pub aggregate: Aggregate,
    /// Place of the model's version among those of the hour.
    version: u32,
}

/// Reads hours of the predictions in the order in which they were given.
pub struct AggregateReader {
    parts: BoxStream<'static, Result<(String, Vec<RecordBatch>), StoreError>>,
    /// The number of parts of each hour that is still to be read.
    hours: VecDeque<usize>,
}

impl Store {
    /// Starts reading `hours` of the predictions, a few parts ahead of the caller.
    pub fn aggregates(&self, hours: impl IntoIterator<Item = Hour>) -> AggregateReader {
        let hours: Vec<Hour> = hours.into_iter().collect();
        let counts = hours.iter().map(|hour| hour.parts().len()).collect();
        let parts = hours.into_iter().flat_map(Hour::into_parts);
        let store = self.clone();
        let read = move |path: String| {
            let store = store.clone();
            async move { store.decoded(path, decode).await }
        };
        AggregateReader {
            parts: futures::stream::iter(parts)
                .map(read)
                .buffered(READS_IN_FLIGHT)
                .boxed(),
            hours: counts,
        }
    }
}

impl AggregateReader {
    /// Returns the next hour's windows of the sensors to which `number` assigns a number; `None` after the last hour.
    ///
    /// Returns each window once, with the row that [counts](super::HourRows), ordered by number and start. Calls
    /// `number` with the device and the tag, once for adjacent rows of one sensor and version.
    pub async fn next_hour(
        &mut self,
        mut number: impl FnMut(&str, &str) -> Option<u32>,
    ) -> Result<Option<Vec<ScoredWindow>>, StoreError> {
        let Some(parts) = self.hours.pop_front() else {
            return Ok(None);
        };
        let mut hour = HourSoFar::default();
        for _ in 0..parts {
            let Some((path, batches)) = self.parts.try_next().await? else {
                break;
            };
            for batch in batches {
                hour.take(&batch, &mut number)
                    .map_err(|error| StoreError::Damaged {
                        path: path.clone(),
                        why: error.to_string(),
                    })?;
            }
        }
        Ok(Some(hour.counting()))
    }
}

fn decode(bytes: Bytes) -> Result<Vec<RecordBatch>, TableError> {
    projected(bytes, &COLUMNS, &["device", "tag", "model_version"])
}

/// The wanted rows of an hour.
#[derive(Default)]
struct HourSoFar {
    rows: Vec<ScoredWindow>,
    /// The models' versions, and the place of each.
    versions: Vec<Arc<str>>,
    places: HashMap<Arc<str>, u32>,
}

impl HourSoFar {
    fn take(
        &mut self,
        batch: &RecordBatch,
        number: &mut impl FnMut(&str, &str) -> Option<u32>,
    ) -> Result<(), TableError> {
        let (devices, tags) = (Names::of(batch, "device")?, Names::of(batch, "tag")?);
        let versions = Names::of(batch, "model_version")?;
        let starts = primitive::<TimestampMillisecondType>(batch, "window_start")?.values();
        let lengths = primitive::<Int64Type>(batch, "window_ms")?.values();
        let counts = primitive::<Int64Type>(batch, "count")?.values();
        let float = |name| primitive::<Float64Type>(batch, name);
        let (mean, std, min, max) = (float("mean")?, float("std")?, float("min")?, float("max")?);
        let (first, last) = (float("first")?, float("last")?);
        let mut same = None;
        let (mut sensor, mut version) = (None, 0);
        for row in 0..batch.num_rows() {
            let keys = [devices.key(row), tags.key(row), versions.key(row)];
            if same != Some(keys) {
                same = Some(keys);
                sensor = number(devices.get(row), tags.get(row));
                if sensor.is_some() {
                    version = self.place(versions.get(row));
                }
            }
            let Some(sensor) = sensor else { continue };
            let length = Length::from_millis(lengths[row]);
            let fault = |why: &str| TableError::Row {
                row,
                why: why.to_owned(),
            };
            if !length.is_positive() {
                return Err(fault("the window has no length"));
            }
            let count = u64::try_from(counts[row]).map_err(|_| fault("the count is negative"))?;
            // Several tags together have no values.
            let of = |column: &arrow_array::Float64Array| match column.is_valid(row) {
                true => column.value(row),
                false => f64::NAN,
            };
            self.rows.push(ScoredWindow {
                sensor,
                length,
                aggregate: Aggregate {
                    window_start: EventTime::from_millis(starts[row]),
                    count,
                    mean: of(mean),
                    std: of(std),
                    min: of(min),
                    max: of(max),
                    first: of(first),
                    last: of(last),
                },
                version,
            });
        }
        Ok(())
    }

    fn place(&mut self, version: &str) -> u32 {
        if let Some(place) = self.places.get(version) {
            return *place;
        }
        let (version, place) = (Arc::<str>::from(version), self.versions.len());
        // More than `u32::MAX` model versions do not fit in memory.
        let place = u32::try_from(place).unwrap_or(u32::MAX);
        self.versions.push(Arc::clone(&version));
        self.places.insert(version, place);
        place
    }

    /// Keeps the row that counts for each window, by the rule of `counting.rs`. The columns read here suffice: the rule
    /// compares all others after them.
    fn counting(mut self) -> Vec<ScoredWindow> {
        let versions = &self.versions;
        let version = |row: &ScoredWindow| &versions[row.version as usize];
        let by_precedence = |a: &ScoredWindow, b: &ScoredWindow| {
            let values = |row: &ScoredWindow| {
                let own = &row.aggregate;
                [own.mean, own.std, own.min, own.max, own.first, own.last]
            };
            (a.aggregate.count.cmp(&b.aggregate.count))
                .then_with(|| version(a).cmp(version(b)))
                .then_with(|| {
                    let pairs = values(a).into_iter().zip(values(b));
                    let mut orders = pairs.map(|(a, b)| a.total_cmp(&b));
                    orders.find(|order| order.is_ne()).unwrap_or(Ordering::Equal)
                })
        };
        let window = |row: &ScoredWindow| (row.sensor, row.aggregate.window_start, row.length);
        // The row that counts comes first in its window.
        self.rows
            .sort_unstable_by(|a, b| window(a).cmp(&window(b)).then_with(|| by_precedence(b, a)));
        self.rows.dedup_by(|next, kept| window(next) == window(kept));
        self.rows
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;
    use windrow_common::{Prediction, SensorId};

    use super::*;
    use crate::PartWriter;

    /// A row of one of three sensors: few windows, counts, versions and values, so that most have rivals.
    fn any_row() -> impl Strategy<Value = Prediction> {
        let numbers = (0..3_u8, 0..4_i64, 1..3_u64, 0..2_u8);
        let value = || prop_oneof![Just(0.0), Just(-0.0), Just(1.5)];
        (numbers, proptest::array::uniform3(value()), any::<bool>()).prop_map(
            |((tag, at, count, version), [mean, min, last], anomaly)| Prediction {
                sensor: SensorId::new("d", &format!("t{tag}")).unwrap(),
                window_length: Length::from_millis(if at == 3 { 120_000 } else { 60_000 }),
                aggregate: Aggregate {
                    window_start: EventTime::from_millis(at * 1_800_000),
                    count,
                    mean,
                    std: 0.0,
                    min,
                    max: 2.0,
                    first: 1.0,
                    last,
                },
                decision: if anomaly { -1.0 } else { 1.0 },
                score: None,
                threshold: None,
                anomaly,
                model_version: format!("v{version}").into(),
                cause: None,
                shadow: None,
            },
        )
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn aggregates_are_those_of_the_rows_that_count(
            parts in proptest::collection::vec(proptest::collection::vec(any_row(), 1..12), 1..6),
        ) {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            runtime.block_on(async {
                let store = Store::create("memory:///").unwrap();
                for (at, part) in parts.iter().enumerate() {
                    let writer = PartWriter::new(&store, &format!("w{at}"));
                    writer.write_rows(part.clone()).await.unwrap();
                }
                let hours = store.hours("predictions", None, None).await.unwrap();
                let mut reader = store.aggregates(hours.iter().rev().cloned());
                // The first sensor is not wanted.
                let numbers = BTreeMap::from([("t1", 7_u32), ("t2", 3)]);
                for hour in hours.iter().rev() {
                    let found = reader.next_hour(|_, tag| numbers.get(tag).copied()).await.unwrap().unwrap();
                    let mut right: Vec<(u32, Length, Aggregate)> = Vec::new();
                    for row in store.predictions(hour).await.unwrap().rows {
                        if let Some(number) = numbers.get(&*row.sensor.tag) {
                            right.push((*number, row.window_length, row.aggregate));
                        }
                    }
                    right.sort_by_key(|(number, length, aggregate)| (*number, aggregate.window_start, *length));
                    let bits = |(number, length, of): (u32, Length, Aggregate)| {
                        let values = [of.mean, of.std, of.min, of.max, of.first, of.last];
                        (number, length, of.window_start, of.count, values.map(f64::to_bits))
                    };
                    let found = found.iter().map(|row| bits((row.sensor, row.length, row.aggregate)));
                    let right = right.into_iter().map(bits);
                    prop_assert_eq!(found.collect::<Vec<_>>(), right.collect::<Vec<_>>());
                }
                prop_assert!(reader.next_hour(|_, _| None).await.unwrap().is_none());
                Ok(())
            })?;
        }
    }

    #[tokio::test]
    async fn several_tags_together_have_no_values_and_a_damaged_part_is_named() {
        let store = Store::create("memory:///").unwrap();
        let group = Prediction {
            sensor: SensorId::of_group(&"d".into()),
            window_length: Length::from_millis(60_000),
            aggregate: Aggregate::without_value(EventTime::from_millis(0), 9),
            decision: 1.0,
            score: None,
            threshold: None,
            anomaly: false,
            model_version: "v".into(),
            cause: None,
            shadow: None,
        };
        let writer = PartWriter::new(&store, "w");
        writer.write_rows(vec![group]).await.unwrap();
        let hours = store.hours("predictions", None, None).await.unwrap();
        let rows = store.aggregates(hours.clone()).next_hour(|_, _| Some(0)).await;
        let rows = rows.unwrap().unwrap();
        assert_eq!((rows.len(), rows[0].aggregate.count), (1, 9));
        assert!(rows[0].aggregate.mean.is_nan());
        let path = hours[0].parts()[0].path.clone();
        store.put(&path, "no parquet").await.unwrap();
        let error = store
            .aggregates(hours)
            .next_hour(|_, _| Some(0))
            .await
            .unwrap_err();
        assert!(error.to_string().contains(&path), "{error}");
    }
}
