//! Runs the default training and rules on sensors that are not a noisy curve, for the table in docs/incidents.md. Each
//! sensor is trained on one month, and scored over the next one without and with a fault.

use windrow_common::{Aggregate, EventTime, Length};
use windrow_incidents::{Rules, Track, Window};
use windrow_model::{
    Features, Gamma, Model, ProfileChoice, Replaced, Scores, Scratch, TrainOptions, TrainingWindows,
    is_anomaly, train_windows,
};
use windrow_tuning::{History, Recipe, Trial, recipes, tune};

const MINUTE: i64 = 60_000;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;
/// The months begin at 2026-02-27T00:00:00Z, so that clocks in Europe change an hour after the second has begun.
const START: i64 = 1_772_150_400_000;
const CHANGE: i64 = 30 * DAY + HOUR;
const READINGS: i64 = 6;
const FEATURES: &str = "mean,std,min,max";

/// A sensor that yields the value at a time. It is asked for one time after another.
struct Sensor {
    name: &'static str,
    /// Between its readings' windows, in minutes.
    every: i64,
    /// Of a time in milliseconds after [`START`].
    value: fn(&mut Draw, i64) -> f64,
    /// What it yields during the fault instead of its value, and how long it lasts, in minutes.
    fault: fn(f64) -> f64,
    lasts: i64,
}

/// What became of a month.
#[derive(Debug)]
struct Month {
    flagged: usize,
    incidents: usize,
    /// Whether a window of the fault's time is part of an incident.
    found: bool,
}

/// Pseudo-random numbers and what a sensor remembers.
struct Draw {
    state: u64,
    level: f64,
    until: i64,
}

impl Draw {
    fn even(&mut self) -> f64 {
        self.state = self
            .state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.state >> 11) as f64 / (1_u64 << 53) as f64
    }

    fn normal(&mut self) -> f64 {
        (0..12).map(|_| self.even()).sum::<f64>() - 6.0
    }

    /// Returns one of two levels, which changes after 0.5 to 1.5 times so many minutes.
    fn level(&mut self, time: i64, levels: (f64, f64), minutes: f64) -> f64 {
        if time >= self.until {
            self.level = if self.level == levels.0 {
                levels.1
            } else {
                levels.0
            };
            self.until = time + ((0.5 + self.even()) * minutes * MINUTE as f64) as i64;
        }
        self.level
    }
}

const SENSORS: [Sensor; 6] = [
    Sensor {
        name: "constant",
        every: 1,
        value: |_, _| 40.0,
        fault: |_| 40.5,
        lasts: 30,
    },
    Sensor {
        name: "status bit",
        every: 1,
        value: |draw, time| draw.level(time, (0.0, 1.0), 30.0),
        fault: |_| 2.0,
        lasts: 30,
    },
    Sensor {
        name: "counter",
        every: 1,
        value: |draw, _| {
            draw.level += draw.even();
            draw.level.floor()
        },
        fault: |value| value - 1_000.0,
        lasts: 30,
    },
    Sensor {
        name: "two regimes",
        every: 1,
        value: |draw, time| draw.level(time, (20.0, 60.0), 480.0) + draw.normal(),
        fault: |value| if value > 40.0 { value - 20.0 } else { value + 20.0 },
        lasts: 30,
    },
    Sensor {
        name: "one reading a day",
        every: 24 * 60,
        value: |draw, _| 50.0 + draw.normal(),
        fault: |value| value + 10.0,
        lasts: 24 * 60,
    },
    Sensor {
        name: "day shift in Berlin",
        every: 1,
        value: |draw, time| {
            let local = time + if time < CHANGE { HOUR } else { 2 * HOUR };
            let at_work = (6..18).contains(&(local % DAY / HOUR));
            draw.normal() + if at_work { 60.0 } else { 20.0 }
        },
        fault: |value| 80.0 - value,
        lasts: 30,
    },
];

/// Returns the windows of two months, the second with the fault on its 15th day or not.
fn windows(sensor: &Sensor, faulty: bool) -> Vec<Aggregate> {
    let mut draw = Draw {
        state: 11,
        level: 0.0,
        until: 0,
    };
    let fault = fault(sensor);
    let starts = (0..60 * DAY).step_by((sensor.every * MINUTE) as usize);
    let readings = if sensor.every == 1 { READINGS } else { 1 };
    let window = |start: i64| {
        let values: Vec<f64> = (0..readings)
            .map(|at| {
                let value = (sensor.value)(&mut draw, start + at * MINUTE / READINGS);
                if faulty && fault.contains(&start) {
                    (sensor.fault)(value)
                } else {
                    value
                }
            })
            .collect();
        let mean = values.iter().sum::<f64>() / readings as f64;
        let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
        Aggregate {
            window_start: EventTime::from_millis(START + start),
            count: values.len() as u64,
            mean,
            std: (squares / readings as f64).sqrt(),
            min: values.iter().copied().fold(f64::INFINITY, f64::min),
            max: values.iter().copied().fold(f64::NEG_INFINITY, f64::max),
            first: values[0],
            last: values[values.len() - 1],
        }
    };
    starts.map(window).collect()
}

fn fault(sensor: &Sensor) -> std::ops::Range<i64> {
    45 * DAY..45 * DAY + sensor.lasts * MINUTE
}

fn month(sensor: &Sensor, faulty: bool, options: &TrainOptions) -> (Month, Option<Replaced>) {
    let windows = windows(sensor, faulty);
    let (history, scored) = windows.split_at(windows.len() / 2);
    let (model, replaced) = trained(history, &FEATURES.parse().unwrap(), options);
    (judge(sensor, &model, scored), replaced)
}

fn trained(history: &[Aggregate], features: &Features, options: &TrainOptions) -> (Model, Option<Replaced>) {
    on_rows(history, features, |windows| {
        train_windows(windows, features.clone(), options).unwrap()
    })
}

/// Trains on the rows of these windows.
fn on_rows<T>(history: &[Aggregate], features: &Features, train: impl FnOnce(TrainingWindows<'_>) -> T) -> T {
    let starts: Vec<EventTime> = history.iter().map(|window| window.window_start).collect();
    let mut rows = Vec::new();
    features.extract(history, &mut rows);
    train(TrainingWindows {
        starts: &starts,
        rows: &rows,
    })
}

/// Scores a month with a model.
fn judge(sensor: &Sensor, model: &Model, scored: &[Aggregate]) -> Month {
    let mut scores = Scores::default();
    model.score(scored, &mut Scratch::default(), &mut scores).unwrap();
    let (mut track, mut incidents) = (Track::default(), Vec::new());
    for (aggregate, score) in scored.iter().zip(&scores.scores) {
        let window = Window::of(aggregate, Length::from_millis(MINUTE), *score);
        track.take(&window, &Rules::default(), &mut incidents);
    }
    let end = EventTime::from_millis(START + 60 * DAY);
    incidents.extend(track.open(end, &Rules::default()));
    let fault = fault(sensor);
    Month {
        flagged: scores
            .decisions
            .iter()
            .filter(|decision| is_anomaly(**decision))
            .count(),
        incidents: incidents.len(),
        found: scored.iter().zip(&scores.scores).any(|(aggregate, score)| {
            fault.contains(&(aggregate.window_start.as_millis() - START))
                && *score > Rules::default().threshold
        }),
    }
}

/// Chooses by back-test on the newest windows of the history, as `windrow models tune` does at its defaults, and returns the model
/// and what it is.
fn tuned(sensor: &Sensor) -> (Model, String) {
    let windows = windows(sensor, false);
    let newest = &windows[(windows.len() / 2).saturating_sub(10_000)..windows.len() / 2];
    let features: Features = FEATURES.parse().unwrap();
    let present = Recipe {
        options: now("Europe/Berlin"),
        features,
    };
    let history = History {
        windows: newest,
        length: Length::from_millis(MINUTE),
        anomalies: &[],
        left_out: &[],
    };
    let tuned = match tune(history, &recipes(&present), &Rules::default(), 1.0) {
        Ok(tuned) => tuned,
        // Thirty windows are too few to hold any out.
        Err(why) => {
            println!("{}: {why}", sensor.name);
            let (model, _) = trained(newest, &present.features, &present.options);
            return (model, present.to_string());
        }
    };
    println!("{}: {}", sensor.name, tuned.why());
    let Trial { recipe, .. } = tuned.choice();
    let trained_on = &newest[newest.len().saturating_sub(recipe.most_windows())..];
    let train = |windows: TrainingWindows<'_>| tuned.choice().train(windows).unwrap();
    let (model, options) = on_rows(trained_on, &recipe.features, train);
    let features = recipe.features.clone();
    (model, Recipe { features, options }.to_string())
}

#[test]
fn odd_sensors_after_tuning() {
    let default = "svm 0.3/d, nu 0.005, mean,std,min,max";
    let narrow = "svm 3/d, nu 0.005, mean,std,min,max";
    let right: [(&str, &str, Found); 6] = [
        ("constant", default, (0, 0, 30, 1, true)),
        ("status bit", narrow, (0, 0, 30, 1, true)),
        // A jump between two windows leaves no trace in the spread of any.
        ("counter", "svm 0.3/d, nu 0.005, std,range", (61, 0, 61, 0, false)),
        // The mean alone says little of a window in which the regime changes.
        (
            "two regimes",
            "svm 3/d, nu 0.005, mean, no profile",
            (219, 0, 249, 0, false),
        ),
        ("one reading a day", default, (2, 0, 3, 1, true)),
        ("day shift in Berlin", default, (250, 1, 280, 2, true)),
    ];
    let found = SENSORS.iter().map(|sensor| {
        let (model, recipe) = tuned(sensor);
        let of = |faulty| {
            let windows = windows(sensor, faulty);
            judge(sensor, &model, &windows[windows.len() / 2..])
        };
        let (normal, faulty) = (of(false), of(true));
        println!("{:<18} {recipe:<50} {normal:?} {faulty:?}", sensor.name);
        let found = (
            normal.flagged,
            normal.incidents,
            faulty.flagged,
            faulty.incidents,
            faulty.found,
        );
        (sensor.name, recipe, found)
    });
    let found: Vec<_> = found.collect();
    let found: Vec<(&str, &str, Found)> = found
        .iter()
        .map(|(name, recipe, found)| (*name, &**recipe, *found))
        .collect();
    assert_eq!(found, right);
}

/// The defaults of `windrow models train` at a site in a time zone.
fn now(zone: &str) -> TrainOptions {
    TrainOptions {
        gamma: Gamma::for_features(&FEATURES.parse().unwrap()),
        profile: ProfileChoice::IfWorthIt(jiff::tz::TimeZone::get(zone).unwrap()),
        ..TrainOptions::default()
    }
}

/// Flagged windows and incidents of the next month without a fault, the same with one, and whether the fault was found.
type Found = (usize, usize, usize, usize, bool);

#[test]
fn odd_sensors_at_the_defaults() {
    let before = TrainOptions {
        nu: 0.01,
        gamma: Gamma::Scale,
        max_rows: 2_000,
        profile: ProfileChoice::Never,
        ..TrainOptions::default()
    };
    let now = now("Europe/Berlin");
    let right: [(&str, Found, Found); 6] = [
        ("constant", (0, 0, 30, 1, true), (0, 0, 30, 1, true)),
        ("status bit", (0, 0, 30, 1, true), (0, 0, 30, 1, true)),
        (
            "counter",
            (43_169, 14, 43_169, 14, true),
            (43_155, 10, 43_155, 10, true),
        ),
        (
            "two regimes",
            (550, 67, 553, 67, false),
            (288, 30, 288, 30, false),
        ),
        ("one reading a day", (4, 1, 4, 1, true), (2, 0, 3, 1, true)),
        (
            "day shift in Berlin",
            (400, 1, 399, 1, false),
            (229, 1, 258, 2, true),
        ),
    ];
    for (sensor, (name, right_before, right_now)) in SENSORS.iter().zip(right) {
        assert_eq!(sensor.name, name);
        for (options, right) in [(&before, right_before), (&now, right_now)] {
            let (normal, replaced) = month(sensor, false, options);
            let (faulty, _) = month(sensor, true, options);
            println!("{name:<18} {normal:?} {faulty:?} {replaced:?}");
            let found = (
                normal.flagged,
                normal.incidents,
                faulty.flagged,
                faulty.incidents,
                faulty.found,
            );
            assert_eq!(found, right, "{name}, nu {}", options.nu);
            let told = match name {
                "constant" => matches!(replaced, Some(Replaced::NeverVaried { .. })),
                "status bit" => matches!(replaced, Some(Replaced::BoundaryMoved { different: 7, .. })),
                "counter" => replaced == Some(Replaced::OnlyGrew),
                "one reading a day" => {
                    matches!(
                        replaced,
                        Some(Replaced::BoundaryMoved {
                            different: 30,
                            rows: 30
                        })
                    )
                }
                _ => replaced.is_none(),
            };
            assert!(told, "{name}: {replaced:?}");
        }
    }
}

#[test]
fn a_value_between_two_regimes_is_found_with_a_narrow_kernel() {
    let regimes = &SENSORS[3];
    let normal = month(regimes, false, &TrainOptions::default()).0;
    let faulty = month(regimes, true, &TrainOptions::default()).0;
    assert!(faulty.found && !normal.found);
    assert_eq!(faulty.flagged - normal.flagged, 30);
}

#[test]
fn a_profile_in_another_time_zone_than_the_sites_is_an_hour_off_when_clocks_change() {
    let shift = &SENSORS[5];
    let in_utc = month(shift, false, &now("UTC")).0;
    let on_site = month(shift, false, &now("Europe/Berlin")).0;
    println!("{in_utc:?} {on_site:?}");
    // The first and the last hour of each shift but the first day's.
    assert!(in_utc.flagged >= 2 * 60 * 29, "{in_utc:?}");
    assert!(
        in_utc.incidents > 30 && on_site.incidents <= 1,
        "{in_utc:?} {on_site:?}"
    );
}
