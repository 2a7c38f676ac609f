//! Counts of what a grouper has done, exported as metrics.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// Counts since the start of the process.
#[derive(Debug, Default)]
pub struct Stats {
    pub(crate) messages: Counter,
    pub(crate) windows: Counter,
    pub(crate) unscored_windows: Counter,
    pub(crate) too_large: Counter,
    pub(crate) rewinds: Counter,
    pub(crate) devices: Gauge,
    pub(crate) held_windows: Gauge,
    pub(crate) leader: Gauge,
}

impl Stats {
    /// Registers the counts with `registry`, under the prefix `windrow_grouper_`.
    pub fn register(&self, registry: &mut Registry) {
        let registry = registry.sub_registry_with_prefix("windrow_grouper");
        for (name, help, counter) in [
            ("messages", "Messages published", &self.messages),
            (
                "windows",
                "Windows of several tags together that were asked for, again if they got more readings",
                &self.windows,
            ),
            (
                "unscored_windows",
                "Windows that cannot be scored, because too many of the tags are missing",
                &self.unscored_windows,
            ),
            (
                "too_large",
                "Messages that the queue does not take, because they are too large",
                &self.too_large,
            ),
            (
                "rewinds",
                "How often parts of settled hours came late, so that the hours since were looked at again",
                &self.rewinds,
            ),
        ] {
            registry.register(name, help, counter.clone());
        }
        for (name, help, gauge) in [
            (
                "devices",
                "Devices whose tags are brought together",
                &self.devices,
            ),
            (
                "held_windows",
                "Windows of single tags in memory",
                &self.held_windows,
            ),
            ("leader", "1 if this grouper leads, 0 if it waits", &self.leader),
        ] {
            registry.register(name, help, gauge.clone());
        }
    }

    /// Returns the number of windows that were asked for.
    pub fn windows(&self) -> u64 {
        self.windows.get()
    }
}
