//! What a sensor costs a live producer, which never forgets one.
#![allow(clippy::unwrap_used)]

use std::time::Instant;

use windrow_common::EventTime;
use windrow_fuzz::memory::held_by;
use windrow_producer::sensors::SensorTable;
use windrow_producer::source::{Batch, Offset, Reading};
use windrow_producer::window::{Emitted, Position, WindowConfig, Windower};

const SENSORS: i64 = 1 << 17;

/// As [`windrow_producer::sensors::MAX_SENSORS`] promises, with names of 16 and 4 bytes.
const BYTES_PER_SENSOR: usize = 250;

#[test]
fn a_sensor_that_never_comes_back_keeps_no_more_than_promised() {
    let now = Instant::now();
    let windowing = WindowConfig::default().validate().unwrap();
    let ((sensors, windower), held) = held_by(|| {
        let mut sensors = SensorTable::new();
        let mut windower = Windower::new(windowing, &Position::start(1), now);
        let (mut batch, mut out) = (Batch::default(), Emitted::default());
        for second in 0..SENSORS {
            batch.clear(0);
            batch.readings.push(Reading {
                sensor: sensors.intern(&format!("device-{second:09}"), "temp").unwrap(),
                time: EventTime::from_millis(second * 1_000),
                arrival: EventTime::now(),
                value: 1.0,
                offset: Offset(second as u64),
            });
            batch.next = Offset(second as u64 + 1);
            windower.take(&mut batch, &sensors, now, &mut out);
            out.messages.clear();
        }
        assert!(out.quarantined.is_empty());
        (sensors, windower)
    });
    let each = held / sensors.len();
    println!("{each} bytes for each of {} sensors", sensors.len());
    assert!(
        windower.open_windows() < 1_000,
        "{} windows are open",
        windower.open_windows()
    );
    assert!(each <= BYTES_PER_SENSOR, "{each} bytes");
}
