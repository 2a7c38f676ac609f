//! A leader lease: lets one of several processes act, and hands its state over to the next leader.
//!
//! One blob in the store names the leader and holds its handover. At every step, the leader replaces the blob on
//! condition that it still has the version that the leader wrote last, so one of two writers fails. Another process
//! takes over when the blob has not changed for the length of the lease. Each process measures that by its own clock,
//! so clocks need not agree.

use std::marker::PhantomData;
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, timeout};
use windrow_common::{EventTime, random};

use crate::{Store, StoreError, Version};

/// How long one access to the store may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// What a leader leaves for the next one.
pub trait Handover: Clone + Default + Serialize + DeserializeOwned {}

impl<H: Clone + Default + Serialize + DeserializeOwned> Handover for H {}

/// The role of a process after a step.
#[derive(Clone, Debug, PartialEq)]
pub enum Standing<H> {
    /// It leads, and may act.
    Leads,
    /// It still leads until the lease expires, but renewing failed, for this reason.
    Late(String),
    /// It has just become the leader; this is its predecessor's handover.
    Begins(H),
    /// Another one leads.
    Follows {
        /// Its name.
        leader: String,
        /// Its handover.
        handover: H,
    },
    /// It is unknown who leads, for this reason: the store failed, the blob is damaged, or another process was faster.
    Unknown(String),
}

impl<H> Standing<H> {
    /// Returns whether this process may act.
    pub fn leads(&self) -> bool {
        match self {
            Self::Leads | Self::Late(_) | Self::Begins(_) => true,
            Self::Follows { .. } | Self::Unknown(_) => false,
        }
    }
}

/// Returns the name of this machine; `None` if it is unknown.
pub fn host_name() -> Option<String> {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").ok()?;
    Some(name.trim().to_owned()).filter(|name| !name.is_empty())
}

#[derive(Serialize, Deserialize)]
struct Saved<H> {
    /// The leader's name; empty once the leader has released the lease.
    leader: String,
    /// A counter that makes each version differ.
    renewed: u64,
    /// When the lease was renewed, for people.
    at: String,
    #[serde(flatten)]
    handover: H,
}

/// The lease, as one process sees it.
///
/// Call [`LeaderLease::step`] about three times in its length, and act only while [`Standing::leads`].
///
/// ```
/// use std::time::Duration;
/// use windrow_store::{LeaderLease, Store};
///
/// # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
/// let store = Store::create("memory:///")?;
/// let lease = |name: &str| {
///     LeaderLease::<()>::new(store.clone(), "demo/leader.json".into(), name.into(), Duration::from_secs(30))
/// };
/// let (mut first, mut second) = (lease("a"), lease("b"));
/// assert!(first.step(&()).await.leads());
/// assert!(!second.step(&()).await.leads());
/// // The other need not wait for a lease that was released.
/// first.end(&()).await;
/// assert!(second.step(&()).await.leads());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct LeaderLease<H> {
    store: Store,
    path: String,
    me: String,
    length: Duration,
    /// The version that this process wrote last, and when it started to write it.
    held: Option<(Version, Instant)>,
    /// The version that another process has written, and when this one first saw it.
    seen: Option<(Version, Instant)>,
    renewed: u64,
    /// Whether this process has its predecessor's handover, and so may write its own.
    has_begun: bool,
    handover: PhantomData<H>,
}

impl<H: Handover> LeaderLease<H> {
    /// Creates the lease at `path`, for this process under a name that says where it runs and that no other process has.
    pub fn named(store: Store, path: String, length: Duration) -> Self {
        let host = host_name().unwrap_or_default();
        let me = format!("{host}-{}-{:016x}", std::process::id(), random());
        Self::new(store, path, me, length)
    }

    /// Creates the lease at `path`. `me` is a name that no other process has.
    pub fn new(store: Store, path: String, me: String, length: Duration) -> Self {
        Self {
            store,
            path,
            me,
            length,
            held: None,
            seen: None,
            renewed: 0,
            has_begun: false,
            handover: PhantomData,
        }
    }

    /// Returns until when this process may act, if it leads.
    pub fn lasts_until(&self) -> Option<Instant> {
        self.held.as_ref().map(|(_, since)| *since + self.length)
    }

    /// Renews the lease, takes it, or reads who holds it.
    pub async fn step(&mut self, handover: &H) -> Standing<H> {
        match self.held.clone() {
            Some((version, since)) => self.renew(version, since, handover).await,
            None => self.look(handover).await,
        }
    }

    /// Releases the lease, so that another process need not wait for it to expire.
    pub async fn end(mut self, handover: &H) {
        let Some((held, _)) = self.held.take() else {
            return;
        };
        let mut version = Some(held);
        let me = std::mem::take(&mut self.me);
        // The second attempt is for a step that was cancelled after its write: the blob then has a version that this
        // process does not know.
        for _ in 0..2 {
            let Some(held) = version.take() else { break };
            match self.write(Some(&held), handover).await {
                Ok(Written::Done(_)) => return,
                Ok(Written::Refused) => {
                    let read = self.read().await.ok().flatten();
                    let own =
                        read.filter(|(_, saved)| saved.as_ref().is_some_and(|saved| saved.leader == me));
                    version = own.map(|(version, _)| version);
                }
                Err(error) => tracing::debug!(error, "the lease cannot be given up"),
            }
        }
        tracing::info!("the lease was not given up; another process waits for its end");
    }

    async fn renew(&mut self, version: Version, since: Instant, handover: &H) -> Standing<H> {
        let began = Instant::now();
        match self.write(Some(&version), handover).await {
            Ok(Written::Done(version)) => {
                self.held = Some((version, began));
                Standing::Leads
            }
            // If the answer to an earlier write was lost, the version in the store is our own.
            Ok(Written::Refused) => {
                self.held = None;
                self.look(handover).await
            }
            Err(error) if since.elapsed() < self.length => Standing::Late(error),
            Err(error) => {
                self.held = None;
                Standing::Unknown(error)
            }
        }
    }

    /// Reads who leads, and takes the lease if nobody does.
    async fn look(&mut self, handover: &H) -> Standing<H> {
        let began = Instant::now();
        let read = match self.read().await {
            Ok(Some(read)) => read,
            Ok(None) if self.has_begun => return self.resume(None, began, handover).await,
            Ok(None) => return self.take(None, began, H::default()).await,
            Err(error) => return Standing::Unknown(error),
        };
        let (version, saved) = read;
        let Some(saved) = saved else {
            // The blob does not name a leader. The leader, if there is one, replaces the blob.
            return match self.has_ended(&version, began) {
                true => self.take(Some(version), began, H::default()).await,
                false => Standing::Unknown(format!("{} is damaged", self.path)),
            };
        };
        self.renewed = self.renewed.max(saved.renewed);
        if saved.leader == self.me {
            // Another process may be about to take the lease, so renew it before acting.
            return match self.has_begun {
                true => self.resume(Some(version), began, handover).await,
                // The answer to its first write was lost.
                false => self.take(Some(version), began, saved.handover).await,
            };
        }
        if saved.leader.is_empty() || self.has_ended(&version, began) {
            return self.take(Some(version), began, saved.handover).await;
        }
        self.has_begun = false;
        Standing::Follows {
            leader: saved.leader,
            handover: saved.handover,
        }
    }

    /// Continues to lead, after writing the lease again.
    async fn resume(&mut self, version: Option<Version>, began: Instant, handover: &H) -> Standing<H> {
        match self.take(version, began, handover.clone()).await {
            Standing::Begins(_) => Standing::Leads,
            other => other,
        }
    }

    /// Returns whether another process's lease has expired: the blob has had this version for longer than the lease.
    fn has_ended(&mut self, version: &Version, now: Instant) -> bool {
        match &self.seen {
            Some((seen, since)) if seen == version => now.duration_since(*since) > self.length,
            _ => {
                self.seen = Some((version.clone(), now));
                false
            }
        }
    }

    async fn take(&mut self, version: Option<Version>, began: Instant, handover: H) -> Standing<H> {
        match self.write(version.as_ref(), &handover).await {
            Ok(Written::Done(version)) => {
                self.held = Some((version, began));
                self.seen = None;
                self.has_begun = true;
                Standing::Begins(handover)
            }
            // The next step reads which process was faster.
            Ok(Written::Refused) => {
                Standing::Unknown("another process has taken the lease just now".to_owned())
            }
            Err(error) => Standing::Unknown(error),
        }
    }

    async fn read(&self) -> Result<Option<(Version, Option<Saved<H>>)>, String> {
        let read = timeout(PATIENCE, self.store.get_versioned(&self.path)).await;
        let read = read.map_err(|_| self.slow("reading"))?;
        let read = read.map_err(|error| error.to_string())?;
        Ok(read.map(|(bytes, version)| (version, serde_json::from_slice(&bytes).ok())))
    }

    async fn write(&mut self, version: Option<&Version>, handover: &H) -> Result<Written, String> {
        self.renewed += 1;
        let saved = Saved {
            leader: self.me.clone(),
            renewed: self.renewed,
            at: EventTime::now().to_string(),
            handover: handover.clone(),
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

    fn lease(store: &Store, me: &str) -> LeaderLease<Left> {
        LeaderLease::new(store.clone(), "a/lease.json".to_owned(), me.to_owned(), LENGTH)
    }

    #[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
    struct Left {
        workers: u32,
    }

    fn follows(leader: &str, handover: Left) -> Standing<Left> {
        Standing::Follows {
            leader: leader.to_owned(),
            handover,
        }
    }

    fn store() -> Store {
        Store::from_objects(Arc::new(InMemory::new()), "memory")
    }

    fn with(workers: u32) -> Left {
        Left { workers }
    }

    #[tokio::test(start_paused = true)]
    async fn one_of_two_leads_and_the_other_takes_over_when_it_is_silent_for_the_length_of_the_lease() {
        let store = store();
        let (mut first, mut second) = (lease(&store, "a"), lease(&store, "b"));
        assert_eq!(
            first.step(&Left::default()).await,
            Standing::Begins(Left::default())
        );
        for workers in 0..10 {
            assert_eq!(first.step(&with(workers)).await, Standing::Leads);
            assert_eq!(second.step(&Left::default()).await, follows("a", with(workers)));
            tokio::time::advance(LENGTH).await;
        }
        tokio::time::advance(Duration::from_millis(1)).await;
        assert_eq!(second.step(&Left::default()).await, Standing::Begins(with(9)));
        // The first one was only slow. It finds out at its next step, before it acts.
        assert_eq!(first.step(&with(5)).await, follows("b", with(9)));
        assert_eq!(second.step(&with(6)).await, Standing::Leads);
    }

    #[tokio::test]
    async fn who_ends_leaves_the_lease_at_once_and_a_lost_answer_does_not_cost_it() {
        let store = store();
        let (mut first, mut second) = (lease(&store, "a"), lease(&store, "b"));
        first.step(&Left::default()).await;
        // The write arrived, and its answer did not.
        let held = first.held.clone();
        assert_eq!(first.step(&with(1)).await, Standing::Leads);
        first.held = held;
        assert_eq!(first.step(&with(2)).await, Standing::Leads);
        assert_eq!(second.step(&Left::default()).await, follows("a", with(2)));
        assert_eq!(first.step(&with(3)).await, Standing::Leads);
        first.end(&with(4)).await;
        assert_eq!(second.step(&Left::default()).await, Standing::Begins(with(4)));
        // The answer to its first write was lost as well, and it has not begun.
        (second.held, second.has_begun) = (None, false);
        assert_eq!(second.step(&Left::default()).await, Standing::Begins(with(4)));
        // The blob was deleted under it.
        store.delete("a/lease.json").await.unwrap();
        assert_eq!(second.step(&with(7)).await, Standing::Leads);
        // A step was cut short after it had written.
        let held = second.held.clone();
        assert_eq!(second.step(&with(8)).await, Standing::Leads);
        second.held = held;
        second.end(&with(9)).await;
        let mut third = lease(&store, "c");
        assert_eq!(third.step(&Left::default()).await, Standing::Begins(with(9)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_damaged_lease_is_replaced_after_its_length() {
        let store = store();
        store.put("a/lease.json", "{").await.unwrap();
        let mut lease = lease(&store, "a");
        assert!(matches!(lease.step(&with(1)).await, Standing::Unknown(_)));
        tokio::time::advance(LENGTH + Duration::from_secs(1)).await;
        assert_eq!(lease.step(&with(1)).await, Standing::Begins(Left::default()));
    }
}
