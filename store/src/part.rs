//! Parts: the files that make up a table, and how they are written to the store.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use bytes::Bytes;
use serde::Serialize;
use windrow_common::{EventTime, Length, encode_segment, random};

use super::{Store, StoreError, TableError, run_blocking, wait_out};

/// Maximum length of the task's name in a part's name, in characters. File systems allow names of 255 bytes.
const MAX_TASK_NAME: usize = 100;

/// A row of a Parquet table that is laid out by hour of event time.
pub trait Row: Send + Sized + 'static {
    /// The table's folder.
    const TABLE: &'static str;

    /// Returns the start of the row's window. Its hour decides which part the row goes to.
    fn window_start(&self) -> EventTime;

    /// Encodes `rows` as one Parquet file.
    fn encode(rows: &[Self]) -> Result<Bytes, TableError>;
}

/// A writer of one task's parts that waits while the store is unavailable.
///
/// Parts are never overwritten: no other task or process uses the name of a part. A part that is written again after a
/// crash duplicates rows, and readers use one row for each window.
///
/// ```
/// use windrow_common::{EventTime, Length, SensorId};
/// use windrow_store::{DispatchedWindow, PartWriter, Store};
///
/// # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
/// let store = Store::create("memory:///")?;
/// let sensor = SensorId::new("pump-7", "temp")?;
/// let window = |hour: i64| DispatchedWindow {
///     sensor: sensor.clone(),
///     window_start: EventTime::from_millis(hour * 3_600_000),
///     window_length: Length::from_millis(60_000),
///     count: 6,
///     source: "history".into(),
/// };
/// let writer = PartWriter::new(&store, "demo");
/// // One part for each hour: two rows in the first, one in the second.
/// assert_eq!(writer.write_rows(vec![window(0), window(1), window(0)]).await?, [2, 1]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct PartWriter {
    store: Store,
    /// The start time of the task, a random number, and the task's name.
    prefix: Arc<str>,
    next: Arc<AtomicU64>,
}

impl PartWriter {
    /// Creates a writer for one task. The task's name tells people where its parts come from.
    pub fn new(store: &Store, task: &str) -> Self {
        let started = EventTime::now().as_millis();
        let task: String = encode_segment(task).chars().take(MAX_TASK_NAME).collect();
        Self {
            store: store.clone(),
            // Containers all have the same process id, and a fleet may start in the same millisecond.
            prefix: format!("{started}-{:016x}-{task}", random()).into(),
            next: Arc::default(),
        }
    }

    /// Writes rows as Parquet, one part for each hour of event time. Returns the number of rows of each part.
    pub async fn write_rows<R: Row>(&self, rows: Vec<R>) -> Result<Vec<usize>, StoreError> {
        let mut hours: BTreeMap<EventTime, Vec<R>> = BTreeMap::new();
        for row in rows {
            let hour = row.window_start().floor(Length::HOUR);
            hours.entry(hour).or_default().push(row);
        }
        let mut written = Vec::with_capacity(hours.len());
        for (hour, rows) in hours {
            let path = self.next_path(R::TABLE, hour, "parquet");
            written.push(rows.len());
            let encoded = run_blocking(move || R::encode(&rows)).await;
            let bytes = encoded
                .map_err(|panic| unencodable(&path, panic))?
                .map_err(|error| unencodable(&path, error))?;
            self.put(&path, bytes).await?;
        }
        Ok(written)
    }

    /// Writes one part of JSON lines under the current hour. Writes nothing if there are no lines.
    pub async fn write_lines<L: Serialize>(
        &self,
        table: &str,
        lines: impl IntoIterator<Item = L>,
    ) -> Result<(), StoreError> {
        let path = self.next_path(table, EventTime::now(), "ndjson");
        let mut text = Vec::new();
        for line in lines {
            serde_json::to_writer(&mut text, &line).map_err(|error| unencodable(&path, error))?;
            text.push(b'\n');
        }
        if text.is_empty() {
            return Ok(());
        }
        self.put(&path, text.into()).await
    }

    /// Writes a new part into the folder of `part`, to replace it. The caller deletes `part`.
    pub async fn write_beside(&self, part: &str, bytes: Bytes) -> Result<(), StoreError> {
        let number = self.next.fetch_add(1, Relaxed);
        let (folder, name) = part.rsplit_once('/').unwrap_or(("", part));
        let ending = name.rsplit_once('.').map_or("", |(_, ending)| ending);
        self.put(&format!("{folder}/{}-{number:06}.{ending}", self.prefix), bytes)
            .await
    }

    async fn put(&self, path: &str, bytes: Bytes) -> Result<(), StoreError> {
        wait_out("writing a part", || self.store.put(path, bytes.clone())).await
    }

    fn next_path(&self, table: &str, hour: EventTime, ending: &str) -> String {
        let number = self.next.fetch_add(1, Relaxed);
        let hour = hour.hive_partition();
        format!("{table}/{hour}/{}-{number:06}.{ending}", self.prefix)
    }
}

fn unencodable(path: &str, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> StoreError {
    StoreError::Unencodable {
        path: path.to_owned(),
        source: source.into(),
    }
}
