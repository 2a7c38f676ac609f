//! What a scaler exports as metrics.

use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use crate::fleet::Capacity;
use crate::policy::{Learned, Load};

/// The dependencies that can fail.
const PARTS: [&str; 3] = [BROKER, FLEET, STORE];
pub(super) const BROKER: &str = "rabbitmq";
pub(super) const FLEET: &str = "fleet";
pub(super) const STORE: &str = "store";

/// Counts and states since the start of the process.
#[derive(Debug, Default)]
pub struct Stats {
    pub(super) wanted: Gauge,
    workers: Family<State, Gauge>,
    messages: Family<State, Gauge>,
    pub(super) leader: Gauge,
    pub(super) steps: Counter,
    pub(super) resizes: Family<Direction, Counter>,
    failures: Family<Part, Counter>,
    pub(super) worker_seconds: Counter<f64, AtomicU64>,
    pub(super) cost: Counter<f64, AtomicU64>,
    rate: Gauge<f64, AtomicU64>,
    boot: Gauge<f64, AtomicU64>,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct State {
    state: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub(super) struct Direction {
    pub(super) direction: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Part {
    dependency: &'static str,
}

impl Stats {
    /// Registers the counts with `registry`, under the prefix `windrow_scaler_`.
    pub fn register(&self, registry: &mut Registry) {
        let registry = registry.sub_registry_with_prefix("windrow_scaler");
        self.forget_observations();
        registry.register(
            "workers_wanted",
            "Workers that there should be, by the last decision of the scaler that leads",
            self.wanted.clone(),
        );
        registry.register(
            "workers",
            "Workers of the fleet, by state: booting, ready, draining; 0 for a scaler that does not lead",
            self.workers.clone(),
        );
        registry.register(
            "messages",
            "Messages of the scoring queue, by state: ready, unacked; 0 for a scaler that does not lead",
            self.messages.clone(),
        );
        registry.register(
            "leader",
            "1 while this scaler is the one that acts",
            self.leader.clone(),
        );
        registry.register("steps", "Times that the lease was renewed or asked for, and, by the leader, queue and fleet were looked at", self.steps.clone());
        for direction in ["out", "in"] {
            drop(self.resizes.get_or_create(&Direction { direction }));
        }
        registry.register(
            "resizes",
            "Decisions that changed the number of workers, by direction",
            self.resizes.clone(),
        );
        for dependency in PARTS {
            drop(self.failures.get_or_create(&Part { dependency }));
        }
        registry.register(
            "failures",
            "Steps at which a dependency could not be used",
            self.failures.clone(),
        );
        registry.register(
            "worker_seconds",
            "Workers asked for or draining, times seconds: what is billed",
            self.worker_seconds.clone(),
        );
        registry.register(
            "cost",
            "What the workers cost, at --price-hour; 0 without it",
            self.cost.clone(),
        );
        registry.register(
            "worker_rate",
            "Messages that a busy worker scores in a second, as measured; 0 before it was",
            self.rate.clone(),
        );
        registry.register(
            "boot_seconds",
            "Seconds from asking for a worker until it scores, as measured; 0 before it was",
            self.boot.clone(),
        );
    }

    /// Sets what was observed to 0: a scaler that does not lead observes nothing.
    pub(super) fn forget_observations(&self) {
        self.note_capacity(Capacity::default());
        self.note_load(Load {
            unacked: Some(0),
            ..Load::default()
        });
    }

    pub(super) fn note_failure(&self, dependency: &'static str) {
        self.failures.get_or_create(&Part { dependency }).inc();
    }

    pub(super) fn note_capacity(&self, capacity: Capacity) {
        let states = [
            ("booting", capacity.booting),
            ("ready", capacity.ready),
            ("draining", capacity.draining),
        ];
        for (state, workers) in states {
            self.workers.get_or_create(&State { state }).set(workers.into());
        }
    }

    pub(super) fn note_load(&self, load: Load) {
        let gauge = |state| self.messages.get_or_create(&State { state }).clone();
        gauge("ready").set(i64::try_from(load.ready).unwrap_or(i64::MAX));
        if let Some(unacked) = load.unacked {
            gauge("unacked").set(i64::try_from(unacked).unwrap_or(i64::MAX));
        }
    }

    pub(super) fn note_learned(&self, learned: &Learned, workers: u32) {
        self.rate.set(learned.rate(workers).unwrap_or(0.0));
        self.boot.set(learned.boot_seconds().unwrap_or(0.0));
    }
}
