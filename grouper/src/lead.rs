//! Runs a grouper until shutdown: alone, or beside others of which one leads.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::time::sleep;
use windrow_common::{Backoff, HasRemedy, Remedy, Reminder};
use windrow_queue::Queue;
use windrow_service::Shutdown;
use windrow_store::LeaderLease;

use crate::{Grouper, GrouperError, Incomplete};

const LEASE: &str = "grouping/leader.json";

/// Why a grouper cannot do its work, for its readiness. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Outage(Arc<Mutex<Option<String>>>);

impl Outage {
    /// Returns why the grouper cannot do its work.
    pub fn get(&self) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set(&self, why: Option<String>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = why;
    }
}

/// The steps that have failed one after the other.
struct Failures {
    backoff: Backoff,
    reminder: Reminder,
}

impl Failures {
    fn new() -> Self {
        Self {
            backoff: Backoff::new(Duration::from_millis(200), Duration::from_secs(30)),
            reminder: Reminder::default(),
        }
    }

    /// Logs a failure, if it is time, and returns how long to wait before the next step.
    fn add(&mut self, error: &GrouperError) -> Duration {
        if self.reminder.is_due_for(&error.to_string(), Instant::now()) {
            let tries = self.backoff.attempts() + 1;
            tracing::warn!(%error, tries, "cannot bring tags together; beginning again");
        }
        self.backoff.next_wait()
    }

    fn end(&mut self) {
        self.backoff.reset();
        self.reminder.reset();
    }
}

impl<Q: Queue> Grouper<Q> {
    /// Runs until `shutdown`, beside others of which one leads. Fails only if a person has to act.
    pub async fn run(
        mut self,
        lease: Duration,
        outage: Outage,
        mut shutdown: Shutdown,
    ) -> Result<(), GrouperError> {
        // Nothing is handed over to the next leader: the store holds everything.
        let mut lease = LeaderLease::<()>::named(self.store.clone(), LEASE.to_owned(), lease);
        let mut failures = Failures::new();
        let ended = loop {
            // If a step outlasts the lease, some messages are sent twice, which is harmless.
            let leads = lease.step(&()).await.leads();
            self.stats.leader.set(leads.into());
            let mut wait = self.options.look_every;
            if leads {
                let stepped = tokio::select! {
                    stepped = self.step(Incomplete::Wait) => stepped,
                    () = shutdown.stopping() => break Ok(()),
                };
                match stepped {
                    Ok(_) => {
                        failures.end();
                        outage.set(None);
                    }
                    Err(error) if error.remedy() == Remedy::FixConfig => break Err(error),
                    Err(error) => {
                        outage.set(Some(error.to_string()));
                        wait = failures.add(&error);
                    }
                }
            } else {
                self.forget();
                outage.set(None);
            }
            tokio::select! {
                () = sleep(wait) => {}
                () = shutdown.stopping() => break Ok(()),
            }
        };
        lease.end(&()).await;
        ended
    }

    /// Follows until `shutdown`, without a lease, and returns itself: for a process that does all of the work. A failure is
    /// logged, and the next step begins again.
    pub async fn follow(mut self, mut shutdown: Shutdown) -> Self {
        let mut failures = Failures::new();
        loop {
            // Never interrupt a step: it must also record what it has published.
            let wait = match self.step(Incomplete::Wait).await {
                Ok(_) => {
                    failures.end();
                    self.options.look_every
                }
                Err(error) => failures.add(&error),
            };
            tokio::select! {
                () = sleep(wait) => {}
                () = shutdown.stopping() => return self,
            }
        }
    }
}
