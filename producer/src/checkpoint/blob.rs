//! The blob of a checkpoint: reads what an earlier run has saved, and replaces it by conditional write.

use std::collections::HashMap;
use std::sync::Arc;

use windrow_common::{EventTime, Length, SensorId, is_shortened};
use windrow_store::{StoreError, Version, wait_out};

use super::saved::{Saved, SavedPartition, saved_sensors, sensors_of};
use super::{Checkpoint, CheckpointError, windows_text};
use crate::window::{DispatchedThrough, Windowing};

impl Checkpoint {
    /// Restores what an earlier run has saved.
    pub(super) fn restore(&mut self, bytes: &[u8]) -> Result<(), CheckpointError> {
        let path = self.path.clone();
        let way_on = self.way_on;
        let damaged = |why: String| CheckpointError::Damaged {
            path: path.clone(),
            why,
            way_on,
        };
        let saved: Saved = serde_json::from_slice(bytes).map_err(|error| damaged(error.to_string()))?;
        let Windowing { window, interval, .. } = self.windowing;
        let then = [saved.window_ms, saved.interval_ms].map(Length::from_millis);
        if then != [window, interval] {
            return Err(CheckpointError::OtherWindows {
                path: self.path.clone(),
                then: windows_text(then),
                now: windows_text([window, interval]),
                way_on: self.way_on,
            });
        }
        saved.check_origin(&self.path, &self.origin, self.way_on)?;
        let time = |text: &str| EventTime::parse(text.as_bytes()).map_err(|error| damaged(error.to_string()));
        if let Some(text) = &saved.dispatched_through {
            self.dispatched_through = time(text)?;
        }
        self.ledger = saved.ledger().map_err(damaged)?;
        if let Some(text) = &saved.quarantined_since {
            self.quarantined_since = Some(time(text)?);
        }
        let floor = match (&saved.sensors, &saved.others) {
            (None, _) => self.dispatched_through,
            (Some(_), None) => EventTime::MIN,
            (Some(_), Some(text)) => time(text)?,
        };
        let sensors = sensors_of(saved.sensors.unwrap_or_default()).map_err(damaged)?;
        let claimed = sensors_of(saved.claimed.unwrap_or_default()).map_err(damaged)?;
        self.restore_sensors(sensors, claimed, floor);
        for (name, saved) in saved.partitions {
            let position = saved.position();
            let position = position.map_err(|why| damaged(format!("partition {name}: {why}")))?;
            self.partitions.insert(name, position);
        }
        Ok(())
    }

    /// Restores how far each sensor is dispatched, and how far it may be. Both lists share the order of the sensors.
    fn restore_sensors(
        &mut self,
        sensors: Vec<(SensorId, EventTime)>,
        claimed: Vec<(SensorId, EventTime)>,
        floor: EventTime,
    ) {
        let ends: Vec<EventTime> = sensors.iter().map(|(_, end)| *end).collect();
        self.sensors = sensors.into_iter().map(|(sensor, _)| sensor).collect();
        if !claimed.is_empty() {
            let known = self.sensors.iter().cloned().zip(0..);
            let mut places: HashMap<SensorId, usize> = known.collect();
            let mut claimed_ends = ends.clone();
            for (sensor, end) in claimed {
                let place = *places.entry(sensor).or_insert_with_key(|sensor| {
                    self.sensors.push(sensor.clone());
                    claimed_ends.push(EventTime::MIN);
                    claimed_ends.len() - 1
                });
                claimed_ends[place] = end;
            }
            self.claimed = Some(Arc::new(DispatchedThrough::new(claimed_ends, floor)));
        }
        self.dispatched = Arc::new(DispatchedThrough::new(ends, floor));
    }

    pub(super) async fn write(&mut self) -> Result<(), CheckpointError> {
        if !self.is_kept {
            return Ok(());
        }
        let partitions = self.partitions.iter();
        let partitions = partitions.map(|(name, position)| (name.clone(), SavedPartition::of(position)));
        let days = self.ledger.dispatched.iter();
        let days = days.map(|(day, readings)| (day.to_string(), *readings));
        let text = |time: EventTime| (time > EventTime::MIN).then(|| time.to_string());
        let saved = Saved {
            window_ms: self.windowing.window.as_millis(),
            interval_ms: self.windowing.interval.as_millis(),
            dispatched_through: text(self.dispatched_through),
            sensors: Some(saved_sensors(
                &self.sensors,
                &self.dispatched,
                &DispatchedThrough::default(),
            )),
            claimed: self
                .claimed
                .as_ref()
                .map(|claimed| saved_sensors(&self.sensors, claimed, &self.dispatched)),
            others: text(self.dispatched.floor()),
            partitions: partitions.collect(),
            dispatched_readings: days.collect(),
            open_readings: self.ledger.open,
            quarantined_since: self.quarantined_since.and_then(text),
            source_name: is_shortened(&self.path).then(|| self.source_name.clone()),
            owner: self.owner.clone(),
            origin: self.origin.clone(),
        };
        let json = serde_json::to_vec(&saved).map_err(|error| self.damaged(error.to_string()))?;
        let write = || self.store.put_if(&self.path, json.clone(), self.version.as_ref());
        match wait_out("saving the checkpoint", write).await {
            Ok(version) => self.version = Some(version),
            Err(StoreError::Conflict { .. }) => self.version = Some(self.written_after_all(&json).await?),
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    /// Returns the version of the blob if it holds what we wrote. A write may succeed although its answer is lost; the
    /// retry then conflicts with our own write. The owner in the blob tells our write from another producer's.
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
