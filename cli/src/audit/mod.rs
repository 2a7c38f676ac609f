//! `windrow audit`: read = in windows + quarantined, and dispatched = predicted + dead-lettered, window by window.

mod groups;
mod readings;
mod reconcile;
mod tally;
mod waiting;
mod way_back;

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::time::Duration;

use clap::Args;
use serde::Serialize;
use windrow_common::{EventTime, Length};
use windrow_grouper::State as GrouperState;
use windrow_producer::checkpoint::{Account, accounts};
use windrow_producer::quarantine;
use windrow_queue::{DeadLetter, StoredDeadLetters};
use windrow_store::{DispatchedWindow, Hour, Store, StoreArg};

use crate::broker::{Broker, WatchArgs};
use crate::error::CliError;
use crate::output::{OutputArg, OutputFormat};
use crate::quarantine::Reasons;
use crate::show;

use groups::GroupAudit;
pub(crate) use groups::GroupTally;
use readings::{SourceReadings, Tables, account};
use reconcile::{DeadWindows, Findings, leave_out, reconcile};
use tally::Tally;
use waiting::Missing;
pub(crate) use waiting::{Outcome, Waiting};
pub(crate) use way_back::replay;
use way_back::ways_back;

/// How long to wait for RabbitMQ's next figures: they are taken every five seconds.
const NEXT_SAMPLE: Duration = Duration::from_secs(6);

#[derive(Args, Debug)]
#[command(after_help = "\
Exit code 3: the audit failed, because readings or windows are lost or the tables contradict each other.
Exit code 5: windows have no prediction yet, but waiting messages may hold all of them, or the grouper is not done
with them; run the audit again.
With --amqp-url or --amqp-url-file, the audit counts the dead letters in RabbitMQ and what waits there.
Example:
  windrow audit --store ./store")]
pub(crate) struct AuditArgs {
    #[command(flatten)]
    store: StoreArg,
    /// Only windows that start at or after this time, such as 2026-01-05T00:00:00Z
    #[arg(long, value_name = "TIME", env = "WINDROW_FROM")]
    from: Option<EventTime>,
    /// Only windows that start before this time, such as 2026-01-06T00:00:00Z
    #[arg(long, value_name = "TIME", env = "WINDROW_TO")]
    to: Option<EventTime>,
    #[command(flatten)]
    broker: WatchArgs,
    #[command(flatten)]
    output: OutputArg,
}

/// The result of an audit.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Audit {
    /// The totals.
    pub(crate) all: Tally,
    /// The counts of each hour, by `date=…/hour=…`.
    pub(crate) hours: BTreeMap<String, Tally>,
    /// The first windows of each kind of finding.
    #[serde(flatten)]
    pub(crate) findings: Findings,
    /// The windows of several tags together; absent if no grouper has begun.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) groups: Option<GroupTally>,
    /// Where the readings of each source are; empty if the audit is about a stretch of time.
    pub(crate) sources: BTreeMap<String, SourceReadings>,
    /// What waits in RabbitMQ; absent if no broker was named.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) waiting: Option<Waiting>,
    /// The readings in quarantine, whenever they were set aside.
    #[serde(skip)]
    pub(crate) quarantined: Reasons,
    /// For each kind of contradiction, its likely cause and what to do.
    pub(crate) explanations: Vec<String>,
    /// The commands that score the windows without a prediction once more.
    pub(crate) get_back: Vec<String>,
}

impl AuditArgs {
    pub(crate) async fn run(self) -> Result<(), CliError> {
        let store = self.store.open()?;
        let broker = self.broker.broker("windrow audit")?;
        let scope = Scope::begin(&store, self.from, self.to).await?;
        let mut audit = self.look(&scope, broker.as_ref()).await?;
        let is_stale = audit.waiting.as_ref().is_some_and(|waiting| waiting.sampled);
        if is_stale && matches!(audit.outcome(), Outcome::Failed(_)) && audit.missing() > 0 {
            // A worker may have received the messages after RabbitMQ took its figures, so look once more.
            tokio::time::sleep(NEXT_SAMPLE).await;
            audit = self.look(&scope, broker.as_ref()).await?;
        }
        if let Some(broker) = broker {
            broker.close().await;
        }
        if !matches!(audit.outcome(), Outcome::Failed(_)) {
            // Waiting messages are scored anyway; a replay would score them twice.
            audit.get_back.clear();
        }
        if self.output.output == OutputFormat::Json {
            let mut value = serde_json::to_value(&audit).unwrap_or_default();
            value["quarantined"] = audit.quarantined.json();
            show::json(&value)?;
        } else {
            show_table(&audit)?;
            show::line(&audit.quarantined.line())?;
        }
        audit.outcome().into_result()
    }

    /// Audits `scope`, with what a broker holds at the moment.
    async fn look(&self, scope: &Scope<'_>, broker: Option<&Broker>) -> Result<Audit, CliError> {
        // Count the waiting messages first, then read the results: a message settled in between is then found among the
        // results.
        let waiting = match broker {
            Some(broker) => Some(self.broker.waiting(broker).await?),
            None => None,
        };
        let mut dead = StoredDeadLetters::of(scope.store).list().await?;
        if let Some(broker) = broker {
            dead.extend(broker.dead_letters().await?);
        }
        let mut audit = scope.audit(&dead).await?;
        audit.waiting = waiting;
        Ok(audit)
    }
}

impl Audit {
    /// Returns the number of windows of which the prediction, or a prediction of all readings, is missing.
    fn missing(&self) -> u64 {
        self.all.missing() + self.groups.map_or(0, |groups| groups.missing())
    }

    /// Judges what was found.
    pub(crate) fn outcome(&self) -> Outcome {
        let (windows, messages) = (self.missing(), self.findings.missing.messages());
        let pending = self.groups.map_or(0, |groups| groups.pending);
        let outcome = waiting::judge(windows, messages, self.waiting.as_ref());
        let faults: Vec<_> = self.sources.values().flat_map(|source| &source.faults).collect();
        let contradicts = self.all.contradicts() || !faults.is_empty();
        let why = match &outcome {
            Outcome::Clean if !contradicts && pending > 0 => {
                return Outcome::Unfinished(format!(
                    "the audit is not finished: {} windows of several tags together have no prediction of all their readings, \
                     and the grouper is not done with them; audit again later, or restart windrow-grouper (or `windrow \
                     run`), which asks for them again",
                    show::count(pending)
                ));
            }
            Outcome::Clean if !contradicts => return Outcome::Clean,
            Outcome::Clean => None,
            Outcome::Unfinished(why) | Outcome::Failed(why) => Some(why),
        };
        let mut text = self.all.verdict();
        for more in why.into_iter().chain(&self.explanations).chain(faults) {
            text += &format!("; {more}");
        }
        if let Outcome::Unfinished(_) = outcome
            && !contradicts
        {
            return Outcome::Unfinished(format!("the audit is not finished: {text}"));
        }
        if let Some(command) = self.get_back.first() {
            text += &format!("; to recover them: {command}");
        }
        Outcome::Failed(format!("the audit failed: {text}"))
    }
}

fn show_sources(sources: &BTreeMap<String, SourceReadings>) -> Result<(), CliError> {
    if sources.is_empty() {
        return Ok(());
    }
    let rows = sources.iter().map(|(name, readings)| {
        let counts = [
            readings.all.read,
            readings.all.windowed,
            readings.all.quarantined,
            readings.dispatched,
            readings.open,
        ];
        std::iter::once(name.clone())
            .chain(counts.map(show::count))
            .collect()
    });
    let headings = [
        "source",
        "read",
        "in windows",
        "quarantined",
        "dispatched",
        "in open windows",
    ];
    show::table(&headings, rows.collect())?;
    for note in sources.values().flat_map(|readings| &readings.notes) {
        show::line(note)?;
    }
    Ok(())
}

fn show_table(audit: &Audit) -> Result<(), CliError> {
    show_sources(&audit.sources)?;
    let row = |name: &str, tally: &Tally| {
        let counts = [
            tally.dispatched,
            tally.predicted,
            tally.dead_lettered,
            tally.lost,
            tally.unexpected,
            tally.differing(),
            tally.superseded,
            tally.repeats,
        ];
        std::iter::once(name.to_owned())
            .chain(counts.map(show::count))
            .collect::<Vec<_>>()
    };
    let mut rows: Vec<_> = audit.hours.iter().map(|(hour, tally)| row(hour, tally)).collect();
    rows.push(row("all", &audit.all));
    let headings = [
        "hour",
        "dispatched",
        "predicted",
        "dead letters",
        "lost",
        "never dispatched",
        "differing",
        "superseded",
        "duplicates",
    ];
    show::table(&headings, rows)?;
    let missing = match audit.outcome() {
        Outcome::Failed(_) => "lost",
        _ => "no prediction yet",
    };
    for (kind, windows) in [
        (missing, &audit.findings.lost),
        ("differing", &audit.findings.differing),
    ] {
        for window in windows {
            show::line(&format!("{kind}: {window}"))?;
        }
    }
    for command in &audit.get_back {
        show::line(&format!("to recover them: {command}"))?;
    }
    if let Some(waiting) = audit.waiting.as_ref().filter(|waiting| waiting.messages() > 0) {
        show::line(&format!("waiting: {}", waiting.text()))?;
    }
    if let Some(groups) = audit.groups {
        show::line(&groups.line())?;
    }
    show::line(&audit.all.verdict())
}

/// The scope of an audit: the windows dispatched before it began.
pub(crate) struct Scope<'a> {
    store: &'a Store,
    from: Option<EventTime>,
    to: Option<EventTime>,
    /// What the checkpoints said when the audit began. The tables are written first, so they may only be ahead.
    accounts: Vec<Account>,
    /// The hours of `dispatched/` when the audit began.
    dispatched: BTreeMap<String, Hour>,
    /// What the grouper had asked for when the audit began; `None` if the store has had no grouper.
    grouper: Option<GrouperState>,
}

impl<'a> Scope<'a> {
    /// Begins an audit of the windows that start from `from` to `to` (exclusive).
    pub(crate) async fn begin(
        store: &'a Store,
        from: Option<EventTime>,
        to: Option<EventTime>,
    ) -> Result<Self, CliError> {
        let accounts = accounts(store).await?;
        let hours = store.hours("dispatched", from, to).await?;
        Ok(Self {
            store,
            from,
            to,
            accounts,
            dispatched: by_name(hours),
            grouper: GrouperState::load(store).await?,
        })
    }

    /// Reconciles the dispatched windows with the predictions and with the dead letters.
    pub(crate) async fn audit(&self, dead: &[DeadLetter]) -> Result<Audit, CliError> {
        let mut groups = match &self.grouper {
            Some(progress) => Some(GroupAudit::begin(self.store, progress, dead).await?),
            None => None,
        };
        let dead = DeadWindows::of(dead);
        let context = groups.as_ref().map(GroupAudit::context).unwrap_or_default();
        let from = self.from.map(|from| from.saturating_sub(context));
        let mut predicted = by_name(self.store.hours("predictions", from, self.to).await?);
        // Listed once more after the predictions, so that each prediction has its dispatched window.
        let mut now = by_name(self.store.hours("dispatched", self.from, self.to).await?);
        let names: BTreeSet<_> = now.keys().chain(predicted.keys()).cloned().collect();
        let mut audit = Audit::default();
        audit.findings.missing = Missing::new(self.accounts.iter().map(|account| account.interval).max());
        let mut tables = Tables::default();
        for name in names {
            let mut tally = Tally::default();
            let mut right = Vec::new();
            if let Some(hour) = predicted.remove(&name) {
                let read = self.store.predictions(&hour).await?;
                right = read.rows;
                if let Some(groups) = &mut groups {
                    let covered = |start| self.covers(start);
                    groups.take(&hour, &right, covered, &mut audit.findings).await?;
                }
                if self.is_before(&hour) {
                    continue;
                }
                (tally.conflicting, tally.superseded, tally.repeats) =
                    (read.conflicts, read.superseded, read.repeats);
                right.retain(|row| self.covers(row.aggregate.window_start) && !row.sensor.is_group());
            }
            let (mut left, later) = self.dispatched(&name, now.remove(&name), &mut tables).await?;
            if !later.is_empty() {
                leave_out(&later, &mut left, &mut right);
            }
            reconcile(&left, &right, &dead, &mut tally, &mut audit.findings);
            audit.all.add(&tally);
            audit.hours.insert(name, tally);
        }
        audit.explanations = audit.all.explanations();
        audit.groups = groups.map(GroupAudit::finish);
        audit.get_back = ways_back(&audit.findings.missing, &self.accounts, self.store.url());
        audit
            .get_back
            .extend(audit.groups.and_then(|groups| groups.way_back()));
        tables.quarantine = quarantine::count(self.store).await?;
        audit.quarantined = Reasons(tables.quarantine.reasons.clone());
        if self.from.is_none() && self.to.is_none() {
            audit.sources = account(&self.accounts, &tables);
        }
        Ok(audit)
    }

    /// Returns the windows of an hour that were dispatched before the audit began, and those that were dispatched, or
    /// corrected, since then.
    async fn dispatched(
        &self,
        name: &str,
        now: Option<Hour>,
        tables: &mut Tables,
    ) -> Result<(Vec<DispatchedWindow>, Vec<DispatchedWindow>), CliError> {
        let Some(now) = now else {
            return Ok((Vec::new(), Vec::new()));
        };
        let read = self.store.dispatched(&now).await?;
        tables.add_dispatched(name, read.readings);
        let mut windows = read.windows;
        windows.retain(|window| self.covers(window.window_start));
        if self.dispatched.get(name) == Some(&now) {
            return Ok((windows, Vec::new()));
        }
        let before = match self.dispatched.get(name) {
            Some(hour) => self.store.dispatched(hour).await?.windows,
            None => Vec::new(),
        };
        let before: HashSet<DispatchedWindow> = before.into_iter().collect();
        Ok(windows.into_iter().partition(|window| before.contains(window)))
    }

    /// Returns whether an hour is only read for what the rows of the first windows are made of.
    fn is_before(&self, hour: &Hour) -> bool {
        let end = hour
            .start()
            .map(|start| start.saturating_add(Length::HOUR.as_duration()));
        self.from.is_some_and(|from| end <= Some(from))
    }

    fn covers(&self, start: EventTime) -> bool {
        self.from.is_none_or(|from| start >= from) && self.to.is_none_or(|to| start < to)
    }
}

fn by_name(hours: Vec<Hour>) -> BTreeMap<String, Hour> {
    let named = hours.into_iter().map(|hour| (hour.name.clone(), hour));
    named.collect()
}
