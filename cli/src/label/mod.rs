//! `windrow label`: records the findings of people who looked at an incident.

mod stored;

use clap::{Args, Subcommand};
use serde_json::{Value, json};
use windrow_common::{EventTime, Incident};
use windrow_store::{Store, StoreArg};

use crate::error::CliError;
use crate::output::{OutputArg, OutputFormat};
use crate::show;

pub(crate) use stored::{IncidentLabel, IncidentLabels, IncidentVerdict, KeptOut};

#[derive(Subcommand, Debug)]
pub(crate) enum LabelCommand {
    /// Label an incident; a second label takes the place of the first
    Add(AddArgs),
    /// List the labels
    List(ListArgs),
    /// Remove labels, as if nobody had looked at their incidents
    Remove(RemoveArgs),
}

#[derive(Args, Debug)]
#[command(after_help = "\
`windrow retrain` leaves the windows of incidents that are labelled true or maintenance out of training, and `windrow fleet
report` shows which part of the labelled incidents was true.
Example:
  windrow label add --store ./store pump-7/temp@1m/2026-01-05T10:15:00Z/anomaly true --note 'worn bearing'")]
pub(crate) struct AddArgs {
    #[command(flatten)]
    store: StoreArg,
    /// The incident's id, as `windrow incidents list` shows it; the long one of `--output json` is found sooner
    #[arg(value_name = "INCIDENT")]
    incident: String,
    /// What was found
    #[arg(value_enum, value_name = "VERDICT")]
    verdict: IncidentVerdict,
    /// Comment, shown in the list
    #[arg(long, value_name = "TEXT", env = "WINDROW_NOTE")]
    note: Option<String>,
    #[command(flatten)]
    output: OutputArg,
}

#[derive(Args, Debug)]
pub(crate) struct ListArgs {
    #[command(flatten)]
    store: StoreArg,
    #[command(flatten)]
    output: OutputArg,
}

#[derive(Args, Debug)]
pub(crate) struct RemoveArgs {
    #[command(flatten)]
    store: StoreArg,
    /// The ids of the incidents, as `windrow label list` shows them
    #[arg(required = true, value_name = "INCIDENT")]
    incidents: Vec<String>,
}

impl LabelCommand {
    pub(crate) async fn run(self) -> Result<(), CliError> {
        match self {
            Self::Add(args) => args.run().await,
            Self::List(args) => args.run().await,
            Self::Remove(args) => args.run().await,
        }
    }
}

impl AddArgs {
    async fn run(self) -> Result<(), CliError> {
        let store = self.store.open()?;
        let incident = incident(&store, &self.incident).await?;
        let label = IncidentLabel::of(&incident, self.verdict, self.note, EventTime::now());
        let add = |labels: &mut IncidentLabels| Ok(labels.labels.insert(incident.id(), label.clone()));
        let before = IncidentLabels::change(&store, add).await?;
        let before = before.map(|label| label.verdict.name());
        match self.output.output {
            OutputFormat::Json => {
                let mut added = in_json((&incident.id(), &label));
                added["before"] = json!(before);
                show::json(&added)
            }
            OutputFormat::Table => show::line(&format!(
                "{} is labelled {}{}",
                incident.id(),
                label.verdict.name(),
                before
                    .map(|before| format!(" (before: {before})"))
                    .unwrap_or_default()
            )),
        }
    }
}

/// Finds an incident in the table.
async fn incident(store: &Store, id: &str) -> Result<Incident, CliError> {
    let mut found = match opened(id) {
        Some(opened) => {
            let hour = store.incidents_of(opened).await?.incidents;
            hour.into_iter().filter(|incident| incident.id() == id).collect()
        }
        None if is_short(id) => {
            let mut all = store.incidents(None, None).await?;
            all.retain(|incident| incident.short_id() == id);
            all
        }
        None => {
            return Err(CliError::Usage(format!(
                "`{id}` is not the id of an incident; copy one from `windrow incidents list`"
            )));
        }
    };
    match found.len() {
        0 => Err(CliError::Usage(format!(
            "{} has no incident {id}: bring its incidents up to date with `windrow incidents update`, and copy the id from \
             `windrow incidents list`",
            store.url()
        ))),
        1 => Ok(found.remove(0)),
        _ => {
            let ids: Vec<_> = found.iter().map(Incident::id).collect();
            Err(CliError::Usage(format!(
                "{id} is the id of several incidents: say {}",
                ids.join(" or ")
            )))
        }
    }
}

/// Returns whether a text may be an incident's [short id](Incident::short_id).
fn is_short(id: &str) -> bool {
    id.len() == 8 && id.bytes().all(|digit| digit.is_ascii_hexdigit())
}

/// Returns when an incident opened, from its id: `SENSOR@LENGTH/OPENED/KIND`.
fn opened(id: &str) -> Option<EventTime> {
    let mut parts = id.rsplitn(3, '/');
    let (_kind, opened, of_sensor) = (parts.next()?, parts.next()?, parts.next()?);
    of_sensor.contains('@').then(|| opened.parse().ok())?
}

impl ListArgs {
    async fn run(self) -> Result<(), CliError> {
        let store = self.store.open()?;
        let mut labels = IncidentLabels::read(&store).await?;
        labels.catch_up(&store).await?;
        if self.output.output == OutputFormat::Json {
            return show::json(&labels.labels.iter().map(in_json).collect());
        }
        let row = |(id, label): (&String, &IncidentLabel)| {
            vec![
                id.clone(),
                label.verdict.name().to_owned(),
                match label.open {
                    true => "open".to_owned(),
                    false => label.to.to_string(),
                },
                label.labelled.to_string(),
                label.note.clone().unwrap_or_default(),
            ]
        };
        let headings = ["incident", "verdict", "to", "labelled", "note"];
        show::table(&headings, labels.labels.iter().map(row).collect())
    }
}

impl RemoveArgs {
    async fn run(self) -> Result<(), CliError> {
        let remove = |labels: &mut IncidentLabels| {
            for id in &self.incidents {
                if labels.labels.remove(id).is_none() {
                    return Err(CliError::Usage(format!(
                        "the incident {id} has no label; `windrow label list` shows those that have one"
                    )));
                }
            }
            Ok(())
        };
        IncidentLabels::change(&self.store.open()?, remove).await
    }
}

fn in_json((id, label): (&String, &IncidentLabel)) -> Value {
    json!({
        "incident": id, "device": &*label.sensor.device, "tag": &*label.sensor.tag, "kind": label.kind.name(),
        "verdict": label.verdict.name(), "from": label.from.to_string(), "to": label.to.to_string(),
        "open": label.open, "note": label.note, "labelled": label.labelled.to_string(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_of_an_incident_is_read_from_its_id() {
        let time = opened("pump-7/temp@1m/2026-01-05T10:15:00.250Z/anomaly").unwrap();
        assert_eq!(time.to_string(), "2026-01-05T10:15:00.250Z");
        for wrong in [
            "",
            "pump-7/temp",
            "pump-7/temp/2026-01-05T10:15:00Z/anomaly",
            "pump-7/temp@1m/10:15/anomaly",
        ] {
            assert_eq!(opened(wrong), None, "{wrong}");
        }
    }
}
