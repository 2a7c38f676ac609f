//! What a service depends on, and whether it is there.

use std::fmt;
use std::sync::Arc;

type Check = Arc<dyn Fn() -> Option<String> + Send + Sync>;

/// The dependencies of a service, each with a way to ask why it cannot be used.
#[derive(Clone, Default)]
pub struct Readiness {
    checks: Vec<(&'static str, Check)>,
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

    /// Every dependency and why it cannot be used, if so.
    pub(super) fn look(&self) -> impl Iterator<Item = (&'static str, Option<String>)> + '_ {
        self.checks.iter().map(|(name, outage)| (*name, outage()))
    }
}

impl fmt::Debug for Readiness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list()
            .entries(self.checks.iter().map(|(name, _)| name))
            .finish()
    }
}
