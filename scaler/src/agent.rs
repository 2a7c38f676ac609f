//! The agent of a machine: keeps a number of workers running, and drains them all together.
//!
//! Only the agent answers Azure's notices. If each worker did, Azure would stop the machine as soon as the first worker
//! had drained, while the others still held messages.

use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Json;
use axum::routing::{get, post};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use serde::Serialize;
use windrow_service::{Readiness, Shutdown};

use crate::workers::{Census, Workers};

/// How often the workers are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The state of an agent: what its workers do, and whether it was asked to drain. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Agent(Arc<State>);

#[derive(Debug, Default)]
struct State {
    census: Mutex<Census>,
    outage: Mutex<Option<String>>,
    draining: AtomicBool,
    running: Gauge,
    held: Gauge,
    lost: Counter,
}

/// The answer to `GET /instance`.
#[derive(Serialize)]
struct Report {
    workers: u32,
    in_hand: u64,
    draining: bool,
}

impl Agent {
    /// Returns the routes `GET /instance`, which says how many workers there are and what they hold, and `POST /drain`, after
    /// which they take no further messages and end.
    pub fn routes(&self) -> axum::Router {
        let (asked, told) = (self.clone(), self.clone());
        let drain = async move || {
            if !told.0.draining.swap(true, Relaxed) {
                tracing::warn!("asked to drain: no worker of this machine takes further messages");
            }
            Json(told.report())
        };
        axum::Router::new()
            .route("/instance", get(async move || Json(asked.report())))
            .route("/drain", post(drain))
    }

    /// Returns a readiness that says why workers cannot be started.
    pub fn readiness(&self) -> Readiness {
        let agent = self.clone();
        Readiness::default().depend_on("workers", move || {
            let outage = agent.0.outage.lock().unwrap_or_else(PoisonError::into_inner);
            outage.clone()
        })
    }

    /// Registers what it counts with `registry`, under the prefix `windrow_agent_`.
    pub fn register(&self, registry: &mut Registry) {
        let registry = registry.sub_registry_with_prefix("windrow_agent");
        registry.register("workers", "Workers of this machine", self.0.running.clone());
        registry.register(
            "held_messages",
            "Messages that they hold; at least one for each worker that cannot be asked or drains",
            self.0.held.clone(),
        );
        registry.register(
            "lost_workers",
            "Workers that ended although nobody had asked them to, or before they had drained",
            self.0.lost.clone(),
        );
    }

    /// Keeps `wanted` workers at work until it is asked to drain, and none after that. Returns after `shutdown`, once all
    /// have ended.
    pub async fn run(&self, mut workers: Workers, wanted: u32, mut shutdown: Shutdown) {
        loop {
            let left = if self.0.draining.load(Relaxed) { 0 } else { wanted };
            let resized = workers.resize(left);
            if let Err(why) = &resized {
                tracing::debug!(why, "fewer workers than there should be");
            }
            *self.0.outage.lock().unwrap_or_else(PoisonError::into_inner) = resized.err();
            self.note(workers.look().await, &workers);
            tokio::select! {
                biased;
                () = shutdown.stopping() => break,
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
        }
        self.0.draining.store(true, Relaxed);
        workers.end().await;
        self.note(Census::default(), &workers);
    }

    fn note(&self, census: Census, workers: &Workers) {
        let state = &self.0;
        *state.census.lock().unwrap_or_else(PoisonError::into_inner) = census;
        state.running.set(total(census).into());
        state.held.set(i64::try_from(census.in_hand).unwrap_or(i64::MAX));
        state.lost.inc_by(workers.lost().saturating_sub(state.lost.get()));
    }

    fn report(&self) -> Report {
        let census = *self.0.census.lock().unwrap_or_else(PoisonError::into_inner);
        let draining = self.0.draining.load(Relaxed);
        // Until the next look after the request to drain, workers may still take messages.
        let least = if draining { total(census) } else { 0 };
        Report {
            workers: total(census),
            in_hand: census.in_hand.max(least.into()),
            draining,
        }
    }
}

fn total(census: Census) -> u32 {
    census.booting + census.ready + census.draining
}
