//! Emulates Azure's instance metadata service, as far as scheduled events need it.

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::get;

/// The metadata service of a machine named `fleet_7`.
#[derive(Debug)]
pub struct MetadataService {
    url: String,
    shared: Arc<Mutex<Shared>>,
    _runtime: tokio::runtime::Runtime,
}

#[derive(Debug, Default)]
struct Shared {
    events: Vec<(String, String, String)>,
    acknowledged: Vec<String>,
    /// How often the events were listed.
    listed: u64,
}

impl MetadataService {
    /// Starts the service on a free port; it ends when it is dropped.
    pub fn start() -> Self {
        let shared = Arc::new(Mutex::new(Shared::default()));
        let routes = Router::new()
            .route(
                "/metadata/instance/compute/name",
                get(async |headers: HeaderMap| answer(&headers, || "fleet_7".into())),
            )
            .route("/metadata/scheduledevents", get(list).post(start_event))
            .with_state(Arc::clone(&shared));
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let listener = runtime
            .block_on(tokio::net::TcpListener::bind("127.0.0.1:0"))
            .unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        runtime.spawn(async move { axum::serve(listener, routes).await });
        Self {
            url,
            shared,
            _runtime: runtime,
        }
    }

    /// Returns the base URL.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Announces an event of type `kind` for a machine.
    pub fn announce(&self, id: &str, kind: &str, machine: &str) {
        let event = (id.to_owned(), kind.to_owned(), machine.to_owned());
        self.shared.lock().unwrap().events.push(event);
    }

    /// Returns how often the events were listed.
    pub fn listed(&self) -> u64 {
        self.shared.lock().unwrap().listed
    }

    /// Returns the ids of the acknowledged events.
    pub fn acknowledged(&self) -> Vec<String> {
        self.shared.lock().unwrap().acknowledged.clone()
    }
}

/// Answers only requests with the `Metadata: true` header, as Azure does.
fn answer(headers: &HeaderMap, body: impl FnOnce() -> String) -> (StatusCode, String) {
    match headers.get("Metadata") {
        Some(value) if value == "true" => (StatusCode::OK, body()),
        _ => (StatusCode::BAD_REQUEST, String::new()),
    }
}

async fn list(State(shared): State<Arc<Mutex<Shared>>>, headers: HeaderMap) -> (StatusCode, String) {
    answer(&headers, || {
        let mut shared = shared.lock().unwrap();
        shared.listed += 1;
        let events = &shared.events;
        let events: Vec<_> = events
            .iter()
            .map(|(id, kind, machine)| {
                // It stays listed until it is over.
                let status = match shared.acknowledged.contains(id) {
                    true => "Started",
                    false => "Scheduled",
                };
                serde_json::json!({
                    "EventId": id, "EventStatus": status, "EventType": kind,
                    "ResourceType": "VirtualMachine", "Resources": [machine],
                    "NotBefore": "", "EventSource": "Platform", "DurationInSeconds": -1,
                })
            })
            .collect();
        serde_json::json!({"DocumentIncarnation": events.len(), "Events": events}).to_string()
    })
}

async fn start_event(
    State(shared): State<Arc<Mutex<Shared>>>,
    headers: HeaderMap,
    body: String,
) -> (StatusCode, String) {
    answer(&headers, || {
        let body: serde_json::Value = serde_json::from_str(&body).unwrap();
        let id = body["StartRequests"][0]["EventId"].as_str().unwrap();
        shared.lock().unwrap().acknowledged.push(id.to_owned());
        String::new()
    })
}
