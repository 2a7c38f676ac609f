//! The producer's one busy thread: reads the source, cuts windows and sends steps to the dispatcher.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use prometheus_client::metrics::gauge::Gauge;
use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::sync::{mpsc, oneshot};
use windrow_common::SensorId;
use windrow_service::Shutdown;

use crate::ProducerError;
use crate::sensors::{MAX_SENSORS, SensorTable};
use crate::source::{Batch, Offset, Read, Source, SourceError};
use crate::stats::Stats;
use crate::window::{Claim, Emitted, PartitionPosition, Position, Tally, Windower};

/// A unit of work for the dispatcher: the windower's output, and the source's position once that output is durable.
#[derive(Debug)]
pub(crate) struct Step {
    pub(crate) emitted: Emitted,
    pub(crate) position: Position,
    /// What was set aside since the last step, by partition.
    pub(crate) news: Vec<Claim>,
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
/// Bytes of quarantined items that are held before they are sent. A batch may add [`RAW_BYTES_PER_BATCH`] and one item
/// of [`MAX_RAW_BYTES`].
///
/// [`RAW_BYTES_PER_BATCH`]: crate::source::RAW_BYTES_PER_BATCH
/// [`MAX_RAW_BYTES`]: crate::source::MAX_RAW_BYTES
pub(crate) const QUARANTINE_BYTES_HELD: usize = 4 << 20;
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
    /// What was read last. Kept for its memory.
    pub(crate) batch: Batch,
    /// When the last step was sent.
    pub(crate) sent_at: Instant,
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
    /// For each partition, the offset up to which rows left out by a condition were counted. A further pass reads rows
    /// again, and must not count them twice.
    left_out_through: Vec<Offset>,
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

/// How a turn ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Turn {
    /// There is more to read.
    More,
    /// Nothing can be read at the moment.
    Idle,
    /// The source has ended, or a stop was requested.
    Done,
}

impl Ingest {
    /// Reads until the source ends, a stop is requested, or the dispatcher fails. The dispatcher returns its own error.
    ///
    /// On a runtime with a single thread, it takes turns with the tasks there. Otherwise it has a thread of its own,
    /// because it is busy for as long as the source is read.
    pub(crate) async fn run(self) -> Result<(), ProducerError> {
        self.stats.sensors.inc_by(self.counted.sensors as i64);
        if Handle::current().runtime_flavor() == RuntimeFlavor::CurrentThread {
            return Ok(self.run_in_turns().await?);
        }
        let (report_end, ingested) = oneshot::channel();
        let span = tracing::Span::current();
        std::thread::Builder::new()
            .name("ingest".to_owned())
            .spawn(move || report_end.send(span.in_scope(|| self.run_on_thread())))
            .map_err(ProducerError::Thread)?;
        // If the dispatcher fails, the channel of steps closes and the thread ends on its own.
        let ended = ingested
            .await
            .map_err(|_| ProducerError::Panicked("the log has the panic message".to_owned()))?;
        Ok(ended?)
    }

    fn run_on_thread(mut self) -> Result<(), SourceError> {
        let mut emitted = Emitted::default();
        loop {
            let turn = self.turn(Instant::now(), &mut emitted)?;
            if let Some(step) = self.step(turn, Instant::now(), &mut emitted)
                && self.steps.blocking_send(step).is_err()
            {
                return Ok(());
            }
            match turn {
                Turn::More => {}
                Turn::Idle => std::thread::sleep(NAP),
                Turn::Done => return Ok(()),
            }
        }
    }

    async fn run_in_turns(mut self) -> Result<(), SourceError> {
        let now = || tokio::time::Instant::now().into_std();
        let mut emitted = Emitted::default();
        loop {
            let turn = self.turn(now(), &mut emitted)?;
            if let Some(step) = self.step(turn, now(), &mut emitted)
                && self.steps.send(step).await.is_err()
            {
                return Ok(());
            }
            match turn {
                Turn::More => tokio::task::yield_now().await,
                Turn::Idle => tokio::time::sleep(NAP).await,
                Turn::Done => return Ok(()),
            }
        }
    }

    /// Reads once, and cuts what was read into windows.
    fn turn(&mut self, now: Instant, emitted: &mut Emitted) -> Result<Turn, SourceError> {
        if self.shutdown.is_stopping() {
            return Ok(Turn::Done);
        }
        let mut batch = std::mem::take(&mut self.batch);
        let read = self.source.read(&mut self.sensors, &mut batch)?;
        self.add_new_partitions(now);
        let turn = match read {
            Read::Batch => {
                self.count_left_out(&batch);
                self.windower.take(&mut batch, &self.sensors, now, emitted);
                Turn::More
            }
            Read::Idle { complete_until } => {
                self.windower.idle(complete_until, &self.sensors, now, emitted);
                Turn::Idle
            }
            Read::End { .. } if self.begin_next_pass(now, emitted)? => Turn::More,
            Read::End { complete_until } => {
                match self.at_end {
                    // A stop that came meanwhile leaves them to the next run.
                    AtEnd::Reached | AtEnd::Dispatch if self.shutdown.is_stopping() => {}
                    AtEnd::Reached => self.windower.close_reached(&self.sensors, emitted),
                    AtEnd::Dispatch => self.windower.close_all(&self.sensors, emitted),
                    AtEnd::Keep => self.windower.idle(complete_until, &self.sensors, now, emitted),
                }
                Turn::Done
            }
        };
        self.batch = batch;
        Ok(turn)
    }

    /// Returns what was emitted as a step, if it is enough, or old enough, or the last.
    fn step(&mut self, turn: Turn, now: Instant, emitted: &mut Emitted) -> Option<Step> {
        if turn == Turn::Done {
            let step = self.make_step(emitted);
            // Windows left to the next run no longer count as open here.
            self.stats.left_open.inc_by(self.windower.open_windows() as u64);
            self.stats.open_windows.dec_by(self.counted.open_windows);
            self.stats.sensors.dec_by(self.counted.sensors as i64);
            return Some(step);
        }
        let is_due = emitted.messages.len() >= MESSAGES_HELD
            || emitted.quarantined.len() >= QUARANTINE_HELD
            || emitted.raw_bytes >= QUARANTINE_BYTES_HELD
            || now.saturating_duration_since(self.sent_at) >= POSITION_EVERY;
        is_due.then(|| {
            self.sent_at = now;
            self.make_step(emitted)
        })
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
    fn add_new_partitions(&mut self, now: Instant) {
        let names = self.source.partitions();
        if names.len() == self.partitions.len() {
            return;
        }
        for (partition, name) in names.iter().enumerate().skip(self.partitions.len()) {
            let position = self.known.get(name).cloned().unwrap_or_default();
            let next_time = self.source.next_time(partition);
            self.windower.add_partition(position, next_time, now);
        }
        self.partitions = names.into();
    }

    fn make_step(&mut self, emitted: &mut Emitted) -> Step {
        self.count(emitted);
        let mut position = self.windower.position();
        for (index, partition) in position.partitions.iter_mut().enumerate() {
            // A partition that is to be read from its start needs no content.
            if partition.judged > Offset(0) {
                partition.content = self.source.content(index);
            }
        }
        let step = Step {
            emitted: std::mem::take(emitted),
            position,
            news: self.windower.take_news(),
            partitions: Arc::clone(&self.partitions),
            new_sensors: self.sensors.after(self.counted.sensors).to_vec(),
        };
        self.count_sensors();
        step
    }

    fn count_left_out(&mut self, batch: &Batch) {
        let through = &mut self.counted.left_out_through;
        if through.len() <= batch.partition {
            through.resize(batch.partition + 1, Offset(0));
        }
        if batch.next > through[batch.partition] {
            through[batch.partition] = batch.next;
            self.stats.left_out.inc_by(batch.left_out);
        }
    }

    fn count_sensors(&mut self) {
        let (before, sensors) = (self.counted.sensors, self.sensors.len());
        self.stats.sensors.inc_by((sensors - before) as i64);
        self.counted.sensors = sensors;
        if sensors / SENSORS_PER_WARNING > before / SENSORS_PER_WARNING {
            tracing::warn!(
                sensors,
                most = MAX_SENSORS,
                "sensors are never evicted; beyond the maximum, readings of new sensors are quarantined; if devices or \
                 tags get new names all the time, read another column or field, or give the source another --source-name"
            );
        }
    }

    fn count(&mut self, emitted: &Emitted) {
        self.stats.log_set_aside_by_the_minute(Instant::now());
        let (stats, counted) = (&self.stats, &mut self.counted);
        let tally = self.windower.tally();
        stats.accepted.inc_by(tally.accepted - counted.tally.accepted);
        stats.replayed.inc_by(tally.replayed - counted.tally.replayed);
        counted.tally = tally;
        for quarantined in &emitted.quarantined {
            let record = &quarantined.record;
            let counter = stats.quarantined.get_or_create(&record.reason.into());
            counter.inc_by(record.readings);
            drop(counter);
            stats.quarantine_cut.inc_by(u64::from(record.is_cut()));
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
