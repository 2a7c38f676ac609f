//! An open dispatch interval.

use std::time::Duration;

use windrow_common::{EventTime, Interval, ScoringMessage};

use super::accumulator::Accumulator;
use super::{DispatchedThrough, Windowing};
use crate::sensors::{SensorIndex, SensorTable};
use crate::source::{Offset, PartitionIndex};

const NONE: u32 = u32::MAX;

/// The windows of every sensor in one interval.
///
/// The windows of all sensors share one growing array; each is linked to the previous window of its sensor. A reading
/// thus allocates nothing, and a sensor costs only the windows that it has readings in.
#[derive(Debug)]
pub(super) struct OpenInterval {
    pub(super) start: EventTime,
    /// The latest window of each sensor, in the order of the sensor table; [`NONE`] without one.
    latest: Vec<u32>,
    windows: Vec<OpenWindow>,
    /// How many of the windows are not dispatched yet.
    open: usize,
    /// The lowest offset of each partition that went into this interval.
    lowest: Vec<Option<Offset>>,
}

#[derive(Debug)]
struct OpenWindow {
    start: EventTime,
    /// The sensor's previous window; [`NONE`] for its first.
    earlier: u32,
    accumulator: Accumulator,
}

impl OpenInterval {
    pub(super) fn new(start: EventTime) -> Self {
        Self {
            start,
            latest: Vec::new(),
            windows: Vec::new(),
            open: 0,
            lowest: Vec::new(),
        }
    }

    /// Notes that a reading of `partition` at `offset` belongs here.
    #[inline]
    pub(super) fn note_offset(&mut self, partition: PartitionIndex, offset: Offset) {
        if partition >= self.lowest.len() {
            self.lowest.resize(partition + 1, None);
        }
        let lowest = &mut self.lowest[partition];
        if lowest.is_none_or(|lowest| offset < lowest) {
            *lowest = Some(offset);
        }
    }

    /// Returns the lowest offset of `partition` that this interval still needs.
    pub(super) fn lowest(&self, partition: PartitionIndex) -> Option<Offset> {
        self.lowest.get(partition).copied().flatten()
    }

    /// Folds a reading into the sensor's window that starts at `window_start`.
    #[inline]
    pub(super) fn add(&mut self, sensor: SensorIndex, window_start: EventTime, time: EventTime, value: f64) {
        if sensor.as_usize() >= self.latest.len() {
            // Grows by doubling, not sensor by sensor.
            self.latest
                .resize((sensor.as_usize() + 1).next_power_of_two(), NONE);
        }
        let latest = self.latest[sensor.as_usize()];
        if let Some(window) = self.windows.get_mut(latest as usize)
            && window.start == window_start
        {
            window.accumulator.add(time, value);
            return;
        }
        self.add_elsewhere(sensor, window_start, time, value);
    }

    /// Adds a reading that opens a window, or falls into one before the sensor's latest.
    fn add_elsewhere(&mut self, sensor: SensorIndex, window_start: EventTime, time: EventTime, value: f64) {
        let (mut later, mut at) = (NONE, self.latest[sensor.as_usize()]);
        while let Some(window) = self.windows.get_mut(at as usize) {
            if window.start == window_start {
                window.accumulator.add(time, value);
                return;
            }
            if window.start < window_start {
                break;
            }
            (later, at) = (at, window.earlier);
        }
        let new = self.windows.len() as u32;
        self.open += 1;
        let accumulator = Accumulator::new(time, value);
        self.windows.push(OpenWindow {
            start: window_start,
            earlier: at,
            accumulator,
        });
        match self.windows.get_mut(later as usize) {
            Some(later) => later.earlier = new,
            None => self.latest[sensor.as_usize()] = new,
        }
    }

    /// Appends the messages of all its sensors, in order of appearance.
    pub(super) fn into_messages(
        mut self,
        windowing: &Windowing,
        sensors: &SensorTable,
        dispatched: &mut DispatchedThrough,
        into: &mut Vec<ScoringMessage>,
    ) {
        for sensor in 0..self.latest.len() as u32 {
            into.extend(self.take_message(SensorIndex(sensor), windowing, sensors, dispatched));
        }
    }

    /// Takes the sensor's windows out of the interval. Returns its message, with the windows in time order, and notes that
    /// it is dispatched.
    pub(super) fn take_message(
        &mut self,
        sensor: SensorIndex,
        windowing: &Windowing,
        sensors: &SensorTable,
        dispatched: &mut DispatchedThrough,
    ) -> Option<ScoringMessage> {
        let latest = std::mem::replace(self.latest.get_mut(sensor.as_usize())?, NONE);
        let last = self.windows.get(latest as usize)?.accumulator.span().1;
        let mut aggregates = Vec::new();
        let mut at = latest;
        while let Some(window) = self.windows.get(at as usize) {
            aggregates.push(window.accumulator.aggregate(window.start));
            at = window.earlier;
        }
        aggregates.reverse();
        self.open -= aggregates.len();
        let interval = Interval {
            start: self.start,
            length: windowing.interval,
        };
        dispatched.note(sensor, interval.end(), last);
        Some(ScoringMessage {
            sensor: sensors.id(sensor).clone(),
            interval,
            window_length: windowing.window,
            aggregates,
        })
    }

    /// Returns the sensors with open windows.
    pub(super) fn sensors(&self) -> impl Iterator<Item = SensorIndex> {
        let latest = self.latest.iter().enumerate();
        latest.filter_map(|(sensor, latest)| (*latest != NONE).then_some(SensorIndex(sensor as u32)))
    }

    /// Returns the event time up to which the interval can be taken as complete if the source ends here: as far beyond the
    /// last reading of a sensor as its next one would have been, with some room for jitter.
    pub(super) fn reached(&self, dispatched: &DispatchedThrough) -> EventTime {
        let sensors = self.latest.iter().enumerate();
        let reached = sensors.filter_map(|(sensor, latest)| {
            let window = self.windows.get(*latest as usize)?;
            let (first, last) = window.accumulator.span();
            let between = |from: EventTime, to: EventTime| to.as_millis() - from.as_millis();
            let step = match window.accumulator.count() {
                1 => {
                    let earlier = self.windows.get(window.earlier as usize);
                    let before = earlier.map(|earlier| earlier.accumulator.span().1);
                    let before = before.or(dispatched.last_reading(SensorIndex(sensor as u32)));
                    before.map_or(0, |before| between(before, first))
                }
                count => between(first, last) / (count as i64 - 1),
            };
            let room = Duration::from_millis(u64::try_from(step + step / 2).unwrap_or(0));
            Some(last.saturating_add(room))
        });
        reached.max().unwrap_or(self.start)
    }

    /// Returns the number of readings in its windows.
    pub(super) fn readings(&self) -> u64 {
        self.windows.iter().map(|window| window.accumulator.count()).sum()
    }

    /// Returns the number of open windows.
    pub(super) fn len(&self) -> usize {
        self.open
    }
}
