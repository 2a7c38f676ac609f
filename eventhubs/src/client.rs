//! An Event Hub and the connection to it, through the official client.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use azure_core::credentials::TokenCredential;
use azure_messaging_eventhubs::{
    BufferedProducerClient, ConnectionString, ConsumerClient, EventHubsError, RetryOptions,
};
use tokio::time::timeout;
use windrow_identity::EntraLogin;
use windrow_store::{SecretFile, choose_tls};

use crate::{EventHubError, emulator};
use windrow_producer::checkpoint::unique_name;
use windrow_producer::source::EVENT_HUBS;

/// The ports of AMQP with and without TLS.
const TLS_PORT: u16 = 5671;
pub(crate) const PLAIN_PORT: u16 = 5672;

/// Longest wait for a close.
const CLOSE_WITHIN: Duration = Duration::from_secs(1);

/// An Event Hub, with the login and the endpoint that reach it.
#[derive(Clone)]
pub struct EventHub {
    /// Fully qualified namespace: `fleet.servicebus.windows.net`.
    pub(crate) host: String,
    pub(crate) name: String,
    login: Login,
    endpoint: Option<String>,
}

/// How a process authenticates.
#[derive(Clone)]
pub enum Login {
    /// A shared access key.
    ConnectionString(String),
    /// A shared access key in a file. The file is read for each connection, because keys are rotated.
    ConnectionStringFile(SecretFile),
    /// Microsoft Entra ID.
    Entra(EntraLogin),
}

/// The credential that opens a connection.
enum Credential {
    /// A connection string.
    Key(String),
    Token(Arc<dyn TokenCredential>),
}

impl fmt::Debug for EventHub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl fmt::Display for EventHub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{EVENT_HUBS}{}/{}", self.host, self.name)
    }
}

impl EventHub {
    /// Creates the hub named by a URL `eventhubs://HOST/HUB`. `endpoint` replaces the address to connect to, such as
    /// `amqp://127.0.0.1:5672`.
    pub fn new(url: &str, login: Login, endpoint: Option<String>) -> Result<Self, EventHubError> {
        let config = |why: String| EventHubError::Config(url.to_owned(), why);
        let place = url.strip_prefix(EVENT_HUBS).and_then(|rest| rest.split_once('/'));
        let (host, name) = place
            .filter(|(host, name)| !host.is_empty() && !name.is_empty() && !name.contains('/'))
            .ok_or_else(|| config(format!("write {EVENT_HUBS}NAMESPACE.servicebus.windows.net/HUB")))?;
        if let Some(endpoint) = &endpoint {
            url::Url::parse(endpoint)
                .map_err(|error| config(format!("the endpoint `{endpoint}` is not a URL: {error}")))?;
        }
        choose_tls();
        let mut hub = Self {
            host: host.to_owned(),
            name: name.to_owned(),
            login,
            endpoint,
        };
        if !matches!(hub.login, Login::Entra(_))
            && let Credential::Key(string) = hub.credential()?
        {
            let emulated = || emulator::endpoint_of(&string);
            hub.endpoint = hub.endpoint.or_else(emulated);
        }
        Ok(hub)
    }

    /// Returns the credential that opens a connection. Rereads the file of a connection string, and returns an error if
    /// the string names another namespace or hub.
    fn credential(&self) -> Result<Credential, EventHubError> {
        let config = |why: String| EventHubError::Config(self.to_string(), why);
        let string = match &self.login {
            Login::ConnectionString(string) => string.clone(),
            Login::ConnectionStringFile(file) => {
                let string = file.read().map_err(|error| config(error.to_string()))?;
                string.trim().to_owned()
            }
            Login::Entra(login) => {
                let token = login.credential().map_err(|error| config(error.to_string()))?;
                return Ok(Credential::Token(token));
            }
        };
        // The client's error may repeat a part of the key.
        let parsed: ConnectionString = string
            .parse()
            .map_err(|_| config("the connection string is malformed".to_owned()))?;
        let namespace = &parsed.fully_qualified_namespace;
        if !namespace.eq_ignore_ascii_case(&self.host) {
            return Err(config(format!("the connection string is for {namespace}")));
        }
        match &parsed.entity_path {
            Some(other) if !other.eq_ignore_ascii_case(&self.name) => {
                Err(config(format!("the connection string is for the hub {other}")))
            }
            _ => Ok(Credential::Key(string)),
        }
    }

    /// Returns the address to connect to, as host and port.
    pub(crate) fn address(&self) -> String {
        let endpoint = self.endpoint.as_deref().and_then(|url| url::Url::parse(url).ok());
        let place = endpoint.as_ref().and_then(|url| {
            let port = url.port().unwrap_or(if url.scheme() == "amqp" {
                PLAIN_PORT
            } else {
                TLS_PORT
            });
            Some(format!("{}:{port}", url.host_str()?))
        });
        place.unwrap_or_else(|| format!("{}:{TLS_PORT}", self.host))
    }

    /// Returns the hub's name, without the namespace.
    pub fn name(&self) -> &str {
        &self.name
    }

    pub(crate) async fn consumer(&self, consumer_group: &str) -> Result<ConsumerClient, EventHubError> {
        let mut client = ConsumerClient::builder()
            // The client also claims partitions under this name.
            .with_application_id(format!("windrow-{}", unique_name()))
            .with_consumer_group(consumer_group.to_owned())
            .with_retry_options(no_retries());
        if let Some(endpoint) = &self.endpoint {
            client = client.with_custom_endpoint(endpoint.clone());
        }
        let opened = match self.credential()? {
            Credential::Key(string) => {
                client
                    .open_with_connection_string(&string, Some(&self.name))
                    .await
            }
            Credential::Token(credential) => client.open(&self.host, self.name.clone(), credential).await,
        };
        opened.map_err(|error| self.error(&error))
    }

    /// Opens a client that sends events to the hub in batches. It passes the error of each failed send to `failed`.
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
        let opened = match self.credential()? {
            Credential::Key(string) => {
                client
                    .open_with_connection_string(&string, Some(&self.name))
                    .await
            }
            Credential::Token(credential) => client.open(&self.host, &self.name, credential).await,
        };
        opened.map_err(|error| self.error(&error))
    }

    /// Returns the error for a hub that has not answered for `waited`.
    pub fn silent(&self, waited: Duration) -> EventHubError {
        EventHubError::Away {
            hub: self.to_string(),
            why: format!("{} has not answered for {} s", self.address(), waited.as_secs()),
            busy: false,
        }
    }
}

/// Closes something that is no longer needed, and gives up after a second. The client sometimes waits forever for the
/// answer to its close; whatever stays open ends with its connection.
pub(crate) async fn part_with<T>(what: &'static str, closing: impl Future<Output = T>) {
    if timeout(CLOSE_WITHIN, closing).await.is_err() {
        tracing::debug!(what, "closed without an answer");
    }
}

/// Returns options that turn off the client's own recovery. It reopens a receiver at its first position and so reads
/// everything again; ours starts at the checkpoint.
fn no_retries() -> RetryOptions {
    RetryOptions {
        max_retries: 0,
        ..RetryOptions::default()
    }
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
        assert_eq!(hub.address(), "h.example:5671");
        let secret = "Endpoint=sb://other.example/;SharedAccessKeyName=k;SharedAccessKey=c2VjcmV0";
        let login = || Login::ConnectionString(secret.to_owned());
        let error = EventHub::new("eventhubs://h.example/readings", login(), None).unwrap_err();
        assert!(error.to_string().contains("is for other.example"), "{error}");
        let of_one_hub = Login::ConnectionString(format!("{secret};EntityPath=events"));
        let error = EventHub::new("eventhubs://other.example/readings", of_one_hub, None).unwrap_err();
        assert!(error.to_string().contains("for the hub events"), "{error}");
        let hub = EventHub::new("eventhubs://other.example/readings", login(), None).unwrap();
        assert!(!format!("{hub:?}").contains("c2VjcmV0"));
        let emulator = Login::ConnectionString(format!("{secret};UseDevelopmentEmulator=true"));
        let at = |endpoint: Option<&str>| {
            let endpoint = endpoint.map(str::to_owned);
            let hub = EventHub::new("eventhubs://other.example/readings", emulator.clone(), endpoint);
            hub.unwrap().address()
        };
        assert_eq!(at(None), "other.example:5672");
        // The option goes before the string.
        assert_eq!(at(Some("amqp://127.0.0.1:9")), "127.0.0.1:9");
    }
}
