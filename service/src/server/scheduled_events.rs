//! Azure's notice that this machine is about to end: the metadata service's scheduled events
//! (<https://learn.microsoft.com/azure/virtual-machines/linux/scheduled-events>).

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::tls::choose_tls;
use crate::Failure;
use crate::ShutdownTrigger;

const EVENTS: &str = "metadata/scheduledevents?api-version=2020-07-01";
const NAME: &str = "metadata/instance/compute/name?api-version=2021-02-01&format=text";
/// The status of an event that Azure has started.
const STARTED: &str = "Started";
/// How often to ask for events. A preemption leaves 30 seconds, and the drain needs most of them.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How long Azure must have stopped announcing the end of this machine before it counts as called off. Azure takes
/// minutes to end a machine, and need not list the event until then.
const CALLED_OFF_AFTER: Duration = Duration::from_secs(900);
/// Timeout of a request. The first request turns the metadata service on, which may take two minutes.
const FIRST_ANSWER: Duration = Duration::from_secs(150);

/// A watch for the end of this machine.
pub(super) struct ScheduledEvents {
    metadata: Metadata,
    seen: Arc<Mutex<Option<Event>>>,
}

#[derive(Clone)]
struct Metadata {
    client: reqwest::Client,
    url: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Events {
    #[serde(default)]
    events: Vec<Event>,
}

#[derive(Clone, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Event {
    event_id: String,
    event_type: String,
    #[serde(default)]
    event_status: String,
    #[serde(default)]
    resources: Vec<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Acknowledgement<'a> {
    start_requests: [StartRequest<'a>; 1],
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct StartRequest<'a> {
    event_id: &'a str,
}

impl ScheduledEvents {
    /// Starts watching the metadata service at `url`. A Terminate or Preempt of this machine stops the service.
    pub(super) fn watch(url: &str, trigger: Arc<ShutdownTrigger>) -> Result<Self, Failure> {
        let url = url.trim_end_matches('/').to_owned();
        if !url.starts_with("http://") {
            return Err(Failure::usage(format!(
                "--scheduled-events {url}: write http://, because the metadata service offers nothing else"
            )));
        }
        choose_tls();
        // Never through a proxy: the address is this machine's own.
        let client = reqwest::Client::builder()
            .no_proxy()
            .timeout(FIRST_ANSWER)
            .build()
            .map_err(Failure::failed)?;
        let metadata = Metadata { client, url };
        let seen = Arc::new(Mutex::new(None));
        let (watched, found) = (metadata.clone(), Arc::clone(&seen));
        tokio::spawn(async move {
            let event = watched.until_the_end_is_near().await;
            let (id, kind) = (&event.event_id, &event.event_type);
            tracing::warn!(event = id, kind, "this machine is about to end: draining");
            *found.lock().unwrap_or_else(PoisonError::into_inner) = Some(event);
            trigger.stop();
        });
        Ok(Self { metadata, seen })
    }

    /// Tells Azure that it may end the machine now, if its notice caused the stop. Returns whether it did.
    pub(super) async fn acknowledge(&self) -> bool {
        let event = self.seen.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(event) = event else { return false };
        let id = event.event_id;
        // Azure has started it already: somebody has acknowledged it, or the notice has expired.
        if event.event_status == STARTED {
            return true;
        }
        match self.metadata.start(&id).await {
            Ok(()) => tracing::info!(event = id, "acknowledged"),
            Err(error) => {
                tracing::warn!(event = id, %error, "cannot acknowledge the notice; Azure waits until it expires");
            }
        }
        true
    }

    /// Waits until Azure has not announced the end of this machine for [`CALLED_OFF_AFTER`].
    pub(super) async fn until_it_is_called_off(&self) {
        let mut name = None;
        let mut announced = Instant::now();
        while announced.elapsed() < CALLED_OFF_AFTER {
            tokio::time::sleep(LOOK_EVERY).await;
            if !matches!(self.metadata.look(&mut name).await, Ok(None)) {
                announced = Instant::now();
            }
        }
    }
}

impl Metadata {
    /// Waits for an event that ends this machine.
    async fn until_the_end_is_near(&self) -> Event {
        let mut name = None;
        let mut failing = false;
        loop {
            match self.look(&mut name).await {
                Ok(Some(end)) => return end,
                Ok(None) => failing = false,
                Err(error) => {
                    if !failing {
                        tracing::warn!(%error, url = self.url, "cannot read scheduled events; retrying");
                    }
                    failing = true;
                }
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    async fn look(&self, name: &mut Option<String>) -> Result<Option<Event>, reqwest::Error> {
        let ours = match name {
            Some(ours) => ours,
            None => name.insert(self.get(NAME).await?.text().await?.trim().to_owned()),
        };
        let events: Events = self.get(EVENTS).await?.json().await?;
        Ok(events.events.into_iter().find(|event| {
            matches!(event.event_type.as_str(), "Terminate" | "Preempt")
                && event.resources.iter().any(|resource| resource == ours)
        }))
    }

    async fn get(&self, path: &str) -> Result<reqwest::Response, reqwest::Error> {
        let request = self.client.get(format!("{}/{path}", self.url));
        request
            .header("Metadata", "true")
            .send()
            .await?
            .error_for_status()
    }

    async fn start(&self, event_id: &str) -> Result<(), reqwest::Error> {
        let acknowledgement = Acknowledgement {
            start_requests: [StartRequest { event_id }],
        };
        let request = self.client.post(format!("{}/{EVENTS}", self.url));
        let request = request.header("Metadata", "true").json(&acknowledgement);
        request.send().await?.error_for_status().map(|_| ())
    }
}
