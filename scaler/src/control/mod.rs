//! The loop around the policy: look, decide, act, and say why.

mod broker;
mod lease;
mod outage;
mod records;
mod stats;
mod status;

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::{Instant, timeout};
use windrow_service::Shutdown;
use windrow_store::Store;

use crate::fleet::{Capacity, Fleet, FleetError};
use crate::policy::{Decision, Learned, Observation, Policy, PolicyOptions, PolicyOptionsError, Reason};
use records::{Record, Records};
use stats::{BROKER, Direction, FLEET, STORE};

pub use broker::{Broker, Seen};
pub use lease::{Lease, Legacy, Shown, Standing};
pub use outage::Outages;
pub use stats::Stats;
pub use status::Status;

/// How long a call to the fleet may take.
const FLEET_PATIENCE: Duration = Duration::from_secs(30);

/// What a scaler works with.
pub struct Scaler {
    /// Bounds and aims.
    pub policy: PolicyOptions,
    /// How often it looks.
    pub every: Duration,
    /// The queue.
    pub broker: Broker,
    /// The name of the queue, for records.
    pub queue: String,
    /// The workers.
    pub fleet: Box<dyn Fleet>,
    /// Where records go, and the lease by which one of several scalers acts; `None` to act never, and only to say what
    /// would be done.
    pub seat: Option<(Store, Lease)>,
    /// What it exports.
    pub stats: Arc<Stats>,
    /// What cannot be used at the moment.
    pub outages: Outages,
    /// The last decision, for those who ask.
    pub status: Status,
}

/// A scaler at work.
struct Loop {
    policy: Policy,
    options: PolicyOptions,
    every: Duration,
    broker: Broker,
    queue: String,
    fleet: Box<dyn Fleet>,
    lease: Option<Lease>,
    records: Option<Records>,
    stats: Arc<Stats>,
    outages: Outages,
    status: Status,
    leads: bool,
    /// When workers were last counted, and how many there were.
    billed: Option<(Instant, u32)>,
    last: Option<Decision>,
}

impl Scaler {
    /// Looks, decides and acts until `shutdown`.
    pub async fn run(self, mut shutdown: Shutdown) -> Result<(), PolicyOptionsError> {
        let mut steps = tokio::time::interval(self.every);
        steps.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut running = Loop::new(self)?;
        loop {
            tokio::select! {
                biased;
                () = shutdown.stopping() => break,
                _ = steps.tick() => {}
            }
            tokio::select! {
                biased;
                () = shutdown.stopping() => break,
                () = running.step() => {}
            }
        }
        running.end().await;
        Ok(())
    }
}

impl Loop {
    fn new(scaler: Scaler) -> Result<Self, PolicyOptionsError> {
        let (store, lease) = scaler.seat.unzip();
        Ok(Self {
            policy: Policy::new(scaler.policy.clone(), Learned::default())?,
            options: scaler.policy,
            every: scaler.every,
            broker: scaler.broker,
            queue: scaler.queue,
            fleet: scaler.fleet,
            records: store.as_ref().map(Records::new),
            // A rehearsal decides as if it led.
            leads: lease.is_none(),
            lease,
            stats: scaler.stats,
            outages: scaler.outages,
            status: scaler.status,
            billed: None,
            last: None,
        })
    }

    async fn step(&mut self) {
        self.stats.steps.inc();
        if !self.take_part().await {
            return;
        }
        let seen = self.broker.look().await;
        self.note(BROKER, seen.as_ref().err().cloned());
        let seen = seen.ok();
        let consumers = seen.map(|seen| seen.consumers);
        let capacity = within(FLEET_PATIENCE, "look at", self.fleet.look(consumers)).await;
        let decision = self.policy.decide(&Observation {
            at: Timestamp::now(),
            load: seen.map(|seen| seen.load),
            capacity: capacity.as_ref().ok().copied(),
        });
        let mut error = capacity.as_ref().err().map(ToString::to_string);
        let capacity = capacity.ok();
        if capacity.is_some() && self.lease.is_some() {
            let resized = within(FLEET_PATIENCE, "resize", self.fleet.resize(decision.wanted)).await;
            error = resized.err().map(|error| error.to_string());
        }
        self.note(FLEET, error.clone());
        self.tell(&decision, capacity, seen, error).await;
        self.last = Some(decision);
    }

    /// Renews the lease, or learns who has it. Returns whether this scaler is to act.
    async fn take_part(&mut self) -> bool {
        let legacy = self.legacy();
        let Some(lease) = &mut self.lease else {
            return true;
        };
        let standing = lease.step(&legacy).await;
        let outage = match &standing {
            Standing::Late(why) | Standing::Unknown(why) => Some(why.clone()),
            _ => None,
        };
        self.note(STORE, outage);
        let led = std::mem::replace(
            &mut self.leads,
            !matches!(standing, Standing::Follows(_) | Standing::Unknown(_)),
        );
        self.stats.leader.set(self.leads.into());
        match standing {
            Standing::Leads | Standing::Late(_) => {}
            Standing::Begins(legacy) => self.begin(legacy),
            Standing::Follows(legacy) => {
                if led {
                    tracing::warn!("another scaler leads now; this one no longer acts");
                    self.fleet.leave().await;
                }
                self.forget();
                self.status.show(legacy.decision);
            }
            Standing::Unknown(why) => {
                if led {
                    tracing::warn!(why, "the lease cannot be renewed; the size is held");
                }
                self.forget();
            }
        }
        self.leads
    }

    fn begin(&mut self, legacy: Legacy) {
        tracing::info!("this scaler leads");
        match Policy::new(self.options.clone(), legacy.learned) {
            Ok(policy) => self.policy = policy,
            // The options were checked at the start.
            Err(error) => tracing::error!(%error, "what was learned cannot be used"),
        }
        self.status.show(legacy.decision);
    }

    /// Forgets what has to be measured without a gap.
    fn forget(&mut self) {
        (self.billed, self.last) = (None, None);
    }

    fn legacy(&self) -> Legacy {
        Legacy {
            decision: self.status.shown(),
            learned: self.policy.learned().clone(),
        }
    }

    /// Notes whether a dependency can be used.
    fn note(&self, dependency: &'static str, outage: Option<String>) {
        if outage.is_some() {
            self.stats.note_failure(dependency);
        }
        self.outages.set(dependency, outage);
    }

    /// Says what was decided: to logs, metrics, those who ask, and the store.
    async fn tell(
        &mut self,
        decision: &Decision,
        capacity: Option<Capacity>,
        seen: Option<Seen>,
        error: Option<String>,
    ) {
        let worker_seconds = self.bill(capacity);
        let stats = &self.stats;
        stats.wanted.set(decision.wanted.into());
        stats.note_learned(
            self.policy.learned(),
            capacity.map_or(0, |capacity| capacity.ready),
        );
        capacity
            .into_iter()
            .for_each(|capacity| stats.note_capacity(capacity));
        seen.into_iter().for_each(|seen| stats.note_load(seen.load));
        let before = self.last.as_ref().map(|last| last.wanted);
        let before = before.or(capacity.map(|capacity| capacity.requested));
        let direction = match before.map(|before| decision.wanted.cmp(&before)) {
            Some(std::cmp::Ordering::Greater) => Some("out"),
            Some(std::cmp::Ordering::Less) => Some("in"),
            _ => None,
        };
        let text = decision.reason.to_string();
        let workers = decision.wanted;
        let is_same = |last: &Decision| {
            std::mem::discriminant(&last.reason) == std::mem::discriminant(&decision.reason)
        };
        let is_news = direction.is_some() || !self.last.as_ref().is_some_and(is_same);
        if let Some(direction) = direction {
            stats.resizes.get_or_create(&Direction { direction }).inc();
        }
        let acts = self.lease.is_some();
        match (&decision.reason, is_news) {
            (Reason::Hold { .. }, true) => tracing::warn!(workers, acts, "{text}"),
            (_, true) => tracing::info!(workers, before, acts, "{text}"),
            _ => tracing::debug!(workers, acts, "{text}"),
        }
        let at = Timestamp::now();
        self.status.show(Some(Shown {
            at,
            workers,
            reason: text.clone(),
        }));
        if let Some(records) = &mut self.records {
            let record = Record {
                at,
                queue: self.queue.clone(),
                decision: decision.clone(),
                text,
                fleet: capacity,
                load: seen.map(|seen| seen.load),
                worker_seconds,
                error,
            };
            records.add(record, direction.is_some()).await;
        }
    }

    /// Returns the worker-seconds since the last count. Workers that drain are paid for as well.
    fn bill(&mut self, capacity: Option<Capacity>) -> f64 {
        let Some(capacity) = capacity else {
            return 0.0;
        };
        let (now, workers) = (Instant::now(), capacity.requested + capacity.draining);
        let before = self.billed.replace((now, workers));
        let seconds = before.map_or(0.0, |(then, workers)| {
            (now - then).as_secs_f64() * f64::from(workers)
        });
        self.stats.worker_seconds.inc_by(seconds);
        seconds
    }

    async fn end(mut self) {
        self.fleet.leave().await;
        let legacy = self.legacy();
        if let Some(records) = self.records.take() {
            records.end().await;
        }
        if let Some(lease) = self.lease.take() {
            lease.end(&legacy).await;
        }
        tracing::debug!(every = ?self.every, "the scaler has ended");
    }
}

async fn within<T>(
    patience: Duration,
    action: &'static str,
    call: impl Future<Output = Result<T, FleetError>>,
) -> Result<T, FleetError> {
    timeout(patience, call).await.unwrap_or_else(|_| {
        Err(FleetError::Away {
            action,
            fleet: "the fleet".to_owned(),
            why: format!("it has not answered for {patience:?}"),
        })
    })
}
