//! The form of a checkpoint in the store.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use windrow_common::{EventTime, SensorId};

use super::{CheckpointError, Origin};
use crate::source::{Content, Offset};
use crate::window::{Claim, DispatchedThrough, Judged, Ledger, PartitionPosition, SetAside};

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
    /// Readings in dispatched windows, by the day that the windows start on, in RFC 3339. Absent, as the other counts, in
    /// checkpoints of versions that did not count.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) dispatched_readings: BTreeMap<String, u64>,
    /// Readings in windows that are not dispatched.
    #[serde(default)]
    pub(super) open_readings: u64,
    /// When something was first put in quarantine, in RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) quarantined_since: Option<String>,
    /// The source's name, if the checkpoint's path holds it shortened.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) source_name: Option<String>,
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
    #[serde(default)]
    pub(super) windowed: Option<u64>,
    #[serde(default)]
    pub(super) quarantined: Option<u64>,
    /// Whether the counts begin in the middle of the partition.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) partial: bool,
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
            windowed: Some(position.counts.windowed),
            quarantined: Some(position.counts.quarantined),
            partial: position.counts.is_partial,
        }
    }

    /// Returns the counts. A version that did not count leaves none.
    pub(super) fn counts(&self) -> Judged {
        Judged {
            windowed: self.windowed.unwrap_or(0),
            quarantined: self.quarantined.unwrap_or(0),
            is_partial: self.partial || self.windowed.is_none(),
        }
    }

    pub(super) fn position(self) -> Result<PartitionPosition, String> {
        let counts = self.counts();
        let Self {
            resume,
            judged,
            set_aside,
            content,
            claim,
            ..
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
            counts,
        })
    }
}

impl Saved {
    /// Returns what became of the readings that were put in windows.
    pub(super) fn ledger(&self) -> Result<Ledger, String> {
        let days = self.dispatched_readings.iter().map(|(day, readings)| {
            let day = EventTime::parse(day.as_bytes()).map_err(|error| error.to_string())?;
            Ok((day, *readings))
        });
        Ok(Ledger {
            dispatched: days.collect::<Result<_, String>>()?,
            open: self.open_readings,
        })
    }

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
pub(super) fn saved_sensors(
    sensors: &[SensorId],
    dispatched: &DispatchedThrough,
    but: &DispatchedThrough,
) -> SavedSensors {
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
