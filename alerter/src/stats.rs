//! What an alerter exports as metrics.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use windrow_common::{EventTime, IncidentKind};

use crate::{Watch, WatchCounts};

/// Counts and states since the start of the process.
#[derive(Debug, Default)]
pub struct Stats {
    pub(crate) leader: Gauge,
    windows: Counter,
    opened_anomalies: Counter,
    untold: Counter,
    hushed: Counter,
    reworked: Counter,
    open: Family<Kind, Gauge>,
    sensors: Gauge,
    held: Gauge,
    waiting: Gauge,
    reached: Gauge,
    pub(crate) told: Family<Receiver, Counter>,
    pub(crate) refused: Family<Receiver, Counter>,
    pub(crate) failures: Family<Receiver, Counter>,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Kind {
    kind: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub(crate) struct Receiver {
    pub(crate) receiver: String,
}

impl Stats {
    /// Registers the counts with `registry`, under the prefix `windrow_alerter_`.
    pub fn register(&self, registry: &mut Registry, receivers: &[String]) {
        for kind in IncidentKind::ALL {
            drop(self.open.get_or_create(&Kind { kind: kind.name() }));
        }
        for receiver in receivers {
            let receiver = Receiver {
                receiver: receiver.clone(),
            };
            for family in [&self.told, &self.refused, &self.failures] {
                drop(family.get_or_create(&receiver));
            }
        }
        let registry = registry.sub_registry_with_prefix("windrow_alerter");
        registry.register("leader", "1 while this alerter leads", self.leader.clone());
        registry.register(
            "windows",
            "Windows taken from the predictions",
            self.windows.clone(),
        );
        registry.register(
            "opened_anomalies",
            "Anomalies that opened, or opened again, but for those that began and ended in a maintenance before the alerter looked",
            self.opened_anomalies.clone(),
        );
        registry.register(
            "untold_events",
            "Events that were too old for anybody to be told",
            self.untold.clone(),
        );
        registry.register(
            "hushed_incidents",
            "Incidents that nobody hears of, because their sensor was muted until they were over",
            self.hushed.clone(),
        );
        registry.register(
            "reworked_sensors",
            "Sensors whose incidents were worked out again, because predictions of settled hours came late",
            self.reworked.clone(),
        );
        registry.register(
            "open_incidents",
            "Incidents that are open, by kind",
            self.open.clone(),
        );
        registry.register("sensors", "Sensors that are followed", self.sensors.clone());
        registry.register(
            "held_windows",
            "Windows in memory, for those that come later to be sorted in",
            self.held.clone(),
        );
        registry.register(
            "waiting_events",
            "Events that not all receivers have taken",
            self.waiting.clone(),
        );
        registry.register(
            "reached_timestamp_seconds",
            "End of the newest window, in seconds since 1970",
            self.reached.clone(),
        );
        registry.register(
            "told_events",
            "Events that a receiver has taken",
            self.told.clone(),
        );
        registry.register(
            "refused_events",
            "Events that were dropped because the receiver will never accept them",
            self.refused.clone(),
        );
        registry.register(
            "delivery_failures",
            "Failed attempts to tell a receiver; what was to be told waits",
            self.failures.clone(),
        );
    }

    /// Shows where a watch stands, which had `before` when it was shown last.
    pub(crate) fn show(&self, watch: &Watch, before: WatchCounts) {
        let counts = watch.counts();
        self.windows.inc_by(counts.windows - before.windows);
        self.opened_anomalies.inc_by(counts.anomalies - before.anomalies);
        self.untold.inc_by(counts.untold - before.untold);
        self.hushed.inc_by(counts.hushed - before.hushed);
        self.reworked.inc_by(counts.reworked - before.reworked);
        for kind in IncidentKind::ALL {
            let open = i64::try_from(watch.open_of(kind)).unwrap_or(i64::MAX);
            self.open.get_or_create(&Kind { kind: kind.name() }).set(open);
        }
        let (sensors, held, waiting) = watch.sizes();
        for (gauge, size) in [
            (&self.sensors, sensors),
            (&self.held, held),
            (&self.waiting, waiting),
        ] {
            gauge.set(i64::try_from(size).unwrap_or(i64::MAX));
        }
        if watch.reached() > EventTime::MIN {
            self.reached.set(watch.reached().as_millis() / 1_000);
        }
    }
}
