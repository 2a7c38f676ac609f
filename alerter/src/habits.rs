//! Learns habits of sensors from their history, before the alerter watches them.
//!
//! A sensor that never repeated a value in a week of history is stuck after ten equal windows. Without that week, the
//! alerter would have to watch it for hours first. `windrow models train` reads the history anyway, so it writes the
//! habits to `alerting/habits/NUMBER.ndjson.zst`. Like a [state](crate::state), a file has a line about the fleet, then
//! a line for each sensor. The first file that names a sensor counts, and only if the sensor's windows begin after the
//! history. So incidents do not depend on when they are worked out.

use std::collections::{HashMap, HashSet};

use windrow_common::{ScoringMessage, SensorId};
use windrow_store::{Store, StoreError, run_blocking};

use crate::fleet::Key;
use crate::state::{Head, decode, encode};
use windrow_incidents::{Rules, Track, Window};

const FOLDER: &str = "alerting/habits/";
const ENDING: &str = ".ndjson.zst";

/// Learns what is usual for each sensor from the windows of a history.
#[derive(Debug, Default)]
pub struct Habits {
    rules: Rules,
    tracks: HashMap<Key, Track>,
}

/// The files of a store, as far as they were read.
#[derive(Debug, Default)]
pub(crate) struct StoredHabits {
    read: HashSet<String>,
}

impl Habits {
    /// Takes the windows of a message. Those of a sensor have to come in order of time; earlier ones are left out.
    pub fn take(&mut self, message: &ScoringMessage) {
        let key = Key {
            sensor: message.sensor.clone(),
            window_length: message.window_length,
        };
        let track = self.tracks.entry(key).or_default();
        let mut ended = Vec::new();
        for aggregate in &message.aggregates {
            if track.end().is_none_or(|end| aggregate.window_start >= end) {
                // There is no model yet that scores it.
                let window = Window::of(aggregate, message.window_length, f64::NEG_INFINITY);
                track.take(&window, &self.rules, &mut ended);
            }
        }
    }

    /// Writes what was learned of the sensors for which `is_new` holds and that the store does not know yet. Call it before their
    /// first models are stored, so that no window of them is judged without it.
    pub async fn write(self, store: &Store, is_new: impl Fn(&SensorId) -> bool) -> Result<(), StoreError> {
        let learned = self.tracks.into_iter();
        let mut tracks: Vec<(Key, Track)> = learned
            .filter(|(key, _)| is_new(&key.sensor))
            .filter_map(|(key, track)| Some((key, track.learned()?)))
            .collect();
        tracks.sort_by(|(a, _), (b, _)| a.cmp(b));
        let mut stored = StoredHabits::default();
        loop {
            let known = stored.news(store).await?;
            tracks.retain(|(key, _)| !known.contains_key(key));
            if tracks.is_empty() {
                return Ok(());
            }
            let path = format!("{FOLDER}{:08}{ENDING}", stored.next_number());
            let of_all = tracks.iter().map(|(key, track)| (key, track)).collect();
            let bytes = encode(&Head::default(), of_all).map_err(|source| StoreError::Unencodable {
                path: path.clone(),
                source: source.into(),
            })?;
            match store.put_if(&path, bytes, None).await {
                Ok(_) => return Ok(()),
                // Another training was first, and its entries for the same sensors count.
                Err(StoreError::Conflict { .. }) => {}
                Err(error) => return Err(error),
            }
        }
    }
}

impl StoredHabits {
    /// Reads the files that are new, and returns what they say, by sensor.
    pub(crate) async fn news(&mut self, store: &Store) -> Result<HashMap<Key, Track>, StoreError> {
        let listed = store.list(FOLDER.trim_end_matches('/')).await?;
        let mut paths: Vec<String> = listed.into_iter().map(|blob| blob.path).collect();
        paths.retain(|path| number(path).is_some() && !self.read.contains(path));
        paths.sort();
        let mut tracks = HashMap::new();
        for path in &paths {
            let Some(bytes) = store.get(path).await? else {
                continue;
            };
            let damaged = |why: String| StoreError::Damaged {
                path: path.clone(),
                why: format!("{why}; delete it, and its sensors are watched as if they had no history"),
            };
            let decoded = run_blocking(move || decode(&bytes)).await;
            for (key, track) in decoded.map_err(damaged)?.map_err(damaged)?.tracks {
                tracks.entry(key).or_insert(track);
            }
        }
        // Not one by one: after an error, the next call reads all of them again.
        self.read.extend(paths);
        Ok(tracks)
    }

    /// Returns the number of the file that comes after those that were read.
    fn next_number(&self) -> u32 {
        let newest = self.read.iter().filter_map(|path| number(path)).max();
        newest.map_or(1, |newest| newest.saturating_add(1))
    }
}

/// Returns the number of a file; `None` if it is none of these.
fn number(path: &str) -> Option<u32> {
    path.strip_prefix(FOLDER)?.strip_suffix(ENDING)?.parse().ok()
}
