//! The dependencies of a service, and whether they can be used.

use std::fmt;
use std::sync::Arc;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

type Check = Arc<dyn Fn() -> Option<String> + Send + Sync>;

/// The dependencies of a service, each with a way to ask why it cannot be used.
#[derive(Clone, Default)]
pub struct Readiness {
    checks: Vec<(&'static str, Check)>,
    up: Family<Dependency, Gauge>,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Dependency {
    dependency: &'static str,
}

impl Readiness {
    /// Adds a dependency. `outage` returns why it cannot be used at the moment, without waiting.
    pub fn depend_on(
        mut self,
        name: &'static str,
        outage: impl Fn() -> Option<String> + Send + Sync + 'static,
    ) -> Self {
        self.checks.push((name, Arc::new(outage)));
        self
    }

    /// Returns every dependency, with the reason if it cannot be used.
    pub(super) fn look(&self) -> impl Iterator<Item = (&'static str, Option<String>)> + '_ {
        self.checks.iter().map(|(name, outage)| (*name, outage()))
    }

    /// Adds the dependencies to what `registry` exports.
    pub fn register(&self, registry: &mut Registry) {
        registry.register(
            "windrow_dependency_up",
            "1 while the dependency can be used, as far as is known",
            self.up.clone(),
        );
        self.export();
    }

    /// Updates the exported metric.
    pub(super) fn export(&self) {
        for (dependency, outage) in self.look() {
            let up = i64::from(outage.is_none());
            self.up.get_or_create(&Dependency { dependency }).set(up);
        }
    }
}

impl fmt::Debug for Readiness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list()
            .entries(self.checks.iter().map(|(name, _)| name))
            .finish()
    }
}
