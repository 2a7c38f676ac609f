//! Readings from Azure Event Hubs, by the official client.
//!
//! Producers of one source share the hub's partitions: the client's event processor says which are this process's
//! (`processor`), claims and positions lie in the store (`ownership`). Each partition is a source of its own
//! (`partition`), with windows, watermark and checkpoint of its own, so that it can move to another producer alone. That
//! needs the readings of a sensor to be in one partition: publish with the device as partition key.

mod args;
mod event;
mod ownership;
mod partition;
mod processor;

use std::error::Error;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use azure_core::credentials::TokenCredential;
use azure_core_amqp::error::{AmqpErrorCondition, AmqpErrorKind};
use azure_core_amqp::{AmqpDescribedError, AmqpError};
use azure_identity::{DeveloperToolsCredential, ManagedIdentityCredential, WorkloadIdentityCredential};
use azure_messaging_eventhubs::error::ErrorKind;
use azure_messaging_eventhubs::{
    BufferedProducerClient, ConnectionString, ConsumerClient, EventHubsError, RetryOptions,
};
use windrow_common::EventTime;

use super::file::ColumnMapping;
use crate::checkpoint::unique_name;

pub use args::{HubArgs, ReadHubArgs};
pub(crate) use processor::run;

/// The URL's scheme, with what separates it from the host.
pub const SCHEME: &str = "eventhubs://";

/// Waits between tries to reach a hub that is away.
const FIRST_WAIT: Duration = Duration::from_millis(500);
const LONGEST_WAIT: Duration = Duration::from_secs(30);
/// What the service asks a client to wait when it is busy
/// (<https://learn.microsoft.com/azure/event-hubs/event-hubs-messaging-exceptions>).
const BUSY_WAIT: Duration = Duration::from_secs(4);

/// Which hub, and how it is reached.
#[derive(Clone)]
pub struct EventHub {
    /// Fully qualified namespace: `fleet.servicebus.windows.net`.
    host: String,
    name: String,
    login: Login,
    endpoint: Option<String>,
}

/// How a process shows who it is.
#[derive(Clone)]
pub enum Login {
    /// A shared access key.
    ConnectionString(String),
    /// Microsoft Entra ID.
    Entra(EntraLogin),
}

/// Where a token comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum EntraLogin {
    /// The pod's federated token, by the AZURE_* variables that AKS sets
    WorkloadIdentity,
    /// The machine's identity
    ManagedIdentity,
    /// Whoever is logged in with the Azure CLI or azd
    Cli,
}

/// How a hub is read.
#[derive(Clone, Debug)]
pub struct EventHubSource {
    /// The hub.
    pub hub: EventHub,
    /// The consumer group.
    pub consumer_group: String,
    /// Where a partition without a checkpoint begins.
    pub start: Start,
    /// Events asked for ahead, in each partition.
    pub prefetch: u32,
    /// After how long without a sign of life a producer's partitions go to others.
    pub ownership_expiry: Duration,
    /// Which field of an event is what.
    pub mapping: ColumnMapping,
    /// Whether to stop at the end that the partitions have at the start.
    pub until_caught_up: bool,
}

/// Where a partition without a checkpoint begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// At the oldest event that is kept.
    Earliest,
    /// At what comes after the producer's first start.
    Latest,
    /// At what was enqueued then or later.
    At(EventTime),
}

/// What can go wrong with a hub.
#[derive(Debug, thiserror::Error)]
pub enum EventHubError {
    /// The options contradict each other or cannot be used.
    #[error("`{0}` cannot be read: {1}")]
    Config(String, String),
    /// The service refused for good: credentials, or names that are not there.
    #[error("Event Hub {hub} refuses: {why}")]
    Refused {
        /// The hub.
        hub: String,
        /// What it said.
        why: String,
    },
    /// The service is away, busy or cut the connection.
    #[error("Event Hub {hub} cannot be used at the moment: {why}")]
    Away {
        /// The hub.
        hub: String,
        /// What it said, or the network.
        why: String,
        /// Whether it asked to be left alone for a while.
        busy: bool,
    },
}

impl EventHubError {
    /// Whether waiting may mend it.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Away { .. })
    }

    /// How long to wait at least before trying again.
    pub fn least_wait(&self) -> Duration {
        match self {
            Self::Away { busy: true, .. } => BUSY_WAIT,
            _ => Duration::ZERO,
        }
    }
}

impl fmt::Debug for EventHub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl fmt::Display for EventHub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{SCHEME}{}/{}", self.host, self.name)
    }
}

impl EventHub {
    /// The hub of a URL `eventhubs://HOST/HUB`; `endpoint` is another place to connect to, such as
    /// `amqp://127.0.0.1:5672`.
    pub fn new(url: &str, login: Login, endpoint: Option<String>) -> Result<Self, EventHubError> {
        let config = |why: String| EventHubError::Config(url.to_owned(), why);
        let place = url.strip_prefix(SCHEME).and_then(|rest| rest.split_once('/'));
        let (host, name) = place
            .filter(|(host, name)| !host.is_empty() && !name.is_empty() && !name.contains('/'))
            .ok_or_else(|| config(format!("write {SCHEME}NAMESPACE.servicebus.windows.net/HUB")))?;
        if let Login::ConnectionString(string) = &login {
            let parsed: ConnectionString = string
                .parse()
                .map_err(|_| config("the connection string is malformed".to_owned()))?;
            if !parsed.fully_qualified_namespace.eq_ignore_ascii_case(host) {
                let other = &parsed.fully_qualified_namespace;
                return Err(config(format!("the connection string is of {other}")));
            }
        }
        if let Some(endpoint) = &endpoint {
            url::Url::parse(endpoint)
                .map_err(|error| config(format!("its endpoint `{endpoint}` is no URL: {error}")))?;
        }
        // The client brings one TLS implementation and the AMQP client another; left to choose, rustls panics. An error
        // says that someone has chosen already.
        _ = rustls::crypto::ring::default_provider().install_default();
        Ok(Self {
            host: host.to_owned(),
            name: name.to_owned(),
            login,
            endpoint,
        })
    }

    /// The hub's own name.
    pub fn name(&self) -> &str {
        &self.name
    }

    async fn consumer(&self, consumer_group: &str) -> Result<ConsumerClient, EventHubError> {
        let mut client = ConsumerClient::builder()
            // The client takes it for the owner's name, too.
            .with_application_id(format!("windrow-{}", unique_name()))
            .with_consumer_group(consumer_group.to_owned())
            .with_retry_options(no_retries());
        if let Some(endpoint) = &self.endpoint {
            client = client.with_custom_endpoint(endpoint.clone());
        }
        let opened = match &self.login {
            Login::ConnectionString(string) => {
                client.open_with_connection_string(string, Some(&self.name)).await
            }
            Login::Entra(login) => {
                let credential = self.credential(*login)?;
                client.open(&self.host, self.name.clone(), credential).await
            }
        };
        opened.map_err(|error| self.error(&error))
    }

    /// A client that sends to the hub, in batches of its own; what it gives up is told to `failed`.
    pub async fn producer(
        &self,
        failed: impl Fn(EventHubError) + Send + Sync + 'static,
    ) -> Result<BufferedProducerClient, EventHubError> {
        let hub = self.clone();
        let failed = Arc::new(move |error: &EventHubsError| failed(hub.error(error)));
        let mut client = BufferedProducerClient::builder()
            .with_application_id(format!("windrow-{}", unique_name()))
            .with_on_send_failed(move |context| {
                failed(&context.error);
                std::future::ready(())
            });
        if let Some(endpoint) = &self.endpoint {
            client = client.with_custom_endpoint(endpoint.clone());
        }
        let opened = match &self.login {
            Login::ConnectionString(string) => {
                client.open_with_connection_string(string, Some(&self.name)).await
            }
            Login::Entra(login) => {
                let credential = self.credential(*login)?;
                client.open(&self.host, &self.name, credential).await
            }
        };
        opened.map_err(|error| self.error(&error))
    }

    fn credential(&self, login: EntraLogin) -> Result<Arc<dyn TokenCredential>, EventHubError> {
        let credential: azure_core::Result<Arc<dyn TokenCredential>> = match login {
            EntraLogin::WorkloadIdentity => {
                WorkloadIdentityCredential::new(None).map(|credential| credential as _)
            }
            EntraLogin::ManagedIdentity => {
                ManagedIdentityCredential::new(None).map(|credential| credential as _)
            }
            EntraLogin::Cli => DeveloperToolsCredential::new(None).map(|credential| credential as _),
        };
        credential.map_err(|error| EventHubError::Config(self.to_string(), error.to_string()))
    }

    /// It has not answered for so long.
    pub fn silent(&self, waited: Duration) -> EventHubError {
        EventHubError::Away {
            hub: self.to_string(),
            why: format!("no answer for {} s", waited.as_secs()),
            busy: false,
        }
    }

    /// What the client said, as something to act on.
    pub fn error(&self, error: &EventHubsError) -> EventHubError {
        let hub = self.to_string();
        match said(error) {
            Some((Said::No, why)) => EventHubError::Refused { hub, why },
            Some((said, why)) => EventHubError::Away {
                hub,
                why,
                busy: matches!(said, Said::Busy),
            },
            None => EventHubError::Away {
                hub,
                why: error.to_string(),
                busy: false,
            },
        }
    }
}

/// The client's own recovery opens a receiver again where it was first opened, and so reads everything again; ours
/// begins at the checkpoint.
fn no_retries() -> RetryOptions {
    RetryOptions {
        max_retries: 0,
        ..RetryOptions::default()
    }
}

/// What the service meant by an error.
enum Said {
    /// It will say the same again.
    No,
    Busy,
    /// Something that passes.
    Other,
}

/// What the service said and in which words, wherever in the chain of errors it is.
fn said(error: &EventHubsError) -> Option<(Said, String)> {
    if let ErrorKind::SendRejected(Some(described)) | ErrorKind::ConsumerDisconnected(Some(described)) =
        &error.kind
    {
        return Some(of_described(described));
    }
    let mut cause: Option<&(dyn Error + 'static)> = Some(error);
    for _ in 0..16 {
        let current = cause?;
        match current.downcast_ref::<AmqpError>().map(AmqpError::kind) {
            Some(AmqpErrorKind::AmqpDescribedError(described)) => return Some(of_described(described)),
            Some(AmqpErrorKind::ManagementStatusCode(status, description)) => {
                let said = match u16::from(*status) {
                    400 | 401 | 403 | 404 | 410 => Said::No,
                    503 => Said::Busy,
                    _ => Said::Other,
                };
                let why = description.clone().unwrap_or_else(|| format!("status {status}"));
                return Some((said, why));
            }
            _ => cause = current.source(),
        }
    }
    None
}

fn of_described(described: &AmqpDescribedError) -> (Said, String) {
    use AmqpErrorCondition as C;
    let condition = &described.condition;
    let said = match condition {
        C::UnauthorizedAccess | C::NotFound | C::NotAllowed | C::ArgumentError => Said::No,
        C::ServerBusyError => Said::Busy,
        _ => Said::Other,
    };
    let why = match &described.description {
        Some(description) => format!("{condition:?}: {description}"),
        None => format!("{condition:?}"),
    };
    (said, why)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_that_names_no_hub_and_a_string_of_another_namespace_are_refused() {
        let entra = || Login::Entra(EntraLogin::Cli);
        for url in [
            "eventhubs://host",
            "eventhubs:///hub",
            "eventhubs://host/",
            "eventhubs://h/a/b",
        ] {
            let error = EventHub::new(url, entra(), None).unwrap_err();
            assert!(
                error.to_string().contains("servicebus.windows.net/HUB"),
                "{error}"
            );
        }
        let hub = EventHub::new("eventhubs://h.example/readings", entra(), None).unwrap();
        assert_eq!(hub.to_string(), "eventhubs://h.example/readings");
        let secret = "Endpoint=sb://other.example/;SharedAccessKeyName=k;SharedAccessKey=c2VjcmV0";
        let login = || Login::ConnectionString(secret.to_owned());
        let error = EventHub::new("eventhubs://h.example/readings", login(), None).unwrap_err();
        assert!(error.to_string().contains("is of other.example"), "{error}");
        let hub = EventHub::new("eventhubs://other.example/readings", login(), None).unwrap();
        assert!(!format!("{hub:?}").contains("c2VjcmV0"));
    }
}
