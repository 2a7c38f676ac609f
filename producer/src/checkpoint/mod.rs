//! Where a source was left, in the store: `checkpoints/<source>/<group>.json`.
//!
//! A group is what shares a watermark and is saved in one write: all files of a replay. (Saved apart, a crash between
//! two writes would let one partition rebuild part of an interval the other believes dispatched.)

mod error;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use windrow_common::{EventTime, Length, encode_segment, random};
use windrow_store::{Store, StoreError, Version, wait_out};

pub use error::CheckpointError;

use crate::source::Offset;
use crate::window::{PartitionPosition, Position, Windowing};

/// What shares a watermark and a checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Group {
    /// All partitions of a source that belongs to one producer.
    Whole,
    /// A partition that may move between producers.
    Partition {
        /// Its name.
        name: String,
        /// The hub it is of.
        hub: String,
        /// Where it begins without a checkpoint, where that has a number.
        start: Option<Offset>,
        /// The oldest offset that is still there.
        oldest: Offset,
    },
}

impl Group {
    /// Its name in the store and in logs.
    pub fn name(&self) -> &str {
        match self {
            Self::Whole => "all",
            Self::Partition { name, .. } => name,
        }
    }
}

/// A source's checkpoint, and the right to replace it.
#[derive(Debug)]
pub struct Checkpoint {
    store: Store,
    path: String,
    windowing: Windowing,
    dispatched_through: EventTime,
    /// By partition name; partitions that are gone stay, in case they come back.
    partitions: BTreeMap<String, PartitionPosition>,
    version: Option<Version>,
    /// The hub whose partition it is.
    hub: Option<String>,
    /// Which process moves it on.
    owner: String,
}

#[derive(Serialize, Deserialize)]
struct Saved {
    window_ms: i64,
    interval_ms: i64,
    /// RFC 3339; absent when nothing has been dispatched.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    dispatched_through: Option<String>,
    partitions: BTreeMap<String, SavedPartition>,
    #[serde(default)]
    owner: String,
    /// The hub, where the partition may move.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    hub: Option<String>,
}

/// Where a partition that may move is resumed, whoever reads it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resume {
    /// The checkpoint's blob.
    pub path: String,
    /// The partition's name.
    pub partition: String,
    /// The first offset that is still needed.
    pub at: Offset,
    /// Everything below has been read.
    pub judged: Offset,
}

#[derive(Serialize, Deserialize)]
struct SavedPartition {
    resume: u64,
    judged: u64,
}

impl Saved {
    /// Two hubs of one name must not share their checkpoints.
    fn check_hub(&self, path: &str, now: &str) -> Result<(), CheckpointError> {
        match &self.hub {
            Some(then) if then != now => Err(CheckpointError::OtherHub {
                path: path.to_owned(),
                then: then.clone(),
                now: now.to_owned(),
            }),
            _ => Ok(()),
        }
    }
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
        let Group::Partition { start, .. } = group else {
            return Self::read(store, source, group, windowing).await;
        };
        loop {
            let mut checkpoint = Self::read(store, source, group, windowing).await?;
            if let Some(start) = *start {
                let beginning = PartitionPosition {
                    resume: start,
                    judged: start,
                };
                let partitions = &mut checkpoint.partitions;
                partitions.entry(group.name().to_owned()).or_insert(beginning);
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
            hub: match group {
                Group::Whole => None,
                Group::Partition { hub, .. } => Some(hub.clone()),
            },
            owner: unique_name(),
        };
        let read = || store.get_versioned(&checkpoint.path);
        let read = wait_out("reading the checkpoint", read).await?;
        if let Some((bytes, version)) = read {
            checkpoint.restore(&bytes)?;
            checkpoint.version = Some(version);
        }
        Ok(checkpoint)
    }

    /// How many events of its partition expired since an earlier run needed them.
    pub(crate) fn expired(&self, group: &Group) -> u64 {
        match (group, self.partitions.get(group.name())) {
            (Group::Partition { oldest, .. }, Some(known)) => oldest.0.saturating_sub(known.resume.0),
            _ => 0,
        }
    }

    fn restore(&mut self, bytes: &[u8]) -> Result<(), CheckpointError> {
        let damaged = |why: String| CheckpointError::Damaged {
            path: self.path.clone(),
            why,
        };
        let saved: Saved = serde_json::from_slice(bytes).map_err(|error| damaged(error.to_string()))?;
        let Windowing { window, interval, .. } = self.windowing;
        let then = [saved.window_ms, saved.interval_ms].map(Length::from_millis);
        if then != [window, interval] {
            return Err(CheckpointError::OtherWindows {
                path: self.path.clone(),
                then: windows_text(then),
                now: windows_text([window, interval]),
            });
        }
        if let Some(now) = &self.hub {
            saved.check_hub(&self.path, now)?;
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
        self.partitions.get(name).copied().unwrap_or_default()
    }

    /// Where each partition of `source` that may move is resumed, of which `hub` has to be the hub.
    pub async fn resumes(store: &Store, source: &str, hub: &str) -> Result<Vec<Resume>, CheckpointError> {
        let folder = folder(source);
        let list = || store.list(&folder);
        let blobs = wait_out("listing checkpoints", list).await?;
        let mut resumes = Vec::new();
        for path in blobs.into_iter().map(|blob| blob.path) {
            let name = path.strip_prefix(&folder).unwrap_or(&path);
            if name.trim_start_matches('/').contains('/') {
                continue;
            }
            let read = || store.get(&path);
            let bytes = wait_out("reading a checkpoint", read).await?;
            // One that is damaged is complained of by whoever opens it.
            let Some(saved) = bytes.and_then(|bytes| serde_json::from_slice::<Saved>(&bytes).ok()) else {
                continue;
            };
            saved.check_hub(&path, hub)?;
            let partitions = saved.partitions.into_iter();
            resumes.extend(
                partitions.map(|(partition, SavedPartition { resume, judged })| Resume {
                    path: path.clone(),
                    partition,
                    at: Offset(resume),
                    judged: Offset(judged),
                }),
            );
        }
        Ok(resumes)
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
            // Nothing read from a beginning without a number leaves the beginning as it is: it may be a time.
            let untouched = *partition == PartitionPosition::default() && !self.partitions.contains_key(name);
            if !untouched && self.partitions.get(name) != Some(partition) {
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
            window_ms: self.windowing.window.as_millis(),
            interval_ms: self.windowing.interval.as_millis(),
            dispatched_through: (self.dispatched_through > EventTime::MIN)
                .then(|| self.dispatched_through.to_string()),
            partitions: partitions.collect(),
            owner: self.owner.clone(),
            hub: self.hub.clone(),
        };
        let json = serde_json::to_vec_pretty(&saved).map_err(|error| CheckpointError::Damaged {
            path: self.path.clone(),
            why: error.to_string(),
        })?;
        let write = || self.store.put_if(&self.path, json.clone(), self.version.as_ref());
        match wait_out("saving the checkpoint", write).await {
            Ok(version) => self.version = Some(version),
            Err(StoreError::Conflict { .. }) => self.version = Some(self.written_after_all(&json).await?),
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    /// The version of the blob if it is what we wrote: a write may succeed and its answer be lost, and the next try
    /// then meets the first. (The owner in it tells ours from another's.)
    async fn written_after_all(&self, json: &[u8]) -> Result<Version, CheckpointError> {
        let read = || self.store.get_versioned(&self.path);
        match wait_out("reading the checkpoint", read).await? {
            Some((bytes, version)) if bytes == json => Ok(version),
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
pub fn unique_name() -> String {
    format!("{}-{:016x}", std::process::id(), random())
}

fn windows_text([window, interval]: [Length; 2]) -> String {
    format!("{window} and intervals of {interval}")
}

#[cfg(test)]
mod tests;
