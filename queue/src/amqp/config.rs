//! The configuration of a queue on RabbitMQ: how to connect, and the names there.

use std::fmt;
use std::str::FromStr;

use lapin::uri::{AMQPScheme, AMQPUri};

use super::{Access, AmqpError};

/// Seconds between heartbeats if the URL sets none. A peer that disappears silently is noticed within half a minute.
const HEARTBEAT_SECONDS: u16 = 15;

/// The configuration of an [`super::Amqp`].
#[derive(Clone, Debug)]
pub struct AmqpConfig {
    /// The broker's address, the user and the certificates.
    pub access: Access,
    /// Names of the queues and the exchange.
    pub names: QueueNames,
    /// How often a message is delivered again before it becomes a dead letter.
    pub delivery_limit: u32,
    /// Maximum number of published messages that are not confirmed yet.
    pub confirm_window: usize,
    /// What to do when the broker cannot be reached.
    pub reconnect: Reconnect,
    /// Name of the client in the broker's list of connections.
    pub client: String,
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
            client: "windrow".to_owned(),
        }
    }
}

/// What to do when the broker cannot be reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reconnect {
    /// Retry until it can, as services do.
    Forever,
    /// Fail, as commands do, because a person waits for them.
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

/// A URL such as `amqp://user:password@host:5672/vhost` or `amqps://…`, whose `Debug` output hides the password.
#[derive(Clone)]
pub struct AmqpUrl {
    uri: AMQPUri,
    /// Without a user, the library takes `guest`.
    names_user: bool,
}

impl AmqpUrl {
    pub(super) fn uri(&self) -> AMQPUri {
        let mut uri = self.uri.clone();
        uri.query.heartbeat.get_or_insert(HEARTBEAT_SECONDS);
        uri
    }

    /// Returns `host:port`, followed by the virtual host unless that is `/`.
    pub fn endpoint(&self) -> String {
        let AMQPUri { authority, vhost, .. } = &self.uri;
        match vhost.as_str() {
            "/" => format!("{}:{}", authority.host, authority.port),
            vhost => format!("{}:{} (vhost `{vhost}`)", authority.host, authority.port),
        }
    }

    /// Returns the broker's host.
    pub fn host(&self) -> &str {
        &self.uri.authority.host
    }

    /// Returns the user who connects.
    pub fn user(&self) -> &str {
        &self.uri.authority.userinfo.username
    }

    /// Returns the user's password, for the management API.
    pub fn password(&self) -> &str {
        &self.uri.authority.userinfo.password
    }

    /// Returns whether the URL itself names the user who connects.
    pub(super) fn names_user(&self) -> bool {
        self.names_user
    }

    /// Returns the URL for another user.
    pub(super) fn with_user(mut self, user: String, password: String) -> Self {
        self.uri.authority.userinfo.username = user;
        self.uri.authority.userinfo.password = password;
        self
    }

    /// Returns the virtual host.
    pub fn vhost(&self) -> &str {
        &self.uri.vhost
    }

    /// Returns whether the connection is encrypted.
    pub fn is_encrypted(&self) -> bool {
        self.uri.scheme == AMQPScheme::AMQPS
    }
}

impl FromStr for AmqpUrl {
    type Err = AmqpError;

    fn from_str(text: &str) -> Result<Self, AmqpError> {
        // The error does not repeat the text, because that may contain a password.
        let wrong = |why: &str| AmqpError::Url { why: why.to_owned() };
        let text = text.trim();
        if !text.starts_with("amqp://") && !text.starts_with("amqps://") {
            return Err(wrong("it begins with neither amqp:// nor amqps://"));
        }
        if text.contains("://[") || text.contains("@[") {
            // The client library would connect to localhost instead.
            return Err(wrong("IPv6 addresses are not supported; write a host name"));
        }
        let mut uri: AMQPUri = text.parse().map_err(|why: String| wrong(&why))?;
        if uri.authority.host.is_empty() {
            return Err(wrong("it names no host"));
        }
        if uri.vhost.is_empty() {
            // A trailing slash. Nobody names a virtual host "".
            "/".clone_into(&mut uri.vhost);
        }
        let authority = text.split(['/', '?', '#']).nth(2).unwrap_or_default();
        Ok(Self {
            uri,
            names_user: authority.contains('@'),
        })
    }
}

impl fmt::Debug for AmqpUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.endpoint())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_understood_and_its_password_never_shown() {
        let url: AmqpUrl = "amqp://ada:s3cret@broker:5673/fleet".parse().unwrap();
        assert_eq!(url.endpoint(), "broker:5673 (vhost `fleet`)");
        assert_eq!((url.user(), url.password()), ("ada", "s3cret"));
        for plain in ["amqp://broker", "amqp://broker/", "amqp://broker:5672/%2f"] {
            assert_eq!(plain.parse::<AmqpUrl>().unwrap().endpoint(), "broker:5672");
        }
        let shown = format!("{:?}", AmqpConfig::new(url));
        assert!(!shown.contains("s3cret"), "{shown}");
        for bad in [
            "http://ada:s3cret@broker",
            "amqp://ada:s3cret@broker:port/",
            "amqp:s3cret",
            "amqp://ada:s3cret@[::1]",
        ] {
            let error = bad.parse::<AmqpUrl>().unwrap_err().to_string();
            assert!(!error.contains("s3cret") && error.contains("amqp://"), "{error}");
        }
    }
}
