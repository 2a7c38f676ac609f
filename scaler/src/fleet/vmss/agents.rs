//! Asks the agents on the instances what their workers hold, and asks them to drain.

use std::collections::HashMap;
use std::time::Duration;

use futures::StreamExt;
use tokio::time::{Instant, timeout_at};
use windrow_common::sentence;

use super::plan::AgentReport;

/// Number of agents asked at once.
const AT_ONCE: usize = 64;
/// Size limit of an answer, in bytes. A report has fewer than a hundred.
const MAX_ANSWER: usize = 64 << 10;

/// A client of the agents.
pub(super) struct Agents {
    client: reqwest::Client,
    port: u16,
}

impl Agents {
    /// Creates a client of the agents that listen on `port`. `patience` is how long one may take to answer.
    pub(super) fn new(port: u16, patience: Duration) -> Result<Self, String> {
        // Never through a proxy: the instances are in the same network.
        let client = reqwest::Client::builder()
            .no_proxy()
            .timeout(patience)
            .build()
            .map_err(|error| sentence(&error))?;
        Ok(Self { client, port })
    }

    /// Asks the agents at `addresses`, in that order, until `deadline`. Returns the answers by instance; `None` is an
    /// agent that was asked and did not answer.
    pub(super) async fn ask(
        &self,
        addresses: Vec<(String, String)>,
        deadline: Instant,
    ) -> HashMap<String, Option<AgentReport>> {
        let asking = addresses.into_iter().map(|(id, address)| async move {
            let answer = self.instance(&address).await;
            if let Err(error) = &answer {
                tracing::debug!(instance = id, %error, "an agent does not answer");
            }
            (id, answer.ok())
        });
        let mut asking = futures::stream::iter(asking).buffer_unordered(AT_ONCE);
        let mut answers = HashMap::new();
        while let Ok(Some((id, answer))) = timeout_at(deadline, asking.next()).await {
            answers.insert(id, answer);
        }
        answers
    }

    /// Asks the agents at `addresses` to drain. Their next report says whether they received the request.
    pub(super) async fn drain(&self, addresses: Vec<(String, String)>, deadline: Instant) {
        let telling = addresses.into_iter().map(|(id, address)| async move {
            let request = self.client.post(self.url(&address, "drain")).send().await;
            if let Err(error) = request.and_then(reqwest::Response::error_for_status) {
                let error = sentence(&error.without_url());
                tracing::debug!(
                    instance = id,
                    error,
                    "an agent may not have received the request to drain"
                );
            }
        });
        let mut telling = futures::stream::iter(telling).buffer_unordered(AT_ONCE);
        while let Ok(Some(())) = timeout_at(deadline, telling.next()).await {}
    }

    async fn instance(&self, address: &str) -> Result<AgentReport, String> {
        let failed = |error: reqwest::Error| sentence(&error.without_url());
        let response = self.client.get(self.url(address, "instance")).send().await;
        let mut response = response
            .and_then(reqwest::Response::error_for_status)
            .map_err(failed)?;
        let mut bytes = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(failed)? {
            bytes.extend_from_slice(&chunk);
            if bytes.len() > MAX_ANSWER {
                return Err(format!("the answer has more than {MAX_ANSWER} bytes"));
            }
        }
        serde_json::from_slice(&bytes).map_err(|error| error.to_string())
    }

    fn url(&self, address: &str, path: &str) -> String {
        match address.contains(':') {
            true => format!("http://[{address}]:{}/{path}", self.port),
            false => format!("http://{address}:{}/{path}", self.port),
        }
    }
}
