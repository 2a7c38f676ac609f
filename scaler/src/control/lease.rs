//! The lease by which one scaler of several acts, and what it leaves for the next one.
//!
//! One blob in the store says who leads, what was decided last, and what the policy has learned. The leader writes it at
//! every step, under the version that it has written before, so that of two writers one fails. Another one takes over when
//! the blob has stayed the same for the length of the lease. Each measures that by its own clock, so clocks need not agree.

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, timeout};
use windrow_store::{Store, StoreError, Version};

use crate::policy::Learned;

/// How long one access to the store may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// What a leader leaves for the next one, and shows to those that follow.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Legacy {
    /// The last decision.
    #[serde(default)]
    pub decision: Option<Shown>,
    /// What the policy has learned.
    #[serde(default)]
    pub learned: Learned,
}

/// A decision as it is shown.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Shown {
    /// When it was made.
    pub at: Timestamp,
    /// How many workers there should be.
    pub workers: u32,
    /// Why.
    pub reason: String,
}

/// Which part a scaler has at a step.
#[derive(Clone, Debug, PartialEq)]
pub enum Standing {
    /// It leads, and may act.
    Leads,
    /// It leads as long as the lease lasts, which cannot be renewed.
    Late(String),
    /// It has begun to lead, and this is what its predecessor left.
    Begins(Legacy),
    /// Another one leads.
    Follows(Legacy),
    /// The store cannot tell.
    Unknown(String),
}

#[derive(Serialize, Deserialize)]
struct Saved {
    /// The leader; empty if it has ended.
    leader: String,
    /// Makes each version differ.
    renewed: u64,
    /// For people.
    at: Timestamp,
    #[serde(flatten)]
    legacy: Legacy,
}

/// The lease, as one scaler sees it.
#[derive(Debug)]
pub struct Lease {
    store: Store,
    path: String,
    me: String,
    length: Duration,
    /// The version that this scaler has written, and when it began to.
    held: Option<(Version, Instant)>,
    /// The version that another one has written, and when it was first seen.
    seen: Option<(Version, Instant)>,
    renewed: u64,
}

impl Lease {
    /// Creates the lease at `path`. `me` is this scaler's name, which no other one has.
    pub fn new(store: Store, path: String, me: String, length: Duration) -> Self {
        Self {
            store,
            path,
            me,
            length,
            held: None,
            seen: None,
            renewed: 0,
        }
    }

    /// Renews the lease, takes it, or learns who has it.
    pub async fn step(&mut self, legacy: &Legacy) -> Standing {
        match self.held.clone() {
            Some((version, since)) => self.renew(version, since, legacy).await,
            None => self.look(legacy).await,
        }
    }

    /// Gives the lease up, so that another scaler need not wait for its end.
    pub async fn end(mut self, legacy: &Legacy) {
        if let Some((version, _)) = self.held.take() {
            self.me = String::new();
            if let Err(error) = self.write(Some(&version), legacy).await {
                tracing::debug!(error, "the lease was not given up; it ends by itself");
            }
        }
    }

    async fn renew(&mut self, version: Version, since: Instant, legacy: &Legacy) -> Standing {
        let began = Instant::now();
        match self.write(Some(&version), legacy).await {
            Ok(Written::Done(version)) => {
                self.held = Some((version, began));
                Standing::Leads
            }
            // An answer may have been lost, and then the version is our own.
            Ok(Written::Refused) => {
                self.held = None;
                self.look(legacy).await
            }
            Err(error) if since.elapsed() < self.length => Standing::Late(error),
            Err(error) => {
                self.held = None;
                Standing::Unknown(error)
            }
        }
    }

    /// Reads who leads, and takes the lease if nobody does.
    async fn look(&mut self, legacy: &Legacy) -> Standing {
        let began = Instant::now();
        let read = match self.read().await {
            Ok(Some(read)) => read,
            Ok(None) => return self.take(None, began, Legacy::default()).await,
            Err(error) => return Standing::Unknown(error),
        };
        let (version, saved) = read;
        let Some(saved) = saved else {
            // Nobody can say who leads. Whoever does writes it anew.
            return match self.has_ended(&version, began) {
                true => self.take(Some(version), began, Legacy::default()).await,
                false => Standing::Unknown(format!("{} is damaged", self.path)),
            };
        };
        self.renewed = self.renewed.max(saved.renewed);
        if saved.leader == self.me {
            // Another one may be about to take the lease, so it has to be renewed first.
            return match self.take(Some(version), began, legacy.clone()).await {
                Standing::Begins(_) => Standing::Leads,
                other => other,
            };
        }
        if saved.leader.is_empty() || self.has_ended(&version, began) {
            return self.take(Some(version), began, saved.legacy).await;
        }
        Standing::Follows(saved.legacy)
    }

    /// Returns whether another one's lease has ended: it has not been renewed for as long as it lasts.
    fn has_ended(&mut self, version: &Version, now: Instant) -> bool {
        match &self.seen {
            Some((seen, since)) if seen == version => now.duration_since(*since) > self.length,
            _ => {
                self.seen = Some((version.clone(), now));
                false
            }
        }
    }

    async fn take(&mut self, version: Option<Version>, began: Instant, mut legacy: Legacy) -> Standing {
        if !legacy.learned.is_plausible() {
            tracing::warn!(
                path = self.path,
                "what was learned is damaged, and is learned anew"
            );
            legacy.learned = Learned::default();
        }
        match self.write(version.as_ref(), &legacy).await {
            Ok(Written::Done(version)) => {
                self.held = Some((version, began));
                self.seen = None;
                Standing::Begins(legacy)
            }
            Ok(Written::Refused) => Standing::Follows(legacy),
            Err(error) => Standing::Unknown(error),
        }
    }

    async fn read(&self) -> Result<Option<(Version, Option<Saved>)>, String> {
        let read = timeout(PATIENCE, self.store.get_versioned(&self.path)).await;
        let read = read.map_err(|_| self.slow("reading"))?;
        let read = read.map_err(|error| error.to_string())?;
        Ok(read.map(|(bytes, version)| (version, serde_json::from_slice(&bytes).ok())))
    }

    async fn write(&mut self, version: Option<&Version>, legacy: &Legacy) -> Result<Written, String> {
        self.renewed += 1;
        let saved = Saved {
            leader: self.me.clone(),
            renewed: self.renewed,
            at: Timestamp::now(),
            legacy: legacy.clone(),
        };
        let text = serde_json::to_vec(&saved).map_err(|error| error.to_string())?;
        let put = self.store.put_if(&self.path, text, version);
        match timeout(PATIENCE, put).await {
            Ok(Ok(version)) => Ok(Written::Done(version)),
            Ok(Err(StoreError::Conflict { .. })) => Ok(Written::Refused),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err(self.slow("writing")),
        }
    }

    fn slow(&self, doing: &str) -> String {
        format!("{doing} {} takes longer than {PATIENCE:?}", self.path)
    }
}

enum Written {
    Done(Version),
    Refused,
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use object_store::memory::InMemory;

    use super::*;

    const LENGTH: Duration = Duration::from_secs(30);

    fn lease(store: &Store, me: &str) -> Lease {
        Lease::new(
            store.clone(),
            "scaling/lease.json".to_owned(),
            me.to_owned(),
            LENGTH,
        )
    }

    fn store() -> Store {
        Store::from_objects(Arc::new(InMemory::new()), "memory")
    }

    fn with(workers: u32) -> Legacy {
        let decision = Shown {
            at: Timestamp::UNIX_EPOCH,
            workers,
            reason: String::new(),
        };
        Legacy {
            decision: Some(decision),
            learned: Learned::default(),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn one_of_two_leads_and_the_other_takes_over_when_it_is_silent_for_the_length_of_the_lease() {
        let store = store();
        let (mut first, mut second) = (lease(&store, "a"), lease(&store, "b"));
        assert_eq!(
            first.step(&Legacy::default()).await,
            Standing::Begins(Legacy::default())
        );
        for workers in 0..10 {
            assert_eq!(first.step(&with(workers)).await, Standing::Leads);
            assert_eq!(
                second.step(&Legacy::default()).await,
                Standing::Follows(with(workers))
            );
            tokio::time::advance(LENGTH).await;
        }
        tokio::time::advance(Duration::from_millis(1)).await;
        assert_eq!(second.step(&Legacy::default()).await, Standing::Begins(with(9)));
        // The first one was only slow. It finds out at its next step, before it acts.
        assert_eq!(first.step(&with(5)).await, Standing::Follows(with(9)));
        assert_eq!(second.step(&with(6)).await, Standing::Leads);
    }

    #[tokio::test]
    async fn who_ends_leaves_the_lease_at_once_and_a_lost_answer_does_not_cost_it() {
        let store = store();
        let (mut first, mut second) = (lease(&store, "a"), lease(&store, "b"));
        first.step(&Legacy::default()).await;
        // The write arrived, and its answer did not.
        let held = first.held.clone();
        assert_eq!(first.step(&with(1)).await, Standing::Leads);
        first.held = held;
        assert_eq!(first.step(&with(2)).await, Standing::Leads);
        assert_eq!(second.step(&Legacy::default()).await, Standing::Follows(with(2)));
        assert_eq!(first.step(&with(3)).await, Standing::Leads);
        first.end(&with(4)).await;
        assert_eq!(second.step(&Legacy::default()).await, Standing::Begins(with(4)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_damaged_lease_is_written_anew_after_its_length() {
        let store = store();
        store.put("scaling/lease.json", "{").await.unwrap();
        let mut lease = lease(&store, "a");
        assert!(matches!(lease.step(&with(1)).await, Standing::Unknown(_)));
        tokio::time::advance(LENGTH + Duration::from_secs(1)).await;
        assert_eq!(lease.step(&with(1)).await, Standing::Begins(Legacy::default()));
    }
}
