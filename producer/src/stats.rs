//! Running counts of a producer, read by progress bars, summaries and metrics.

use std::sync::atomic::AtomicU64;
use std::sync::{Mutex, MutexGuard, PoisonError};

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

use crate::quarantine::QuarantineReason;

/// Counts since the start of the run; the gauges among them say so.
#[derive(Debug, Default)]
pub struct Stats {
    pub(crate) accepted: Counter,
    pub(crate) replayed: Counter,
    pub(crate) quarantined: Family<QuarantinedFor, Counter>,
    pub(crate) open_windows: Gauge,
    pub(crate) windows: Counter,
    pub(crate) messages: Counter,
    pub(crate) confirmed: Counter,
    pub(crate) checkpoints: Counter,
    pub(crate) expired_events: Counter,
    pub(crate) source_done: Gauge,
    pub(crate) source_total: Gauge,
    lag_events: Family<OfPartition, Gauge>,
    lag_seconds: Family<OfPartition, Gauge<f64, AtomicU64>>,
    source_outage: Mutex<Option<String>>,
}

/// Which partition of a source.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct OfPartition {
    partition: String,
}

/// Why a reading was quarantined.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub(crate) struct QuarantinedFor {
    reason: String,
}

impl From<QuarantineReason> for QuarantinedFor {
    fn from(reason: QuarantineReason) -> Self {
        Self {
            reason: reason.to_string(),
        }
    }
}

/// A look at [`Stats`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Readings put in windows.
    pub accepted: u64,
    /// Readings skipped because an earlier run had dealt with them.
    pub replayed: u64,
    /// Readings quarantined, along [`QuarantineReason::ALL`].
    pub quarantined: [u64; QuarantineReason::ALL.len()],
    /// Gauge: windows open now.
    pub open_windows: u64,
    /// Windows dispatched.
    pub windows: u64,
    /// Messages published.
    pub messages: u64,
    /// Messages confirmed.
    pub confirmed: u64,
    /// Checkpoints saved.
    pub checkpoints: u64,
    /// Gauge: how much of the source is read, in its own unit.
    pub source_done: u64,
    /// Gauge: all of the source in the same unit; 0 when unknown.
    pub source_total: u64,
}

impl Counts {
    /// Readings quarantined for any reason.
    pub fn quarantined_in_all(&self) -> u64 {
        self.quarantined.iter().sum()
    }
}

impl Stats {
    /// Makes the counts part of what `registry` exports, under `windrow_producer_`.
    pub fn register(&self, registry: &mut Registry) {
        let registry = registry.sub_registry_with_prefix("windrow_producer");
        for (name, help, counter) in [
            ("readings", "Readings put in windows", &self.accepted),
            (
                "replayed_readings",
                "Readings skipped because an earlier run had dealt with them",
                &self.replayed,
            ),
            ("windows", "Windows dispatched", &self.windows),
            (
                "messages_published",
                "Messages handed to the queue",
                &self.messages,
            ),
            (
                "messages_confirmed",
                "Messages the queue has confirmed",
                &self.confirmed,
            ),
            ("checkpoints", "Checkpoints saved", &self.checkpoints),
            (
                "expired_events",
                "Events of an Event Hub that expired before they were read: their readings are lost",
                &self.expired_events,
            ),
        ] {
            registry.register(name, help, counter.clone());
        }
        // Every reason from the start, so that a rate can be taken of the first.
        for reason in QuarantineReason::ALL {
            drop(self.quarantined.get_or_create(&reason.into()));
        }
        registry.register(
            "quarantined_readings",
            "Readings quarantined, by reason; `late` is one of them",
            self.quarantined.clone(),
        );
        for (name, help, gauge) in [
            ("open_windows", "Windows open now", &self.open_windows),
            (
                "source_done",
                "How much of the source is read, in its own unit",
                &self.source_done,
            ),
            (
                "source_total",
                "All of the source in the same unit; 0 when unknown",
                &self.source_total,
            ),
        ] {
            registry.register(name, help, gauge.clone());
        }
        registry.register(
            "lag_events",
            "Events of a partition that are not read yet",
            self.lag_events.clone(),
        );
        registry.register_with_unit(
            "lag",
            "Age of the last event read of a partition that has more",
            Unit::Seconds,
            self.lag_seconds.clone(),
        );
    }

    /// Why the source cannot be read at the moment; `None` when it can, as far as is known.
    pub fn source_outage(&self) -> Option<String> {
        self.outage().clone()
    }

    fn outage(&self) -> MutexGuard<'_, Option<String>> {
        // Nothing panics while it is locked.
        self.source_outage.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All counts as they are now.
    pub fn counts(&self) -> Counts {
        let gauge = |gauge: &Gauge| u64::try_from(gauge.get()).unwrap_or_default();
        Counts {
            accepted: self.accepted.get(),
            replayed: self.replayed.get(),
            quarantined: QuarantineReason::ALL
                .map(|reason| self.quarantined.get_or_create(&reason.into()).get()),
            open_windows: gauge(&self.open_windows),
            windows: self.windows.get(),
            messages: self.messages.get(),
            confirmed: self.confirmed.get(),
            checkpoints: self.checkpoints.get(),
            source_done: gauge(&self.source_done),
            source_total: gauge(&self.source_total),
        }
    }
}

impl Stats {
    /// Notes why the source cannot be read at the moment, or that it can.
    pub fn set_source_outage(&self, outage: Option<String>) {
        *self.outage() = outage;
    }

    /// How far behind a partition is.
    pub fn set_lag(&self, partition: &str, events: i64, seconds: f64) {
        let of = OfPartition {
            partition: partition.to_owned(),
        };
        self.lag_events.get_or_create(&of).set(events);
        self.lag_seconds.get_or_create(&of).set(seconds);
    }

    /// The partition is no longer read here.
    pub fn forget_lag(&self, partition: &str) {
        let of = OfPartition {
            partition: partition.to_owned(),
        };
        self.lag_events.remove(&of);
        self.lag_seconds.remove(&of);
    }
}
