use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use super::*;
use crate::source::Reading;
use windrow_common::{Length, SensorId};

fn config(spec: &str) -> SimulatorConfig {
    spec.parse().unwrap()
}

/// Reads each partition from its position to its end, with sensors numbered by `sensors`.
fn drain(simulator: &mut Simulator, sensors: &mut SensorTable) -> Vec<Vec<Reading>> {
    let mut all = vec![Vec::new(); simulator.partitions().len()];
    let mut ended = vec![false; all.len()];
    let mut batch = Batch::default();
    while simulator.read(sensors, &mut batch).unwrap() == Read::Batch {
        assert!(!ended[batch.partition], "nothing follows the end of a partition");
        ended[batch.partition] = batch.ended;
        for reading in &batch.readings {
            assert!(reading.offset < batch.next);
        }
        all[batch.partition].extend_from_slice(&batch.readings);
    }
    assert!(ended.iter().all(|ended| *ended));
    all
}

fn readings(spec: &str) -> Vec<Vec<Reading>> {
    let mut simulator = Simulator::new(config(spec), Until::CaughtUp).unwrap();
    drain(&mut simulator, &mut SensorTable::new())
}

/// Returns the values by sensor and time.
fn values(spec: &str) -> BTreeMap<(SensorId, EventTime), f64> {
    let mut simulator = Simulator::new(config(spec), Until::CaughtUp).unwrap();
    let mut sensors = SensorTable::new();
    let all = drain(&mut simulator, &mut sensors);
    all.iter()
        .flatten()
        .map(|reading| ((sensors.id(reading.sensor).clone(), reading.time), reading.value))
        .collect()
}

const SMALL: &str = "sim:devices=7,tags=3,duration=6h,partitions=2,anomalies=0.3,gaps=0.02,disorder=25s";

#[test]
fn the_same_seed_gives_the_same_readings_and_another_seed_others() {
    assert_eq!(readings(SMALL), readings(SMALL));
    let other = readings(&format!("{SMALL},seed=2"));
    assert_ne!(readings(SMALL), other);
}

#[test]
fn every_sensor_reads_once_a_period_but_in_gaps() {
    let found = values(&SMALL.replace("gaps=0.02", "gaps=0"));
    assert_eq!(found.len(), 21 * 6 * 360);
    let silent = 1.0 - values(SMALL).len() as f64 / found.len() as f64;
    assert!((0.005..0.05).contains(&silent), "{silent}");
    let names: Vec<_> = found.keys().map(|(sensor, _)| sensor.to_string()).collect();
    assert!(
        names.contains(&"device-007/vibration".to_owned()),
        "{:?}",
        &names[..1]
    );
}

#[test]
fn reading_from_any_offset_equals_the_uninterrupted_run() {
    for spec in [
        SMALL,
        "sim:devices=2,tags=1,duration=1h,disorder=0s,gaps=0.1,partitions=1",
    ] {
        let mut simulator = Simulator::new(config(spec), Until::CaughtUp).unwrap();
        let mut sensors = SensorTable::new();
        let whole = drain(&mut simulator, &mut sensors);
        for (partition, whole) in whole.iter().enumerate() {
            let end = simulator.partitions[partition].total();
            let places = (0..40)
                .chain((0..60).map(|i| i * end / 59))
                .chain([end - 1, end, end + 5]);
            for from in places {
                let mut again = Simulator::new(config(spec), Until::CaughtUp).unwrap();
                for other in 0..again.partitions().len() {
                    let to = if other == partition { from } else { u64::MAX };
                    again.seek(other, Offset(to)).unwrap();
                }
                // The first run interned the other partitions too; its table is reused so that the numbers are equal.
                let rest = drain(&mut again, &mut sensors);
                let expected = whole.iter().filter(|reading| reading.offset.0 >= from);
                assert!(rest[partition].iter().eq(expected), "from {from}");
            }
        }
    }
}

#[test]
fn readings_arrive_in_order_and_late_by_at_most_the_disorder() {
    for (spec, bound) in [
        (SMALL, 25_000),
        ("sim:devices=4,tags=4,duration=2h,period=1s", 5_000),
    ] {
        let mut out_of_order = 0;
        let mut worst = 0;
        for partition in readings(spec) {
            let mut newest = EventTime::MIN;
            let mut arrival = EventTime::MIN;
            for reading in partition {
                assert!(
                    reading.arrival >= arrival,
                    "a broker's enqueue times do not run backwards"
                );
                let delay = reading.arrival.as_millis() - reading.time.as_millis();
                assert!((0..=bound).contains(&delay), "{delay}");
                let late = newest.as_millis() - reading.time.as_millis();
                assert!(late <= bound);
                worst = worst.max(late);
                out_of_order += u32::from(late > 0);
                arrival = reading.arrival;
                newest = newest.max(reading.time);
            }
        }
        assert!(
            out_of_order > 1_000 && worst > bound / 2,
            "{out_of_order} {worst}"
        );
    }
    let ordered = readings(&SMALL.replace("disorder=25s", "disorder=0s"));
    assert!(
        ordered
            .iter()
            .all(|partition| partition.is_sorted_by_key(|reading| reading.time))
    );
}

#[test]
fn labels_are_where_the_values_differ_from_the_clean_run() {
    let mut labels: HashMap<SensorId, Vec<Anomaly>> = HashMap::new();
    let simulator = Simulator::new(config(SMALL), Until::CaughtUp).unwrap();
    for label in simulator.labels() {
        labels.entry(label.sensor.clone()).or_default().push(label);
    }
    let clean = values(&SMALL.replace("anomalies=0.3", "anomalies=0"));
    let real = values(SMALL);
    assert!(
        clean.keys().eq(real.keys()),
        "the same readings, silences included"
    );
    let mut changed: HashMap<(SensorId, EventTime), (u32, u32)> = HashMap::new();
    for ((key, clean), real) in clean.iter().zip(real.values()) {
        let (sensor, time) = key;
        let label = labels
            .get(sensor)
            .and_then(|labels| labels.iter().find(|label| (label.from..label.to).contains(time)));
        match label {
            None => assert_eq!(clean, real, "{sensor} at {time} is outside every label"),
            Some(label) => {
                let (inside, differ) = changed.entry((sensor.clone(), label.from)).or_default();
                *inside += 1;
                *differ += u32::from(clean != real);
            }
        }
    }
    let count: usize = labels.values().map(Vec::len).sum();
    assert_eq!(changed.len(), count, "every label has readings");
    assert!(count > 20, "{count}");
    for ((sensor, from), (inside, differ)) in changed {
        // A wrong value can by chance round to the right one.
        assert!(
            f64::from(differ) >= 0.8 * f64::from(inside),
            "{sensor} at {from}: {differ} of {inside}"
        );
    }
}

#[test]
fn a_slice_of_the_fleet_is_the_same_as_part_of_a_longer_one() {
    let long = values("sim:devices=3,duration=2d,anomalies=0.2,partitions=1");
    let second = values("sim:devices=5,duration=1d,start=2026-01-06T00:00:00Z,anomalies=0.2,partitions=2");
    let shared: Vec<_> = second.iter().filter(|(key, _)| long.contains_key(key)).collect();
    assert!(shared.len() > 3 * 5 * 8_600, "{}", shared.len());
    assert!(shared.iter().all(|(key, value)| long[*key] == **value));
}

#[test]
fn the_fast_path_gives_the_pure_function() {
    let simulator = Simulator::new(config(SMALL), Until::CaughtUp).unwrap();
    let clean = values(&SMALL.replace("anomalies=0.3", "anomalies=0"));
    let grid = &simulator.setting.grid;
    let sensor = &simulator.partitions[1].sensors()[4];
    let id = SensorId::new(&device_name(sensor.device), &tag_name(sensor.tag)).unwrap();
    let mut compared = 0;
    for step in simulator.setting.steps.clone() {
        let time = EventTime::from_millis(step * grid.period_ms + i64::from(sensor.phase_ms));
        if let Some(value) = clean.get(&(id.clone(), time)) {
            assert_eq!(*value, sensor.clean(grid, step));
            compared += 1;
        }
    }
    assert!(compared > 2_000);
}

#[test]
fn without_an_end_it_goes_on_and_with_one_it_turns_idle() {
    let forever = config("sim:devices=2,duration=forever,anomalies=0.5");
    assert!(Simulator::new(forever.clone(), Until::CaughtUp).is_err());
    let mut simulator = Simulator::new(forever, Until::Stopped).unwrap();
    assert!(simulator.labels().is_empty());
    let (mut sensors, mut batch) = (SensorTable::new(), Batch::default());
    for _ in 0..1_000 {
        assert_eq!(simulator.read(&mut sensors, &mut batch).unwrap(), Read::Batch);
    }
    assert_eq!(simulator.progress().total, None);
    assert!(simulator.labels().len() > 100);

    let mut simulator = Simulator::new(config("sim:devices=2,duration=1h"), Until::Stopped).unwrap();
    let mut count = 0;
    while simulator.read(&mut sensors, &mut batch).unwrap() == Read::Batch {
        assert!(!batch.ended);
        count += 1;
    }
    assert!(count > 0);
    assert_eq!(
        simulator.read(&mut sensors, &mut batch).unwrap(),
        Read::Idle { complete_until: None }
    );
    assert_eq!(
        simulator.progress(),
        Progress {
            done: 3_600,
            total: Some(3_600)
        }
    );
}

#[test]
fn partitions_advance_together() {
    let mut simulator = Simulator::new(config("sim:devices=9,duration=1d"), Until::CaughtUp).unwrap();
    let (mut sensors, mut batch) = (SensorTable::new(), Batch::default());
    while simulator.read(&mut sensors, &mut batch).unwrap() == Read::Batch {
        let frames = simulator.partitions.iter().map(Partition::frame);
        let (min, max) = (frames.clone().min().unwrap(), frames.max().unwrap());
        assert!(max - min <= 64, "{min} to {max}");
    }
}

#[test]
fn partitions_of_another_fleet_have_other_names() {
    let names = |spec: &str| partition_names(&config(spec));
    assert_eq!(names("sim:"), names("sim:duration=2d"));
    assert_ne!(names("sim:"), names("sim:seed=2"));
    assert_eq!(names("sim:").len(), 4);
}

#[test]
fn names_are_sensors() {
    assert!(SensorId::new(&device_name(u32::MAX - 1), &tag_name(u32::MAX - 1)).is_ok());
}

/// Returns mean, standard deviation, minimum and maximum of one-minute windows, by sensor and minute.
fn windows(spec: &str) -> BTreeMap<(SensorId, EventTime), [f64; 4]> {
    let mut found: BTreeMap<(SensorId, EventTime), Vec<f64>> = BTreeMap::new();
    for ((sensor, time), value) in values(spec) {
        found
            .entry((sensor, time.floor(Length::from_millis(60_000))))
            .or_default()
            .push(value);
    }
    found
        .into_iter()
        .map(|(key, values)| {
            let n = values.len() as f64;
            let mean = values.iter().sum::<f64>() / n;
            let variance = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / n;
            let (min, max) = values
                .iter()
                .fold((f64::MAX, f64::MIN), |(a, b), v| (a.min(*v), b.max(*v)));
            (key, [mean, variance.sqrt(), min, max])
        })
        .collect()
}

#[test]
fn the_day_before_tells_most_anomalies_but_not_all_from_what_is_usual() {
    let spec = "sim:devices=20,duration=1d,anomalies=0.03";
    let mut usual: HashMap<SensorId, [(f64, f64); 4]> = HashMap::new();
    for ((sensor, _), window) in windows(&format!("{spec},start=2026-01-04T00:00:00Z").replace("0.03", "0")) {
        let ranges = usual.entry(sensor).or_insert([(f64::MAX, f64::MIN); 4]);
        for (range, value) in ranges.iter_mut().zip(window) {
            *range = (range.0.min(value), range.1.max(value));
        }
    }
    let labels = Simulator::new(config(spec), Until::CaughtUp).unwrap().labels();
    let mut found: BTreeMap<AnomalyKind, HashMap<(SensorId, EventTime), bool>> = BTreeMap::new();
    let (mut false_alarms, mut clean) = (0, 0);
    for ((sensor, start), window) in windows(spec) {
        let unusual = usual[&sensor]
            .iter()
            .zip(window)
            .any(|(range, v)| v < range.0 || v > range.1);
        let end = start.saturating_add(Duration::from_secs(60));
        match labels
            .iter()
            .find(|label| label.sensor == sensor && label.from < end && label.to > start)
        {
            None => {
                clean += 1;
                false_alarms += u32::from(unusual);
            }
            Some(label) => {
                *found
                    .entry(label.kind)
                    .or_default()
                    .entry((sensor, label.from))
                    .or_default() |= unusual;
            }
        }
    }
    let share = f64::from(false_alarms) / f64::from(clean);
    let recall: Vec<(AnomalyKind, f64, usize)> = found
        .into_iter()
        .map(|(kind, episodes)| {
            let detected = episodes.values().filter(|found| **found).count();
            (kind, detected as f64 / episodes.len() as f64, episodes.len())
        })
        .collect();
    println!("outside the usual range: {share:.4} of clean windows; by kind: {recall:?}");
    assert!(share < 0.03, "{share}");
    let mean = recall.iter().map(|(_, recall, _)| recall).sum::<f64>() / recall.len() as f64;
    assert!((0.6..0.99).contains(&mean), "{recall:?}");
}

/// Not a test: `cargo test --release … -- --ignored --nocapture readings_per_second`.
#[test]
#[ignore = "a measurement"]
fn readings_per_second() {
    for spec in [
        "sim:",
        "sim:devices=100,tags=5,period=1s",
        "sim:devices=10000,tags=5,duration=1h",
        "sim:devices=1",
    ] {
        let mut simulator = Simulator::new(config(spec), Until::CaughtUp).unwrap();
        let (mut sensors, mut batch) = (SensorTable::new(), Batch::default());
        let (start, mut count) = (Instant::now(), 0);
        while simulator.read(&mut sensors, &mut batch).unwrap() == Read::Batch {
            count += batch.readings.len();
        }
        let rate = count as f64 / start.elapsed().as_secs_f64();
        println!("{spec}: {count} readings, {:.1} M/s", rate / 1e6);
    }
}

mod life;

#[test]
fn it_keeps_what_every_source_promises() {
    let open = || -> Box<dyn Source> {
        let spec = "sim:devices=4,tags=2,duration=30m,partitions=2,gaps=0.1,disorder=25s";
        Box::new(Simulator::new(config(spec), Until::CaughtUp).unwrap())
    };
    crate::source::testing::is_read_again_from_any_offset(open);
    // At this speed, parts of batches are due.
    crate::source::testing::is_read_again_from_any_offset(|| {
        Box::new(crate::source::Paced::new(open(), 36_000.0))
    });
}
