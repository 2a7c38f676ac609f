//! The alerter: leads or waits, follows the predictions, and sends events.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval};
use windrow_common::{Backoff, EventTime, HasRemedy, IncidentKind, Remedy};
use windrow_service::Shutdown;
use windrow_store::{LeaderLease, Standing, Store, StoreError};

use crate::deliver::Receiver;
use crate::stats::{self, Stats};
use crate::{Watch, WatchCounts, WatchOptions};

const PREDICTIONS: &str = "predictions";

const LEASE: &str = "alerting/leader.json";

/// Longest wait between two attempts to reach a receiver that does not answer.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// How long to wait for a lease before looking again.
const BETWEEN_STEPS: Duration = Duration::from_millis(500);

/// Most events to send at once, so that progress is noted in between.
const AT_ONCE: usize = 500;

/// An alerter.
pub struct Alerter {
    /// Where predictions are, and incidents go.
    pub store: Store,
    /// How the predictions are followed.
    pub watch: WatchOptions,
    /// Where events are sent.
    pub receivers: Vec<Box<dyn Receiver>>,
    /// How often new predictions are looked for.
    pub every: Duration,
    /// How long an alerter may be silent before another one takes over.
    pub lease: Duration,
    /// What it exports.
    pub stats: Arc<Stats>,
    /// Why it cannot do its work at the moment.
    pub outages: Outages,
}

/// Why an alerter cannot do its work, for its readiness. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Outages(Arc<Mutex<Vec<(String, String)>>>);

/// Why incidents cannot be brought up to date.
#[derive(Debug, thiserror::Error)]
pub enum AlerterError {
    /// Another alerter does it.
    #[error("{leader} follows the predictions of this store, and keeps its incidents up to date")]
    Other {
        /// Its name.
        leader: String,
    },
    /// The lease cannot be taken.
    #[error("cannot take the lease of the store's alerter: {why}")]
    Lease {
        /// What happened.
        why: String,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl HasRemedy for AlerterError {
    fn remedy(&self) -> Remedy {
        match self {
            Self::Other { .. } => Remedy::GiveUp,
            Self::Lease { .. } => Remedy::Wait,
            Self::Store(error) => error.remedy(),
        }
    }
}

/// A receiver, and when events are sent to it next.
struct Line {
    receiver: Box<dyn Receiver>,
    backoff: Backoff,
    next: Instant,
    reminded: Option<Instant>,
    has_failed: bool,
    /// Events due by this time are sent early. By default there are none.
    waits_until: EventTime,
}

impl Outages {
    /// Returns why the predictions cannot be followed.
    pub fn of_predictions(&self) -> Option<String> {
        self.of(|name| name == PREDICTIONS)
    }

    /// Returns why events cannot be sent to a receiver; `None` if they can.
    pub fn of_receivers(&self) -> Option<String> {
        self.of(|name| name != PREDICTIONS)
    }

    fn of(&self, wanted: impl Fn(&str) -> bool) -> Option<String> {
        let outages = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        outages
            .iter()
            .find(|(name, _)| wanted(name))
            .map(|(_, why)| why.clone())
    }

    fn clear(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    fn set(&self, name: &str, why: Option<String>) {
        let mut outages = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        outages.retain(|(other, _)| other != name);
        outages.extend(why.map(|why| (name.to_owned(), why)));
    }
}

impl Alerter {
    /// Reads to the end of the predictions, sends the events, and returns what it did and how many incidents are open. Events
    /// that a receiver does not take wait for the next run.
    pub async fn catch_up(self) -> Result<(WatchCounts, usize), AlerterError> {
        let mut lease = self.new_lease();
        let patience = Instant::now() + self.lease.mul_f64(1.5);
        loop {
            match lease.step(&()).await {
                Standing::Leads | Standing::Late(_) | Standing::Begins(_) => break,
                Standing::Follows { leader, .. } if Instant::now() > patience => {
                    return Err(AlerterError::Other { leader });
                }
                Standing::Unknown(why) if Instant::now() > patience => {
                    return Err(AlerterError::Lease { why });
                }
                Standing::Follows { .. } | Standing::Unknown(_) => tokio::time::sleep(BETWEEN_STEPS).await,
            }
        }
        let (leads, _leading) = watch::channel(true);
        let (stop, stopping) = watch::channel(false);
        let keeper = tokio::spawn(keep(
            lease,
            self.lease / 3,
            leads,
            stopping,
            Arc::clone(&self.stats),
        ));
        let caught_up = self.catch_up_and_tell().await;
        // As in `run`.
        let _ = stop.send(true);
        let _ = keeper.await;
        caught_up
    }

    async fn catch_up_and_tell(self) -> Result<(WatchCounts, usize), AlerterError> {
        let mut watch = Watch::open(self.store, self.watch).await?;
        watch.catch_up().await?;
        for receiver in self.receivers {
            let mut line = Line::new(receiver);
            // There may be no later run, so send even events that would wait in case they are withdrawn.
            line.waits_until = EventTime::MAX;
            let left = |watch: &Watch, line: &Line| {
                watch
                    .waiting(line.receiver.name(), EventTime::MAX, usize::MAX)
                    .len()
            };
            let (mut now, mut before) = (left(&watch, &line), usize::MAX);
            while now > 0 && now < before {
                before = now;
                line.tell(&mut watch, &self.stats, &self.outages).await?;
                now = left(&watch, &line);
            }
        }
        let open = IncidentKind::ALL
            .into_iter()
            .map(|kind| watch.open_of(kind))
            .sum::<u64>();
        Ok((watch.counts(), usize::try_from(open).unwrap_or(usize::MAX)))
    }

    /// Returns the lease. Nothing is handed over to the next leader: the store holds everything.
    fn new_lease(&self) -> LeaderLease<()> {
        LeaderLease::named(self.store.clone(), LEASE.to_owned(), self.lease)
    }

    /// Runs until `shutdown`. Fails only if a person has to act.
    pub async fn run(self, mut shutdown: Shutdown) -> Result<(), StoreError> {
        let lease = self.new_lease();
        let (leads, leading) = watch::channel(false);
        let (stop, stopping) = watch::channel(false);
        let stats = Arc::clone(&self.stats);
        let keeper = tokio::spawn(keep(lease, self.lease / 3, leads, stopping, stats));
        let mut alerting = Alerting::new(self, leading);
        let ended = tokio::select! {
            () = shutdown.stopping() => Ok(()),
            ended = alerting.run() => ended,
        };
        // The keeper gives the lease up. It cannot fail, and a panic of it is no reason to wait.
        let _ = stop.send(true);
        let _ = keeper.await;
        ended
    }
}

/// Keeps the lease, and tells whether it is held.
async fn keep(
    mut lease: LeaderLease<()>,
    every: Duration,
    leads: watch::Sender<bool>,
    mut stopping: watch::Receiver<bool>,
    stats: Arc<Stats>,
) {
    let mut steps = interval(every);
    steps.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = stopping.changed() => break,
            _ = steps.tick() => {}
        }
        let standing = lease.step(&()).await;
        if let Standing::Unknown(why) = &standing {
            tracing::debug!(why, "the lease cannot be renewed");
        }
        let leading = standing.leads();
        stats.leader.set(leading.into());
        leads.send_if_modified(|leads| std::mem::replace(leads, leading) != leading);
    }
    lease.end(&()).await;
}

/// An alerter at work.
struct Alerting {
    store: Store,
    options: WatchOptions,
    lines: Vec<Line>,
    every: Duration,
    stats: Arc<Stats>,
    outages: Outages,
    leading: watch::Receiver<bool>,
}

impl Alerting {
    fn new(alerter: Alerter, leading: watch::Receiver<bool>) -> Self {
        Self {
            store: alerter.store,
            options: alerter.watch,
            lines: alerter.receivers.into_iter().map(Line::new).collect(),
            every: alerter.every,
            stats: alerter.stats,
            outages: alerter.outages,
            leading,
        }
    }

    async fn run(&mut self) -> Result<(), StoreError> {
        let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(30));
        loop {
            // The sender lives as long as the keeper, which outlives this.
            if self.leading.wait_for(|leads| *leads).await.is_err() {
                return Ok(());
            }
            tracing::info!("this alerter leads");
            let led = self.lead(&mut backoff).await;
            // An alerter that does not lead reports no outages.
            self.outages.clear();
            match led {
                Ok(()) => tracing::info!("another alerter leads, and this one waits"),
                Err(error) if error.remedy() == Remedy::FixConfig => return Err(error),
                Err(error) => {
                    tracing::warn!(%error, "cannot follow the predictions; beginning again");
                    self.outages.set(PREDICTIONS, Some(error.to_string()));
                    tokio::time::sleep(backoff.next_wait()).await;
                }
            }
        }
    }

    /// Follows the predictions and sends events while this alerter leads. Waits out an outage of the store. Returns an
    /// error if another writer was first or a file cannot be read; the caller then begins again from the store.
    async fn lead(&mut self, backoff: &mut Backoff) -> Result<(), StoreError> {
        let mut watch = Watch::open(self.store.clone(), self.options.clone()).await?;
        let mut shown = watch.counts();
        let mut steps = interval(self.every);
        steps.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while *self.leading.borrow() {
            steps.tick().await;
            match watch.step().await {
                Ok(()) => {
                    backoff.reset();
                    self.outages.set(PREDICTIONS, None);
                }
                Err(error) if error.remedy().may_pass() && !watch.is_torn() => {
                    tracing::warn!(%error, "cannot follow the predictions; going on when the store can be used");
                    self.outages.set(PREDICTIONS, Some(error.to_string()));
                }
                Err(error) => return Err(error),
            }
            for line in &mut self.lines {
                line.tell(&mut watch, &self.stats, &self.outages).await?;
            }
            self.stats.show(&watch, shown);
            shown = watch.counts();
        }
        Ok(())
    }
}

impl Line {
    fn new(receiver: Box<dyn Receiver>) -> Self {
        Self {
            receiver,
            backoff: Backoff::new(Duration::from_secs(1), LONGEST_WAIT),
            next: Instant::now(),
            reminded: None,
            has_failed: false,
            waits_until: EventTime::MIN,
        }
    }

    /// Sends the receiver its waiting events, if they are due.
    async fn tell(&mut self, watch: &mut Watch, stats: &Stats, outages: &Outages) -> Result<(), StoreError> {
        let now = Instant::now();
        if now < self.next {
            return Ok(());
        }
        let name = self.receiver.name().to_owned();
        let waiting = watch.waiting(&name, self.waits_until.max(EventTime::now()), AT_ONCE);
        let is_due = |every| {
            self.reminded
                .is_none_or(|reminded| now.duration_since(reminded) >= every)
        };
        let reminds = self.receiver.reminds_every().is_some_and(is_due);
        let open = if reminds {
            watch.open_incidents()
        } else {
            Vec::new()
        };
        if waiting.is_empty() && open.is_empty() {
            return Ok(());
        }
        let told = self.receiver.tell(&waiting, &open).await;
        let label = stats::Receiver {
            receiver: name.clone(),
        };
        stats.refused.get_or_create(&label).inc_by(told.refused as u64);
        stats
            .told
            .get_or_create(&label)
            .inc_by((told.taken - told.refused) as u64);
        if told.taken > 0 {
            watch.taken(&name, &waiting[..told.taken]).await?;
        }
        match told.failure {
            None => {
                self.reminded = if reminds { Some(now) } else { self.reminded };
                if std::mem::take(&mut self.has_failed) {
                    tracing::info!(receiver = name, "can be told again");
                    self.backoff.reset();
                    outages.set(&name, None);
                }
            }
            Some(failure) => {
                stats.failures.get_or_create(&label).inc();
                if !std::mem::replace(&mut self.has_failed, true) {
                    tracing::warn!(receiver = name, %failure, "cannot be told; what happened waits for it");
                }
                outages.set(&name, Some(failure.to_string()));
                self.next = now + self.backoff.next_wait();
            }
        }
        Ok(())
    }
}
