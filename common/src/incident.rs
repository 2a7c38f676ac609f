//! Incidents: problems with a sensor that people are alerted to.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::{Cause, EventTime, Length, SensorId};

/// What is wrong with a sensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum IncidentKind {
    /// Its windows are anomalies.
    Anomaly,
    /// It no longer sends readings.
    Silent,
    /// It repeats one value, though it used to vary.
    Stuck,
    /// It reports impossible values, outside its physical range.
    Range,
    /// It sends far fewer readings than it used to.
    Rate,
}

/// How urgent an incident is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Someone should look at it.
    Warning,
    /// Someone should look at it now.
    Critical,
}

/// An incident of one sensor.
///
/// Its key is (sensor, window length, kind, opened): two incidents with the same key are the same incident, perhaps at
/// different stages.
#[derive(Clone, Debug, PartialEq)]
pub struct Incident {
    /// The sensor.
    pub sensor: SensorId,
    /// Length of the sensor's windows.
    pub window_length: Length,
    /// What happened, and when.
    pub course: Course,
}

/// The course of an incident, in event time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Course {
    /// What is wrong.
    pub kind: IncidentKind,
    /// When it began: the start of the first window that is part of it, or the end of the last window before the silence.
    pub opened: EventTime,
    /// The event time at which it could be noticed: later than `opened` if several windows are needed for that.
    pub noticed: EventTime,
    /// The start of the window that made it critical.
    pub escalated: Option<EventTime>,
    /// The end of the last window that is part of it, or of the silence so far.
    pub until: EventTime,
    /// The event time at which it was over; `None` while it is open.
    pub closed: Option<EventTime>,
    /// Number of windows that are part of it; 0 for silence.
    pub windows: u64,
    /// The highest score of its windows, and what made that window anomalous; only for anomalies.
    pub peak: Option<Peak>,
    /// The value furthest beyond its limit; only for ranges and rates.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub breach: Option<Breach>,
    /// The end of the maintenance in which it was noticed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub muted_until: Option<EventTime>,
}

/// A value beyond its limit.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Breach {
    /// The value that was measured, or the number of readings of a window.
    pub value: f64,
    /// The limit that the value passed.
    pub limit: f64,
    /// Start of the window.
    pub at: EventTime,
}

/// The highest score of an incident.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Peak {
    /// The score.
    pub score: f64,
    /// Start of the window.
    pub at: EventTime,
    /// What made the window anomalous; `None` if its prediction does not tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<Arc<Cause>>,
}

impl Peak {
    /// Returns the score as short text for people. The score of an extreme window can have three hundred digits.
    pub fn score_text(&self) -> String {
        match self.score.abs() < 1e7 {
            true => format!("{:.2}", self.score),
            false => format!("{:.2e}", self.score),
        }
    }
}

impl IncidentKind {
    /// All kinds.
    pub const ALL: [Self; 5] = [Self::Anomaly, Self::Silent, Self::Stuck, Self::Range, Self::Rate];

    /// Returns its name in tables and alerts.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Anomaly => "anomaly",
            Self::Silent => "silent",
            Self::Stuck => "stuck",
            Self::Range => "range",
            Self::Rate => "rate",
        }
    }
}

impl fmt::Display for IncidentKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for IncidentKind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let known = Self::ALL.into_iter().find(|kind| kind.name() == text);
        known.ok_or_else(|| {
            format!("`{text}` is not a kind of incident: use anomaly, silent, stuck, range or rate")
        })
    }
}

impl Severity {
    /// Returns its name in tables and alerts.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Warning => "warning",
            Self::Critical => "critical",
        }
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Breach {
    /// Returns by how much the limit was passed.
    pub fn excess(&self) -> f64 {
        (self.value - self.limit).abs()
    }
}

impl Course {
    /// Returns the course of an incident that has just opened: still open, and without any windows yet.
    pub fn begun(kind: IncidentKind, opened: EventTime, noticed: EventTime) -> Self {
        Self {
            kind,
            opened,
            noticed,
            escalated: None,
            until: noticed,
            closed: None,
            windows: 0,
            peak: None,
            breach: None,
            muted_until: None,
        }
    }

    /// Returns whether it closed before the end of the maintenance in which it was noticed. Nobody is alerted to such
    /// an incident.
    pub fn is_hushed(&self) -> bool {
        let over_by = |until| self.closed.is_some_and(|closed| closed <= until);
        self.muted_until.is_some_and(over_by)
    }

    /// Returns what made the window with the highest score anomalous.
    pub fn cause(&self) -> Option<&Cause> {
        self.peak.as_ref()?.cause.as_deref()
    }

    /// Returns how urgent it is.
    pub fn severity(&self) -> Severity {
        match self.escalated {
            Some(_) => Severity::Critical,
            None => Severity::Warning,
        }
    }
}

impl Incident {
    /// Returns its id, which depends only on its key: every process computes the same id.
    pub fn id(&self) -> String {
        let Course { kind, opened, .. } = &self.course;
        format!("{}@{}/{opened}/{kind}", self.sensor, self.window_length)
    }

    /// Returns a short id for people: eight hexadecimal digits. Among a hundred thousand incidents, two may share one.
    pub fn short_id(&self) -> String {
        // FNV-1a (Fowler, Noll and Vo), folded to 32 bits as its authors say.
        let mut hash = 0xcbf2_9ce4_8422_2325_u64;
        for byte in self.id().bytes() {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
        format!("{:08x}", (hash >> 32) ^ (hash & 0xffff_ffff))
    }
}
