//! `windrow quarantine`: lists, shows and purges what was set aside.

mod list;
mod reasons;
mod show;

use clap::{Args, Subcommand};
use windrow_common::EventTime;
use windrow_producer::checkpoint::accounts;
use windrow_producer::quarantine::{Content, QuarantineReason, Stored, purge, read};
use windrow_store::StoreArg;

use crate::audit;
use crate::error::CliError;
use crate::output::OutputArg;
use crate::show as shown;
use list::Groups;
pub(crate) use reasons::Reasons;

#[derive(Subcommand, Debug)]
pub(crate) enum QuarantineCommand {
    /// List what was set aside, by source, partition, reason and kind
    List(ListArgs),
    /// Show what was set aside, record by record, or write its bytes as they came
    Show(show::ShowArgs),
    /// Delete records permanently
    Purge(PurgeArgs),
}

/// The options that select records.
#[derive(Args, Debug)]
struct Filter {
    /// Only what was read from this source: the --source-name of the run, by default the name of the file or folder
    #[arg(long, value_name = "NAME", env = "WINDROW_SOURCE_NAME")]
    source_name: Option<String>,
    /// Only what was read from this partition: a file's path in the folder, or a partition of the hub
    #[arg(long, value_name = "NAME", env = "WINDROW_PARTITION")]
    partition: Option<String>,
    /// Only what was set aside for this reason
    #[arg(long, value_enum, value_name = "REASON", env = "WINDROW_QUARANTINE_REASON")]
    reason: Option<QuarantineReason>,
    /// Only readings of this device; leaves out unreadable items, whose device is unknown
    #[arg(long, value_name = "DEVICE", env = "WINDROW_DEVICE")]
    device: Option<String>,
    /// Only what was set aside at or after this time, such as 2026-01-05T00:00:00Z
    #[arg(long, value_name = "TIME", env = "WINDROW_FROM")]
    from: Option<EventTime>,
    /// Only what was set aside before this time, such as 2026-01-06T00:00:00Z
    #[arg(long, value_name = "TIME", env = "WINDROW_TO")]
    to: Option<EventTime>,
}

#[derive(Args, Debug)]
#[command(after_help = "\
For late readings, it also prints the `windrow replay` command that scores their intervals again.
Example:
  windrow quarantine list --store ./store --reason unreadable")]
pub(crate) struct ListArgs {
    #[command(flatten)]
    store: StoreArg,
    #[command(flatten)]
    filter: Filter,
    #[command(flatten)]
    output: OutputArg,
}

#[derive(Args, Debug)]
#[command(after_help = "\
Run one purge per store at a time: two at once may each keep what the other deletes.
Example: delete what was late and has been replayed
  windrow quarantine purge --store ./store --reason late --source-name readings --yes")]
pub(crate) struct PurgeArgs {
    #[command(flatten)]
    store: StoreArg,
    #[command(flatten)]
    filter: Filter,
    /// Delete the records; without this option, only their number is shown
    #[arg(long, env = "WINDROW_YES")]
    yes: bool,
}

impl Filter {
    fn wants(&self, stored: &Stored) -> bool {
        let is = |wanted: &Option<String>, found: &str| wanted.as_ref().is_none_or(|wanted| wanted == found);
        let device = || match &stored.record.content {
            Content::Reading { sensor, .. } => Some(&*sensor.device),
            Content::Item { .. } => None,
        };
        is(&self.source_name, &stored.source)
            && is(&self.partition, &stored.partition)
            && self.reason.is_none_or(|reason| reason == stored.record.reason)
            && self
                .device
                .as_deref()
                .is_none_or(|wanted| device() == Some(wanted))
            && self.from.is_none_or(|from| stored.at >= from)
            && self.to.is_none_or(|to| stored.at < to)
    }

    fn is_empty(&self) -> bool {
        let names = [&self.source_name, &self.partition, &self.device];
        let times = [self.from, self.to];
        names.iter().all(|name| name.is_none())
            && times.iter().all(|time| time.is_none())
            && self.reason.is_none()
    }
}

impl QuarantineCommand {
    pub(crate) async fn run(self) -> Result<(), CliError> {
        match self {
            Self::List(args) => args.run().await,
            Self::Show(args) => args.run().await,
            Self::Purge(args) => args.run().await,
        }
    }
}

impl ListArgs {
    async fn run(self) -> Result<(), CliError> {
        let store = self.store.open()?;
        let mut groups = Groups::default();
        read(&store, self.filter.to, |stored| {
            if self.filter.wants(&stored) {
                groups.add(&stored);
            }
        })
        .await?;
        let accounts = accounts(&store).await?;
        groups.show(self.output.output, |source, span| {
            audit::replay(&accounts, source, span, store.url())
        })
    }
}

impl PurgeArgs {
    async fn run(self) -> Result<(), CliError> {
        let filter = &self.filter;
        if filter.is_empty() {
            return Err(CliError::Usage(
                "no filter given: choose what to delete with --source-name, --partition, --reason, --device, --from or --to; \
                 `windrow quarantine list` shows what there is"
                    .to_owned(),
            ));
        }
        let store = self.store.open()?;
        if !self.yes {
            let (mut records, mut readings) = (0, 0);
            read(&store, filter.to, |stored| {
                if filter.wants(&stored) {
                    records += 1;
                    readings += stored.record.readings;
                }
            })
            .await?;
            return shown::line(&format!(
                "would delete {} records with {} readings; --yes deletes them for good",
                shown::count(records),
                shown::count(readings)
            ));
        }
        let purged = purge(&store, |stored| filter.wants(stored)).await?;
        shown::line(&format!(
            "deleted {} records with {} readings",
            shown::count(purged.records),
            shown::count(purged.readings)
        ))
    }
}
