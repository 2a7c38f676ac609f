//! What happens to sensors over days and weeks.

use super::*;

/// Folds everything that a reader sees into one number.
fn digest(spec: &str) -> u64 {
    let all = readings(spec);
    all.iter().flatten().fold(1, |hash, reading| {
        let Reading {
            sensor,
            time,
            arrival,
            value,
            offset,
        } = *reading;
        let parts = [
            u64::from(sensor.0),
            time.as_millis() as u64,
            arrival.as_millis() as u64,
            value.to_bits(),
            offset.0,
        ];
        parts.into_iter().fold(hash, derive)
    })
}

/// The numbers are those of the version before fleets had weekends, regimes and deaths.
#[test]
fn a_seed_without_these_options_means_the_fleet_that_it_always_meant() {
    assert_eq!(digest(SMALL), 9_994_455_911_821_568_358);
    assert_eq!(
        digest("sim:devices=3,tags=6,duration=4h,seed=9,period=7s"),
        13_559_961_912_499_450_385
    );
    assert_eq!(
        partition_names(&config("sim:devices=2")),
        ["0-078e7dd8", "1-078e7dd8"]
    );
}

/// Two months of twelve sensors, in which a lot happens.
const LIVELY: &str = "sim:devices=4,tags=3,period=10m,duration=60d,partitions=2,anomalies=0.01,gaps=0.01,disorder=5m,\
                      weekly=0.6,holidays=0.2,regimes=0.6,deaths=0.3,drifts=0.5";

fn labels(spec: &str) -> (Vec<Anomaly>, Vec<Benign>) {
    let simulator = Simulator::new(config(spec), Until::CaughtUp).unwrap();
    (simulator.labels(), simulator.benign())
}

/// Returns the values of two fleets at the times that both have, with what tells whether a time is labelled.
fn compared<'a>(
    one: &'a BTreeMap<(SensorId, EventTime), f64>,
    other: &'a BTreeMap<(SensorId, EventTime), f64>,
) -> impl Iterator<Item = (&'a (SensorId, EventTime), f64, f64)> {
    one.iter()
        .filter_map(|(key, value)| Some((key, *value, *other.get(key)?)))
}

#[test]
fn a_slice_of_a_life_is_the_same_wherever_it_begins() {
    let long = values(LIVELY);
    for (start, days) in [("2026-01-06", 3), ("2026-01-28", 11), ("2026-02-24T13:40:00Z", 7)] {
        let start = if start.contains('T') {
            start.to_owned()
        } else {
            format!("{start}T00:00:00Z")
        };
        let slice = LIVELY.replace("duration=60d", &format!("duration={days}d,start={start}"));
        let slice = values(
            &slice
                .replace("devices=4", "devices=3")
                .replace("partitions=2", "partitions=1"),
        );
        let from = start.parse::<EventTime>().unwrap();
        let to = from.saturating_add(Duration::from_secs(days * 86_400));
        let device = device_name(3);
        let expected = long.iter().filter(|((sensor, time), _)| {
            let step = time.floor(Length::from_millis(600_000));
            (from..to).contains(&step) && *sensor.device != *device
        });
        assert!(slice.iter().eq(expected), "{start}");
        assert!(slice.len() as u64 > days * 144 * 9 / 2, "{}", slice.len());
    }
}

#[test]
fn a_life_continues_from_any_offset() {
    let mut sensors = SensorTable::new();
    let mut simulator = Simulator::new(config(LIVELY), Until::CaughtUp).unwrap();
    let whole = drain(&mut simulator, &mut sensors);
    for (partition, whole) in whole.iter().enumerate() {
        let end = simulator.partitions[partition].total();
        for from in (0..12).map(|i| i * end / 12 + i) {
            let mut again = Simulator::new(config(LIVELY), Until::CaughtUp).unwrap();
            for other in 0..again.partitions().len() {
                let to = if other == partition { from } else { u64::MAX };
                again.seek(other, Offset(to)).unwrap();
            }
            let rest = drain(&mut again, &mut sensors);
            let expected = whole.iter().filter(|reading| reading.offset.0 >= from);
            assert!(rest[partition].iter().eq(expected), "from {from}");
        }
    }
}

#[test]
fn the_dead_send_nothing_or_one_value_and_the_others_what_they_would_have_sent() {
    let spec = LIVELY.replace("drifts=0.5", "drifts=0");
    let (dying, living) = (values(&spec), values(&spec.replace("deaths=0.3", "deaths=0")));
    let (anomalies, _) = labels(&spec);
    let mut counts = [0; 2];
    for ((sensor, time), value) in &living {
        let death = anomalies.iter().find(|label| {
            let dead = [AnomalyKind::Stopped, AnomalyKind::StuckForGood].contains(&label.kind);
            dead && label.sensor == *sensor && (label.from..label.to).contains(time)
        });
        let sent = dying.get(&(sensor.clone(), *time));
        match death {
            None => assert_eq!(sent, Some(value), "{sensor} at {time}"),
            Some(death) if death.kind == AnomalyKind::Stopped => {
                assert_eq!(sent, None, "{sensor} at {time}");
                counts[0] += 1;
            }
            Some(death) => {
                let first = dying.range((sensor.clone(), death.from)..).next().unwrap();
                assert_eq!(sent, Some(first.1), "{sensor} at {time}");
                counts[1] += 1;
            }
        }
    }
    assert!(counts.iter().all(|count| *count > 500), "{counts:?}");
}

#[test]
fn a_slow_drift_is_an_anomaly_where_it_is_beyond_its_band() {
    let spec = LIVELY
        .replace("deaths=0.3", "deaths=0")
        .replace("anomalies=0.01", "anomalies=0");
    let (drifting, steady) = (values(&spec), values(&spec.replace("drifts=0.5", "drifts=0")));
    let (anomalies, _) = labels(&spec);
    assert!(anomalies.len() > 5 && anomalies.iter().all(|label| label.kind == AnomalyKind::SlowDrift));
    let simulator = Simulator::new(config(&spec), Until::CaughtUp).unwrap();
    let noise: HashMap<SensorId, f64> = simulator
        .partitions
        .iter()
        .flat_map(Partition::sensors)
        .map(|sensor| {
            let id = SensorId::new(&device_name(sensor.device), &tag_name(sensor.tag)).unwrap();
            (id, sensor.noise)
        })
        .collect();
    let mut drifted = 0;
    for ((sensor, time), with, without) in compared(&drifting, &steady) {
        let sigmas = (with - without).abs() / noise[sensor];
        let label = |label: &&Anomaly| label.sensor == *sensor && (label.from..label.to).contains(time);
        // Values are rounded to a thirtieth of the noise or less.
        match anomalies.iter().find(label) {
            Some(_) => assert!(sigmas > 2.93, "{sensor} at {time}: {sigmas}"),
            None => assert!(sigmas < 3.07, "{sensor} at {time}: {sigmas}"),
        }
        drifted += usize::from(sigmas > 0.0);
    }
    assert!(drifted > 2_000, "{drifted}");
}

#[test]
fn weekends_holidays_and_regimes_are_told_and_are_no_anomalies() {
    let plain = "sim:devices=40,tags=2,period=10m,duration=56d,anomalies=0,gaps=0";
    let spec = format!("{plain},weekly=0.5,holidays=0.1,regimes=0.25");
    let (anomalies, benign) = labels(&spec);
    assert_eq!(anomalies, []);
    let (lively, plain) = (values(&spec), values(plain));
    assert!(lively.keys().eq(plain.keys()));
    let mut by_sensor: HashMap<&SensorId, Vec<&Benign>> = HashMap::new();
    for one in &benign {
        by_sensor.entry(&one.sensor).or_default().push(one);
    }
    let with = |kind| {
        by_sensor
            .values()
            .filter(|all| all.iter().any(|one| one.kind == kind))
            .count()
    };
    assert!(
        (25..=55).contains(&with(BenignKind::Weekend)),
        "{}",
        with(BenignKind::Weekend)
    );
    assert_eq!(
        with(BenignKind::Holiday),
        with(BenignKind::Weekend),
        "who rests at weekends rests on holidays"
    );
    assert!(
        (10..=32).contains(&with(BenignKind::Regime)),
        "{}",
        with(BenignKind::Regime)
    );
    for ((sensor, time), lively, plain) in compared(&lively, &plain) {
        let all = by_sensor.get(sensor).map_or(&[][..], Vec::as_slice);
        let told = all.iter().any(|one| (one.from..one.to).contains(time));
        // The regime at the start of the slice began before it.
        let restless = all.iter().any(|one| one.kind == BenignKind::Regime);
        assert!(
            told || restless || lively == plain,
            "{sensor} at {time}: {lively} and not {plain}"
        );
    }
}

#[test]
fn a_holiday_is_like_a_sunday_for_the_whole_plant() {
    let spec = "sim:devices=20,tags=1,period=10m,duration=56d,anomalies=0,gaps=0,weekly=1,holidays=0.2";
    let (_, benign) = labels(spec);
    let days: std::collections::BTreeSet<i64> = benign
        .iter()
        .filter(|one| one.kind == BenignKind::Holiday)
        .map(|one| one.from.as_millis() / 86_400_000)
        .collect();
    assert!((3..=16).contains(&days.len()), "{days:?}");
    assert!(
        days.iter().all(|day| (day + 3) % 7 < 5),
        "a holiday is a weekday: {days:?}"
    );
    let mut sums: HashMap<(SensorId, u8), (f64, f64)> = HashMap::new();
    for ((sensor, time), value) in values(spec) {
        let day = time.as_millis() / 86_400_000;
        let kind = if days.contains(&day) {
            2
        } else {
            u8::from((day + 3) % 7 == 6)
        };
        let sum = sums.entry((sensor, kind)).or_default();
        *sum = (sum.0 + value, sum.1 + 1.0);
    }
    let mean = |sensor: &SensorId, kind| {
        let (sum, count) = sums[&(sensor.clone(), kind)];
        sum / count
    };
    for sensor in sums.keys().map(|(sensor, _)| sensor) {
        let [work, sunday, holiday] = [0, 1, 2].map(|kind| mean(sensor, kind));
        let rest = work - sunday;
        assert!(rest > 0.3, "{sensor}: {rest}");
        assert!(
            (work - holiday - rest).abs() < 0.7 * rest,
            "{sensor}: {work}, {sunday}, {holiday}"
        );
    }
}

#[test]
fn an_incident_meets_an_anomaly_that_is_less_than_a_window_away() {
    let time = |seconds: i64| EventTime::from_millis(seconds * 1_000);
    let kind = windrow_common::IncidentKind::Anomaly;
    let mut course = windrow_common::Course::begun(kind, time(600), time(660));
    course.until = time(1_200);
    let met = |from, to| meets(&course, &(time(from)..time(to)), Length::from_millis(60_000));
    assert!(met(720, 780) && met(300, 1_800), "they overlap");
    assert!(
        met(1_259, 1_500) && met(300, 541),
        "less than a window lies between them"
    );
    assert!(!met(1_260, 1_500) && !met(300, 540), "a window lies between them");
}
