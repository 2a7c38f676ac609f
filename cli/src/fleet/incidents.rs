//! What the table of incidents says about a stretch of time.

use std::collections::{BTreeMap, HashMap};

use windrow_common::{EventTime, Incident, IncidentKind, Length, SensorId};

/// Incidents, by what a report asks of them.
#[derive(Debug, Default)]
pub(super) struct Incidents {
    /// When each sensor was silent, and when it was stuck.
    stretches: HashMap<SensorId, Vec<Stretch>>,
    /// Incidents that opened, by day and kind.
    pub(super) days: BTreeMap<EventTime, BTreeMap<IncidentKind, u64>>,
    /// Anomalies that opened, by sensor.
    anomalies: HashMap<SensorId, u64>,
    /// Incidents that are open.
    pub(super) open: Vec<Incident>,
}

/// When a sensor was silent, or stuck.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stretch {
    kind: IncidentKind,
    from: EventTime,
    to: EventTime,
    window_length: Length,
}

/// Returns the first and the last moment of the stretches of a kind between two times.
pub(super) fn overlaps(
    stretches: &[Stretch],
    kind: IncidentKind,
    (from, to): (EventTime, EventTime),
) -> impl Iterator<Item = (EventTime, EventTime)> {
    let of_kind = stretches.iter().filter(move |stretch| stretch.kind == kind);
    of_kind
        .map(move |stretch| (stretch.from.max(from), stretch.to.min(to)))
        .filter(|(from, to)| from < to)
}

impl Incidents {
    /// Sorts the incidents that opened before the end of the stretch; those that opened `from` its start on are counted.
    pub(super) fn of(all: Vec<Incident>, from: Option<EventTime>) -> Self {
        let mut sorted = Self::default();
        for incident in all {
            sorted.add(incident, from);
        }
        let order = |incident: &Incident| (incident.course.kind, incident.course.opened);
        sorted
            .open
            .sort_by(|a, b| (order(a), &a.sensor).cmp(&(order(b), &b.sensor)));
        sorted
    }

    fn add(&mut self, incident: Incident, from: Option<EventTime>) {
        let course = &incident.course;
        let stretch = |to| Stretch {
            kind: course.kind,
            from: course.opened,
            to,
            window_length: incident.window_length,
        };
        let stretch = match course.kind {
            IncidentKind::Silent => Some(stretch(course.closed.unwrap_or(EventTime::MAX))),
            IncidentKind::Stuck => Some(stretch(course.until)),
            _ => None,
        };
        if let Some(stretch) = stretch {
            self.stretches
                .entry(incident.sensor.clone())
                .or_default()
                .push(stretch);
        }
        if from.is_none_or(|from| course.opened >= from) {
            let day = self.days.entry(course.opened.floor(Length::DAY)).or_default();
            *day.entry(course.kind).or_default() += 1;
            if course.kind == IncidentKind::Anomaly {
                *self.anomalies.entry(incident.sensor.clone()).or_default() += 1;
            }
        }
        if course.closed.is_none() {
            self.open.push(incident);
        }
    }

    /// Returns the sensors that are silent at `time` since before it, with the lengths of their windows.
    pub(super) fn silent_at(&self, time: EventTime) -> impl Iterator<Item = (&SensorId, EventTime, Length)> {
        self.stretches.iter().flat_map(move |(sensor, stretches)| {
            let silent = move |stretch: &&Stretch| {
                stretch.kind == IncidentKind::Silent && stretch.from < time && stretch.to > time
            };
            stretches
                .iter()
                .filter(silent)
                .map(move |stretch| (sensor, stretch.from, stretch.window_length))
        })
    }

    /// Returns when a sensor was silent, and when it was stuck.
    pub(super) fn of_sensor(&self, sensor: &SensorId) -> &[Stretch] {
        self.stretches.get(sensor).map(Vec::as_slice).unwrap_or_default()
    }

    /// Returns the number of anomalies of a sensor that opened.
    pub(super) fn anomalies(&self, sensor: &SensorId) -> u64 {
        self.anomalies.get(sensor).copied().unwrap_or(0)
    }

    /// Returns the sensors with the most anomalies, and how many they had.
    pub(super) fn noisiest(&self, most: usize) -> Vec<(&SensorId, u64)> {
        let mut sensors: Vec<_> = self
            .anomalies
            .iter()
            .map(|(sensor, count)| (sensor, *count))
            .collect();
        sensors.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(b.0)));
        sensors.truncate(most);
        sensors
    }
}
