//! The loop around the policy: look, decide, act, and say why.

mod broker;
mod handover;
mod outage;
mod records;
mod stats;
mod status;

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::{Instant, timeout};
use windrow_service::Shutdown;
use windrow_store::{LeaderLease, Standing, Store};

use crate::fleet::{Capacity, Fleet, FleetError};
use crate::policy::{
    Decision, DecisionReason, Learned, Observation, Policy, PolicyOptions, PolicyOptionsError,
};
use records::{Record, Records};
use stats::{BROKER, Direction, FLEET, STORE};

pub use broker::{Broker, Seen};
pub use handover::{Handover, Shown};
pub use outage::Outages;
pub use stats::Stats;
pub use status::Status;

/// How long a call to the fleet may take. The lease has to last longer than a whole step.
const FLEET_PATIENCE: Duration = Duration::from_secs(15);

/// The lease of those that scale the workers of one queue.
pub type Lease = LeaderLease<Handover>;

/// A scaler: its policy, queue, fleet and outputs.
pub struct Scaler {
    /// Bounds and aims.
    pub policy: PolicyOptions,
    /// How often it looks.
    pub every: Duration,
    /// What a worker costs in an hour, if that is known.
    pub price_hour: Option<f64>,
    /// The queue.
    pub broker: Broker,
    /// The name of the queue, for records.
    pub queue: String,
    /// The workers.
    pub fleet: Box<dyn Fleet>,
    /// Where records go, and the lease by which one of several scalers acts; `None` for a dry run, which only says what
    /// would be done.
    pub leadership: Option<(Store, Lease)>,
    /// What it exports.
    pub stats: Arc<Stats>,
    /// The dependencies that cannot be used now.
    pub outages: Outages,
    /// The last decision, for those who ask.
    pub status: Status,
}

/// A scaler at work.
struct Loop {
    policy: Policy,
    options: PolicyOptions,
    price_hour: Option<f64>,
    broker: Broker,
    queue: String,
    fleet: Box<dyn Fleet>,
    lease: Option<Lease>,
    records: Option<Records>,
    stats: Arc<Stats>,
    outages: Outages,
    status: Status,
    leads: bool,
    /// Whether it has led, and has not released the fleet since.
    has_fleet: bool,
    /// Name of the leader that it follows.
    follows: String,
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
        let (store, lease) = scaler.leadership.unzip();
        Ok(Self {
            policy: Policy::new(scaler.policy.clone(), Learned::default())?,
            options: scaler.policy,
            price_hour: scaler.price_hour,
            broker: scaler.broker,
            queue: scaler.queue,
            fleet: scaler.fleet,
            records: store.as_ref().map(Records::new),
            // A dry run decides as if it led.
            leads: lease.is_none(),
            lease,
            has_fleet: false,
            follows: String::new(),
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
        let consumers = seen.as_ref().ok().map(|seen| seen.consumers);
        let capacity = within(FLEET_PATIENCE, "look at the workers", self.fleet.look(consumers)).await;
        let seen = plausible(seen, &capacity);
        self.note(BROKER, seen.as_ref().err().cloned());
        let seen = seen.ok();
        let decision = self.policy.decide(&Observation {
            at: Timestamp::now(),
            load: seen.map(|seen| seen.load),
            capacity: capacity.as_ref().ok().copied(),
        });
        let error = match &capacity {
            Ok(_) => self.resize(decision.wanted).await.err(),
            Err(error) => Some(error.to_string()),
        };
        self.note(FLEET, error.clone());
        self.tell(&decision, capacity.ok(), seen, error).await;
        self.last = Some(decision);
    }

    /// Resizes the fleet, if this scaler leads for long enough.
    async fn resize(&mut self, wanted: u32) -> Result<(), String> {
        let Some(lease) = &self.lease else {
            return Ok(());
        };
        let until = lease.lasts_until();
        if until.is_none_or(|until| until < Instant::now() + FLEET_PATIENCE) {
            return Err("the lease is about to end, so the fleet is not resized".to_owned());
        }
        let resized = within(FLEET_PATIENCE, "resize", self.fleet.resize(wanted)).await;
        resized.map_err(|error| error.to_string())
    }

    /// Renews the lease, or learns who has it. Returns whether this scaler is to act.
    async fn take_part(&mut self) -> bool {
        let handover = self.handover();
        let Some(lease) = &mut self.lease else {
            return true;
        };
        let standing = lease.step(&handover).await;
        let outage = match &standing {
            Standing::Late(why) | Standing::Unknown(why) => Some(why.clone()),
            _ => None,
        };
        self.note(STORE, outage);
        let leads = standing.leads();
        let led = std::mem::replace(&mut self.leads, leads);
        self.stats.leader.set(leads.into());
        self.has_fleet |= leads;
        match standing {
            Standing::Leads | Standing::Late(_) => {}
            Standing::Begins(handover) => self.begin(handover),
            Standing::Follows { leader, handover } => self.follow(leader, handover).await,
            Standing::Unknown(why) => {
                if led {
                    tracing::warn!(why, "the lease cannot be renewed; the size is held");
                }
                self.last = None;
                self.stop_observing();
                if self.has_fleet {
                    self.fleet.tend().await;
                }
            }
        }
        self.leads
    }

    async fn follow(&mut self, leader: String, handover: Handover) {
        if self.follows != leader {
            tracing::info!(leader, "another scaler leads, and this one follows");
            self.follows = leader;
        }
        if std::mem::take(&mut self.has_fleet) {
            tracing::warn!("this scaler no longer acts");
            self.fleet.leave().await;
            if let Some(records) = &mut self.records {
                records.write().await;
            }
        }
        (self.billed, self.last) = (None, None);
        self.stop_observing();
        if let Some(decision) = &handover.decision {
            self.stats.wanted.set(decision.workers.into());
        }
        self.status.show(handover.decision);
    }

    /// Drops the observations, because they are out of date.
    fn stop_observing(&self) {
        self.outages.set(BROKER, None);
        self.outages.set(FLEET, None);
        self.stats.forget_observations();
    }

    fn begin(&mut self, mut handover: Handover) {
        tracing::info!("this scaler leads");
        if !handover.learned.is_plausible() {
            tracing::warn!("what was learned is damaged, and is measured again");
            handover.learned = Learned::default();
        }
        self.follows.clear();
        match Policy::new(self.options.clone(), handover.learned) {
            Ok(mut policy) => {
                if let Some(decision) = &handover.decision {
                    policy.resume(decision.workers);
                    self.fleet.resume(decision.workers);
                }
                self.policy = policy;
            }
            // The options were checked at the start.
            Err(error) => tracing::error!(%error, "what was learned cannot be used"),
        }
        self.status.show(handover.decision);
    }

    fn handover(&self) -> Handover {
        Handover {
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
        let cost = self.price_hour.map(|price| price * worker_seconds / 3_600.0);
        self.stats.cost.inc_by(cost.unwrap_or(0.0));
        let stats = &self.stats;
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
            (DecisionReason::Hold { .. }, true) => tracing::warn!(workers, acts, "{text}"),
            (_, true) => tracing::info!(workers, before, acts, "{text}"),
            _ => tracing::debug!(workers, acts, "{text}"),
        }
        let at = Timestamp::now();
        // Before the first observation there is no size to hold, and nobody should act on a guess.
        let is_guess =
            matches!(decision.reason, DecisionReason::Hold { .. }) && self.status.shown().is_none();
        if !is_guess {
            stats.wanted.set(workers.into());
            self.status.show(Some(Shown {
                at,
                workers,
                reason: text.clone(),
            }));
        }
        if let Some(records) = &mut self.records {
            let record = Record {
                at,
                queue: self.queue.clone(),
                decision: decision.clone(),
                text,
                fleet: capacity,
                load: seen.map(|seen| seen.load),
                worker_seconds,
                cost,
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
        let handover = self.handover();
        let records = async {
            if let Some(records) = self.records.take() {
                records.end().await;
            }
        };
        let lease = async {
            if let Some(lease) = self.lease.take() {
                lease.end(&handover).await;
            }
        };
        tokio::join!(records, lease);
    }
}

/// Refuses figures that the fleet contradicts: a worker that has connected has declared its queue.
fn plausible(seen: Result<Seen, String>, capacity: &Result<Capacity, FleetError>) -> Result<Seen, String> {
    let ready = capacity.as_ref().map_or(0, |capacity| capacity.ready);
    match seen {
        Ok(seen) if !seen.exists && ready > 0 => Err(format!(
            "the queue does not exist, though {ready} workers have connected: --queue-prefix, or the virtual host of \
             --amqp-url, is not theirs"
        )),
        seen => seen,
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
            fleet: "--fleet".to_owned(),
            why: format!("it has not answered for {patience:?}; the next step tries again"),
        })
    })
}

#[cfg(test)]
mod tests;
