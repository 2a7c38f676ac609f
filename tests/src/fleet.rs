//! Generates the readings of a small fleet; the same seed always produces the same readings.

use std::fmt::Write;
use std::fs;
use std::path::Path;

use windrow_common::{Aggregate, EventTime, Interval, Length, ScoringMessage, SensorId};
use windrow_queue::Message;
use windrow_queue::testing::message;

/// One reading, a row of a CSV file.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// Event time in milliseconds since the epoch.
    pub time_ms: i64,
    /// The device's number.
    pub device: u32,
    /// The measured value.
    pub value: f64,
}

/// A deterministic pseudo-random generator (SplitMix64, Steele, Lea and Flood 2014).
#[derive(Clone, Debug)]
pub struct Draws(pub u64);

impl Draws {
    /// Returns a number from 0 to `end` - 1.
    pub fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % end
    }
}

/// 2026-01-05T00:00:00Z.
const START_MS: i64 = 1_767_571_200_000;

/// Returns one reading per second of each device, in order of event time.
pub fn fleet(devices: u32, seconds: u32, seed: u64) -> Vec<Row> {
    let mut draws = Draws(seed);
    let mut rows = Vec::new();
    for second in 0..i64::from(seconds) {
        for device in 0..devices {
            #[allow(clippy::cast_precision_loss)]
            let noise = draws.below(1000) as f64 / 500.0;
            rows.push(Row {
                // No two readings of the fleet have the same time.
                time_ms: START_MS + second * 1000 + i64::from(device),
                device,
                value: 20.0 + f64::from(device) + noise,
            });
        }
    }
    rows
}

/// Writes rows as a CSV file.
pub fn write_csv(path: &Path, rows: &[Row]) {
    let mut text = "ts,device,tag,value\n".to_owned();
    for row in rows {
        writeln!(text, "{},d{},temp,{:.3}", row.time_ms, row.device, row.value).unwrap();
    }
    fs::write(path, text).unwrap();
}

/// Creates a message of one window that workers can score if the sensor has a model.
pub fn scoring_message(sensor: SensorId, start_ms: i64, window_ms: i64) -> Message {
    let window_length = Length::from_millis(window_ms);
    let start = EventTime::from_millis(start_ms);
    let scoring = ScoringMessage {
        sensor,
        interval: Interval {
            start,
            length: window_length,
        },
        window_length,
        aggregates: vec![Aggregate {
            window_start: start,
            count: 1,
            mean: 1.0,
            std: 0.0,
            min: 1.0,
            max: 1.0,
            first: 1.0,
            last: 1.0,
        }],
    };
    Message {
        body: scoring.encode().unwrap().into(),
        ..message(&scoring.id())
    }
}
