//! The producer's one busy thread: reads the source, cuts windows, hands steps to the dispatcher.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use prometheus_client::metrics::gauge::Gauge;
use tokio::sync::mpsc;
use windrow_common::{ScoringMessage, Shutdown};

use crate::pace::Pace;
use crate::quarantine::Quarantined;
use crate::sensors::SensorTable;
use crate::source::{Batch, Read, Source, SourceError};
use crate::stats::Stats;
use crate::window::{PartitionPosition, Position, Tally, Windower};

/// What the dispatcher gets: messages to publish, readings to quarantine, and where the source stands once both are safe.
#[derive(Debug)]
pub(crate) struct Step {
    pub(crate) messages: Vec<ScoringMessage>,
    pub(crate) quarantined: Vec<Quarantined>,
    pub(crate) position: Position,
    /// Names of the partitions the position speaks of.
    pub(crate) partitions: Arc<[String]>,
}

/// What to do with open windows when a source that is read until caught up has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum AtEnd {
    /// Score them: nothing more will come
    Dispatch,
    /// Leave them to the next run, which reads their readings again
    Keep,
}

/// Quarantined readings held before they are written, messages or not.
const QUARANTINE_HELD: usize = 10_000;
/// At least this often the dispatcher hears where the source stands.
const POSITION_EVERY: Duration = Duration::from_secs(1);
/// Longest wait before looking whether to stop.
const NAP: Duration = Duration::from_millis(20);

/// Everything [`Ingest::run`] works on.
pub(crate) struct Ingest {
    pub(crate) source: Box<dyn Source>,
    pub(crate) windower: Windower,
    /// From the checkpoint, for partitions that turn up later.
    pub(crate) known: BTreeMap<String, PartitionPosition>,
    pub(crate) partitions: Arc<[String]>,
    pub(crate) at_end: AtEnd,
    pub(crate) pace: Option<Pace>,
    pub(crate) steps: mpsc::Sender<Step>,
    pub(crate) stats: Arc<Stats>,
    pub(crate) counted: Counted,
    pub(crate) shutdown: Shutdown,
}

/// What of this group is in the counts that all groups of a process share.
#[derive(Debug, Default)]
pub(crate) struct Counted {
    tally: Tally,
    open_windows: i64,
    source_done: i64,
    source_total: i64,
}

/// Whether the other end still listens.
struct DispatcherGone;

impl Ingest {
    /// Reads until the source ends, a stop is asked for, or the dispatcher is gone (which then has the error).
    pub(crate) fn run(mut self) -> Result<(), SourceError> {
        let mut sensors = SensorTable::new();
        let mut out = Output::default();
        let mut batch = Batch::default();
        if self.source.keeps_arrivals() {
            self.windower.trust_arrivals();
        }
        for partition in 0..self.windower.partitions() {
            if let Some(time) = self.source.look_ahead(partition) {
                self.windower.look_ahead(partition, time);
            }
        }
        while !self.shutdown.is_stopping() {
            let read = self.source.read(&mut sensors, &mut batch)?;
            self.take_in_partitions();
            match read {
                Read::Batch => self
                    .windower
                    .quarantine_unreadable(&mut batch, &mut out.quarantined),
                Read::Idle => std::thread::sleep(NAP),
                Read::End => break,
            }
            let sent = match read {
                Read::Batch => self.take_in(&batch, &sensors, &mut out),
                _ => self.let_time_pass(&sensors, &mut out),
            };
            if sent.is_err() {
                return Ok(());
            }
        }
        if !self.shutdown.is_stopping() {
            match self.at_end {
                AtEnd::Dispatch => _ = self.windower.close_all(&sensors, &mut out.messages),
                AtEnd::Keep => _ = self.let_time_pass(&sensors, &mut out),
            }
        }
        // The last word of this run; a dispatcher that is gone has its own error to tell.
        _ = self.send(&mut out);
        // Windows left to another run are open no more.
        self.stats.open_windows.dec_by(self.counted.open_windows);
        Ok(())
    }

    /// New files of a followed folder.
    fn take_in_partitions(&mut self) {
        let names = self.source.partitions();
        if names.len() == self.partitions.len() {
            return;
        }
        for (partition, name) in names.iter().enumerate().skip(self.partitions.len()) {
            let position = self.known.get(name).copied().unwrap_or_default();
            self.windower.add_partition(position, Instant::now());
            if let Some(time) = self.source.look_ahead(partition) {
                self.windower.look_ahead(partition, time);
            }
        }
        self.partitions = names.into();
    }

    fn take_in(
        &mut self,
        batch: &Batch,
        sensors: &SensorTable,
        out: &mut Output,
    ) -> Result<(), DispatcherGone> {
        let mut rest = &batch.readings[..];
        while !rest.is_empty() {
            let due = self
                .pace
                .as_mut()
                .map_or(rest.len(), |pace| pace.due(rest, Instant::now()));
            let (now_due, later) = rest.split_at(due);
            self.windower.observe(
                batch.partition,
                now_due,
                Instant::now(),
                &mut out.quarantined,
                sensors,
            );
            rest = later;
            if !rest.is_empty() {
                self.windower.keep_active(batch.partition, Instant::now());
                self.close_and_send(sensors, out)?;
                if self.shutdown.is_stopping() {
                    return Ok(());
                }
                std::thread::sleep(NAP);
            }
        }
        self.windower.finish_batch(batch);
        self.close_and_send(sensors, out)
    }

    /// Closes what silence makes complete: nothing is there to read.
    fn let_time_pass(&mut self, sensors: &SensorTable, out: &mut Output) -> Result<(), DispatcherGone> {
        for partition in 0..self.windower.partitions() {
            if let Some(at) = self.source.complete_until(partition) {
                self.windower.complete_until(partition, at);
            }
        }
        self.close_and_send(sensors, out)
    }

    fn close_and_send(&mut self, sensors: &SensorTable, out: &mut Output) -> Result<(), DispatcherGone> {
        let now = Instant::now();
        for partition in 0..self.windower.partitions() {
            if self.source.has_more_at_hand(partition) {
                self.windower.keep_active(partition, now);
            }
        }
        self.windower.close_ready(now, sensors, &mut out.messages);
        let due = !out.messages.is_empty()
            || out.quarantined.len() >= QUARANTINE_HELD
            || out.last_sent.elapsed() >= POSITION_EVERY;
        if due {
            self.send(out)?;
        }
        Ok(())
    }

    fn send(&mut self, out: &mut Output) -> Result<(), DispatcherGone> {
        self.count(out);
        out.last_sent = Instant::now();
        let step = Step {
            messages: std::mem::take(&mut out.messages),
            quarantined: std::mem::take(&mut out.quarantined),
            position: self.windower.position(),
            partitions: Arc::clone(&self.partitions),
        };
        self.steps.blocking_send(step).map_err(|_| DispatcherGone)
    }

    fn count(&mut self, out: &Output) {
        let (stats, counted) = (&self.stats, &mut self.counted);
        let tally = self.windower.tally();
        stats.accepted.inc_by(tally.accepted - counted.tally.accepted);
        stats.replayed.inc_by(tally.replayed - counted.tally.replayed);
        counted.tally = tally;
        for quarantined in &out.quarantined {
            stats.quarantined.get_or_create(&quarantined.reason.into()).inc();
        }
        let set = |gauge: &Gauge, before: &mut i64, value: u64| {
            let value = i64::try_from(value).unwrap_or(i64::MAX);
            gauge.inc_by(value - *before);
            *before = value;
        };
        let open_windows = self.windower.open_windows() as u64;
        set(&stats.open_windows, &mut counted.open_windows, open_windows);
        let progress = self.source.progress();
        set(&stats.source_done, &mut counted.source_done, progress.done);
        let total = progress.total.unwrap_or(0);
        set(&stats.source_total, &mut counted.source_total, total);
    }
}

/// What has been made and not yet sent.
struct Output {
    messages: Vec<ScoringMessage>,
    quarantined: Vec<Quarantined>,
    last_sent: Instant,
}

impl Default for Output {
    fn default() -> Self {
        Self {
            messages: Vec::new(),
            quarantined: Vec::new(),
            last_sent: Instant::now(),
        }
    }
}
