//! Replaying at a multiple of real time.

use std::time::{Duration, Instant};

use windrow_common::EventTime;

use crate::source::Reading;

/// A pace that makes readings due at a multiple of real time.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    speed: f64,
    /// The first reading's event time, and when it was due.
    origin: Option<(EventTime, Instant)>,
}

impl Pace {
    /// Creates a pace of `speed` times real time; `speed` must be positive.
    pub fn new(speed: f64) -> Self {
        Self { speed, origin: None }
    }

    /// Returns how many of the readings, counted from the first, are due.
    pub fn due(&mut self, readings: &[Reading], now: Instant) -> usize {
        let Some(first) = readings.first() else { return 0 };
        let (time, instant) = *self.origin.get_or_insert((first.time, now));
        let elapsed_ms = now.saturating_duration_since(instant).as_secs_f64() * 1_000.0 * self.speed;
        let due_through = time.saturating_add(Duration::from_millis(elapsed_ms as u64));
        readings
            .iter()
            .position(|reading| reading.time > due_through)
            .unwrap_or(readings.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sensors::SensorIndex;
    use crate::source::Offset;

    #[test]
    fn a_paced_replay_takes_as_long_as_its_readings_span() {
        let reading = |ms| Reading {
            sensor: SensorIndex(0),
            time: EventTime::from_millis(ms),
            arrival: EventTime::from_millis(ms),
            value: 1.0,
            offset: Offset(0),
        };
        let readings = [reading(0), reading(9_000), reading(10_000), reading(20_000)];
        let start = Instant::now();
        let mut pace = Pace::new(10.0);
        assert_eq!(pace.due(&readings, start), 1);
        assert_eq!(pace.due(&readings, start + Duration::from_millis(950)), 2);
        assert_eq!(pace.due(&readings, start + Duration::from_secs(5)), 4);
    }
}
