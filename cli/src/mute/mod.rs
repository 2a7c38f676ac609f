//! `windrow mute`: mutes sensors during maintenance.

mod calendar;

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};
use serde_json::json;
use windrow_alerter::mutes::{Mute, MutesError, StoredMutes, Stretch};
use windrow_common::{EventTime, SensorPattern, parse_duration, random};
use windrow_store::StoreArg;

use crate::error::CliError;
use crate::output::{OutputArg, OutputFormat};
use crate::show;

#[derive(Subcommand, Debug)]
pub(crate) enum MuteCommand {
    /// Mute sensors for a time, or for good if they are taken out of service
    Add(AddArgs),
    /// List the mutes that are not over
    List(ListArgs),
    /// Remove mutes, so that their sensors are heard of again
    Remove(RemoveArgs),
    /// Read maintenance from an iCalendar file, in place of what was read from that calendar before
    Import(ImportArgs),
}

#[derive(Args, Debug)]
#[command(after_help = "\
Incidents that begin in this time are in the table, and nobody is told. Those that are open at its end are announced then.
Examples:
  windrow mute add --store ./store 'pump-7/*' --for 4h --reason 'new bearings'
  windrow mute add --store ./store pump-7/temp --retired --reason 'taken out in May'")]
pub(crate) struct AddArgs {
    #[command(flatten)]
    store: StoreArg,
    /// The sensors, as DEVICE/TAG; * stands for any text in a name; write a slash inside a name as %2F
    #[arg(required = true, value_name = "DEVICE/TAG")]
    sensors: Vec<SensorPattern>,
    /// When it begins, such as 2026-01-05T08:00:00Z; now if it is not given
    #[arg(long, value_name = "TIME", env = "WINDROW_FROM")]
    from: Option<EventTime>,
    /// When it ends, such as 2026-01-05T12:00:00Z
    #[arg(long, value_name = "TIME", env = "WINDROW_TO", conflicts_with_all = ["for_", "retired"])]
    to: Option<EventTime>,
    /// How long it lasts
    #[arg(long = "for", value_name = "DURATION", env = "WINDROW_FOR", value_parser = parse_duration, conflicts_with = "retired")]
    for_: Option<Duration>,
    /// Take the sensors out of service: they do not count as silent from then on, and their open incidents close
    #[arg(long, env = "WINDROW_RETIRED")]
    retired: bool,
    /// Reason, shown in the list
    #[arg(long, value_name = "TEXT", env = "WINDROW_REASON_TEXT")]
    reason: String,
    #[command(flatten)]
    output: OutputArg,
}

#[derive(Args, Debug)]
pub(crate) struct ListArgs {
    #[command(flatten)]
    store: StoreArg,
    /// List those that are over, too
    #[arg(long, env = "WINDROW_ALL")]
    all: bool,
    #[command(flatten)]
    output: OutputArg,
}

#[derive(Args, Debug)]
pub(crate) struct RemoveArgs {
    #[command(flatten)]
    store: StoreArg,
    /// The mutes, as `windrow mute list` names them
    #[arg(required = true, value_name = "ID")]
    ids: Vec<String>,
}

#[derive(Args, Debug)]
#[command(after_help = "\
The sensors of an event are the words with a slash in its CATEGORIES; if there are none, in its LOCATION; if there are none
either, in its SUMMARY: pump-7/*, or pump-7/temp pump-8/temp. Times need a zone, and recurring events keep their local time when
clocks change.
Example:
  windrow mute import --store ./store maintenance.ics")]
pub(crate) struct ImportArgs {
    #[command(flatten)]
    store: StoreArg,
    /// The file
    file: PathBuf,
    /// Name of the calendar; that of the file if it is not given
    #[arg(long, value_name = "NAME", env = "WINDROW_CALENDAR")]
    name: Option<String>,
    /// How far into the future recurring events are read; import the file again before this is over
    #[arg(long = "for", value_name = "DURATION", default_value = "366d", env = "WINDROW_MUTE_HORIZON", value_parser = parse_duration)]
    for_: Duration,
    #[command(flatten)]
    output: OutputArg,
}

impl MuteCommand {
    pub(crate) async fn run(self) -> Result<(), CliError> {
        match self {
            Self::Add(args) => args.run().await,
            Self::List(args) => args.run().await,
            Self::Remove(args) => args.run().await,
            Self::Import(args) => args.run().await,
        }
    }
}

impl From<MutesError> for CliError {
    fn from(error: MutesError) -> Self {
        match error {
            MutesError::Refused(why) => Self::Usage(why),
            MutesError::Store(error) => Self::Store(error),
        }
    }
}

impl AddArgs {
    async fn run(self) -> Result<(), CliError> {
        let now = EventTime::now();
        let from = self.from.unwrap_or(now);
        let to = self.to.or(self.for_.map(|lasts| from.saturating_add(lasts)));
        if to.is_none() && !self.retired {
            return Err(CliError::Usage(
                "give the end with --to or --for, or --retired for sensors that are taken out of service"
                    .to_owned(),
            ));
        }
        if to.is_some_and(|to| to <= from) {
            return Err(CliError::Usage("--to is not after --from".to_owned()));
        }
        let mute = Mute {
            id: format!("{:016x}", random())[..8].to_owned(),
            sensors: self.sensors,
            times: vec![Stretch { from, to }],
            retired: self.retired,
            reason: self.reason,
            added: now,
            calendar: None,
        };
        let store = self.store.open()?;
        let add = |mutes: &mut windrow_alerter::mutes::Mutes| {
            mutes.mutes.push(mute.clone());
            Ok(())
        };
        StoredMutes::change(&store, add).await?;
        match self.output.output {
            OutputFormat::Json => show::json(&json!(mute)),
            OutputFormat::Table => show::line(&mute.id),
        }
    }
}

impl ListArgs {
    async fn run(self) -> Result<(), CliError> {
        let now = EventTime::now();
        let mut mutes = StoredMutes::read(&self.store.open()?).await?.mutes.mutes;
        let is_over = |mute: &Mute| {
            mute.times
                .iter()
                .all(|stretch| stretch.to.is_some_and(|to| to <= now))
        };
        mutes.retain(|mute| self.all || !is_over(mute));
        if self.output.output == OutputFormat::Json {
            return show::json(&json!(mutes));
        }
        let row = |mute: &Mute| {
            let next = mute
                .times
                .iter()
                .find(|stretch| stretch.to.is_none_or(|to| to > now));
            let next = next.or(mute.times.last());
            let sensors: Vec<_> = mute.sensors.iter().map(ToString::to_string).collect();
            let known = mute.calendar.as_ref().and_then(|of| of.known_until);
            vec![
                mute.id.clone(),
                sensors.join(" "),
                next.map(|stretch| stretch.from.to_string()).unwrap_or_default(),
                match next.map(|stretch| stretch.to) {
                    Some(None) => "retired".to_owned(),
                    Some(Some(to)) => to.to_string(),
                    None => String::new(),
                },
                show::count(mute.times.len() as u64),
                known.map(|until| until.to_string()).unwrap_or_default(),
                mute.reason.clone(),
            ]
        };
        let headings = ["id", "sensors", "from", "to", "times", "known until", "reason"];
        show::table(&headings, mutes.iter().map(row).collect())
    }
}

impl RemoveArgs {
    async fn run(self) -> Result<(), CliError> {
        let remove = |mutes: &mut windrow_alerter::mutes::Mutes| {
            for id in &self.ids {
                if !mutes.mutes.iter().any(|mute| mute.id == *id) {
                    return Err(format!(
                        "no mute is named {id}; `windrow mute list --all` shows them"
                    ));
                }
            }
            mutes.mutes.retain(|mute| !self.ids.contains(&mute.id));
            Ok(())
        };
        StoredMutes::change(&self.store.open()?, remove).await?;
        Ok(())
    }
}

impl ImportArgs {
    async fn run(self) -> Result<(), CliError> {
        let now = EventTime::now();
        let stem = self
            .file
            .file_stem()
            .map(|name| name.to_string_lossy().into_owned());
        let name = self
            .name
            .clone()
            .or(stem)
            .unwrap_or_else(|| "calendar".to_owned());
        let wrong = |why: String| CliError::Usage(format!("cannot import {}: {why}", self.file.display()));
        let text = calendar::text(&self.file).map_err(wrong)?;
        let read = calendar::read(&text, &name, now, now.saturating_add(self.for_)).map_err(wrong)?;
        for event in &read.skipped {
            tracing::warn!(
                event,
                "skipped: it names no sensors; write DEVICE/TAG into its CATEGORIES"
            );
        }
        let store = self.store.open()?;
        let replace = |mutes: &mut windrow_alerter::mutes::Mutes| {
            let is_of = |mute: &Mute| mute.calendar.as_ref().is_some_and(|of| of.calendar == name);
            let before = mutes.mutes.len();
            mutes.mutes.retain(|mute| !is_of(mute));
            let removed = before - mutes.mutes.len();
            mutes.mutes.extend(read.mutes.iter().cloned());
            Ok(removed)
        };
        let removed = StoredMutes::change(&store, replace).await?;
        let counts = [
            ("events", read.mutes.len()),
            ("times", read.mutes.iter().map(|mute| mute.times.len()).sum()),
            ("replaced", removed),
            ("skipped", read.skipped.len()),
        ];
        match self.output.output {
            OutputFormat::Json => {
                let counts = counts.map(|(name, count)| (name.to_owned(), json!(count)));
                show::json(&serde_json::Value::Object(counts.into_iter().collect()))
            }
            OutputFormat::Table => {
                show::facts(&counts.map(|(name, count)| (name, show::count(count as u64))))
            }
        }
    }
}
