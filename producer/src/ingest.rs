//! The producer's one busy thread: reads the source, cuts windows and sends steps to the dispatcher.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use prometheus_client::metrics::gauge::Gauge;
use tokio::sync::mpsc;
use windrow_common::SensorId;
use windrow_service::Shutdown;

use crate::sensors::{MAX_SENSORS, SensorTable};
use crate::source::{Batch, Read, Source, SourceError};
use crate::stats::Stats;
use crate::window::{Emitted, PartitionPosition, Position, Tally, Windower};

/// A unit of work for the dispatcher: the windower's output, and the source's position once that output is durable.
#[derive(Debug)]
pub(crate) struct Step {
    pub(crate) emitted: Emitted,
    pub(crate) position: Position,
    /// Names of the partitions in the position, in its order.
    pub(crate) partitions: Arc<[String]>,
    /// The sensors that have appeared since the last step.
    pub(crate) new_sensors: Vec<SensorId>,
}

/// What to do with open windows at the end of a source that is read until caught up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum AtEnd {
    /// Score those whose end the readings have reached; leave the others to the next run, which may bring the rest
    Reached,
    /// Score all of them, because no more readings will come
    Dispatch,
    /// Leave all of them open; the next run reads their readings again
    Keep,
}

/// Messages that are held before they are sent. Sensors close their windows one by one; a step for each would write a
/// part and copy what is dispatched of every sensor.
const MESSAGES_HELD: usize = 10_000;
/// Quarantined readings that are held before they are sent, even without messages to send.
const QUARANTINE_HELD: usize = 10_000;
/// Longest time between two steps, and so the longest that a message is held.
const POSITION_EVERY: Duration = Duration::from_secs(1);
/// A warning is logged each time that this many more sensors are known.
const SENSORS_PER_WARNING: usize = 1_000_000;
/// Wait before an idle source is read again and a stop is noticed.
const NAP: Duration = Duration::from_millis(20);

/// The state of the ingest thread.
pub(crate) struct Ingest {
    pub(crate) source: Box<dyn Source>,
    pub(crate) windower: Windower,
    /// Positions from the checkpoint, for partitions that appear later.
    pub(crate) known: BTreeMap<String, PartitionPosition>,
    pub(crate) partitions: Arc<[String]>,
    pub(crate) sensors: SensorTable,
    pub(crate) at_end: AtEnd,
    pub(crate) steps: mpsc::Sender<Step>,
    pub(crate) stats: Arc<Stats>,
    pub(crate) counted: Counted,
    pub(crate) shutdown: Shutdown,
}

/// This group's share of the counts that all groups of a process share.
#[derive(Debug, Default)]
pub(crate) struct Counted {
    tally: Tally,
    /// How many sensors the dispatcher knows.
    sensors: usize,
    open_windows: i64,
    source_done: i64,
    source_total: i64,
}

impl From<&SensorTable> for Counted {
    /// Starts with the sensors of the checkpoint, which the dispatcher knows.
    fn from(sensors: &SensorTable) -> Self {
        Self {
            sensors: sensors.len(),
            ..Self::default()
        }
    }
}

/// An error of a send to a dispatcher that has failed. The dispatcher returns the cause.
struct DispatcherFailed;

impl Ingest {
    /// Reads until the source ends, a stop is requested, or the dispatcher fails. The dispatcher returns its own error.
    pub(crate) fn run(mut self) -> Result<(), SourceError> {
        self.stats.sensors.inc_by(self.counted.sensors as i64);
        let ended = self.read_to_the_end();
        self.stats.sensors.dec_by(self.counted.sensors as i64);
        ended
    }

    fn read_to_the_end(&mut self) -> Result<(), SourceError> {
        let mut batch = Batch::default();
        let mut emitted = Emitted::default();
        let mut sent_at = Instant::now();
        while !self.shutdown.is_stopping() {
            let read = self.source.read(&mut self.sensors, &mut batch)?;
            self.add_new_partitions();
            let now = Instant::now();
            match read {
                Read::Batch => self.windower.take(&mut batch, &self.sensors, now, &mut emitted),
                Read::Idle { complete_until } => {
                    self.windower
                        .idle(complete_until, &self.sensors, now, &mut emitted);
                }
                Read::End { .. } if self.begin_next_pass(now, &mut emitted)? => {}
                Read::End { complete_until } => {
                    match self.at_end {
                        // A stop that came meanwhile leaves them to the next run.
                        AtEnd::Reached | AtEnd::Dispatch if self.shutdown.is_stopping() => {}
                        AtEnd::Reached => self.windower.close_reached(&self.sensors, &mut emitted),
                        AtEnd::Dispatch => self.windower.close_all(&self.sensors, &mut emitted),
                        AtEnd::Keep => self
                            .windower
                            .idle(complete_until, &self.sensors, now, &mut emitted),
                    }
                    break;
                }
            }
            let is_due = emitted.messages.len() >= MESSAGES_HELD
                || emitted.quarantined.len() >= QUARANTINE_HELD
                || sent_at.elapsed() >= POSITION_EVERY;
            if is_due {
                sent_at = now;
                if self.send(&mut emitted).is_err() {
                    return Ok(());
                }
            }
            if let Read::Idle { .. } = read {
                std::thread::sleep(NAP);
            }
        }
        // The last step of this run. A failed dispatcher returns its own error.
        _ = self.send(&mut emitted);
        // Windows left to the next run no longer count as open here.
        self.stats.left_open.inc_by(self.windower.open_windows() as u64);
        self.stats.open_windows.dec_by(self.counted.open_windows);
        Ok(())
    }

    /// Moves the source back, if not all of its windows could be open at once.
    fn begin_next_pass(&mut self, now: Instant, emitted: &mut Emitted) -> Result<bool, SourceError> {
        let Some(resume) = self.windower.next_pass(&self.sensors, now, emitted) else {
            return Ok(false);
        };
        for (partition, offset) in resume.into_iter().enumerate() {
            self.source.seek(partition, offset)?;
        }
        Ok(true)
    }

    /// Adds the partitions that have appeared in the source, such as new files of a followed folder.
    fn add_new_partitions(&mut self) {
        let names = self.source.partitions();
        if names.len() == self.partitions.len() {
            return;
        }
        for (partition, name) in names.iter().enumerate().skip(self.partitions.len()) {
            let position = self.known.get(name).cloned().unwrap_or_default();
            let next_time = self.source.next_time(partition);
            self.windower.add_partition(position, next_time, Instant::now());
        }
        self.partitions = names.into();
    }

    fn send(&mut self, emitted: &mut Emitted) -> Result<(), DispatcherFailed> {
        self.count(emitted);
        let step = Step {
            emitted: std::mem::take(emitted),
            position: self.windower.position(),
            partitions: Arc::clone(&self.partitions),
            new_sensors: self.sensors.after(self.counted.sensors).to_vec(),
        };
        self.count_sensors();
        self.steps.blocking_send(step).map_err(|_| DispatcherFailed)
    }

    fn count_sensors(&mut self) {
        let (before, sensors) = (self.counted.sensors, self.sensors.len());
        self.stats.sensors.inc_by((sensors - before) as i64);
        self.counted.sensors = sensors;
        if sensors / SENSORS_PER_WARNING > before / SENSORS_PER_WARNING {
            tracing::warn!(
                sensors,
                most = MAX_SENSORS,
                "sensors are never forgotten, and beyond the most, readings of new ones are quarantined; if devices or \
                 tags get new names all the time, read another column or field, or give the source another --source-name"
            );
        }
    }

    fn count(&mut self, emitted: &Emitted) {
        let (stats, counted) = (&self.stats, &mut self.counted);
        let tally = self.windower.tally();
        stats.accepted.inc_by(tally.accepted - counted.tally.accepted);
        stats.replayed.inc_by(tally.replayed - counted.tally.replayed);
        counted.tally = tally;
        for quarantined in &emitted.quarantined {
            stats.quarantined.get_or_create(&quarantined.reason.into()).inc();
            let partition = self.partitions.get(quarantined.partition);
            stats
                .rejects
                .note(quarantined, partition.map_or("", String::as_str));
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
