//! Reads the tables hour by hour, one row for each window.
//!
//! Parts are never overwritten, so a window may have several rows. [`counting`] decides which one counts.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};

use super::counting::{HourRows, counting, readings_by_source};
use super::table::hours;
use super::{
    Blob, DispatchedWindow, Store, StoreError, WindowRow, dispatched, predictions, run_blocking, windows,
};
use windrow_common::{EventTime, Prediction};

/// Number of parts that are read and decoded concurrently.
pub(super) const READS_IN_FLIGHT: usize = 8;

/// The parts of one hour of a table. Two are equal if they have the same parts.
#[derive(Clone, Debug, PartialEq)]
pub struct Hour {
    /// `date=YYYY-MM-DD/hour=HH`.
    pub name: String,
    parts: Vec<Blob>,
}

impl Hour {
    /// Returns when it begins.
    pub fn start(&self) -> Option<EventTime> {
        let (date, hour) = self.name.strip_prefix("date=")?.split_once("/hour=")?;
        format!("{date}T{hour}:00:00Z").parse().ok()
    }

    /// Returns its parts, ordered by path.
    pub fn parts(&self) -> &[Blob] {
        &self.parts
    }

    /// Returns the paths of its parts, in order.
    pub(super) fn into_parts(self) -> impl Iterator<Item = String> {
        self.parts.into_iter().map(|part| part.path)
    }

    /// Returns the same hour several times, each time with some of its parts.
    pub fn in_groups(&self, parts: usize) -> impl Iterator<Item = Self> + '_ {
        self.parts.chunks(parts.max(1)).map(|parts| Self {
            name: self.name.clone(),
            parts: parts.to_vec(),
        })
    }

    /// Leaves out the parts that are not wanted, so that they are not read.
    pub fn only(mut self, wanted: impl Fn(&Blob) -> bool) -> Self {
        self.parts.retain(wanted);
        self
    }
}

/// The windows of one hour that were dispatched.
#[derive(Clone, Debug)]
pub struct DispatchedHour {
    /// One row for each window, ordered by sensor, window start and window length.
    pub windows: Vec<DispatchedWindow>,
    /// Number of readings in the windows of each source.
    pub readings: BTreeMap<Arc<str>, u64>,
}

impl Store {
    /// Returns the hours of `table` that hold parts, oldest first. `from` and `to` (exclusive) bound the window starts.
    pub async fn hours(
        &self,
        table: &str,
        from: Option<EventTime>,
        to: Option<EventTime>,
    ) -> Result<Vec<Hour>, StoreError> {
        let grouped = hours(self.parts(table, from, to).await?, from, to);
        Ok(grouped
            .into_iter()
            .map(|(name, parts)| Hour { name, parts })
            .collect())
    }

    /// Lists the parts of a table. Lists only the days from `from` to `to`, because listing a year takes long. Of the
    /// first day, lists only the hours from `from` on, because programs that follow a table list it often.
    async fn parts(
        &self,
        table: &str,
        from: Option<EventTime>,
        to: Option<EventTime>,
    ) -> Result<Vec<Blob>, StoreError> {
        if from.is_none() && to.is_none() {
            return self.list(table).await;
        }
        let day = |time: EventTime| {
            let hour = time.hive_partition();
            hour.split('/').next().unwrap_or_default().to_owned()
        };
        let (first, last) = (from.map(day), to.map(day));
        let mut parts = Vec::new();
        for folder in self.folders(table).await? {
            let wanted = first.as_ref().is_none_or(|first| folder >= *first)
                && last.as_ref().is_none_or(|last| folder <= *last);
            if !wanted {
                continue;
            }
            let day = format!("{table}/{folder}");
            let Some(from) = from.filter(|_| first.as_ref() == Some(&folder)) else {
                parts.extend(self.list(&day).await?);
                continue;
            };
            let from = from.hive_partition();
            for hour in self.folders(&day).await? {
                if format!("{folder}/{hour}") >= from {
                    parts.extend(self.list(&format!("{day}/{hour}")).await?);
                }
            }
        }
        Ok(parts)
    }

    /// Reads the predictions of one hour that count.
    pub async fn predictions(&self, hour: &Hour) -> Result<HourRows<Prediction>, StoreError> {
        Ok(counting(self.read_rows(hour, predictions::decode).await?))
    }

    /// Reads the dispatched windows of one hour, each with the number of readings that counts.
    pub async fn dispatched(&self, hour: &Hour) -> Result<DispatchedHour, StoreError> {
        let rows = self.read_rows(hour, dispatched::decode).await?;
        Ok(DispatchedHour {
            readings: readings_by_source(&rows),
            windows: counting(rows).rows,
        })
    }

    /// Calls `take` with every row of an hour of the predictions or of the dispatched windows, in the order of the
    /// parts. A window with several rows is passed several times. Reads and decodes a few parts ahead, concurrently. If
    /// `take` fails, returns [`StoreError::Damaged`] for the part.
    pub async fn each_window(
        &self,
        hour: &Hour,
        mut take: impl FnMut(WindowRow<'_>) -> Result<(), String>,
    ) -> Result<(), StoreError> {
        let mut parts = self.read_parts(hour, windows::decode);
        while let Some((path, batches)) = parts.try_next().await? {
            for batch in batches {
                windows::each(&batch, &mut take).map_err(|error| StoreError::Damaged {
                    path: path.clone(),
                    why: error.to_string(),
                })?;
            }
        }
        Ok(())
    }

    async fn read_rows<T: Send + 'static>(
        &self,
        hour: &Hour,
        decode: fn(bytes::Bytes) -> Result<Vec<T>, super::TableError>,
    ) -> Result<Vec<T>, StoreError> {
        let parts = self.read_parts(hour, decode).map_ok(|(_, rows)| rows);
        parts.try_concat().await
    }

    /// Returns what each part of an hour holds, with the part's path, in the order of the parts.
    fn read_parts<'a, T: Send + 'static>(
        &'a self,
        hour: &'a Hour,
        decode: fn(bytes::Bytes) -> Result<Vec<T>, super::TableError>,
    ) -> BoxStream<'a, Result<(String, Vec<T>), StoreError>> {
        // Collected and boxed: with a lazy map over references, the compiler cannot prove that the caller's future is `Send`.
        let reads: Vec<_> = hour
            .parts
            .iter()
            .map(|part| self.decoded(part.path.clone(), decode))
            .collect();
        futures::stream::iter(reads).buffered(READS_IN_FLIGHT).boxed()
    }

    /// Returns what a part holds, with its path.
    pub(super) async fn decoded<T: Send + 'static>(
        &self,
        path: String,
        decode: fn(bytes::Bytes) -> Result<Vec<T>, super::TableError>,
    ) -> Result<(String, Vec<T>), StoreError> {
        // A part that no longer exists was compacted or deleted: its rows are elsewhere or no longer wanted.
        let Some(bytes) = self.get(&path).await? else {
            return Ok((path, Vec::new()));
        };
        let decoded = run_blocking(move || decode(bytes)).await;
        match decoded.and_then(|decoded| decoded.map_err(|error| error.to_string())) {
            Ok(rows) => Ok((path, rows)),
            Err(why) => Err(StoreError::Damaged { path, why }),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::PartWriter;
    use super::*;
    use windrow_common::{Aggregate, Length, SensorId};

    fn prediction(tag: &str, start: i64, decision: f64) -> Prediction {
        Prediction {
            sensor: SensorId::new("d", tag).unwrap(),
            window_length: Length::from_millis(60_000),
            aggregate: Aggregate {
                window_start: EventTime::from_millis(start),
                count: 1,
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
            model_version: "v".into(),
            shadow: None,
            threshold: None,
            cause: None,
        }
    }

    #[tokio::test]
    async fn a_window_is_read_once_in_whichever_parts_its_rows_are() {
        let store = Store::create("memory:///").unwrap();
        let writer = PartWriter::new(&store, "w");
        let parts = [
            vec![prediction("b", 0, 1.0), prediction("a", 60_000, 1.0)],
            vec![prediction("a", 60_000, 1.0), prediction("a", 0, -1.0)],
            vec![prediction("b", 0, 2.0)],
        ];
        for part in parts {
            let rows = part.len();
            assert_eq!(writer.write_rows(part).await.unwrap(), [rows]);
        }
        let hours = store.hours("predictions", None, None).await.unwrap();
        assert_eq!(hours.len(), 1);
        let read = store.predictions(&hours[0]).await.unwrap();
        assert_eq!(
            read.rows,
            [
                prediction("a", 0, -1.0),
                prediction("a", 60_000, 1.0),
                prediction("b", 0, 2.0)
            ]
        );
        assert_eq!((read.repeats, read.superseded, read.conflicts), (1, 0, 1));
        let later = EventTime::from_millis(0).saturating_add(Duration::from_secs(3_600));
        let none = store.hours("predictions", Some(later), None).await.unwrap();
        assert!(none.is_empty());
    }

    #[tokio::test]
    async fn only_hours_from_and_to_are_read() {
        let store = Store::create("memory:///").unwrap();
        let hours = [
            "date=2026-01-01/hour=23",
            "date=2026-01-02/hour=00",
            "date=2026-01-02/hour=09",
            "date=2026-01-10/hour=00",
        ];
        for hour in hours {
            store
                .put(&format!("dispatched/{hour}/x.parquet"), "")
                .await
                .unwrap();
        }
        let time = |text: &str| Some(text.parse().unwrap());
        for (from, to, wanted) in [
            (None, None, &hours[..]),
            (time("2026-01-02T00:30:00Z"), None, &hours[1..]),
            (None, time("2026-01-02T00:00:00Z"), &hours[..1]),
            (
                time("2026-01-02T01:00:00Z"),
                time("2026-01-02T10:00:00Z"),
                &hours[2..3],
            ),
        ] {
            let found = store.hours("dispatched", from, to).await.unwrap();
            let names: Vec<_> = found.iter().map(|hour| hour.name.as_str()).collect();
            assert_eq!(names, wanted, "{from:?} {to:?}");
        }
    }

    #[tokio::test]
    async fn a_damaged_part_is_named() {
        let store = Store::create("memory:///").unwrap();
        let path = "predictions/date=1970-01-01/hour=00/x.parquet";
        store.put(path, "PAR1?").await.unwrap();
        let hours = store.hours("predictions", None, None).await.unwrap();
        let error = store.predictions(&hours[0]).await.unwrap_err();
        assert!(error.to_string().starts_with(path), "{error}");
    }
}
