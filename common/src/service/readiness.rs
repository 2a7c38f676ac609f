//! What a service depends on, and whether it is there.

use std::fmt;
use std::sync::Arc;

use super::Failure;
use crate::queue::Amqp;
use crate::store::Store;

type Check = Arc<dyn Fn() -> Option<String> + Send + Sync>;

/// Reaches what a service depends on before it begins: looks at the store, and connects to the broker, for which it
/// waits. Only what takes a person to mend is an error.
pub async fn reach(queue: &Amqp, store: &Store) -> Result<(), Failure> {
    // Not a wrong configuration for sure: a role takes minutes to be known everywhere, and somebody may be about to make
    // the container.
    store.watch().await.map_err(Failure::failed)?;
    queue.connect().await.map_err(Failure::usage)
}

/// The dependencies of a service, each with a way to ask what is the matter with it.
#[derive(Clone, Default)]
pub struct Readiness {
    checks: Vec<(&'static str, Check)>,
}

impl Readiness {
    /// What producer and worker depend on.
    pub fn of_queue_and_store(queue: &Amqp, store: &Store) -> Self {
        let (queue, store) = (queue.clone(), store.clone());
        Self::default()
            .depend_on("rabbitmq", move || queue.trouble())
            .depend_on("store", move || store.trouble())
    }

    /// Adds a dependency; `trouble` gives what is the matter with it, and does not wait.
    pub fn depend_on(
        mut self,
        name: &'static str,
        trouble: impl Fn() -> Option<String> + Send + Sync + 'static,
    ) -> Self {
        self.checks.push((name, Arc::new(trouble)));
        self
    }

    /// Every dependency and what is the matter with it now.
    pub(super) fn look(&self) -> impl Iterator<Item = (&'static str, Option<String>)> + '_ {
        self.checks.iter().map(|(name, trouble)| (*name, trouble()))
    }
}

impl fmt::Debug for Readiness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list()
            .entries(self.checks.iter().map(|(name, _)| name))
            .finish()
    }
}
