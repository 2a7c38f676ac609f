//! The form of a checkpoint in the store.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use windrow_common::{EventTime, SensorId};

use super::{CheckpointError, Origin};
use crate::source::{Content, Offset};
use crate::window::{Claim, Dispatched, PartitionPosition, SetAside};

#[derive(Serialize, Deserialize)]
pub(super) struct Saved {
    pub(super) window_ms: i64,
    pub(super) interval_ms: i64,
    /// In RFC 3339; absent if nothing has been dispatched.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) dispatched_through: Option<String>,
    /// The sensors by the end of their last dispatched interval. Absent in checkpoints of versions that did not tell
    /// sensors apart: there, `dispatched_through` applies to all of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) sensors: Option<SavedSensors>,
    /// The same for what may have been dispatched beyond `sensors`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) claimed: Option<SavedSensors>,
    /// The `dispatched_through` of such a version, which applies to sensors that are not listed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) others: Option<String>,
    pub(super) partitions: BTreeMap<String, SavedPartition>,
    #[serde(default)]
    pub(super) owner: String,
    #[serde(flatten)]
    pub(super) origin: Origin,
}

#[derive(Serialize, Deserialize)]
pub(super) struct SavedPartition {
    pub(super) resume: u64,
    pub(super) judged: u64,
    #[serde(default, skip_serializing_if = "SetAside::is_empty")]
    pub(super) set_aside: SetAside,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) content: Option<Content>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) claim: Option<Claim>,
}

/// Tags by device, by the end of the last dispatched interval in RFC 3339.
pub(super) type SavedSensors = BTreeMap<String, BTreeMap<Arc<str>, Vec<Arc<str>>>>;

impl SavedPartition {
    pub(super) fn of(position: &PartitionPosition) -> Self {
        Self {
            resume: position.resume.0,
            judged: position.judged.0,
            set_aside: position.set_aside.clone(),
            content: position.content,
            claim: position.claim.clone(),
        }
    }

    pub(super) fn position(self) -> Result<PartitionPosition, String> {
        let Self {
            resume,
            judged,
            set_aside,
            content,
            claim,
        } = self;
        if resume > judged {
            return Err(format!("resumes at {resume}, past {judged}"));
        }
        Ok(PartitionPosition {
            resume: Offset(resume),
            judged: Offset(judged),
            set_aside,
            content,
            claim,
        })
    }
}

impl Saved {
    /// Refuses the checkpoint of another source. A run that has read nothing has left nothing to mix up.
    pub(super) fn check_origin(
        &self,
        path: &str,
        now: &Origin,
        way_on: &'static str,
    ) -> Result<(), CheckpointError> {
        match self.partitions.is_empty() {
            true => Ok(()),
            false => self.origin.check(path, now, way_on),
        }
    }
}

/// Groups sensors by the end of their last dispatched interval. Leaves out those with the same end in `but`.
pub(super) fn saved_sensors(sensors: &[SensorId], dispatched: &Dispatched, but: &Dispatched) -> SavedSensors {
    let mut by_end: BTreeMap<EventTime, BTreeMap<Arc<str>, Vec<Arc<str>>>> = BTreeMap::new();
    let before = but.by_sensor().iter().copied();
    let before = before.chain(std::iter::repeat(EventTime::MIN));
    let ends = dispatched.by_sensor().iter().zip(before);
    for (SensorId { device, tag }, (end, before)) in sensors.iter().zip(ends) {
        if *end > before {
            let devices = by_end.entry(*end).or_default();
            devices
                .entry(Arc::clone(device))
                .or_default()
                .push(Arc::clone(tag));
        }
    }
    let named = by_end
        .into_iter()
        .map(|(end, devices)| (end.to_string(), devices));
    named.collect()
}

/// Returns the sensors with the ends of their last dispatched intervals.
pub(super) fn sensors_of(saved: SavedSensors) -> Result<Vec<(SensorId, EventTime)>, String> {
    let mut sensors = Vec::new();
    for (end, devices) in saved {
        let end = EventTime::parse(end.as_bytes()).map_err(|error| error.to_string())?;
        for (device, tags) in devices {
            for tag in tags {
                let sensor = SensorId::new(&device, &tag).map_err(|error| error.to_string())?;
                sensors.push((sensor, end));
            }
        }
    }
    Ok(sensors)
}
