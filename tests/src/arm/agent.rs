//! The agent of an instance: on an address of its own on loopback, and everywhere on the same port.

use std::net::{Ipv4Addr, TcpListener};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::{get, post};
use serde_json::json;
use tokio::runtime::Handle;
use tokio::task::JoinHandle;

/// An agent, until it is dropped.
#[derive(Debug)]
pub(super) struct Agent {
    pub(super) address: Ipv4Addr,
    shared: Arc<Mutex<Shared>>,
    serving: JoinHandle<()>,
}

#[derive(Clone, Debug)]
struct Shared {
    workers: u32,
    /// When it begins to answer; `None` if it never does.
    ready: Option<Instant>,
    is_mute: bool,
    in_hand: u64,
    draining: Option<Instant>,
    /// How long draining takes; `None` if the test decides when it is done.
    drains_in: Option<Duration>,
}

impl Agent {
    pub(super) fn start(
        runtime: &Handle,
        address: Ipv4Addr,
        port: u16,
        workers: u32,
        ready: Option<Instant>,
        drains_in: Option<Duration>,
    ) -> Self {
        let listener = TcpListener::bind((address, port)).unwrap();
        listener.set_nonblocking(true).unwrap();
        let shared = Arc::new(Mutex::new(Shared {
            workers,
            ready,
            is_mute: false,
            in_hand: 0,
            draining: None,
            drains_in,
        }));
        let routes = Router::new()
            .route("/instance", get(instance))
            .route("/drain", post(drain))
            .with_state(Arc::clone(&shared));
        let serving = runtime.spawn(async move {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            _ = axum::serve(listener, routes).await;
        });
        Self {
            address,
            shared,
            serving,
        }
    }

    /// Returns whether the workers take messages.
    pub(super) fn is_at_work(&self) -> bool {
        let shared = self.shared.lock().unwrap();
        shared.ready.is_some_and(|ready| ready <= Instant::now()) && shared.draining.is_none()
    }

    pub(super) fn is_draining(&self) -> bool {
        self.shared.lock().unwrap().draining.is_some()
    }

    pub(super) fn in_hand(&self) -> u64 {
        self.shared.lock().unwrap().left()
    }

    pub(super) fn set_in_hand(&self, in_hand: u64) {
        self.shared.lock().unwrap().in_hand = in_hand;
    }

    pub(super) fn set_mute(&self, is_mute: bool) {
        self.shared.lock().unwrap().is_mute = is_mute;
    }

    /// Its machine ends: what it held is delivered to others.
    pub(super) fn kill(&self) {
        let mut shared = self.shared.lock().unwrap();
        (shared.ready, shared.in_hand) = (None, 0);
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl Shared {
    fn answers(&self) -> bool {
        !self.is_mute && self.ready.is_some_and(|ready| ready <= Instant::now())
    }

    fn left(&self) -> u64 {
        match (self.draining, self.drains_in) {
            (Some(since), Some(takes)) if since.elapsed() >= takes => 0,
            _ => self.in_hand,
        }
    }
}

async fn instance(State(shared): State<Arc<Mutex<Shared>>>) -> (StatusCode, String) {
    let shared = shared.lock().unwrap();
    if !shared.answers() {
        return (StatusCode::SERVICE_UNAVAILABLE, String::new());
    }
    let report = json!({
        "workers": shared.workers, "in_hand": shared.left(), "draining": shared.draining.is_some(),
    });
    (StatusCode::OK, report.to_string())
}

async fn drain(State(shared): State<Arc<Mutex<Shared>>>) -> StatusCode {
    let mut shared = shared.lock().unwrap();
    if !shared.answers() {
        return StatusCode::SERVICE_UNAVAILABLE;
    }
    shared.draining.get_or_insert_with(Instant::now);
    StatusCode::OK
}
