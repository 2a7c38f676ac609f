//! Counts of what the workers of a process have done, exported as metrics.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use crate::progress::Progress;

/// Histogram buckets for the seconds from enqueued to persisted: from a quiet fleet's latency to an outage of a night.
const LATENCY_SECONDS: [f64; 14] = [
    0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1_800.0, 7_200.0, 43_200.0,
];
/// Histogram buckets for the rows of a part: powers of four up to about a million.
const PART_ROWS: [f64; 11] = [
    1.0,
    4.0,
    16.0,
    64.0,
    256.0,
    1_024.0,
    4_096.0,
    16_384.0,
    65_536.0,
    262_144.0,
    1_048_576.0,
];

/// The reasons for which a worker sets messages aside.
const REASONS: [&str; 6] = [
    UNDECODABLE,
    NO_MODEL,
    BAD_MODEL,
    ARCHIVED_MODEL,
    CANNOT_SCORE,
    PANICKED,
];
/// The body is not a scoring message.
pub(crate) const UNDECODABLE: &str = "undecodable";
/// The sensor has no model in the store.
pub(crate) const NO_MODEL: &str = "no-model";
/// The sensor's model cannot be read.
pub(crate) const BAD_MODEL: &str = "bad-model";
/// The sensor's model is in an archive.
pub(crate) const ARCHIVED_MODEL: &str = "archived-model";
/// The model does not fit the message.
pub(crate) const CANNOT_SCORE: &str = "cannot-score";
/// Scoring panicked.
pub(crate) const PANICKED: &str = "panicked";

/// Counts since the start of the process.
#[derive(Debug)]
pub struct Stats {
    pub(crate) messages: Counter,
    pub(crate) redelivered: Counter,
    pub(crate) predictions: Counter,
    pub(crate) anomalies: Counter,
    pub(crate) unexplained: Counter,
    pub(crate) dead_letters: Family<DeadFor, Counter>,
    /// The total over all reasons.
    pub(crate) dead_letters_in_all: AtomicU64,
    pub(crate) parts: Counter,
    pub(crate) part_rows: Histogram,
    pub(crate) latency: Histogram,
    pub(crate) held: Gauge,
    pub(crate) unconfirmed_dead_letters: Gauge,
    pub(crate) announcements: Counter,
    pub(crate) dropped_announcements: Counter,
    pub(crate) progress: Progress,
    pub(crate) unscored_group_windows: Counter,
    pub(crate) models_loaded: Counter,
    pub(crate) cache_hits: Counter,
    pub(crate) cache_misses: Counter,
    pub(crate) without_shadow: Counter,
    pub(crate) failed_shadow_reads: Counter,
}

/// Why a message was set aside.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub(crate) struct DeadFor {
    pub(crate) reason: &'static str,
}

/// A snapshot of [`Stats`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Messages received.
    pub messages: u64,
    /// Received messages that may have been delivered before.
    pub redelivered: u64,
    /// Predictions persisted.
    pub predictions: u64,
    /// Persisted predictions that are anomalies.
    pub anomalies: u64,
    /// Messages set aside.
    pub dead_letters: u64,
    /// Parts of predictions written.
    pub parts: u64,
    /// Models read from the store.
    pub models_loaded: u64,
}

impl Default for Stats {
    fn default() -> Self {
        Self {
            messages: Counter::default(),
            redelivered: Counter::default(),
            predictions: Counter::default(),
            anomalies: Counter::default(),
            unexplained: Counter::default(),
            dead_letters: Family::default(),
            dead_letters_in_all: AtomicU64::new(0),
            parts: Counter::default(),
            part_rows: Histogram::new(PART_ROWS),
            latency: Histogram::new(LATENCY_SECONDS),
            held: Gauge::default(),
            unconfirmed_dead_letters: Gauge::default(),
            announcements: Counter::default(),
            dropped_announcements: Counter::default(),
            progress: Progress::default(),
            unscored_group_windows: Counter::default(),
            models_loaded: Counter::default(),
            cache_hits: Counter::default(),
            cache_misses: Counter::default(),
            without_shadow: Counter::default(),
            failed_shadow_reads: Counter::default(),
        }
    }
}

impl Stats {
    /// Registers the counts with `registry`, under the prefix `windrow_worker_`.
    pub fn register(&self, registry: &mut Registry) {
        let registry = registry.sub_registry_with_prefix("windrow_worker");
        for (name, help, counter) in [
            ("messages", "Messages received", &self.messages),
            (
                "redelivered",
                "Messages received that may have been delivered before",
                &self.redelivered,
            ),
            (
                "predictions",
                "Predictions persisted (rows scored)",
                &self.predictions,
            ),
            (
                "anomalies",
                "Predictions persisted that are anomalies",
                &self.anomalies,
            ),
            (
                "unexplained_anomalies",
                "Anomalies stored without their cause, because explaining them panicked",
                &self.unexplained,
            ),
            ("parts", "Parts of predictions written", &self.parts),
            (
                "announcements",
                "Announcements of anomalies that the broker has taken",
                &self.announcements,
            ),
            (
                "dropped_announcements",
                "Announcements of anomalies dropped because the broker did not take them",
                &self.dropped_announcements,
            ),
            (
                "unscored_group_windows",
                "Windows of several tags together that were not scored, because too many of the tags are missing",
                &self.unscored_group_windows,
            ),
            ("models_loaded", "Models read from the store", &self.models_loaded),
            ("model_cache_hits", "Models found in the cache", &self.cache_hits),
            (
                "model_cache_misses",
                "Models not found in the cache",
                &self.cache_misses,
            ),
            (
                "without_shadow",
                "Messages scored without the shadow version of their sensor, because it cannot be read or cannot score",
                &self.without_shadow,
            ),
            (
                "failed_shadow_reads",
                "Failed reads of shadow versions, or of the list of them",
                &self.failed_shadow_reads,
            ),
        ] {
            registry.register(name, help, counter.clone());
        }
        // Exports every reason from the start, so that a rate includes its first message.
        for reason in REASONS {
            drop(self.dead_letters.get_or_create(&DeadFor { reason }));
        }
        registry.register(
            "dead_letters",
            "Messages set aside, by reason",
            self.dead_letters.clone(),
        );
        registry.register(
            "part_rows",
            "Rows of each part of predictions",
            self.part_rows.clone(),
        );
        registry.register_with_unit(
            "queue_latency",
            "Time from the enqueuing of a message until its predictions are persisted",
            Unit::Seconds,
            self.latency.clone(),
        );
        registry.register(
            "held_messages",
            "Messages received and not settled",
            self.held.clone(),
        );
        registry.register(
            "unconfirmed_dead_letters",
            "Dead letters that the broker has not confirmed; their messages are held until it does",
            self.unconfirmed_dead_letters.clone(),
        );
    }

    /// Returns why the workers make no progress: none has subscribed, or messages are held and none has been settled for
    /// `patience`. Returns `None` if they do, or have nothing to do.
    pub fn outage(&self, patience: Duration) -> Option<String> {
        let dead = self.unconfirmed_dead_letters.get();
        self.progress.outage(self.held.get(), dead, patience)
    }

    /// Returns the current counts.
    pub fn counts(&self) -> Counts {
        Counts {
            messages: self.messages.get(),
            redelivered: self.redelivered.get(),
            predictions: self.predictions.get(),
            anomalies: self.anomalies.get(),
            dead_letters: self.dead_letters_in_all.load(Relaxed),
            parts: self.parts.get(),
            models_loaded: self.models_loaded.get(),
        }
    }
}
