//! What sensors did before anybody watched them.
//!
//! A sensor that never repeated a value in a week of history is stuck after ten windows of one; without that week it would have
//! to be watched for hours first. `windrow models train` reads the history anyway, so it leaves in
//! `alerting/habits/TIME-ID.ndjson.zst` what a watch would have learned from it: as in a [state](crate::state), a line about the
//! fleet, then a line for each sensor. The first file that names a sensor counts, so that incidents do not depend on when they
//! are worked out.

use std::collections::{HashMap, HashSet};

use windrow_common::{EventTime, ScoringMessage, random};
use windrow_store::{Store, StoreError, run_blocking};

use crate::fleet::Key;
use crate::incident::{Rules, Track, Window};
use crate::state::{Head, decode, encode};

const FOLDER: &str = "alerting/habits";

/// Learns what is usual for each sensor from the windows of a history.
#[derive(Debug, Default)]
pub struct Habits {
    rules: Rules,
    tracks: HashMap<Key, Track>,
}

/// The files of a store that were read.
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
                // Scores are for the model that is yet to be trained.
                let window = Window::of(aggregate, message.window_length, f64::NEG_INFINITY);
                track.take(&window, &self.rules, &mut ended);
            }
        }
    }

    /// Writes what was learned of sensors that the store knows nothing of. Call it before their models are stored, so that no
    /// window of them is judged without it.
    pub async fn write(self, store: &Store) -> Result<(), StoreError> {
        let known = StoredHabits::default().news(store).await?;
        let tracks = self.tracks.into_iter();
        let mut tracks: Vec<(Key, Track)> = tracks
            .filter(|(key, _)| !known.contains_key(key))
            .map(|(key, track)| (key, track.learned()))
            .collect();
        if tracks.is_empty() {
            return Ok(());
        }
        tracks.sort_by(|(a, _), (b, _)| a.cmp(b));
        let path = format!(
            "{FOLDER}/{:013}-{:016x}.ndjson.zst",
            EventTime::now().as_millis(),
            random()
        );
        let encoded = run_blocking(move || {
            let tracks = tracks.iter().map(|(key, track)| (key, track)).collect();
            encode(&Head::default(), tracks)
        });
        let bytes = encoded.await.map_err(std::io::Error::other).flatten();
        let unencodable = |source: std::io::Error| StoreError::Unencodable {
            path: path.clone(),
            source: source.into(),
        };
        store.put(&path, bytes.map_err(unencodable)?).await
    }
}

impl StoredHabits {
    /// Reads the files that are new, and returns where each sensor begins that they name.
    pub(crate) async fn news(&mut self, store: &Store) -> Result<HashMap<Key, Track>, StoreError> {
        let listed = store.list(FOLDER).await?;
        let mut paths: Vec<String> = listed.into_iter().map(|blob| blob.path).collect();
        paths.retain(|path| !self.read.contains(path));
        paths.sort();
        let mut tracks = HashMap::new();
        for path in paths {
            let Some(bytes) = store.get(&path).await? else {
                continue;
            };
            let damaged = |why: String| StoreError::Damaged {
                path: path.clone(),
                why: format!(
                    "{why}; delete it, and its sensors are watched as if nothing were known of them"
                ),
            };
            let decoded = run_blocking(move || decode(&bytes)).await;
            for (key, track) in decoded.map_err(damaged)?.map_err(damaged)?.tracks {
                tracks.entry(key).or_insert(track);
            }
            self.read.insert(path);
        }
        Ok(tracks)
    }
}
