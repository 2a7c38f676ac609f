//! Compares incidents with the truth.

use std::collections::BTreeMap;

use windrow_common::{Course, EventTime, IncidentKind};
use windrow_producer::source::simulator::meets;

use crate::Args;
use crate::fleet::{Happened, Sensor};
use crate::step::Step;

const MINUTE_MS: i64 = 60_000;
const DAY_MS: i64 = 24 * 60 * MINUTE_MS;

/// How a step did.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) sensors: u64,
    incidents: u64,
    right: u64,
    anomalies: u64,
    found: u64,
    /// How long after their beginning the found anomalies were noticed, in ms.
    delays: Vec<i64>,
    sensor_days: f64,
    seconds: f64,
    /// The found and all anomalies of each kind.
    by_kind: BTreeMap<&'static str, (u64, u64)>,
    /// The false incidents, by what was going on.
    false_by: BTreeMap<String, u64>,
    lines: Vec<String>,
}

impl Tally {
    pub(crate) fn add(&mut self, other: Self) {
        self.sensors += other.sensors;
        self.incidents += other.incidents;
        self.right += other.right;
        self.anomalies += other.anomalies;
        self.found += other.found;
        self.delays.extend(other.delays);
        self.sensor_days += other.sensor_days;
        self.seconds += other.seconds;
        for (kind, (found, all)) in other.by_kind {
            let sum = self.by_kind.entry(kind).or_default();
            *sum = (sum.0 + found, sum.1 + all);
        }
        for (why, count) in other.false_by {
            *self.false_by.entry(why).or_default() += count;
        }
        self.lines.extend(other.lines);
    }
}

/// Judges the incidents of one sensor.
///
/// An incident is right if it meets a true anomaly ([`meets`]). Recall counts the anomalies that begin in the time that is
/// scored and are met by an incident.
pub(crate) fn judge(sensor: &Sensor, courses: &[Course], seconds: f64, args: &Args) -> Tally {
    let mut tally = Tally {
        sensors: 1,
        incidents: courses.len() as u64,
        sensor_days: args.scored.as_secs_f64() / 86_400.0,
        seconds,
        ..Tally::default()
    };
    for course in courses {
        if sensor
            .anomalies
            .iter()
            .any(|anomaly| meets(course, &anomaly.when, sensor.length))
        {
            tally.right += 1;
            continue;
        }
        let why = why(sensor, course);
        if args.explain {
            let peak = course.peak.as_ref().map_or(f64::NAN, |peak| peak.score);
            let Course {
                kind,
                opened,
                until,
                windows,
                ..
            } = course;
            let name = &sensor.name;
            tally.lines.push(format!(
                "false: {name} {kind} {opened} to {until}, {windows} windows, peak {peak:.2}: {why}"
            ));
        }
        *tally.false_by.entry(why).or_default() += 1;
    }
    for anomaly in sensor
        .anomalies
        .iter()
        .filter(|anomaly| anomaly.when.start >= sensor.scored)
    {
        let met = courses
            .iter()
            .filter(|course| meets(course, &anomaly.when, sensor.length));
        let noticed = met
            .map(|course| course.noticed.as_millis() - anomaly.when.start.as_millis())
            .min();
        let of_kind = tally.by_kind.entry(anomaly.what).or_default();
        of_kind.1 += 1;
        tally.anomalies += 1;
        match noticed {
            Some(delay) => {
                of_kind.0 += 1;
                tally.found += 1;
                tally.delays.push(delay.max(0));
            }
            None if args.explain => tally.lines.push(format!(
                "missed: {} {} {} to {}",
                sensor.name, anomaly.what, anomaly.when.start, anomaly.when.end
            )),
            None => {}
        }
    }
    tally
}

/// Tells what was going on when a false incident opened.
fn why(sensor: &Sensor, course: &Course) -> String {
    if course.kind != IncidentKind::Anomaly {
        return course.kind.to_string();
    }
    let opened = course.opened.as_millis();
    let since = |time: EventTime| opened - time.as_millis();
    let hour = DAY_MS / 24;
    let during =
        |happened: &&Happened| since(happened.when.start) >= -hour && since(happened.when.end) < hour;
    let of = |what: &str| {
        sensor
            .benign
            .iter()
            .filter(move |happened| happened.what == what)
            .collect::<Vec<_>>()
    };
    if of("holiday").iter().any(during) {
        return "holiday".to_owned();
    }
    let regimes = of("regime change");
    if regimes
        .iter()
        .any(|regime| (-hour..7 * DAY_MS).contains(&since(regime.when.start)))
    {
        return "regime change, up to a week before".to_owned();
    }
    let over = |anomaly: &&Happened| (0..DAY_MS).contains(&since(anomaly.when.end));
    if let Some(anomaly) = sensor.anomalies.iter().find(over) {
        return format!("after: {}", anomaly.what);
    }
    let weekends = of("weekend");
    match weekends.iter().any(during) {
        true => "weekend of a sensor that rests".to_owned(),
        false if weekends.is_empty() => "nothing".to_owned(),
        false => "weekday of a sensor that rests at weekends".to_owned(),
    }
}

/// Prints the table, and more for each step if it is to explain itself.
pub(crate) fn print(steps: &[Step], tallies: &[Tally], args: &Args) {
    println!(
        "\n| step | incidents | precision | recall | F1 | delay, median | false ones a sensor-month | s |"
    );
    println!("|---|---|---|---|---|---|---|---|");
    for (step, tally) in steps.iter().zip(tallies) {
        let share = |part: u64, whole: u64| part as f64 / whole.max(1) as f64;
        let (precision, recall) = (
            share(tally.right, tally.incidents),
            share(tally.found, tally.anomalies),
        );
        let mut delays = tally.delays.clone();
        delays.sort_unstable();
        let delay = delays.get(delays.len() / 2).map_or(0, |delay| delay / MINUTE_MS);
        println!(
            "| {} | {} | {:.1} % | {:.1} % | {:.3} | {delay} min | {:.2} | {:.1} |",
            step.name,
            tally.incidents,
            100.0 * precision,
            100.0 * recall,
            2.0 * precision * recall / (precision + recall).max(f64::MIN_POSITIVE),
            (tally.incidents - tally.right) as f64 / tally.sensor_days * 30.0,
            tally.seconds,
        );
    }
    for (step, tally) in steps.iter().zip(tallies) {
        println!("\n{}", step.name);
        let kinds = tally
            .by_kind
            .iter()
            .map(|(kind, (found, all))| format!("{kind} {found}/{all}"));
        println!("  found: {}", kinds.collect::<Vec<_>>().join(", "));
        let reasons = tally.false_by.iter().map(|(why, count)| format!("{why} {count}"));
        println!("  false: {}", reasons.collect::<Vec<_>>().join(", "));
        if args.explain {
            tally.lines.iter().for_each(|line| println!("  {line}"));
        }
    }
}
