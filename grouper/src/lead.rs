//! Runs a grouper until shutdown: alone, or beside others of which one leads.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::sleep;
use windrow_common::{Backoff, HasRemedy, Remedy, random};
use windrow_queue::Queue;
use windrow_service::Shutdown;
use windrow_store::{LeaderLease, Standing};

use crate::{Grouper, GrouperError, Incomplete};

const LEASE: &str = "grouping/leader.json";

/// Why a grouper cannot do its work, for its readiness. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Outage(Arc<Mutex<Option<String>>>);

/// The handover to the next leader. It is empty, because the store holds everything needed.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Nothing {}

impl Outage {
    /// Returns why the grouper cannot do its work.
    pub fn get(&self) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set(&self, why: Option<String>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = why;
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
        let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        let me = format!("{}-{}-{:016x}", host.trim(), std::process::id(), random());
        let mut lease = LeaderLease::<Nothing>::new(self.store.clone(), LEASE.to_owned(), me, lease);
        let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(30));
        let ended = loop {
            // If a step outlasts the lease, some messages are sent twice, which is harmless.
            let leads = match lease.step(&Nothing {}).await {
                Standing::Leads | Standing::Late(_) | Standing::Begins(_) => true,
                Standing::Follows { .. } | Standing::Unknown(_) => false,
            };
            self.stats.leader.set(leads.into());
            let mut wait = self.options.look_every;
            if leads {
                let stepped = tokio::select! {
                    stepped = self.step(Incomplete::Wait) => stepped,
                    () = shutdown.stopping() => break Ok(()),
                };
                match stepped {
                    Ok(_) => {
                        backoff.reset();
                        outage.set(None);
                    }
                    Err(error) if error.remedy() == Remedy::FixConfig => break Err(error),
                    Err(error) => {
                        tracing::warn!(%error, "cannot bring tags together; beginning again");
                        outage.set(Some(error.to_string()));
                        wait = backoff.next_wait();
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
        lease.end(&Nothing {}).await;
        ended
    }

    /// Follows until `shutdown`, without a lease, and returns itself: for a process that does all of the work. A failure is
    /// logged, and the next step begins again.
    pub async fn follow(mut self, mut shutdown: Shutdown) -> Self {
        let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(30));
        loop {
            // Never interrupt a step: it must also record what it has published.
            let wait = match self.step(Incomplete::Wait).await {
                Ok(_) => {
                    backoff.reset();
                    self.options.look_every
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot bring tags together; beginning again");
                    backoff.next_wait()
                }
            };
            tokio::select! {
                () = sleep(wait) => {}
                () = shutdown.stopping() => return self,
            }
        }
    }
}
