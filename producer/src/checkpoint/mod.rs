//! Records in the store how far a source has been processed: `checkpoints/<source>/<group>.json`.
//!
//! A group is a set of partitions that share a watermark and are saved in one write, such as all files of a replay. If
//! they were saved separately, a crash between two writes would let one partition rebuild part of an interval that the
//! other believes dispatched.

mod account;
mod blob;
mod error;
mod origin;
mod saved;
#[cfg(feature = "testing")]
pub mod testing;

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use windrow_common::{EventTime, Length, SensorId, encode_file_name, encode_segment, random};
use windrow_store::{Store, Version, wait_out};

pub use account::{Account, accounts};
pub use error::CheckpointError;
pub use origin::{Origin, column_options, column_options_text};

use crate::sensors::SensorTable;
use crate::source::{Known, Offset};
use crate::window::{DispatchedThrough, Ledger, PartitionPosition, Position, Windowing};
use saved::{Saved, SavedPartition};

/// A group of partitions that share a watermark and a checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Group {
    /// All partitions of a source that belongs to one producer.
    Whole,
    /// A partition that may move between producers.
    Partition {
        /// The partition's name.
        name: String,
        /// Where to start without a checkpoint; absent if the start is a time without a known offset.
        start: Option<Offset>,
        /// The oldest offset that the hub still has.
        oldest: Offset,
    },
}

impl Group {
    /// Returns the group's name in the store and in logs.
    pub fn name(&self) -> &str {
        match self {
            Self::Whole => "all",
            Self::Partition { name, .. } => name,
        }
    }

    /// Returns what to do about a checkpoint that cannot be used.
    fn way_on(&self) -> &'static str {
        match self {
            Self::Whole => "choose another --source-name, or --restart to read the source from its start",
            Self::Partition { .. } => WAY_ON_FROM_A_HUB,
        }
    }
}

const WAY_ON_FROM_A_HUB: &str =
    "choose another --source-name, or delete the checkpoint to read the source from its start";

/// How a source's checkpoints are opened.
#[derive(Clone, Debug)]
pub struct Opening {
    /// Name of the source in the store.
    pub source_name: String,
    /// What the checkpoints must belong to.
    pub origin: Origin,
    /// Whether to ignore what an earlier run has read, and to read the source from its start.
    pub restart: bool,
}

/// A checkpoint of a source, with the right to replace it until another producer takes it over.
#[derive(Debug)]
pub struct Checkpoint {
    store: Store,
    path: String,
    source_name: String,
    windowing: Windowing,
    dispatched_through: EventTime,
    /// How far each sensor is dispatched, in the order of `sensors`.
    dispatched: Arc<DispatchedThrough>,
    /// How far each sensor may already be dispatched; `None` if no further than `dispatched`.
    claimed: Option<Arc<DispatchedThrough>>,
    sensors: Vec<SensorId>,
    /// Positions by partition name. Those of deleted partitions are kept, in case the partitions come back.
    partitions: BTreeMap<String, PartitionPosition>,
    ledger: Ledger,
    /// When something was first put in quarantine.
    quarantined_since: Option<EventTime>,
    version: Option<Version>,
    /// Whether it is saved. A replay has nothing to continue and leaves nothing.
    is_kept: bool,
    origin: Origin,
    way_on: &'static str,
    /// The process that saves it.
    owner: String,
}

/// The point where any producer resumes a partition that may move between producers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resume {
    /// The checkpoint's blob.
    pub path: String,
    /// The partition's name.
    pub partition: String,
    /// The first offset that is still needed.
    pub at: Offset,
    /// Every offset below this one has been read.
    pub judged: Offset,
}

impl Checkpoint {
    /// Reads the checkpoint of a group of `source`, or creates one. Takes over the checkpoint of a partition that may
    /// move: from now on, its previous owner cannot save it.
    pub(crate) async fn open(
        store: &Store,
        opening: &Opening,
        group: &Group,
        windowing: Windowing,
    ) -> Result<Self, CheckpointError> {
        let Group::Partition { start, .. } = group else {
            return Self::read(store, opening, group, windowing).await;
        };
        loop {
            let mut checkpoint = Self::read(store, opening, group, windowing).await?;
            if let Some(start) = *start {
                let beginning = PartitionPosition::start(start);
                let partitions = &mut checkpoint.partitions;
                partitions.entry(group.name().to_owned()).or_insert(beginning);
            }
            match checkpoint.write().await {
                // The previous owner saved once more between our read and our write.
                Err(CheckpointError::TakenOver { .. }) => {}
                Err(error) => return Err(error),
                Ok(()) => return Ok(checkpoint),
            }
        }
    }

    /// Returns a checkpoint that begins at the start of its source, reads nothing and saves nothing.
    pub(crate) fn unkept(store: &Store, opening: &Opening, windowing: Windowing) -> Self {
        let group = Group::Whole;
        Self {
            is_kept: false,
            ..Self::start(store, opening, &group, windowing)
        }
    }

    fn start(store: &Store, opening: &Opening, group: &Group, windowing: Windowing) -> Self {
        let folder = folder(&opening.source_name);
        let path = format!("{folder}/{}", encode_file_name(group.name(), ".json"));
        Self {
            store: store.clone(),
            path,
            source_name: opening.source_name.clone(),
            windowing,
            dispatched_through: EventTime::MIN,
            dispatched: Arc::default(),
            claimed: None,
            sensors: Vec::new(),
            partitions: BTreeMap::new(),
            ledger: Ledger::default(),
            quarantined_since: None,
            version: None,
            is_kept: true,
            origin: opening.origin.clone(),
            way_on: group.way_on(),
            owner: unique_name(),
        }
    }

    async fn read(
        store: &Store,
        opening: &Opening,
        group: &Group,
        windowing: Windowing,
    ) -> Result<Self, CheckpointError> {
        let mut checkpoint = Self::start(store, opening, group, windowing);
        let read = || store.get_versioned(&checkpoint.path);
        let read = wait_out("reading the checkpoint", read).await?;
        if let Some((bytes, version)) = read {
            if !opening.restart {
                checkpoint.restore(&bytes)?;
            }
            checkpoint.version = Some(version);
        }
        Ok(checkpoint)
    }

    /// Returns how many events of the partition expired while they were still needed.
    pub(crate) fn expired(&self, group: &Group) -> u64 {
        match (group, self.partitions.get(group.name())) {
            (Group::Partition { oldest, .. }, Some(known)) => oldest.0.saturating_sub(known.resume.0),
            _ => 0,
        }
    }

    fn damaged(&self, why: String) -> CheckpointError {
        CheckpointError::Damaged {
            path: self.path.clone(),
            why,
            way_on: self.way_on,
        }
    }

    /// Returns the position of the partitions `names`, in their order. An unknown partition starts at its beginning.
    pub(crate) fn position(&self, names: &[String]) -> Position {
        let partitions = names.iter().map(|name| self.partition(name)).collect();
        Position {
            dispatched_through: self.dispatched_through,
            dispatched: Arc::clone(&self.dispatched),
            claimed: self.claimed.clone(),
            ledger: self.ledger.clone(),
            partitions,
        }
    }

    /// Returns the position of one partition.
    pub(crate) fn partition(&self, name: &str) -> PartitionPosition {
        self.partitions.get(name).cloned().unwrap_or_default()
    }

    /// Returns where each partition of a hub resumes. Fails if a checkpoint belongs to another origin.
    pub async fn resumes(store: &Store, opening: &Opening) -> Result<Vec<Resume>, CheckpointError> {
        let folder = folder(&opening.source_name);
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
            // A damaged checkpoint is reported when its partition is opened.
            let Some(saved) = bytes.and_then(|bytes| serde_json::from_slice::<Saved>(&bytes).ok()) else {
                continue;
            };
            saved.check_origin(&path, &opening.origin, WAY_ON_FROM_A_HUB)?;
            let partitions = saved.partitions.into_iter();
            resumes.extend(
                partitions.map(|(partition, SavedPartition { resume, judged, .. })| Resume {
                    path: path.clone(),
                    partition,
                    at: Offset(resume),
                    judged: Offset(judged),
                }),
            );
        }
        Ok(resumes)
    }

    /// Returns the known sensors, in the order of [`Position::dispatched`].
    pub(crate) fn sensors(&self) -> Result<SensorTable, CheckpointError> {
        let mut table = SensorTable::new();
        for SensorId { device, tag } in &self.sensors {
            // They were checked when they were read.
            let added = table.intern(device, tag);
            added.map_err(|error| self.damaged(error.to_string()))?;
        }
        match table.len() == self.sensors.len() {
            true => Ok(table),
            false => Err(self.damaged("a sensor is listed twice".to_owned())),
        }
    }

    /// Returns the known partitions that are not among `names` although open intervals need readings of them.
    pub(crate) fn missed(&self, names: &[String]) -> Vec<(&str, &PartitionPosition)> {
        let there: HashSet<&String> = names.iter().collect();
        let missed = self.partitions.iter().filter(|(name, position)| {
            // The other partitions are no longer needed.
            let judged = position
                .claim
                .as_ref()
                .map_or(position.judged, |claim| claim.judged);
            position.resume < judged && !there.contains(name)
        });
        missed.map(|(name, position)| (name.as_str(), position)).collect()
    }

    /// Returns what a source needs to recognise the known partitions.
    pub(crate) fn saved_partitions(&self) -> BTreeMap<String, Known> {
        let known = self.partitions.iter().map(|(name, position)| {
            let PartitionPosition { resume, content, .. } = position;
            let (resume, content) = (*resume, *content);
            (name.clone(), Known { resume, content })
        });
        known.collect()
    }

    /// Returns the positions of all known partitions, by name.
    pub(crate) fn known(&self) -> &BTreeMap<String, PartitionPosition> {
        &self.partitions
    }

    /// Adds sensors, in the order of [`Position::dispatched`].
    pub(crate) fn add_sensors(&mut self, sensors: Vec<SensorId>) {
        self.sensors.extend(sensors);
    }

    /// Saves a position. Everything before it must be durable: messages confirmed, quarantine written. Its sensors must
    /// have been added.
    pub(crate) async fn save(
        &mut self,
        names: &[String],
        position: &Position,
    ) -> Result<(), CheckpointError> {
        self.dispatched_through = position.dispatched_through;
        self.dispatched = Arc::clone(&position.dispatched);
        self.claimed.clone_from(&position.claimed);
        self.ledger = position.ledger.clone();
        for (name, partition) in names.iter().zip(&position.partitions) {
            // An unread partition keeps its start, which may be a time: saving offset 0 would replace it.
            let untouched = *partition == PartitionPosition::default() && !self.partitions.contains_key(name);
            if !untouched && self.partitions.get(name) != Some(partition) {
                self.partitions.insert(name.clone(), partition.clone());
            }
        }
        let mut partitions = self.partitions.values();
        if self.quarantined_since.is_none() && partitions.any(|partition| partition.counts.quarantined > 0) {
            self.quarantined_since = Some(EventTime::now());
        }
        self.write().await
    }
}

fn folder(source: &str) -> String {
    format!("checkpoints/{}", encode_segment(source))
}

/// Returns a name that no other process or partition uses.
pub fn unique_name() -> String {
    format!("{}-{:016x}", std::process::id(), random())
}

fn windows_text([window, interval]: [Length; 2]) -> String {
    format!("{window} and intervals of {interval}")
}

#[cfg(test)]
mod tests;
