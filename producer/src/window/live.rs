//! Closing the intervals of a source without an end, sensor by sensor.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Instant;

use windrow_common::EventTime;

use super::open_interval::OpenInterval;
use super::partition::Partition;
use super::{Emitted, Windower, watermark};
use crate::sensors::{SensorIndex, SensorTable};

/// How often all open intervals are searched for silent sensors, while the partitions together advance by the time
/// after which a sensor counts as silent.
const LOOKS_PER_SILENCE: u64 = 4;

/// What has been closed so far.
#[derive(Debug, Default)]
pub(super) struct Closing {
    /// Sensors whose own readings have closed an interval that is not dispatched yet.
    ready: Vec<SensorIndex>,
    /// Event time through which the watermark had closed intervals at the last look for silent sensors.
    looked_through: Option<EventTime>,
    /// The progress of all partitions at that look.
    looked_at: u64,
    /// How many partitions had stopped at that look.
    stopped: usize,
}

impl Closing {
    /// Notes that a reading of the sensor has closed an interval of it.
    pub(super) fn note_ready(&mut self, sensor: SensorIndex) {
        self.ready.push(sensor);
    }
}

impl Windower {
    /// Closes the intervals that the watermark has passed, of each sensor that brings nothing more for them.
    pub(super) fn close_complete(&mut self, sensors: &SensorTable, now: Instant, out: &mut Emitted) {
        // An interval may still get readings that an earlier run has put in it, however late they would be now.
        if self.partitions.iter().any(Partition::is_replaying) {
            return;
        }
        let windowing = self.windowing;
        let watermarks = self.partitions.iter().map(|partition| &partition.watermark);
        let Some(watermark) = watermark::of_group(watermarks, now, windowing.idle_after) else {
            return;
        };
        let complete = watermark
            .saturating_sub(windowing.allowed_lateness)
            .floor(windowing.interval);
        let has_stopped = |partition: &Partition| partition.watermark.has_stopped(now, windowing.idle_after);
        let progress: u64 = self
            .partitions
            .iter()
            .map(|partition| partition.watermark.progress())
            .sum();
        let step = windowing.idle_after.as_millis() as u64 / LOOKS_PER_SILENCE;
        let stopped = self
            .partitions
            .iter()
            .filter(|partition| has_stopped(partition))
            .count();
        let closing = &mut self.closing;
        let mut ready = std::mem::take(&mut closing.ready);
        if closing.looked_through.is_none_or(|through| complete > through)
            || progress >= closing.looked_at + step.max(1)
            || stopped != closing.stopped
        {
            (closing.looked_through, closing.looked_at, closing.stopped) =
                (Some(complete), progress, stopped);
            let ended = |interval: &&OpenInterval| self.end_of(interval.start) <= complete;
            ready = self
                .open
                .iter()
                .take_while(ended)
                .flat_map(OpenInterval::sensors)
                .collect();
        }
        // What a sensor has closed beyond the watermark is found once that moves.
        for sensor in ready {
            let closed = self
                .clocks
                .closed(sensor, &self.partitions, has_stopped, &windowing);
            self.dispatch_sensor(sensor, complete.min(closed), sensors, out);
        }
        self.drop_empty();
    }

    /// Closes what an earlier run may have dispatched, once its readings have been read again: with these and no others.
    pub(super) fn close_claimed(&mut self, sensors: &SensorTable, out: &mut Emitted) {
        if self.claimed.is_none()
            || self.horizon.is_some()
            || self.partitions.iter().any(Partition::is_replaying)
        {
            return;
        }
        let Some(claimed) = self.claimed.take() else {
            return;
        };
        let open: BTreeSet<SensorIndex> = self.open.iter().flat_map(OpenInterval::sensors).collect();
        for sensor in open {
            self.dispatch_sensor(sensor, claimed.through(sensor), sensors, out);
        }
        Arc::make_mut(&mut self.dispatched).raise(&claimed);
        self.drop_empty();
    }

    /// Dispatches the sensor's open intervals that end at `through` or earlier.
    fn dispatch_sensor(
        &mut self,
        sensor: SensorIndex,
        through: EventTime,
        sensors: &SensorTable,
        out: &mut Emitted,
    ) {
        let interval = self.windowing.interval;
        let open = self.open.iter_mut();
        for open in
            open.take_while(|open| open.start.as_millis() + interval.as_millis() <= through.as_millis())
        {
            if let Some(message) = open.take_message(
                sensor,
                &self.windowing,
                sensors,
                Arc::make_mut(&mut self.dispatched),
            ) {
                self.dispatched_through = self.dispatched_through.max(message.interval.end());
                self.accounts.dispatch(std::slice::from_ref(&message));
                out.messages.push(message);
            }
        }
    }

    fn drop_empty(&mut self) {
        let before = self.open.len();
        self.open.retain(|interval| interval.len() > 0);
        if self.open.len() < before {
            self.recent = 0;
            self.forget_verdicts();
        }
    }
}
