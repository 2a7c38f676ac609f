//! What a fleet of sensors needs in a month: a pure function of the options.

use std::time::Duration;

use serde::Serialize;
use windrow_common::format_duration;

use super::CostError;
use super::measured::{
    BROKER_RATE, DISPATCHED_BYTES, DISPATCHED_PER_PART, MODEL_BYTES, MODEL_CACHE_BYTES, OPEN_WINDOW_BYTES,
    PREDICTION_BYTES, PREDICTIONS_PER_PART, message_core_seconds,
};

/// Hours of a month, as Azure counts them.
pub(super) const HOURS: f64 = 730.0;
const MONTH: f64 = HOURS * 3_600.0;
/// Event Hubs bills events in pieces of this size.
const EVENT_PIECE: f64 = 64_000.0;
/// Largest event of the Standard tier.
const LARGEST_EVENT: u64 = 1_000_000;
/// What one throughput unit takes in, in bytes and events per second.
const UNIT_BYTES: f64 = 1e6;
const UNIT_EVENTS: f64 = 1_000.0;
/// Most throughput units of a Standard namespace.
pub(super) const MOST_UNITS: f64 = 40.0;
/// Most sensors that are counted: a hundred producers' worth.
const MOST_SENSORS: u64 = 1_000_000_000;
const MOST_READINGS_PER_EVENT: u64 = 1_000_000;
const LONGEST: Duration = Duration::from_secs(366 * 86_400);

/// What is known of a fleet of sensors and of the machines that score it.
#[derive(Clone, Debug)]
pub(super) struct Workload {
    pub(super) sensors: u64,
    /// Time between two readings of a sensor.
    pub(super) period: Duration,
    pub(super) window: Duration,
    pub(super) interval: Duration,
    pub(super) readings_per_event: u64,
    pub(super) reading_bytes: u64,
    pub(super) worker_cores: u32,
    pub(super) drain_target: Duration,
    pub(super) boot: Duration,
    pub(super) linger: Duration,
    /// Time of a core to load a model.
    pub(super) model_load: Duration,
    /// How long predictions are kept.
    pub(super) retention: Duration,
}

/// What is used in a month, apart from what depends on the fleet of workers.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Usage {
    pub(super) readings: f64,
    /// Events as they are billed.
    pub(super) events: f64,
    pub(super) throughput_units: f64,
    pub(super) messages: f64,
    pub(super) windows: f64,
    pub(super) blob_writes: f64,
    pub(super) stored_gb: f64,
    /// Memory of all producers together, in bytes.
    pub(super) producer_bytes: f64,
    /// Whether one queue was measured to carry so many messages.
    pub(super) within_one_broker: bool,
}

/// A way to run the workers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Running {
    /// They end after each batch.
    BetweenBatches,
    /// They run all the time.
    AllTheTime,
}

/// What the workers use in a month if they are run in one way.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Fleet {
    pub(super) running: Running,
    pub(super) machines: f64,
    pub(super) machine_hours: f64,
    /// Reads of models.
    pub(super) blob_reads: f64,
}

impl Workload {
    /// Returns an error if an option makes no sense or is out of range.
    pub(super) fn check(&self) -> Result<(), CostError> {
        let refuse = |why: String| Err(CostError::Workload(why));
        let Self {
            sensors,
            window,
            interval,
            ..
        } = self;
        if *sensors == 0 || *sensors > MOST_SENSORS {
            return refuse(format!("--sensors {sensors} is not between 1 and {MOST_SENSORS}"));
        }
        let times = [
            ("--period", self.period, true),
            ("--window", *window, true),
            ("--interval", *interval, true),
            ("--retention", self.retention, true),
            ("--drain-target", self.drain_target, true),
            ("--boot", self.boot, false),
            ("--linger", self.linger, false),
            ("--model-load", self.model_load, false),
        ];
        for (option, time, is_positive) in times {
            if (is_positive && time.is_zero()) || time > LONGEST {
                let least = if is_positive {
                    "more than 0s"
                } else {
                    "at least 0s"
                };
                let time = format_duration(time);
                return refuse(format!("{option} {time} has to be {least} and at most 366d"));
            }
        }
        if window > interval || interval.as_millis() % window.as_millis() != 0 {
            return refuse(format!(
                "--interval {} is not a whole number of windows of {}",
                format_duration(*interval),
                format_duration(*window)
            ));
        }
        let (readings, bytes) = (self.readings_per_event, self.reading_bytes);
        if readings == 0 || readings > MOST_READINGS_PER_EVENT || bytes == 0 {
            return refuse(format!(
                "--readings-per-event {readings} and --reading-bytes {bytes}: both have to be at least 1, and the first \
                 at most {MOST_READINGS_PER_EVENT}"
            ));
        }
        match readings.checked_mul(bytes) {
            Some(size) if size <= LARGEST_EVENT => Ok(()),
            _ => refuse(format!(
                "{readings} readings of {bytes} bytes are more than the megabyte that an event can have; lower \
                 --readings-per-event"
            )),
        }
    }

    fn sensors(&self) -> f64 {
        self.sensors as f64
    }

    /// Returns how far apart a sensor's messages are, in seconds: a sensor without readings sends none.
    fn message_every(&self) -> f64 {
        self.interval.max(self.period).as_secs_f64()
    }

    fn windows_per_message(&self) -> f64 {
        let filled = self.message_every() / self.period.as_secs_f64();
        let cut = self.interval.as_secs_f64() / self.window.as_secs_f64();
        cut.min(filled).max(1.0)
    }

    /// Returns what is used in a month.
    pub(super) fn usage(&self) -> Usage {
        let readings = self.sensors() * MONTH / self.period.as_secs_f64();
        let event_bytes = (self.readings_per_event * self.reading_bytes) as f64;
        let sent = readings / self.readings_per_event as f64;
        let units = f64::max(
            readings * self.reading_bytes as f64 / MONTH / UNIT_BYTES,
            sent / MONTH / UNIT_EVENTS,
        );
        let messages = self.sensors() * MONTH / self.message_every();
        let windows = messages * self.windows_per_message();
        let per_batch = self.sensors() * self.windows_per_message();
        let batches = MONTH / self.message_every();
        let producer_bytes =
            self.sensors() * self.interval.as_secs_f64() / self.window.as_secs_f64() * OPEN_WINDOW_BYTES;
        // A worker writes what it has after a second, so no core writes more than a part a second.
        let parts = (per_batch / PREDICTIONS_PER_PART)
            .max(self.batch_core_seconds())
            .ceil();
        let dispatched = (per_batch / DISPATCHED_PER_PART).ceil();
        let kept = windows / MONTH * self.retention.as_secs_f64();
        Usage {
            readings,
            events: sent * (event_bytes / EVENT_PIECE).ceil(),
            throughput_units: units.ceil().max(1.0),
            messages,
            windows,
            // A checkpoint a second.
            blob_writes: batches * (parts + dispatched) + MONTH,
            stored_gb: (kept * (PREDICTION_BYTES + DISPATCHED_BYTES) + self.sensors() * MODEL_BYTES) / 1e9,
            producer_bytes,
            within_one_broker: self.sensors() / self.drain_target.min(self.interval).as_secs_f64()
                <= BROKER_RATE,
        }
    }

    /// Returns the core-seconds that a batch takes, including reloading its models.
    pub(super) fn batch_core_seconds(&self) -> f64 {
        let message = message_core_seconds(self.windows_per_message()) + self.model_load.as_secs_f64();
        self.sensors() * message
    }

    /// Returns the ways to run the workers. Workers that boot for longer than the drain target cannot start from zero.
    pub(super) fn fleets(&self) -> Vec<Fleet> {
        let messages = self.sensors() * MONTH / self.message_every();
        let batches = MONTH / self.message_every();
        let work = self.batch_core_seconds() / f64::from(self.worker_cores);
        let due = self.drain_target.min(self.interval).as_secs_f64();
        let machines = (work / due).ceil().max(1.0);
        // A model that stays in memory is still compared with the store's.
        let do_models_fit = self.sensors() * MODEL_BYTES <= MODEL_CACHE_BYTES;
        let mut fleets = vec![Fleet {
            running: Running::AllTheTime,
            machines,
            machine_hours: machines * HOURS,
            blob_reads: messages * if do_models_fit { 1.0 } else { 2.0 },
        }];
        let left = self.drain_target.as_secs_f64() - self.boot.as_secs_f64();
        if left > 0.0 {
            let machines = (work / left).ceil().max(1.0);
            let overhead = (self.boot + self.linger).as_secs_f64();
            fleets.push(Fleet {
                running: Running::BetweenBatches,
                machines,
                machine_hours: batches * (machines * overhead + work) / 3_600.0,
                // `current`, then the version that it names.
                blob_reads: 2.0 * messages,
            });
        }
        fleets
    }
}
