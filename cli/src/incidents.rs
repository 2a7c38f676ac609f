//! `windrow incidents`: finds and lists incidents in the predictions of a store.

use std::sync::Arc;
use std::time::Duration;

use clap::{Args, Subcommand};
use serde_json::json;
use windrow_alerter::args::RulesArgs;
use windrow_alerter::deliver::Receiver;
use windrow_alerter::{Alerter, WatchCounts, WatchOptions};
use windrow_common::{Breach, EventTime, Incident, IncidentKind, Peak, SensorId, format_duration};
use windrow_incidents::Rules;
use windrow_store::{Store, StoreArg};

use crate::error::CliError;
use crate::output::{OutputArg, OutputFormat};
use crate::show;

/// How often a run looks for new predictions.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// How long another run waits before it takes over from one that was killed.
const LEASE: Duration = Duration::from_secs(15);

#[derive(Subcommand, Debug)]
pub(crate) enum IncidentsCommand {
    /// Bring the incidents of a store up to date with its predictions, and notify the given receivers
    Update(Box<UpdateArgs>),
    /// List incidents: runs of anomalous windows, silent and stuck sensors, values out of range, lost rates
    List(ListArgs),
}

/// When windows become an incident, and who is told.
#[derive(Args, Debug)]
pub(crate) struct AlertArgs {
    #[command(flatten)]
    rules: RulesArgs,
    #[cfg(feature = "cluster")]
    #[command(flatten)]
    receivers: windrow_alerter::args::ReceiverArgs,
}

#[derive(Args, Debug)]
#[command(after_help = "\
Example: find the incidents in the predictions of a store
  windrow incidents update --store ./store")]
pub(crate) struct UpdateArgs {
    #[command(flatten)]
    store: StoreArg,
    #[command(flatten)]
    alerts: AlertArgs,
    #[command(flatten)]
    output: OutputArg,
}

#[derive(Args, Debug)]
#[command(after_help = "\
Example: what is open now
  windrow incidents list --store ./store --open")]
pub(crate) struct ListArgs {
    #[command(flatten)]
    store: StoreArg,
    /// Only incidents that are open
    #[arg(long, env = "WINDROW_OPEN")]
    open: bool,
    /// Only this kind: anomaly, silent, stuck, range or rate
    #[arg(long, value_name = "KIND", env = "WINDROW_KIND")]
    kind: Option<IncidentKind>,
    /// Only this sensor, as DEVICE/TAG; write a slash inside a name as %2F
    #[arg(long, value_name = "DEVICE/TAG", env = "WINDROW_SENSOR")]
    sensor: Option<SensorId>,
    /// Only incidents that opened at or after this time, such as 2026-01-05T00:00:00Z
    #[arg(long, value_name = "TIME", env = "WINDROW_FROM")]
    from: Option<EventTime>,
    /// Only incidents that opened before this time, such as 2026-01-06T00:00:00Z
    #[arg(long, value_name = "TIME", env = "WINDROW_TO")]
    to: Option<EventTime>,
    #[command(flatten)]
    output: OutputArg,
}

/// What bringing incidents up to date has found.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Found {
    pub(crate) counts: WatchCounts,
    /// Number of incidents that are open.
    pub(crate) open: usize,
}

impl IncidentsCommand {
    pub(crate) async fn run(self) -> Result<(), CliError> {
        match self {
            Self::Update(args) => args.run().await,
            Self::List(args) => args.run().await,
        }
    }
}

impl AlertArgs {
    /// Returns the rules, if they make sense.
    pub(crate) fn rules(&self) -> Result<Rules, CliError> {
        self.rules
            .rules()
            .map_err(|error| CliError::Usage(error.to_string()))
    }

    /// Returns the alerter of a store, if the options can be used.
    pub(crate) fn alerter(&self, store: &Store) -> Result<Alerter, CliError> {
        let usage = |error: &dyn std::fmt::Display| CliError::Usage(error.to_string());
        let rules = self.rules()?;
        let ranges = self.rules.ranges().map_err(|error| usage(&error))?;
        let receivers = self.receivers().map_err(|error| usage(&error))?;
        Ok(Alerter {
            store: store.clone(),
            watch: WatchOptions {
                rules,
                ranges,
                receivers: receivers
                    .iter()
                    .map(|receiver| receiver.name().to_owned())
                    .collect(),
                tell_within: self.rules.tell_within,
                ..WatchOptions::default()
            },
            receivers,
            every: LOOK_EVERY,
            lease: LEASE,
            stats: Arc::default(),
            outages: windrow_alerter::Outages::default(),
        })
    }

    #[cfg(feature = "cluster")]
    fn receivers(&self) -> Result<Vec<Box<dyn Receiver>>, Box<dyn std::error::Error + Send + Sync>> {
        self.receivers.receivers()
    }

    #[cfg(not(feature = "cluster"))]
    #[allow(clippy::unused_self, clippy::unnecessary_wraps)] // As with receivers.
    fn receivers(&self) -> Result<Vec<Box<dyn Receiver>>, std::convert::Infallible> {
        Ok(Vec::new())
    }
}

/// Brings the incidents of a store up to date.
pub(crate) async fn update(alerter: Alerter) -> Result<Found, CliError> {
    let (outages, names) = (alerter.outages.clone(), alerter.watch.receivers.clone());
    let (counts, open) = alerter.catch_up().await?;
    match outages.of_receivers() {
        Some(why) => Err(CliError::Partial(format!(
            "the incidents are in the store, and not all of {} was told: {why}; the next run tells the rest",
            names.join(" and ")
        ))),
        None => Ok(Found { counts, open }),
    }
}

impl Found {
    pub(crate) fn json(&self) -> serde_json::Value {
        json!({
            "opened": self.counts.opened, "open": self.open, "told": self.counts.events, "too_old_to_tell": self.counts.untold,
        })
    }

    /// Returns what it found, for people.
    pub(crate) fn text(&self) -> String {
        format!(
            "{} new, {} open now (windrow incidents list)",
            show::count(self.counts.opened),
            show::count(self.open as u64)
        )
    }
}

impl UpdateArgs {
    async fn run(self) -> Result<(), CliError> {
        let store = self.store.open()?;
        let found = update(self.alerts.alerter(&store)?).await?;
        match self.output.output {
            OutputFormat::Json => show::json(&found.json()),
            OutputFormat::Table => show::facts(&[
                ("windows", show::count(found.counts.windows)),
                ("incidents", found.text()),
            ]),
        }
    }
}

impl ListArgs {
    async fn run(self) -> Result<(), CliError> {
        let store = self.store.open()?;
        let mut incidents = store.incidents(self.from, self.to).await?;
        incidents.retain(|incident| self.wants(incident));
        incidents.sort_by(|a, b| (a.course.opened, &a.sensor).cmp(&(b.course.opened, &b.sensor)));
        match self.output.output {
            OutputFormat::Json => show::json(&incidents.iter().map(in_json).collect()),
            OutputFormat::Table => show::table(&COLUMNS, incidents.iter().map(in_table).collect()),
        }
    }

    fn wants(&self, incident: &Incident) -> bool {
        self.sensor
            .as_ref()
            .is_none_or(|sensor| *sensor == incident.sensor)
            && self.kind.is_none_or(|kind| kind == incident.course.kind)
            && (incident.course.closed.is_none() || !self.open)
    }
}

/// The headings of [`in_table`].
pub(crate) const COLUMNS: [&str; 11] = [
    "id",
    "opened",
    "sensor",
    "kind",
    "severity",
    "lasted",
    "windows",
    "peak score",
    "value",
    "limit",
    "cause",
];

/// Returns an incident as a row of a table for people.
pub(crate) fn in_table(incident: &Incident) -> Vec<String> {
    let course = &incident.course;
    let lasted = course.until.as_millis() - course.opened.as_millis();
    let lasted = Duration::from_millis(u64::try_from(lasted).unwrap_or_default());
    let number = |of: fn(&Breach) -> f64| course.breach.map(|breach| of(&breach).to_string());
    let number = |of| number(of).unwrap_or_default();
    vec![
        incident.short_id(),
        course.opened.to_string(),
        incident.sensor.to_string(),
        course.kind.to_string(),
        course.severity().to_string(),
        match course.closed {
            Some(_) => format_duration(lasted),
            None if course.muted_until.is_some() => "open, muted".to_owned(),
            None => "open".to_owned(),
        },
        show::count(course.windows),
        course.peak.as_ref().map(Peak::score_text).unwrap_or_default(),
        number(|breach| breach.value),
        number(|breach| breach.limit),
        course.cause().map(ToString::to_string).unwrap_or_default(),
    ]
}

fn in_json(incident: &Incident) -> serde_json::Value {
    let course = &incident.course;
    let time = |time: EventTime| time.to_string();
    let cause = course.cause();
    let normal = cause.and_then(|cause| cause.normal);
    json!({
        "id": incident.id(), "short_id": incident.short_id(), "device": &*incident.sensor.device, "tag": &*incident.sensor.tag,
        "window_ms": incident.window_length.as_millis(), "kind": course.kind.name(),
        "severity": course.severity().name(), "opened": time(course.opened), "noticed": time(course.noticed),
        "escalated": course.escalated.map(time), "until": time(course.until), "closed": course.closed.map(time),
        "windows": course.windows, "peak_score": course.peak.as_ref().map(|peak| peak.score),
        "peak_at": course.peak.as_ref().map(|peak| time(peak.at)),
        "value": course.breach.map(|breach| breach.value), "value_limit": course.breach.map(|breach| breach.limit),
        "value_at": course.breach.map(|breach| time(breach.at)), "muted_until": course.muted_until.map(time),
        "cause": cause.map(|cause| &*cause.feature), "cause_value": cause.map(|cause| cause.value),
        "cause_low": normal.map(|(low, _)| low), "cause_high": normal.map(|(_, high)| high),
        "cause_share": cause.map(|cause| cause.share),
    })
}
