//! The configuration of a queue on RabbitMQ: how to connect, and the names there.

use std::fmt;

use super::{Access, AmqpUrl};

/// The configuration of an [`super::Amqp`].
#[derive(Clone)]
pub struct AmqpConfig {
    /// The broker's address, the user and the certificates.
    pub access: Access,
    /// Names of the queues and the exchange.
    pub names: QueueNames,
    /// How often a message is delivered again before it becomes a dead letter.
    pub delivery_limit: u32,
    /// Maximum number of published messages that are not confirmed yet.
    pub confirm_window: usize,
    /// What to do when the broker cannot be used.
    pub reconnect: Reconnect,
    /// Address of the management API; at the default port of the broker's hosts if absent.
    pub management_url: Option<String>,
    /// Name of the client in the broker's list of connections.
    pub client: String,
}

impl fmt::Debug for AmqpConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The address of the management API may name a password.
        f.debug_struct("AmqpConfig")
            .field("access", &self.access)
            .field("names", &self.names)
            .field("client", &self.client)
            .finish_non_exhaustive()
    }
}

impl AmqpConfig {
    /// Returns the defaults for the broker at `url`: names under `windrow`, 20 redeliveries, 1,000 messages in flight.
    pub fn new(url: AmqpUrl) -> Self {
        Self {
            access: url.into(),
            names: QueueNames::under("windrow"),
            delivery_limit: 20,
            confirm_window: 1_000,
            reconnect: Reconnect::Forever,
            management_url: None,
            client: "windrow".to_owned(),
        }
    }
}

/// What to do when the broker cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reconnect {
    /// Retry until it can, and create the queues that are missing, as services do.
    Forever,
    /// Fail within about ten seconds and create nothing, as commands do, because a person waits for them.
    Never,
}

/// The names of the queues and the exchange.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueNames {
    /// The quorum queue of scoring messages.
    pub score: String,
    /// The quorum queue of dead letters.
    pub dead: String,
    /// The topic exchange of anomalies.
    pub anomalies: String,
}

impl QueueNames {
    /// Returns `<prefix>.score`, `<prefix>.dead` and `<prefix>.anomalies`.
    pub fn under(prefix: &str) -> Self {
        Self {
            score: format!("{prefix}.score"),
            dead: format!("{prefix}.dead"),
            anomalies: format!("{prefix}.anomalies"),
        }
    }
}

/// Certificates in PEM. Without an authority, the system's authorities are trusted.
#[derive(Clone, Default)]
pub struct Tls {
    /// The authority that signed the broker's certificate.
    pub authority: Option<String>,
    /// This client's certificate and its key.
    pub identity: Option<(String, String)>,
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls")
            .field("authority", &self.authority.is_some())
            .field("identity", &self.identity.is_some())
            .finish()
    }
}
