//! The windows of sensors, and the truth about them.

use std::collections::BTreeMap;
use std::fs;
use std::ops::Range;
use std::path::Path;

use windrow_common::{Aggregate, EventTime, Length, SensorId};
use windrow_producer::read_history;
use windrow_producer::source::Until;
use windrow_producer::source::simulator::{Simulator, SimulatorConfig};
use windrow_producer::window::WindowConfig;

use crate::Args;

/// Something that happened to a sensor.
#[derive(Clone, Debug)]
pub(crate) struct Happened {
    pub(crate) what: &'static str,
    pub(crate) when: Range<EventTime>,
}

/// A sensor with its windows, in order of time.
#[derive(Debug)]
pub(crate) struct Sensor {
    pub(crate) name: String,
    pub(crate) windows: Vec<Aggregate>,
    pub(crate) length: Length,
    /// When scoring begins.
    pub(crate) scored: EventTime,
    /// When it ends.
    pub(crate) end: EventTime,
    /// The true anomalies.
    pub(crate) anomalies: Vec<Happened>,
    /// What looks like one and is none.
    pub(crate) benign: Vec<Happened>,
}

/// Simulates the fleet of a seed, and cuts its windows as a producer does.
pub(crate) fn simulate(seed: u64, args: &Args) -> Vec<Sensor> {
    let all = "sim:weekly=on,holidays=on,regimes=on,deaths=on,drifts=on";
    let config = SimulatorConfig {
        devices: args.devices,
        partitions: 1,
        seed,
        period: args.period,
        duration: Some(args.history + args.scored),
        anomalies: args.anomalies,
        ..all.parse().unwrap()
    };
    let (scored, end) = (
        config.start.saturating_add(args.history),
        config.start.saturating_add(args.history + args.scored),
    );
    let simulator = Simulator::new(config, Until::CaughtUp).unwrap();
    let mut sensors: BTreeMap<SensorId, Sensor> = BTreeMap::new();
    let mut sensor_of = |sensor: &SensorId, see: &mut dyn FnMut(&mut Sensor)| {
        let new = || Sensor {
            name: format!("{seed} {sensor}"),
            windows: Vec::new(),
            length: Length::from_millis(args.window.as_millis() as i64),
            scored,
            end,
            anomalies: Vec::new(),
            benign: Vec::new(),
        };
        see(sensors.entry(sensor.clone()).or_insert_with(new));
    };
    for anomaly in simulator.labels() {
        sensor_of(&anomaly.sensor, &mut |sensor| {
            sensor.anomalies.push(Happened {
                what: anomaly.kind.name(),
                when: anomaly.from..anomaly.to,
            });
        });
    }
    for benign in simulator.benign() {
        sensor_of(&benign.sensor, &mut |sensor| {
            sensor.benign.push(Happened {
                what: benign.kind.name(),
                when: benign.from..benign.to,
            });
        });
    }
    let windowing = WindowConfig {
        window: args.window,
        ..WindowConfig::default()
    };
    let mut take = |message: windrow_common::ScoringMessage| {
        sensor_of(&message.sensor, &mut |sensor| {
            sensor.windows.extend(&message.aggregates);
        });
    };
    let counts = read_history(
        Box::new(simulator),
        windowing.validate().unwrap(),
        &mut take,
        |_| {},
    )
    .unwrap();
    assert_eq!(counts.left_out, 0, "every reading is in a window");
    sensors.into_values().collect()
}

/// Reads the series of a folder: CSV files with the columns `value` and `anomaly`, a row for each window.
pub(crate) fn read(folder: &Path, args: &Args) -> Vec<Sensor> {
    let files = fs::read_dir(folder).unwrap_or_else(|error| {
        panic!(
            "cannot read {}: {error}; write it with tests/fixtures/make_gutentag.py",
            folder.display()
        )
    });
    let mut paths: Vec<_> = files.map(|file| file.unwrap().path()).collect();
    paths.sort();
    paths.iter().map(|path| series(path, args)).collect()
}

fn series(path: &Path, args: &Args) -> Sensor {
    let start = SimulatorConfig::default().start;
    let length = Length::from_millis(args.window.as_millis() as i64);
    let at = |row: usize| EventTime::from_millis(start.as_millis() + row as i64 * length.as_millis());
    let (mut windows, mut anomalies) = (Vec::new(), Vec::<Happened>::new());
    for (row, line) in fs::read_to_string(path).unwrap().lines().skip(1).enumerate() {
        let (value, label) = line.split_once(',').unwrap();
        let value: f64 = value.parse().unwrap();
        windows.push(Aggregate {
            window_start: at(row),
            count: 1,
            mean: value,
            std: 0.0,
            min: value,
            max: value,
            first: value,
            last: value,
        });
        if label.parse::<f64>().unwrap() > 0.0 {
            match anomalies.last_mut() {
                Some(last) if last.when.end == at(row) => last.when.end = at(row + 1),
                _ => anomalies.push(Happened {
                    what: "gutentag",
                    when: at(row)..at(row + 1),
                }),
            }
        }
    }
    let scored = start.saturating_add(args.history);
    let end = scored.saturating_add(args.scored);
    windows.retain(|window| window.window_start < end);
    anomalies.retain(|anomaly| anomaly.when.start < end);
    Sensor {
        name: path.display().to_string(),
        windows,
        length,
        scored,
        end,
        anomalies,
        benign: Vec::new(),
    }
}
