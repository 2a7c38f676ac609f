//! Alertmanager, which routes, groups and silences: `POST /api/v2/alerts`.
//!
//! Alertmanager knows an alert by its labels, and forgets it when nobody repeats it. So each incident is one alert, whose
//! label `incident` tells it from the sensor's next one, and all open incidents are repeated. An incident that becomes
//! critical resolves its warning and raises a second alert, which is how severities are usually routed.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use serde::Serialize;
use windrow_common::{Breach, Course, EventTime, IncidentKind, Severity};
use windrow_store::SecretFile;

use super::http::{AddressError, address, client, send, shown};
use super::{DeliveryError, Receiver, Told};
use crate::{Event, Stage};

/// Most alerts in one request.
const MOST_ALERTS: usize = 500;

/// An alert that is not repeated lasts this many times the interval of repetition, as Prometheus has it.
const LASTS: u32 = 4;

/// An Alertmanager.
pub struct Alertmanager {
    url: reqwest::Url,
    shown: String,
    token: Option<SecretFile>,
    every: Duration,
    client: reqwest::Client,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Alert {
    labels: BTreeMap<&'static str, String>,
    annotations: BTreeMap<&'static str, String>,
    starts_at: String,
    ends_at: String,
}

/// Leaves out the address, which may hold a password.
impl fmt::Debug for Alertmanager {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Alertmanager").field(&self.shown).finish()
    }
}

impl Alertmanager {
    /// Creates the Alertmanager at `url`, such as `http://alertmanager:9093`, which is reminded `every` so often. `token`
    /// is a file that holds a bearer token.
    pub fn new(url: &str, token: Option<SecretFile>, every: Duration) -> Result<Self, AddressError> {
        let option = "--alertmanager";
        let mut url = address(option, url)?;
        let wrong = |why: String| AddressError { option, why };
        let client = client().map_err(|error| wrong(error.to_string()))?;
        let path = format!("{}/api/v2/alerts", url.path().trim_end_matches('/'));
        url.set_path(&path);
        Ok(Self {
            shown: shown(&url),
            url,
            token,
            every,
            client,
        })
    }

    async fn post(&self, alerts: &[Alert]) -> Result<(), DeliveryError> {
        let mut request = self.client.post(self.url.clone()).json(alerts);
        if let Some(token) = &self.token {
            request = request.bearer_auth(token.read()?);
        }
        send(request, &self.shown).await
    }
}

#[async_trait]
impl Receiver for Alertmanager {
    fn name(&self) -> &str {
        "alertmanager"
    }

    async fn tell(&self, events: &[Event], open: &[Event]) -> Told {
        let alerts = alerts(events, open, EventTime::now(), self.every * LASTS);
        for alerts in alerts.chunks(MOST_ALERTS) {
            if let Err(failure) = self.post(alerts).await {
                return Told {
                    failure: Some(failure),
                    ..Told::default()
                };
            }
        }
        Told {
            taken: events.len(),
            ..Told::default()
        }
    }

    fn reminds_every(&self) -> Option<Duration> {
        Some(self.every)
    }
}

/// Returns the alerts for events that wait and for the incidents that are open.
fn alerts(events: &[Event], open: &[Event], now: EventTime, lasts: Duration) -> Vec<Alert> {
    let until = now.saturating_add(lasts);
    let mut alerts = BTreeMap::new();
    for event in open {
        let severity = event.course.severity();
        alerts.insert((&event.incident, severity), alert(event, severity, until));
    }
    for event in events {
        let severity = event.course.severity();
        match event.stage {
            Stage::Opened => {
                // It may have become critical, or be over, by the time of the next event.
                alerts
                    .entry((&event.incident, severity))
                    .or_insert_with(|| alert(event, severity, until));
            }
            Stage::Escalated => {
                alerts.insert(
                    (&event.incident, Severity::Warning),
                    alert(event, Severity::Warning, now),
                );
                alerts.insert(
                    (&event.incident, Severity::Critical),
                    alert(event, Severity::Critical, until),
                );
            }
            Stage::Closed | Stage::Withdrawn => {
                let at = (&event.incident, severity);
                // Receivers do not know this incident yet, so raise it and let it expire; otherwise nobody would notice
                // it.
                let is_news = |event: &&Event| event.stage != Stage::Closed;
                let unheard = events
                    .iter()
                    .filter(is_news)
                    .any(|other| other.incident == event.incident);
                let ends = match event.stage {
                    Stage::Closed if unheard => until,
                    _ => now,
                };
                alerts.insert(at, alert(event, severity, ends));
            }
        }
    }
    alerts.into_values().collect()
}

fn alert(event: &Event, severity: Severity, ends: EventTime) -> Alert {
    let course = &event.course;
    let name = match course.kind {
        IncidentKind::Anomaly => "WindrowAnomaly",
        IncidentKind::Silent => "WindrowSilent",
        IncidentKind::Stuck => "WindrowStuck",
        IncidentKind::Range => "WindrowRange",
        IncidentKind::Rate => "WindrowRate",
    };
    let labels = [
        ("alertname", name.to_owned()),
        ("device", event.device.clone()),
        ("tag", event.tag.clone()),
        ("severity", severity.to_string()),
        ("incident", event.incident.clone()),
    ];
    let annotations = [("summary", summary(event))];
    Alert {
        labels: labels.into_iter().collect(),
        annotations: annotations.into_iter().collect(),
        starts_at: course.opened.to_string(),
        // Alertmanager rejects an alert that ends before it starts.
        ends_at: ends
            .max(course.opened.saturating_add(Duration::from_millis(1)))
            .to_string(),
    }
}

/// Returns what happened, in a sentence.
fn summary(event: &Event) -> String {
    let course = &event.course;
    let what = match course.kind {
        IncidentKind::Anomaly => "is anomalous",
        IncidentKind::Silent => "has sent nothing",
        IncidentKind::Stuck => "repeats one value",
        IncidentKind::Range => "is out of its range",
        IncidentKind::Rate => "sends too few readings",
    };
    let since = format!("{} of {} {what} since {}", event.tag, event.device, course.opened);
    match reason(course) {
        Some(reason) => format!("{since}: {} windows, {reason}", course.windows),
        None if course.windows > 0 => format!("{since}: {} windows", course.windows),
        None => since,
    }
}

/// Returns the numbers that an incident rests on.
fn reason(course: &Course) -> Option<String> {
    let peak = course.peak.as_ref().map(|peak| {
        let score = format!("the score was {} at {}", peak.score_text(), peak.at);
        match &peak.cause {
            Some(cause) => format!("{score}: {cause}"),
            None => score,
        }
    });
    let breach = |Breach { value, limit, at }: Breach| match course.kind {
        IncidentKind::Rate => format!("{value} readings at {at}, where fewer than {limit} are too few"),
        _ if value < limit => format!("{value} at {at} is below the limit of {limit}"),
        _ => format!("{value} at {at} is above the limit of {limit}"),
    };
    peak.or_else(|| course.breach.map(breach))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use windrow_common::{Cause, Incident, Length, Peak, SensorId};

    use super::*;

    fn event(stage: Stage, escalated: bool, closed: bool) -> Event {
        let time = |minute: i64| EventTime::from_millis(minute * 60_000);
        let incident = Incident {
            sensor: SensorId::new("pump-7", "temp").unwrap(),
            window_length: Length::from_millis(60_000),
            course: Course {
                escalated: escalated.then(|| time(3)),
                until: time(4),
                closed: closed.then(|| time(9)),
                windows: 3,
                peak: Some(Peak {
                    score: 0.75,
                    at: time(2),
                    cause: None,
                }),
                ..Course::begun(IncidentKind::Anomaly, time(1), time(2))
            },
        };
        Event::new(&incident, stage)
    }

    /// Returns severity and end of each alert, in minutes.
    fn told(events: &[Event], open: &[Event]) -> Vec<(String, String)> {
        let now = EventTime::from_millis(100 * 60_000);
        let alerts = alerts(events, open, now, Duration::from_secs(240));
        let told = alerts.into_iter().map(|alert| {
            let ends = &alert.ends_at[11..16];
            (alert.labels["severity"].clone(), ends.to_owned())
        });
        told.collect()
    }

    fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs
            .iter()
            .map(|(a, b)| ((*a).to_owned(), (*b).to_owned()))
            .collect()
    }

    #[test]
    fn an_incident_is_one_alert_that_is_raised_escalated_and_resolved() {
        let opened = event(Stage::Opened, false, false);
        let (now, later) = ("01:40", "01:44");
        assert_eq!(
            told(std::slice::from_ref(&opened), &[]),
            pairs(&[("warning", later)])
        );
        assert_eq!(told(&[], &[opened]), pairs(&[("warning", later)]));
        let escalated = event(Stage::Escalated, true, false);
        assert_eq!(
            told(std::slice::from_ref(&escalated), std::slice::from_ref(&escalated)),
            pairs(&[("warning", now), ("critical", later)])
        );
        let closed = event(Stage::Closed, true, true);
        assert_eq!(told(&[closed], &[]), pairs(&[("critical", now)]));
        assert_eq!(
            told(&[event(Stage::Withdrawn, false, false)], &[]),
            pairs(&[("warning", now)])
        );
    }

    #[test]
    fn an_incident_that_was_over_before_it_could_be_told_is_raised_all_the_same() {
        let all = [
            event(Stage::Opened, false, true),
            event(Stage::Closed, false, true),
        ];
        assert_eq!(told(&all, &[]), pairs(&[("warning", "01:44")]));
        let withdrawn = [
            event(Stage::Opened, false, false),
            event(Stage::Withdrawn, false, false),
        ];
        assert_eq!(told(&withdrawn, &[]), pairs(&[("warning", "01:40")]));
    }

    #[test]
    fn the_summary_says_what_made_the_window_with_the_highest_score_anomalous() {
        let mut event = event(Stage::Opened, false, false);
        let since = "since 1970-01-01T00:01:00Z: 3 windows, the score was 0.75 at 1970-01-01T00:02:00Z";
        assert!(summary(&event).ends_with(since), "{}", summary(&event));
        event.course.peak.as_mut().unwrap().cause = Some(Arc::new(Cause {
            feature: "mean".into(),
            value: 84.2,
            normal: Some((61.25, 66.0)),
            share: 0.934,
        }));
        let cause = ": mean 84.2, usually 61.25 to 66 (93 % of the score)";
        assert!(
            summary(&event).ends_with(&format!("{since}{cause}")),
            "{}",
            summary(&event)
        );
    }

    #[test]
    fn the_summary_says_the_value_and_the_limit() {
        let of = |kind, breach: (f64, f64)| {
            let mut event = event(Stage::Opened, false, false);
            let (value, limit) = breach;
            let at = event.course.opened;
            event.course = Course {
                kind,
                peak: None,
                breach: Some(Breach { value, limit, at }),
                ..event.course
            };
            summary(&event)
        };
        let since = "since 1970-01-01T00:01:00Z: 3 windows";
        assert_eq!(
            of(IncidentKind::Range, (130.5, 125.0)),
            format!(
                "temp of pump-7 is out of its range {since}, 130.5 at 1970-01-01T00:01:00Z is above the limit of 125"
            )
        );
        assert!(
            of(IncidentKind::Range, (-41.0, -40.0))
                .ends_with("-41 at 1970-01-01T00:01:00Z is below the limit of -40")
        );
        assert_eq!(
            of(IncidentKind::Rate, (4.0, 20.0)),
            format!(
                "temp of pump-7 sends too few readings {since}, 4 readings at 1970-01-01T00:01:00Z, where fewer than 20 are \
                 too few"
            )
        );
        let stuck = Course {
            kind: IncidentKind::Stuck,
            peak: None,
            ..event(Stage::Opened, false, false).course
        };
        let stuck = Event {
            course: stuck,
            ..event(Stage::Opened, false, false)
        };
        assert_eq!(
            summary(&stuck),
            format!("temp of pump-7 repeats one value {since}")
        );
    }

    #[test]
    fn the_password_of_an_address_is_not_shown() {
        let manager =
            Alertmanager::new("http://u:secret@host:9093/am/", None, Duration::from_secs(60)).unwrap();
        assert_eq!(manager.shown, "http://host:9093");
        assert!(!format!("{manager:?}").contains("secret"));
        let error = Alertmanager::new("ftp://u:secret@host", None, Duration::from_secs(60)).unwrap_err();
        assert!(!error.to_string().contains("secret"), "{error}");
    }
}
