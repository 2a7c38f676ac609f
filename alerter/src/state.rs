//! Saves a follower's state in the store, so that the next one need not read everything again.
//!
//! `alerting/state/date=YYYY-MM-DD/hour=HH.ndjson.zst` says where each sensor stood before that hour: a line about the
//! fleet, then a line for each sensor. The latest is where the next follower begins; those of midnights are kept for as long
//! as late parts are looked for, since a late part is worked in from the state before it. States after that part do not
//! know it, so they are deleted then.

use std::io::{BufRead, BufReader, Write};

use serde::{Deserialize, Serialize};
use windrow_common::{EventTime, Length, SensorId};
use windrow_store::{SeenHour, Store, StoreError, run_blocking};

use crate::fleet::Key;
use windrow_incidents::Track;

const FOLDER: &str = "alerting/state";
const FORMAT: u32 = 1;
/// Names are short, and tracks hold a handful of numbers; this is far more.
const MOST_BYTES: u64 = 4 << 30;

/// A saved state.
#[derive(Debug, Default)]
pub(crate) struct State {
    pub(crate) head: Head,
    pub(crate) tracks: Vec<(Key, Track)>,
}

/// The first line of a state.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Head {
    format: u32,
    /// The windows before this time are part of the state.
    pub(crate) base: EventTime,
    /// The end of the newest window when the state was saved.
    pub(crate) reached: EventTime,
    /// The parts that were read of the hours before the base.
    pub(crate) hours: Vec<SeenHour>,
}

impl Default for Head {
    fn default() -> Self {
        Self {
            format: FORMAT,
            base: EventTime::MIN,
            reached: EventTime::MIN,
            hours: Vec::new(),
        }
    }
}

#[derive(Serialize, Deserialize)]
struct Line<T> {
    sensor: String,
    #[serde(rename = "window_ms")]
    window_length: Length,
    #[serde(flatten)]
    track: T,
}

impl Head {
    pub(crate) fn new(base: EventTime, reached: EventTime, hours: Vec<SeenHour>) -> Self {
        Self {
            format: FORMAT,
            base,
            reached,
            hours,
        }
    }
}

/// Writes a state, and deletes the others except the two latest and the states of midnights. Of the midnights up to
/// `keep_from`, only the newest is kept.
pub(crate) async fn save(
    store: &Store,
    head: &Head,
    tracks: Vec<(&Key, &Track)>,
    keep_from: EventTime,
) -> Result<(), StoreError> {
    let path = path(head.base);
    let unencodable = |source: std::io::Error| StoreError::Unencodable {
        path: path.clone(),
        source: source.into(),
    };
    let bytes = encode(head, tracks).map_err(unencodable)?;
    store.put(&path, bytes).await?;
    let saved = saved(store).await?;
    let latest = saved.len().saturating_sub(2);
    let is_midnight = |base: EventTime| base.floor(Length::DAY) == base;
    let midnights = saved
        .iter()
        .map(|(base, _)| *base)
        .filter(|base| is_midnight(*base));
    let first = midnights.filter(|base| *base <= keep_from).max();
    for (base, path) in &saved[..latest] {
        if !is_midnight(*base) || first.is_some_and(|first| *base < first) {
            store.delete(path).await?;
        }
    }
    Ok(())
}

/// Deletes the states after `time` and before `base`.
pub(crate) async fn forget_between(
    store: &Store,
    time: EventTime,
    base: EventTime,
) -> Result<(), StoreError> {
    for (saved, path) in saved(store).await? {
        if saved > time && saved < base {
            store.delete(&path).await?;
        }
    }
    Ok(())
}

/// Returns the latest state whose base is not after `time`; the state before everything if there is none.
pub(crate) async fn load(store: &Store, time: Option<EventTime>) -> Result<State, StoreError> {
    let saved = saved(store).await?;
    let mut usable = saved.into_iter().rev();
    let Some((_, path)) = usable.find(|(base, _)| time.is_none_or(|time| *base <= time)) else {
        return Ok(State::default());
    };
    let Some(bytes) = store.get(&path).await? else {
        return Ok(State::default());
    };
    let damaged = |why: String| StoreError::Damaged {
        path: path.clone(),
        why: format!("{why}; delete it, and incidents are worked out again from the state before it"),
    };
    let decoded = run_blocking(move || decode(&bytes)).await;
    decoded.map_err(damaged)?.map_err(damaged)
}

/// Returns the saved states, oldest first.
async fn saved(store: &Store) -> Result<Vec<(EventTime, String)>, StoreError> {
    let blobs = store.list(FOLDER).await?;
    let state = |blob: windrow_store::Blob| Some((base(&blob.path)?, blob.path));
    Ok(blobs.into_iter().filter_map(state).collect())
}

fn path(base: EventTime) -> String {
    format!("{FOLDER}/{}.ndjson.zst", base.hive_partition())
}

fn base(path: &str) -> Option<EventTime> {
    let name = path.strip_prefix(FOLDER)?.strip_prefix("/date=")?;
    let (date, hour) = name.strip_suffix(".ndjson.zst")?.split_once("/hour=")?;
    format!("{date}T{hour}:00:00Z").parse().ok()
}

pub(crate) fn encode(head: &Head, tracks: Vec<(&Key, &Track)>) -> std::io::Result<Vec<u8>> {
    let mut out = zstd::Encoder::new(Vec::new(), 3)?;
    serde_json::to_writer(&mut out, head)?;
    for (key, track) in tracks {
        out.write_all(b"\n")?;
        let line = Line {
            sensor: key.sensor.to_string(),
            window_length: key.window_length,
            track,
        };
        serde_json::to_writer(&mut out, &line)?;
    }
    out.finish()
}

pub(crate) fn decode(bytes: &[u8]) -> Result<State, String> {
    let text = |error: std::io::Error| error.to_string();
    let reader = zstd::Decoder::new(bytes).map_err(text)?;
    let mut lines = BufReader::new(std::io::Read::take(reader, MOST_BYTES)).lines();
    let head = lines.next().ok_or("it is empty")?.map_err(text)?;
    let head: Head = serde_json::from_str(&head).map_err(|error| error.to_string())?;
    if head.format != FORMAT {
        return Err(format!(
            "it has format {}, and this program reads format {FORMAT}: update Windrow",
            head.format
        ));
    }
    let mut tracks = Vec::new();
    for (number, line) in lines.enumerate() {
        let wrong = |why: &dyn std::fmt::Display| format!("line {}: {why}", number + 2);
        let line = line.map_err(|error| wrong(&error))?;
        let line: Line<Track> = serde_json::from_str(&line).map_err(|error| wrong(&error))?;
        let sensor: SensorId = line.sensor.parse().map_err(|error| wrong(&error))?;
        if !line.window_length.is_positive() {
            return Err(wrong(&"the window has no length"));
        }
        let window_length = line.window_length;
        tracks.push((
            Key {
                sensor,
                window_length,
            },
            line.track,
        ));
    }
    Ok(State { head, tracks })
}
