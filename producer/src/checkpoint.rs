//! Where a source was left, in the store: `checkpoints/<source>/<group>.json`.
//!
//! A group is what shares a watermark and is saved in one write: all files of a replay. (Saved apart, a crash between
//! two writes would let one partition rebuild part of an interval the other believes dispatched.)

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use windrow_common::store::{Store, StoreError, Version};
use windrow_common::{EventTime, encode_segment, format_duration, retry_while_transient};

use crate::source::Offset;
use crate::window::{PartitionPosition, Position, Windowing};

/// What shares a watermark and a checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Group {
    /// All partitions of a source that belongs to one producer.
    Whole,
    /// A partition that may move between producers.
    Partition {
        /// Its name.
        name: String,
        /// Where it begins without a checkpoint.
        start: Offset,
        /// The oldest offset that is still there.
        oldest: Offset,
    },
}

impl Group {
    fn name(&self) -> &str {
        match self {
            Self::Whole => "all",
            Self::Partition { name, .. } => name,
        }
    }
}

/// A source's checkpoint, and the right to replace it.
#[derive(Debug)]
pub(crate) struct Checkpoint {
    store: Store,
    path: String,
    windowing: Windowing,
    dispatched_through: EventTime,
    /// By partition name; partitions that are gone stay, in case they come back.
    partitions: BTreeMap<String, PartitionPosition>,
    version: Option<Version>,
    /// Of partitions that are not known.
    start: Offset,
    /// Which process moves it on, where processes take turns.
    owner: Option<String>,
}

/// What can go wrong with a checkpoint.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// It is not a checkpoint of this program.
    #[error("{path} is damaged: {why}; delete it to read the source from its start")]
    Damaged {
        /// The blob.
        path: String,
        /// What is wrong.
        why: String,
    },
    /// The windows were other ones when the source was left.
    #[error(
        "{path} was written with windows of {then}; this run has windows of {now}: give it another --source-name, or \
         delete the checkpoint to read the source from its start"
    )]
    OtherWindows {
        /// The blob.
        path: String,
        /// `window / interval` of the earlier run.
        then: String,
        /// `window / interval` of this one.
        now: String,
    },
    /// Someone else moved it on.
    #[error("another producer has taken over {path}: this one stops, and loses nothing by it")]
    TakenOver {
        /// The blob.
        path: String,
    },
}

#[derive(Serialize, Deserialize)]
struct Saved {
    window_ms: i64,
    interval_ms: i64,
    /// RFC 3339; absent when nothing has been dispatched.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    dispatched_through: Option<String>,
    partitions: BTreeMap<String, SavedPartition>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    owner: Option<String>,
}

#[derive(Serialize, Deserialize)]
struct SavedPartition {
    resume: u64,
    judged: u64,
}

impl Checkpoint {
    /// Reads the checkpoint of a group of `source`, or starts one. That of a partition which may move is taken over: from
    /// now on whoever had it before cannot save it.
    pub(crate) async fn open(
        store: &Store,
        source: &str,
        group: &Group,
        windowing: Windowing,
    ) -> Result<Self, CheckpointError> {
        let Group::Partition { start, oldest, .. } = group else {
            return Self::read(store, source, group, windowing).await;
        };
        loop {
            let mut checkpoint = Self::read(store, source, group, windowing).await?;
            checkpoint.start = *start;
            checkpoint.owner = Some(unique_name());
            let resume = checkpoint.partition(group.name()).resume;
            if resume < *oldest {
                let (source, partition) = (source, group.name());
                let events = oldest.0 - resume.0;
                tracing::warn!(source, partition, events, "events expired before they were read");
            }
            match checkpoint.write().await {
                // The one before saved once more, between our reading and our writing.
                Err(CheckpointError::TakenOver { .. }) => {}
                Err(error) => return Err(error),
                Ok(()) => return Ok(checkpoint),
            }
        }
    }

    async fn read(
        store: &Store,
        source: &str,
        group: &Group,
        windowing: Windowing,
    ) -> Result<Self, CheckpointError> {
        let path = format!("{}/{}.json", folder(source), encode_segment(group.name()));
        let mut checkpoint = Self {
            store: store.clone(),
            path,
            windowing,
            dispatched_through: EventTime::MIN,
            partitions: BTreeMap::new(),
            version: None,
            start: Offset(0),
            owner: None,
        };
        let read = || store.get_versioned(&checkpoint.path);
        let read = retry_while_transient("reading the checkpoint", StoreError::is_transient, read).await?;
        if let Some((bytes, version)) = read {
            checkpoint.restore(&bytes)?;
            checkpoint.version = Some(version);
        }
        Ok(checkpoint)
    }

    fn restore(&mut self, bytes: &[u8]) -> Result<(), CheckpointError> {
        let damaged = |why: String| CheckpointError::Damaged {
            path: self.path.clone(),
            why,
        };
        let saved: Saved = serde_json::from_slice(bytes).map_err(|error| damaged(error.to_string()))?;
        let Windowing {
            window_ms,
            interval_ms,
            ..
        } = self.windowing;
        if (saved.window_ms, saved.interval_ms) != (window_ms, interval_ms) {
            return Err(CheckpointError::OtherWindows {
                path: self.path.clone(),
                then: windows_text(saved.window_ms, saved.interval_ms),
                now: windows_text(window_ms, interval_ms),
            });
        }
        if let Some(text) = &saved.dispatched_through {
            self.dispatched_through =
                EventTime::parse(text.as_bytes()).map_err(|error| damaged(error.to_string()))?;
        }
        for (name, SavedPartition { resume, judged }) in saved.partitions {
            if resume > judged {
                return Err(damaged(format!(
                    "partition {name} resumes at {resume}, past {judged}"
                )));
            }
            self.partitions.insert(
                name,
                PartitionPosition {
                    resume: Offset(resume),
                    judged: Offset(judged),
                },
            );
        }
        Ok(())
    }

    /// The position of the partitions `names`, in their order; one not known starts at its beginning.
    pub(crate) fn position(&self, names: &[String]) -> Position {
        let partitions = names.iter().map(|name| self.partition(name)).collect();
        Position {
            dispatched_through: self.dispatched_through,
            partitions,
        }
    }

    /// The position of one partition.
    pub(crate) fn partition(&self, name: &str) -> PartitionPosition {
        let beginning = PartitionPosition {
            resume: self.start,
            judged: self.start,
        };
        self.partitions.get(name).copied().unwrap_or(beginning)
    }

    /// Where each partition of `source` that may move is resumed, whoever reads it.
    #[cfg(feature = "eventhubs")]
    pub(crate) async fn resume_offsets(
        store: &Store,
        source: &str,
    ) -> Result<Vec<(String, Offset)>, StoreError> {
        let folder = folder(source);
        let mut offsets = Vec::new();
        for blob in store.list(&folder).await? {
            let name = blob.path.strip_prefix(&folder).unwrap_or(&blob.path);
            if name.trim_start_matches('/').contains('/') {
                continue;
            }
            let Some(bytes) = store.get(&blob.path).await? else {
                continue;
            };
            // One that is damaged is complained of by whoever opens it.
            let saved: Option<Saved> = serde_json::from_slice(&bytes).ok();
            let partitions = saved.into_iter().flat_map(|saved| saved.partitions);
            offsets.extend(partitions.map(|(name, SavedPartition { resume, .. })| (name, Offset(resume))));
        }
        Ok(offsets)
    }

    /// Every partition it knows, by name.
    pub(crate) fn known(&self) -> &BTreeMap<String, PartitionPosition> {
        &self.partitions
    }

    /// Saves a position, of which everything is safe: messages confirmed, quarantine written.
    pub(crate) async fn save(
        &mut self,
        names: &[String],
        position: &Position,
    ) -> Result<(), CheckpointError> {
        self.dispatched_through = position.dispatched_through;
        for (name, partition) in names.iter().zip(&position.partitions) {
            if self.partitions.get(name) != Some(partition) {
                self.partitions.insert(name.clone(), *partition);
            }
        }
        self.write().await
    }

    async fn write(&mut self) -> Result<(), CheckpointError> {
        let partitions = self
            .partitions
            .iter()
            .map(|(name, PartitionPosition { resume, judged })| {
                (
                    name.clone(),
                    SavedPartition {
                        resume: resume.0,
                        judged: judged.0,
                    },
                )
            });
        let saved = Saved {
            window_ms: self.windowing.window_ms,
            interval_ms: self.windowing.interval_ms,
            dispatched_through: (self.dispatched_through > EventTime::MIN)
                .then(|| self.dispatched_through.to_string()),
            partitions: partitions.collect(),
            owner: self.owner.clone(),
        };
        let json = serde_json::to_vec_pretty(&saved).map_err(|error| CheckpointError::Damaged {
            path: self.path.clone(),
            why: error.to_string(),
        })?;
        let write = || self.store.put_if(&self.path, json.clone(), self.version.as_ref());
        match retry_while_transient("saving the checkpoint", StoreError::is_transient, write).await {
            Ok(version) => self.version = Some(version),
            Err(StoreError::Conflict { .. }) => self.version = Some(self.written_after_all(&json).await?),
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    /// The version of the blob if it is what we wrote: a write may succeed and its answer be lost, and the next try
    /// then meets the first. (The owner in it tells ours from another's.)
    async fn written_after_all(&self, json: &[u8]) -> Result<Version, CheckpointError> {
        match self.store.get_versioned(&self.path).await? {
            Some((bytes, version)) if bytes == json && self.owner.is_some() => Ok(version),
            _ => Err(CheckpointError::TakenOver {
                path: self.path.clone(),
            }),
        }
    }
}

fn folder(source: &str) -> String {
    format!("checkpoints/{}", encode_segment(source))
}

/// Told apart from every other process's and partition's.
pub(crate) fn unique_name() -> String {
    use std::hash::{BuildHasher, RandomState};
    format!("{}-{:016x}", std::process::id(), RandomState::new().hash_one(()))
}

fn windows_text(window_ms: i64, interval_ms: i64) -> String {
    let text = |ms: i64| format_duration(std::time::Duration::from_millis(ms.unsigned_abs()));
    format!("{} and intervals of {}", text(window_ms), text(interval_ms))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::window::WindowConfig;

    fn position(resume: u64) -> Position {
        Position {
            dispatched_through: EventTime::from_millis(60_000),
            partitions: vec![PartitionPosition {
                resume: Offset(resume),
                judged: Offset(resume + 5),
            }],
        }
    }

    #[tokio::test]
    async fn a_saved_position_comes_back_and_an_old_owner_cannot_move_it() {
        let store = Store::create("memory:///").unwrap();
        let windowing = WindowConfig::default().validate().unwrap();
        let names = ["a".to_owned()];
        let mut first = Checkpoint::open(&store, "s", &Group::Whole, windowing)
            .await
            .unwrap();
        assert_eq!(first.position(&names).dispatched_through, EventTime::MIN);
        first.save(&names, &position(1)).await.unwrap();
        let mut second = Checkpoint::open(&store, "s", &Group::Whole, windowing)
            .await
            .unwrap();
        assert_eq!(second.position(&names), position(1));
        second.save(&names, &position(2)).await.unwrap();
        let error = first.save(&names, &position(3)).await.unwrap_err();
        assert!(matches!(error, CheckpointError::TakenOver { .. }));
        let third = Checkpoint::open(&store, "s", &Group::Whole, windowing)
            .await
            .unwrap();
        assert_eq!(third.position(&names), position(2));
    }

    #[tokio::test]
    async fn other_windows_and_damage_are_refused_with_what_to_do() {
        let store = Store::create("memory:///").unwrap();
        let windowing = WindowConfig::default().validate().unwrap();
        Checkpoint::open(&store, "s", &Group::Whole, windowing)
            .await
            .unwrap()
            .save(&[], &position(1))
            .await
            .unwrap();
        let other = WindowConfig {
            window: std::time::Duration::from_secs(5),
            ..WindowConfig::default()
        };
        let error = Checkpoint::open(&store, "s", &Group::Whole, other.validate().unwrap())
            .await
            .unwrap_err();
        assert!(
            error
                .to_string()
                .contains("windows of 1m and intervals of 1m; this run has windows of 5s"),
            "{error}"
        );
        store.put("checkpoints/s/all.json", "{").await.unwrap();
        let error = Checkpoint::open(&store, "s", &Group::Whole, windowing)
            .await
            .unwrap_err();
        assert!(matches!(error, CheckpointError::Damaged { .. }), "{error}");
    }

    #[tokio::test]
    async fn a_partition_is_taken_over_by_opening_it() {
        let store = Store::create("memory:///").unwrap();
        let windowing = WindowConfig::default().validate().unwrap();
        let group = Group::Partition {
            name: "3".to_owned(),
            start: Offset(40),
            oldest: Offset(0),
        };
        let names = ["3".to_owned()];
        let mut stale = Checkpoint::open(&store, "s", &group, windowing).await.unwrap();
        assert_eq!(
            stale.partition("3").resume,
            Offset(40),
            "it begins where it is told to"
        );
        stale.save(&names, &position(50)).await.unwrap();
        let mut owner = Checkpoint::open(&store, "s", &group, windowing).await.unwrap();
        assert_eq!(owner.position(&names), position(50));
        let error = stale.save(&names, &position(60)).await.unwrap_err();
        assert!(matches!(error, CheckpointError::TakenOver { .. }));
        owner.save(&names, &position(55)).await.unwrap();
        let offsets = Checkpoint::resume_offsets(&store, "s").await.unwrap();
        assert_eq!(offsets, [("3".to_owned(), Offset(55))]);
    }
}
