//! One partition: its sensors' readings in the order in which they arrive.
//!
//! In every step each sensor measures once, at its own moment of the step, and the reading travels for a random time. A
//! partition's offsets number the readings by arrival. The readings of a silent sensor are counted but not delivered,
//! as in a compacted log. So the number of readings before any moment follows from the delays of the few steps before
//! it.

use std::collections::VecDeque;
use std::ops::Range;

use windrow_common::EventTime;

use super::draws::bell;
use super::episodes::{Plan, Rates};
use super::signal::{Grid, Sensor};
use crate::sensors::SensorIndex;
use crate::source::{Batch, Offset, Reading};

/// How many readings a batch holds at most: enough to make the call per batch cheap.
const BATCH_READINGS: usize = 4_096;
/// How many steps a batch of a small fleet spans at most, so that no partition runs far ahead of the others.
const BATCH_STEPS: usize = 64;

/// A reading in flight.
#[derive(Clone, Copy, Debug)]
struct Delivery {
    /// Sorts a frame by arrival. From the top: 20 bits of milliseconds since the frame's start, 12 bits of steps
    /// between measurement and frame, 32 bits of sensor.
    key: u64,
    /// [`SILENT`] if the sensor is silent.
    value: f64,
}

pub(super) const SILENT: f64 = f64::NAN;

/// The properties of a sensor that change from stretch to stretch and from knot to knot.
#[derive(Clone, Debug)]
struct Now {
    /// The slow part of the signal at the last knot, and its rise to the next one.
    from: f64,
    rise: f64,
    /// Standard deviation of the white noise since the last knot.
    noise: f64,
    unusual: Range<i64>,
    plan: Plan,
}

/// The settings that all partitions share.
#[derive(Clone, Debug)]
pub(super) struct Setting {
    pub(super) grid: Grid,
    /// The steps that are simulated.
    pub(super) steps: Range<i64>,
    pub(super) disorder_ms: u64,
    pub(super) rates: Rates,
}

/// A partition and how far it has been read.
#[derive(Debug)]
pub(super) struct Partition {
    setting: Setting,
    sensors: Vec<Sensor>,
    now: Vec<Now>,
    /// The knot and stretch that `now` is for.
    now_at: Option<(i64, i64)>,
    /// The indices of the sensors in the reader's table; empty until the first read.
    pub(super) indices: Vec<SensorIndex>,
    /// Readings in flight by the step (frame) in which they arrive; the first entry is for step `frame`.
    under_way: VecDeque<Vec<Delivery>>,
    frame: i64,
    /// The readings that arrived in step `frame - 1`, in order; `taken` of them have been read.
    arrived: Vec<Delivery>,
    taken: usize,
    next: u64,
    /// Whether the end has been reported to the reader.
    pub(super) end_told: bool,
}

impl Partition {
    pub(super) fn new(setting: Setting, sensors: Vec<Sensor>) -> Self {
        let period = setting.grid.period_ms as u64;
        // Even a reading from the last moment of a step, with the longest delay, arrives within this many frames.
        let frames = setting.disorder_ms.div_ceil(period) + 1;
        Self {
            frame: setting.steps.start,
            setting,
            now: Vec::with_capacity(sensors.len()),
            now_at: None,
            indices: Vec::new(),
            under_way: (0..frames).map(|_| Vec::new()).collect(),
            arrived: Vec::new(),
            taken: 0,
            next: 0,
            end_told: false,
            sensors,
        }
    }

    pub(super) fn sensors(&self) -> &[Sensor] {
        &self.sensors
    }

    /// Returns how far it has been read, in steps.
    pub(super) fn frame(&self) -> i64 {
        self.frame
    }

    /// Returns how many offsets it has in all.
    pub(super) fn total(&self) -> u64 {
        let steps = (self.setting.steps.end - self.setting.steps.start) as u64;
        steps.saturating_mul(self.sensors.len() as u64)
    }

    /// Returns a time before which no reading is still to come: the longest delay before the frame that is being read.
    pub(super) fn earliest(&self) -> EventTime {
        let steps = self.frame - 1 - self.under_way.len() as i64;
        EventTime::from_millis(steps.saturating_mul(self.setting.grid.period_ms))
    }

    pub(super) fn next(&self) -> u64 {
        self.next
    }

    pub(super) fn ended(&self) -> bool {
        self.next >= self.total()
    }

    /// Moves to `offset`; regenerates only the steps whose readings may be in flight at that moment.
    pub(super) fn seek(&mut self, offset: u64) {
        self.arrived.clear();
        self.under_way.iter_mut().for_each(Vec::clear);
        (self.taken, self.next, self.end_told) = (0, offset, false);
        if self.ended() {
            self.frame = self.setting.steps.end;
            return;
        }
        let steps = self.setting.steps.clone();
        let per_step = self.sensors.len() as u64;
        // At the start of this frame at most `offset` readings can have arrived.
        let near = steps.start + (offset / per_step) as i64;
        self.frame = (near - self.under_way.len() as i64 + 1).max(steps.start);
        while self.frame < near {
            self.next_frame();
        }
        let under_way: usize = self.under_way.iter().map(Vec::len).sum();
        let mut before = (near - steps.start) as u64 * per_step - under_way as u64;
        loop {
            self.next_frame();
            let after = before + self.arrived.len() as u64;
            if after > offset {
                self.taken = (offset - before) as usize;
                return;
            }
            before = after;
        }
    }

    /// Reads the next readings into `batch`, which must be empty; `indices` must be filled.
    pub(super) fn read(&mut self, batch: &mut Batch) {
        let period = self.setting.grid.period_ms;
        let mut room = BATCH_READINGS;
        for _ in 0..BATCH_STEPS {
            if self.taken == self.arrived.len() {
                self.next_frame();
            }
            let frame_start = (self.frame - 1) * period;
            let run = room.min(self.arrived.len() - self.taken);
            for delivery in &self.arrived[self.taken..self.taken + run] {
                let offset = Offset(self.next);
                self.next += 1;
                if delivery.value.is_nan() {
                    continue;
                }
                let sensor = (delivery.key & 0xffff_ffff) as usize;
                let late_steps = (delivery.key >> 32 & 0xfff) as i64;
                let measured = frame_start - late_steps * period + i64::from(self.sensors[sensor].phase_ms);
                batch.readings.push(Reading {
                    sensor: self.indices[sensor],
                    time: EventTime::from_millis(measured),
                    arrival: EventTime::from_millis(frame_start + (delivery.key >> 44) as i64),
                    value: delivery.value,
                    offset,
                });
            }
            self.taken += run;
            room -= run;
            if room == 0 || self.ended() {
                break;
            }
        }
        batch.next = Offset(self.next);
    }

    /// Creates the readings of step `frame`, then collects those that arrive in that step.
    fn next_frame(&mut self) {
        if self.frame < self.setting.steps.end {
            self.measure(self.frame);
        }
        if let Some(mut arriving) = self.under_way.pop_front() {
            std::mem::swap(&mut self.arrived, &mut arriving);
            arriving.clear();
            self.under_way.push_back(arriving);
        }
        self.arrived.sort_unstable_by_key(|delivery| delivery.key);
        self.taken = 0;
        self.frame += 1;
    }

    fn measure(&mut self, step: i64) {
        self.refresh(step);
        let period = self.setting.grid.period_ms as u32;
        let fraction = self.setting.grid.fraction_of(step);
        for (index, (sensor, now)) in self.sensors.iter().zip(&self.now).enumerate() {
            let bits = sensor.bits(step);
            let clean = now.from + now.rise * fraction + now.noise * bell(bits);
            let mut value = sensor.round(clean);
            if now.unusual.contains(&step) {
                if now.plan.silent.contains(&step) {
                    value = SILENT;
                } else if now.plan.dead.contains(&step) {
                    value = now.plan.last_value;
                } else if let Some(episode) = &now.plan.anomaly
                    && episode.steps.contains(&step)
                {
                    value = sensor.round(episode.apply(sensor, step, clean));
                }
            }
            let delay = ((bits & 0xffff) * (self.setting.disorder_ms + 1)) >> 16;
            let arrival = sensor.phase_ms + delay as u32;
            let (frames, ms) = (arrival / period, arrival % period);
            self.under_way[frames as usize].push(Delivery {
                key: u64::from(ms) << 44 | u64::from(frames) << 32 | index as u64,
                value,
            });
        }
    }

    /// Updates `now` for `step`, if that is in another knot or stretch than the step before.
    fn refresh(&mut self, step: i64) {
        let Setting { grid, rates, .. } = &self.setting;
        let (knot, stretch) = (grid.knot_of(step), grid.stretch_of(step));
        if self.now_at == Some((knot, stretch)) {
            return;
        }
        let same_stretch = self.now_at.is_some_and(|(_, last)| last == stretch);
        self.now_at = Some((knot, stretch));
        let mut old = std::mem::take(&mut self.now).into_iter();
        self.now.extend(self.sensors.iter().map(|sensor| {
            let (from, noise) = sensor.knot(grid, knot);
            let rise = sensor.knot(grid, knot + 1).0 - from;
            let plan = match old.next() {
                Some(now) if same_stretch => now.plan,
                _ => Plan::new(sensor, grid, rates, stretch),
            };
            Now {
                from,
                rise,
                noise,
                unusual: plan.unusual(),
                plan,
            }
        }));
    }
}
