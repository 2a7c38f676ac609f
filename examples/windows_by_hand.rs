//! Feeds readings to the windower by hand: no source, no queue, no clock of its own.
//!
//! `cargo run --example windows_by_hand`

use std::error::Error;
use std::time::Instant;

use windrow_common::EventTime;
use windrow_producer::sensors::SensorTable;
use windrow_producer::source::{Batch, Offset, Reading};
use windrow_producer::window::{Emitted, Position, WindowConfig, Windower};

fn main() -> Result<(), Box<dyn Error>> {
    // Windows of a minute, readings at most five seconds out of order: the defaults.
    let windowing = WindowConfig::default().validate()?;
    let now = Instant::now();
    let mut windower = Windower::new(windowing, &Position::start(1), now);
    let mut sensors = SensorTable::new();
    let pump = sensors.intern("pump-7", "temp")?;
    let reading = |second: i64, value, offset| Reading {
        sensor: pump,
        time: EventTime::from_millis(second * 1_000),
        arrival: EventTime::now(),
        value,
        offset: Offset(offset),
    };
    let mut batch = Batch {
        readings: vec![
            reading(1, 71.3, 0),
            reading(59, 71.9, 1),
            // 64 s is past the end of the first minute, but within the five seconds: the minute stays open for the next.
            reading(64, 72.0, 2),
            reading(58, 71.6, 3),
            reading(66, 72.1, 4),
            // Too late: the watermark has passed the end of its window.
            reading(30, 90.0, 5),
        ],
        next: Offset(6),
        ..Batch::default()
    };
    let mut out = Emitted::default();
    windower.take(&mut batch, &sensors, now, &mut out);
    for message in &out.messages {
        let first = &message.aggregates[0];
        println!(
            "{}: {} readings, mean {:.2}",
            message.id(),
            first.count,
            first.mean
        );
    }
    for quarantined in &out.quarantined {
        println!("quarantined: {quarantined}");
    }
    println!("windows still open: {}", windower.open_windows());
    Ok(())
}
