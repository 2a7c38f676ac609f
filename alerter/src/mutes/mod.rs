//! Maintenance: when nobody wants to hear of a sensor.
//!
//! `alerting/mutes.json` holds what people have muted. An incident that is noticed while its sensor is muted is in the table,
//! marked with the end of that time. It is announced then if it is still open, and never if it is over. So who hears of what
//! follows from the predictions and the mutes alone.

mod stored;

use serde::{Deserialize, Serialize};
use windrow_common::{Course, EventTime, IncidentKind, SensorId, SensorPattern};

pub use stored::{MutesError, StoredMutes};

/// Sensors that are muted, and when.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Mute {
    /// Its name, by which it is removed.
    pub id: String,
    /// The sensors.
    pub sensors: Vec<SensorPattern>,
    /// When they are muted, in event time.
    pub times: Vec<Stretch>,
    /// Whether they were taken out of service: from the start of the first stretch on, they are not missed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub retired: bool,
    /// Why, for people.
    pub reason: String,
    /// When it was added.
    pub added: EventTime,
    /// The calendar's event that it was read from, and how far its times go.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub calendar: Option<CalendarEvent>,
}

/// Where a mute was read from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CalendarEvent {
    /// The calendar's name.
    pub calendar: String,
    /// The event's UID.
    pub uid: String,
    /// The end of what was read of a recurring event; later times are not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub known_until: Option<EventTime>,
}

/// A stretch of event time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Stretch {
    /// Its start.
    pub from: EventTime,
    /// Its end, which is not part of it; none if it does not end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<EventTime>,
}

impl Stretch {
    fn end(&self) -> EventTime {
        self.to.unwrap_or(EventTime::MAX)
    }
}

impl Mute {
    /// Returns whether a sensor is one of these.
    pub fn names(&self, sensor: &SensorId) -> bool {
        self.sensors.iter().any(|pattern| pattern.matches(sensor))
    }
}

/// All mutes of a store.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Mutes {
    /// The mutes, in the order in which they were added.
    pub mutes: Vec<Mute>,
}

impl Mutes {
    /// Returns the end of the time in which a sensor is muted at `time`; `None` if it is not. Stretches that overlap or touch
    /// are one.
    pub fn until(&self, sensor: &SensorId, time: EventTime) -> Option<EventTime> {
        let named = self.mutes.iter().filter(|mute| mute.names(sensor));
        let mut stretches: Vec<Stretch> = named.flat_map(|mute| mute.times.iter().copied()).collect();
        stretches.sort_unstable();
        let mut until = None;
        for stretch in stretches {
            // Until one holds `time`, and from then on, each that begins before the end so far goes on.
            let reaches = until.unwrap_or(time);
            if stretch.from <= reaches && stretch.end() > reaches {
                until = Some(stretch.end());
            }
        }
        until
    }

    /// Returns when a sensor was first taken out of service.
    pub fn retired_from(&self, sensor: &SensorId) -> Option<EventTime> {
        let retired = self
            .mutes
            .iter()
            .filter(|mute| mute.retired && mute.names(sensor));
        retired
            .filter_map(|mute| mute.times.first())
            .map(|stretch| stretch.from)
            .min()
    }

    /// Returns whether any sensor is out of service.
    pub(crate) fn retire_any(&self) -> bool {
        self.mutes.iter().any(|mute| mute.retired)
    }

    /// Marks the incidents of a sensor that are noticed while it is muted. A sensor that is out of service at `now` is not
    /// missed, and has no open incident.
    pub(crate) fn judge(&self, sensor: &SensorId, now: EventTime, courses: &mut Vec<Course>) {
        if self.mutes.is_empty() || courses.is_empty() {
            return;
        }
        let retired = self.retired_from(sensor).filter(|retired| *retired <= now);
        courses.retain_mut(|course| {
            course.muted_until = self.until(sensor, course.noticed);
            let Some(retired) = retired else { return true };
            if course.noticed >= retired {
                return course.kind != IncidentKind::Silent;
            }
            if course.closed.is_none() {
                course.closed = Some(retired.max(course.until));
            }
            true
        });
    }
}

#[cfg(test)]
mod tests;
