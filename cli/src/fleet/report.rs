//! `windrow fleet report`: what became of the expected windows, and which sensors need attention.

use std::collections::BTreeMap;

use clap::{Args, ValueEnum};
use serde_json::{Value, json};
use windrow_common::{EventTime, Incident, IncidentKind, Length, SensorId};
use windrow_models::ModelRepository;
use windrow_store::StoreArg;

use super::accounting::{Account, Accounting};
use super::attention::{BudgetKept, LoudModel, drifting, loud_models};
use super::incidents::Incidents;
use super::labelled::Labelled;
use super::level::Drift;
use super::spending::Spending;
use crate::budget::{Budget, Promise};
use crate::error::CliError;
use crate::label::IncidentLabels;
use crate::output::{OutputArg, OutputFormat};
use crate::show;

#[derive(Args, Debug)]
#[command(after_help = "\
expected = scored + stuck + silent + no model + unscored + quarantined + unexplained
Example: what became of the windows of each hour of a day
  windrow fleet report --store ./store --from 2026-01-05T00:00:00Z --to 2026-01-06T00:00:00Z --by hour")]
pub(crate) struct ReportArgs {
    #[command(flatten)]
    store: StoreArg,
    /// Only windows and incidents of the hours from this time on, such as 2026-01-05T00:00:00Z
    #[arg(long, value_name = "TIME", env = "WINDROW_FROM")]
    from: Option<EventTime>,
    /// Only windows and incidents of the hours before this time, such as 2026-01-06T00:00:00Z
    #[arg(long, value_name = "TIME", env = "WINDROW_TO")]
    to: Option<EventTime>,
    /// Length of the stretches that are accounted for
    #[arg(long, value_enum, default_value = "day", env = "WINDROW_BY")]
    by: Step,
    /// Most sensors to list under each heading
    #[arg(long, value_name = "N", default_value_t = 10, env = "WINDROW_MOST_SENSORS")]
    most_sensors: usize,
    /// The budget to judge by, such as '1 per sensor-month' [default: what `windrow retrain --budget` has promised last]
    #[arg(long, value_name = "RATE", env = "WINDROW_BUDGET")]
    budget: Option<Budget>,
    #[command(flatten)]
    output: OutputArg,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Step {
    /// An hour.
    Hour,
    /// A day, in UTC.
    Day,
}

/// What a report is made of. A section is a function of it, once as a table and once as JSON.
pub(super) struct Findings<'a> {
    accounting: Accounting<'a>,
    pub(super) incidents: &'a Incidents,
    labelled: BTreeMap<IncidentKind, Labelled>,
    pub(super) budget: Option<BudgetKept>,
    pub(super) drifting: Vec<(SensorId, Drift)>,
    pub(super) loud: Vec<LoudModel>,
    pub(super) most: usize,
}

impl ReportArgs {
    pub(super) async fn run(self) -> Result<(), CliError> {
        if self.from.is_some_and(|from| self.to.is_some_and(|to| to <= from)) {
            return Err(CliError::Usage("--to is not after --from".to_owned()));
        }
        let store = self.store.open()?;
        let all = store.incidents(None, self.to).await?;
        let labels = IncidentLabels::read(&store).await?;
        let labelled = Labelled::by_kind(&all, &labels, (self.from, self.to));
        let spending = Spending::of(&all, &labels, (self.from, self.to));
        let incidents = Incidents::of(all, self.from);
        let step = match self.by {
            Step::Hour => Length::HOUR,
            Step::Day => Length::DAY,
        };
        let mut accounting = Accounting::of(&store, &incidents, (self.from, self.to), step).await?;
        let promise = Promise::read(&store).await?;
        let models = ModelRepository::new(store.clone());
        let findings = Findings {
            budget: BudgetKept::of(self.budget, promise, spending, accounting.sensors()),
            loud: loud_models(&models, accounting.sensors(), self.most_sensors).await?,
            drifting: drifting(accounting.sensors_mut()),
            accounting,
            incidents: &incidents,
            labelled,
            most: self.most_sensors,
        };
        match self.output.output {
            OutputFormat::Json => show::json(&findings.json()),
            OutputFormat::Table => findings.show(self.by),
        }
    }
}

impl Findings<'_> {
    /// Writes the sections, in the order in which people ask.
    fn show(&self, by: Step) -> Result<(), CliError> {
        self.show_accounts(by)?;
        self.show_days()?;
        self.show_labelled()?;
        self.show_noisiest()?;
        self.show_attention()?;
        self.show_open()?;
        self.show_without_model()
    }

    /// Returns the same sections as JSON.
    fn json(&self) -> Value {
        let account = |(at, account): (&EventTime, &Account)| {
            let mut line = json!(account);
            line["from"] = json!(at.to_string());
            line
        };
        let kinds = |kinds: &dyn Fn(IncidentKind) -> u64| -> Value {
            IncidentKind::ALL
                .into_iter()
                .map(|kind| (kind.name().to_owned(), json!(kinds(kind))))
                .collect::<serde_json::Map<_, _>>()
                .into()
        };
        let days = self.incidents.days.iter().map(|(day, counts)| {
            let mut line = kinds(&|kind| counts.get(&kind).copied().unwrap_or(0));
            line["day"] = json!(date(*day));
            line
        });
        let open = self.incidents.open.iter().map(|incident| {
            let course = &incident.course;
            json!({ "sensor": incident.sensor.to_string(), "kind": course.kind.name(), "opened": course.opened.to_string() })
        });
        let noisiest = self.incidents.noisiest(self.most);
        let noisiest = noisiest
            .iter()
            .map(|(sensor, count)| json!({ "sensor": sensor.to_string(), "anomalies": count }));
        let labelled = self.labelled.iter().map(|(kind, counts)| {
            let mut line = json!(counts);
            line["kind"] = json!(kind.name());
            line["precision"] = json!(counts.precision());
            line
        });
        let without = self.accounting.without_model();
        let mut report = json!({
            "sensors": self.accounting.sensors().len(),
            "windows": self.accounting.lines.iter().map(account).collect::<Vec<_>>(),
            "incidents": days.collect::<Vec<_>>(),
            "labelled": labelled.collect::<Vec<_>>(),
            "noisiest": noisiest.collect::<Vec<_>>(),
            "open": open.collect::<Vec<_>>(),
            "without_model": without.iter().map(ToString::to_string).collect::<Vec<_>>(),
        });
        self.add_attention(&mut report);
        report
    }

    fn show_accounts(&self, by: Step) -> Result<(), CliError> {
        let sensors = show::count(self.accounting.sensors().len() as u64);
        show::line(&format!("Windows of {sensors} sensors"))?;
        let headings = [
            match by {
                Step::Hour => "hour",
                Step::Day => "day",
            },
            "expected",
            "scored",
            "stuck",
            "silent",
            "no model",
            "unscored",
            "quarantined",
            "unexplained",
            "quarantined readings",
        ];
        let rows = self.accounting.lines.iter().map(|(at, account)| {
            let name = match by {
                Step::Hour => at.to_string(),
                Step::Day => date(*at),
            };
            let counts = [
                account.expected,
                account.scored,
                account.stuck,
                account.silent,
                account.no_model,
                account.unscored,
                account.quarantined,
                account.unexplained,
                account.quarantined_readings,
            ];
            std::iter::once(name).chain(counts.map(show::count)).collect()
        });
        show::table(&headings, rows.collect())
    }

    fn show_days(&self) -> Result<(), CliError> {
        show::line("\nIncidents that opened")?;
        let headings = std::iter::once("day").chain(IncidentKind::ALL.map(IncidentKind::name));
        let headings: Vec<_> = headings.collect();
        let rows = self.incidents.days.iter().map(|(day, counts)| {
            let counts = IncidentKind::ALL.map(|kind| counts.get(&kind).copied().unwrap_or(0));
            std::iter::once(date(*day))
                .chain(counts.map(show::count))
                .collect()
        });
        show::table(&headings, rows.collect())
    }

    fn show_labelled(&self) -> Result<(), CliError> {
        let all = Labelled::sum(self.labelled.values());
        if !all.any_label() {
            return Ok(());
        }
        show::line("\nLabelled incidents")?;
        let headings = [
            "kind",
            "true",
            "false",
            "maintenance",
            "unlabelled",
            "withdrawn",
            "precision",
        ];
        let row = |name: &str, counts: &Labelled| {
            let precision = counts.precision();
            let counts = [
                counts.right,
                counts.wrong,
                counts.maintenance,
                counts.unlabelled,
                counts.withdrawn,
            ];
            let precision = precision.map(|precision| format!("{:.1} %", precision * 100.0));
            std::iter::once(name.to_owned())
                .chain(counts.map(show::count))
                .chain([precision.unwrap_or_default()])
                .collect()
        };
        let kinds = self
            .labelled
            .iter()
            .map(|(kind, counts)| row(kind.name(), counts));
        show::table(&headings, kinds.chain([row("all", &all)]).collect())
    }

    fn show_noisiest(&self) -> Result<(), CliError> {
        let noisiest = self.incidents.noisiest(self.most);
        if noisiest.is_empty() {
            return Ok(());
        }
        show::line("\nSensors with the most anomalies")?;
        let rows = noisiest
            .iter()
            .map(|(sensor, count)| vec![sensor.to_string(), show::count(*count)]);
        show::table(&["sensor", "incidents"], rows.collect())
    }

    fn show_open(&self) -> Result<(), CliError> {
        let of = |kind: IncidentKind| -> Vec<&Incident> {
            let open = self.incidents.open.iter();
            open.filter(|incident| incident.course.kind == kind).collect()
        };
        let kinds = IncidentKind::ALL.map(|kind| (kind, of(kind)));
        show::line("\nOpen now")?;
        let rows = kinds
            .iter()
            .filter(|(_, open)| !open.is_empty())
            .map(|(kind, open)| {
                let names = open.iter().map(|incident| incident.sensor.to_string());
                vec![kind.to_string(), show::count(open.len() as u64), self.few(names)]
            });
        show::table(&["kind", "incidents", "sensors"], rows.collect())
    }

    fn show_without_model(&self) -> Result<(), CliError> {
        let without = self.accounting.without_model();
        if without.is_empty() {
            return Ok(());
        }
        let (number, names) = (without.len(), without.iter().map(ToString::to_string));
        show::line(&format!(
            "\n{} sensors have windows and no model, and are in none of the incidents: {}",
            show::count(number as u64),
            self.few(names)
        ))
    }

    /// Returns the first of many names.
    fn few(&self, names: impl ExactSizeIterator<Item = String>) -> String {
        let more = names.len().saturating_sub(self.most);
        let mut text = names.take(self.most).collect::<Vec<_>>().join(", ");
        if more > 0 {
            text.push_str(&format!(" and {} more", show::count(more as u64)));
        }
        text
    }
}

pub(super) fn date(day: EventTime) -> String {
    day.to_string().chars().take(10).collect()
}
