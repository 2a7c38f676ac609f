//! A webhook that notes what it is told.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use hmac::{Hmac, KeyInit, Mac};
use serde_json::Value;
use sha2::Sha256;

pub(super) const SECRET: &str = "a secret of the webhook";

#[derive(Default)]
pub(super) struct Webhook {
    pub(super) address: String,
    noted: Arc<Noted>,
}

#[derive(Default)]
struct Noted {
    /// Events by their key, and how often each was told.
    events: Mutex<BTreeMap<String, (Value, u32)>>,
    answer: Mutex<Option<u16>>,
    signed: AtomicUsize,
}

impl Webhook {
    pub(super) fn start() -> Self {
        let noted = Arc::new(Noted::default());
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = format!("http://{}/hook", listener.local_addr().unwrap());
        let app = Router::new()
            .route("/hook", post(take))
            .route("/login", get(|| async {}))
            .with_state(Arc::clone(&noted));
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async {
                let listener = tokio::net::TcpListener::from_std(listener).unwrap();
                axum::serve(listener, app).await.unwrap();
            });
        });
        Self { address, noted }
    }

    /// Answers with this status from now on, instead of taking events.
    pub(super) fn answers(&self, status: Option<u16>) {
        *self.noted.answer.lock().unwrap() = status;
    }

    /// Returns how many events were signed.
    pub(super) fn signed(&self) -> usize {
        self.noted.signed.load(Relaxed)
    }

    /// Returns the incidents that it was told of, as they were then.
    pub(super) fn courses(&self) -> Vec<Value> {
        let events = self.noted.events.lock().unwrap();
        events
            .values()
            .map(|(event, _)| event["course"].clone())
            .collect()
    }

    /// Returns what it was told, as `tag stage`, each event once, and how often one was told at most.
    pub(super) fn told(&self) -> (Vec<String>, u32) {
        let events = self.noted.events.lock().unwrap();
        let text = |event: &Value| {
            format!(
                "{} {}",
                event["tag"].as_str().unwrap(),
                event["stage"].as_str().unwrap()
            )
        };
        let mut told: Vec<String> = events.values().map(|(event, _)| text(event)).collect();
        told.sort();
        (told, events.values().map(|(_, times)| *times).max().unwrap_or(0))
    }
}

async fn take(State(noted): State<Arc<Noted>>, headers: HeaderMap, body: String) -> Response {
    if let Some(status) = *noted.answer.lock().unwrap() {
        // Some lead to a page that says 200 to everybody.
        return (StatusCode::from_u16(status).unwrap(), [("Location", "/login")]).into_response();
    }
    let header = |name: &str| headers[name].to_str().unwrap();
    if let Some(signature) = headers.get("Windrow-Signature") {
        let mut mac = Hmac::<Sha256>::new_from_slice(SECRET.as_bytes()).unwrap();
        mac.update(format!("{}.{body}", header("Windrow-Timestamp")).as_bytes());
        let right = mac.finalize().into_bytes();
        let right: String = right.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(signature.to_str().unwrap(), format!("sha256={right}"));
        noted.signed.fetch_add(1, Relaxed);
    }
    let event: Value = serde_json::from_str(&body).unwrap();
    let mut events = noted.events.lock().unwrap();
    let known = events
        .entry(header("Idempotency-Key").to_owned())
        .or_insert((event.clone(), 0));
    assert_eq!(known.0["id"], event["id"]);
    known.1 += 1;
    StatusCode::NO_CONTENT.into_response()
}
