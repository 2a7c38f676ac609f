//! Running counts of a producer, for progress bars, summaries and metrics.

use std::sync::atomic::AtomicU64;
use std::sync::{Mutex, MutexGuard, PoisonError};

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

use crate::quarantine::QuarantineReason;
use crate::rejects::{Reject, Rejects, Unusable};
use crate::set_aside::LastReport;

/// Counts since the start of the run, and gauges of its current state.
#[derive(Debug, Default)]
pub struct Stats {
    pub(crate) accepted: Counter,
    pub(crate) replayed: Counter,
    pub(crate) left_out: Counter,
    pub(crate) quarantined: Family<QuarantinedFor, Counter>,
    pub(crate) quarantine_cut: Counter,
    pub(crate) open_windows: Gauge,
    pub(crate) sensors: Gauge,
    pub(crate) left_open: Counter,
    pub(crate) windows: Counter,
    pub(crate) messages: Counter,
    pub(crate) confirmed: Counter,
    pub(crate) split_messages: Counter,
    pub(crate) messages_set_aside: Counter,
    pub(crate) checkpoints: Counter,
    pub(crate) expired_events: Counter,
    pub(crate) unnumbered_events: Counter,
    pub(crate) missed_partitions: Counter,
    pub(crate) source_done: Gauge,
    pub(crate) source_total: Gauge,
    lag_events: Family<OfPartition, Gauge>,
    lag_seconds: Family<OfPartition, Gauge<f64, AtomicU64>>,
    waiting_event_bytes: Gauge,
    prefetch_bytes: Family<OfPartition, Gauge>,
    source_outage: Mutex<Option<String>>,
    pub(crate) rejects: Rejects,
    last_report: Mutex<LastReport>,
}

/// A metric label that names a partition of the source.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct OfPartition {
    partition: String,
}

/// A metric label that says why a reading was quarantined.
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

/// A snapshot of [`Stats`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Readings put in windows.
    pub accepted: u64,
    /// Readings skipped because an earlier run had processed them.
    pub replayed: u64,
    /// Rows that a condition (`--where`) left out.
    pub left_out: u64,
    /// Readings quarantined, by reason, in the order of [`QuarantineReason::ALL`].
    pub quarantined: [u64; QuarantineReason::ALL.len()],
    /// Gauge: windows open now.
    pub open_windows: u64,
    /// Windows dispatched.
    pub windows: u64,
    /// Windows left open, for the next run.
    pub left_open: u64,
    /// Files that were gone at the start although open windows needed their readings.
    pub missed_partitions: u64,
    /// Messages published.
    pub messages: u64,
    /// Messages confirmed.
    pub confirmed: u64,
    /// Checkpoints saved.
    pub checkpoints: u64,
    /// Gauge: how much of the source has been read, in the source's own unit.
    pub source_done: u64,
    /// Gauge: the size of the source in the same unit; 0 if unknown.
    pub source_total: u64,
}

impl Counts {
    /// Returns the number of readings quarantined for this reason.
    pub fn quarantined_for(&self, reason: QuarantineReason) -> u64 {
        let all = QuarantineReason::ALL.into_iter().zip(self.quarantined);
        all.filter(|(other, _)| *other == reason)
            .map(|(_, count)| count)
            .sum()
    }

    /// Returns the number of readings that were read for the first time: in windows, or quarantined.
    pub fn read(&self) -> u64 {
        self.accepted + self.quarantined_in_all()
    }

    /// Returns the number of readings quarantined for any reason.
    pub fn quarantined_in_all(&self) -> u64 {
        self.quarantined.iter().sum()
    }
}

impl Stats {
    /// Registers the counts with `registry`, under the prefix `windrow_producer_`.
    pub fn register(&self, registry: &mut Registry) {
        let registry = registry.sub_registry_with_prefix("windrow_producer");
        for (name, help, counter) in [
            ("readings", "Readings put in windows", &self.accepted),
            (
                "replayed_readings",
                "Readings skipped because an earlier run had processed them",
                &self.replayed,
            ),
            (
                "rows_left_out",
                "Rows that a condition (--where) left out; they are neither readings nor in quarantine",
                &self.left_out,
            ),
            ("windows", "Windows dispatched", &self.windows),
            (
                "windows_left_open",
                "Windows left to the next run, or to the next owner of a partition",
                &self.left_open,
            ),
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
            (
                "split_messages",
                "Messages published in parts because they are larger than the broker takes",
                &self.split_messages,
            ),
            (
                "messages_set_aside",
                "Messages of a single window, larger than the broker takes, set aside in the store as dead letters",
                &self.messages_set_aside,
            ),
            ("checkpoints", "Checkpoints saved", &self.checkpoints),
            (
                "expired_events",
                "Events of an Event Hub that expired before they were read; their readings are lost",
                &self.expired_events,
            ),
            (
                "unnumbered_events",
                "Events of an Event Hub without a sequence number; they cannot be placed, and their readings are lost",
                &self.unnumbered_events,
            ),
            (
                "quarantine_cut_items",
                "Quarantined items that are too long to be kept whole",
                &self.quarantine_cut,
            ),
            (
                "missed_partitions",
                "Files that were gone at the start although open windows needed their readings",
                &self.missed_partitions,
            ),
        ] {
            registry.register(name, help, counter.clone());
        }
        // Exports every reason from the start, so that a rate includes its first reading.
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
                "sensors",
                "Sensors that are known; each keeps some memory until the producer stops reading its partition",
                &self.sensors,
            ),
            (
                "source_done",
                "How much of the source has been read, in its own unit",
                &self.source_done,
            ),
            (
                "source_total",
                "Size of the source in the same unit; 0 if unknown",
                &self.source_total,
            ),
        ] {
            registry.register(name, help, gauge.clone());
        }
        registry.register_with_unit(
            "waiting_events",
            "Size of the events of an Event Hub that have been received and wait to be decoded",
            Unit::Bytes,
            self.waiting_event_bytes.clone(),
        );
        registry.register_with_unit(
            "prefetch",
            "Additional bytes of events that may be prefetched in a partition of an Event Hub, if no event is larger than \
             the largest of the last thousand",
            Unit::Bytes,
            self.prefetch_bytes.clone(),
        );
        registry.register(
            "lag_events",
            "Events of a partition that have not been read yet",
            self.lag_events.clone(),
        );
        registry.register_with_unit(
            "lag",
            "Age of the last event read from a partition with unread events",
            Unit::Seconds,
            self.lag_seconds.clone(),
        );
    }

    /// Returns why the source is unavailable, or `None` if no outage is known.
    pub fn source_outage(&self) -> Option<String> {
        self.outage().clone()
    }

    fn outage(&self) -> MutexGuard<'_, Option<String>> {
        // Nothing panics while it is locked.
        self.source_outage.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn last_report(&self) -> MutexGuard<'_, LastReport> {
        // Nothing panics while it is locked.
        self.last_report.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns what was set aside, by kind, the most frequent first.
    pub fn rejects(&self) -> Vec<Reject> {
        self.rejects.list()
    }

    /// Fails if a run to the end of the source has put nothing in windows but set something aside, or if most readings
    /// were late. That is hardly what was wanted, and silence would look like success.
    pub fn check_usable(&self) -> Result<(), Unusable> {
        let counts = self.counts();
        let (accepted, count) = (counts.accepted, counts.quarantined_in_all());
        if accepted == 0 && count > 0 {
            let kinds = self.rejects();
            return Err(Unusable::Nothing { count, kinds });
        }
        let late = counts.quarantined_for(QuarantineReason::Late);
        if late > accepted {
            let kinds = self.rejects();
            return Err(Unusable::MostlyLate {
                late,
                accepted,
                kinds,
            });
        }
        Ok(())
    }

    /// Returns the current counts.
    pub fn counts(&self) -> Counts {
        let gauge = |gauge: &Gauge| u64::try_from(gauge.get()).unwrap_or_default();
        Counts {
            accepted: self.accepted.get(),
            replayed: self.replayed.get(),
            left_out: self.left_out.get(),
            quarantined: QuarantineReason::ALL
                .map(|reason| self.quarantined.get_or_create(&reason.into()).get()),
            open_windows: gauge(&self.open_windows),
            windows: self.windows.get(),
            left_open: self.left_open.get(),
            missed_partitions: self.missed_partitions.get(),
            messages: self.messages.get(),
            confirmed: self.confirmed.get(),
            checkpoints: self.checkpoints.get(),
            source_done: gauge(&self.source_done),
            source_total: gauge(&self.source_total),
        }
    }
}

impl Stats {
    /// Records why the source is unavailable, or that the outage is over.
    pub fn set_source_outage(&self, outage: Option<String>) {
        *self.outage() = outage;
    }

    /// Counts an event of a hub that has no sequence number, and returns how many there were.
    pub fn count_unnumbered_event(&self) -> u64 {
        self.unnumbered_events.inc() + 1
    }

    /// Counts an event of so many bytes that waits to be decoded.
    pub fn hold_event(&self, bytes: usize) {
        self.waiting_event_bytes.inc_by(bytes as i64);
    }

    /// Counts that it waits no longer.
    pub fn release_event(&self, bytes: usize) {
        self.waiting_event_bytes.dec_by(bytes as i64);
    }

    /// Returns how many bytes of events wait to be decoded.
    pub fn waiting_event_bytes(&self) -> u64 {
        u64::try_from(self.waiting_event_bytes.get()).unwrap_or_default()
    }

    /// Sets how many bytes of events of a partition may be prefetched.
    pub fn set_prefetch(&self, partition: &str, bytes: usize) {
        let of = OfPartition {
            partition: partition.to_owned(),
        };
        let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
        self.prefetch_bytes.get_or_create(&of).set(bytes);
    }

    /// Removes the prefetch of a partition that this process no longer reads.
    pub fn forget_prefetch(&self, partition: &str) {
        let of = OfPartition {
            partition: partition.to_owned(),
        };
        self.prefetch_bytes.remove(&of);
    }

    /// Sets how far behind a partition is.
    pub fn set_lag(&self, partition: &str, events: i64, seconds: f64) {
        let of = OfPartition {
            partition: partition.to_owned(),
        };
        self.lag_events.get_or_create(&of).set(events);
        self.lag_seconds.get_or_create(&of).set(seconds);
    }

    /// Removes the lag of a partition that this process no longer reads.
    pub fn forget_lag(&self, partition: &str) {
        let of = OfPartition {
            partition: partition.to_owned(),
        };
        self.lag_events.remove(&of);
        self.lag_seconds.remove(&of);
    }
}
