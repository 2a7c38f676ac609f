//! One connection that is reopened when it is lost.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, Once, PoisonError};
use std::time::Duration;

use lapin::tcp::{OwnedIdentity, OwnedTLSConfig};
use lapin::types::AMQPValue;
use lapin::uri::AMQPUri;
use lapin::{Channel, Connection, ConnectionProperties};
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

use super::alarm::Alarm;
use super::answer::Unanswered;
use super::declare::{self, QueueLook};
use super::{AmqpConfig, AmqpError, Reconnect};
use windrow_common::{Backoff, HasRemedy, Remedy};

/// A broker that accepts a connection and then stays silent for this long counts as unavailable.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long to wait for the broker to answer a close.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);
/// Waits between attempts: short at first, for a broker that restarts, and never so long that a person gives up first.
const FIRST_WAIT: Duration = Duration::from_millis(200);
const LONGEST_WAIT: Duration = Duration::from_secs(10);

/// Says once that nobody gets a connection without heartbeats.
static TOLD_OF_HEARTBEAT: Once = Once::new();

/// A connection that is opened on first use and reopened when it is lost. One of the tasks that need it opens it; the
/// others wait.
#[derive(Debug)]
pub(super) struct Link {
    config: Arc<AmqpConfig>,
    /// The purpose of the connection, for logs and the broker's list of connections.
    role: &'static str,
    current: tokio::sync::Mutex<Option<Arc<Connection>>>,
    /// The same connection, which can be inspected without waiting.
    seen: Mutex<Option<Seen>>,
    /// Set while the connection is being opened: how the last attempt failed.
    opening: Mutex<Option<String>>,
    /// Number of publishes whose confirmation is overdue.
    stalled: AtomicUsize,
    /// What the broker has been asked and has not answered.
    unanswered: Unanswered,
    /// When a queue that was missing was last declared.
    declared_at: tokio::sync::Mutex<Option<Instant>>,
}

/// The connection that was opened last.
#[derive(Debug)]
struct Seen {
    connection: Arc<Connection>,
    /// The host that it goes to.
    endpoint: String,
    alarm: Alarm,
    _watch: AbortOnDropHandle<()>,
}

/// A publish whose confirmation is overdue, until this is dropped.
pub(super) struct Stalled<'a>(&'a AtomicUsize);

impl Drop for Stalled<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

impl Link {
    pub(super) fn new(config: Arc<AmqpConfig>, role: &'static str) -> Self {
        Self {
            config,
            role,
            current: tokio::sync::Mutex::default(),
            seen: Mutex::default(),
            opening: Mutex::default(),
            stalled: AtomicUsize::new(0),
            unanswered: Unanswered::default(),
            declared_at: tokio::sync::Mutex::default(),
        }
    }

    /// Records that the confirmation of a publish is overdue, until the returned guard is dropped.
    pub(super) fn stalls(&self) -> Stalled<'_> {
        if self.stalled.fetch_add(1, Relaxed) == 0 {
            tracing::warn!(
                role = self.role,
                endpoint = self.endpoint(),
                "RabbitMQ confirms nothing"
            );
        }
        Stalled(&self.stalled)
    }

    pub(super) fn config(&self) -> &AmqpConfig {
        &self.config
    }

    pub(super) fn role(&self) -> &'static str {
        self.role
    }

    pub(super) fn unanswered(&self) -> &Unanswered {
        &self.unanswered
    }

    pub(super) fn declared_at(&self) -> &tokio::sync::Mutex<Option<Instant>> {
        &self.declared_at
    }

    /// Returns the host that the connection goes to, or all hosts before there is one.
    pub(super) fn endpoint(&self) -> String {
        match &*self.seen() {
            Some(seen) => seen.endpoint.clone(),
            None => self.config.url.endpoint(),
        }
    }

    pub(super) fn error(&self, error: &lapin::Error) -> AmqpError {
        AmqpError::from_lapin(self.endpoint(), self.config.url.user(), error)
    }

    /// Returns whether it has never been open.
    pub(super) fn is_unused(&self) -> bool {
        self.seen().is_none()
    }

    fn seen(&self) -> MutexGuard<'_, Option<Seen>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn opening(&self) -> MutexGuard<'_, Option<String>> {
        self.opening.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn not_connected(&self) -> String {
        format!("not connected to RabbitMQ at {} yet", self.config.url.endpoint())
    }

    /// Returns why the broker takes no messages, if it has said so.
    pub(super) fn blocked(&self) -> Option<AmqpError> {
        let seen = self.seen();
        let seen = seen.as_ref()?;
        let is_blocked = seen.connection.status().blocked();
        is_blocked.then(|| AmqpError::Blocked {
            endpoint: seen.endpoint.clone(),
            lacks: seen.alarm.lacks(),
        })
    }

    /// Returns why the broker cannot be used; `None` if it can, and before the first use.
    pub(super) fn outage(&self) -> Option<String> {
        if let Some(failed) = &*self.opening() {
            return Some(format!(
                "connecting to RabbitMQ at {}{failed}",
                self.config.url.endpoint()
            ));
        }
        if let Some(blocked) = self.blocked() {
            return Some(blocked.to_string());
        }
        let endpoint = self.endpoint();
        let is_lost = |seen: &Seen| !seen.connection.status().connected();
        if self.seen().as_ref().is_some_and(is_lost) {
            return Some(format!("the connection to RabbitMQ at {endpoint} is lost"));
        }
        if self.stalled.load(Relaxed) > 0 {
            return Some(format!(
                "RabbitMQ at {endpoint} takes messages and confirms nothing"
            ));
        }
        self.unanswered.first()
    }

    /// Returns the live connection. Opens it if necessary.
    pub(super) async fn connection(&self) -> Result<Arc<Connection>, AmqpError> {
        let mut current = self.current.lock().await;
        if let Some(connection) = &*current
            && connection.status().connected()
        {
            return Ok(Arc::clone(connection));
        }
        *self.opening() = Some(String::new());
        let opened = self.open_until_it_works().await;
        *self.opening() = None;
        let (connection, endpoint) = opened?;
        let connection = Arc::new(connection);
        *current = Some(Arc::clone(&connection));
        let (alarm, watch) = Alarm::watch(&connection, self.role, endpoint.clone());
        *self.seen() = Some(Seen {
            connection: Arc::clone(&connection),
            endpoint,
            alarm,
            _watch: watch,
        });
        Ok(connection)
    }

    /// Opens a channel on the live connection.
    pub(super) async fn channel(&self) -> Result<Channel, AmqpError> {
        let connection = self.connection().await?;
        self.answer("opening a channel", None, connection.create_channel())
            .await
    }

    async fn open_until_it_works(&self) -> Result<(Connection, String), AmqpError> {
        let mut backoff = backoff();
        loop {
            let error = match self.open().await {
                Ok(opened) => {
                    if backoff.attempts() > 0 {
                        tracing::info!(
                            role = self.role,
                            endpoint = opened.1,
                            tries = backoff.attempts() + 1,
                            "connected to RabbitMQ again"
                        );
                    }
                    return Ok(opened);
                }
                Err(error) => error,
            };
            // What a person has to create is waited for once it has been there.
            let waits = error.remedy() == Remedy::Wait
                || matches!(error, AmqpError::MayNotCreate { .. }) && !self.is_unused();
            if !waits || self.config.reconnect == Reconnect::Never {
                return Err(error);
            }
            if backoff.attempts() == 0 {
                tracing::warn!(role = self.role, %error, "trying again until it works");
            }
            *self.opening() = Some(format!("; the last attempt failed: {error}"));
            tokio::time::sleep(backoff.next_wait()).await;
        }
    }

    /// Connects to the first host that lets it, and returns the connection and that host.
    async fn open(&self) -> Result<(Connection, String), AmqpError> {
        let url = &self.config.url;
        if url.is_without_heartbeat() {
            TOLD_OF_HEARTBEAT.call_once(|| {
                tracing::warn!(
                    "heartbeat=0 in the AMQP URL is ignored: a connection that is cut would never be noticed, and the messages \
                     on it never delivered to another consumer. Remove it, or set the seconds, as in heartbeat=30"
                );
            });
        }
        let hosts = url.in_turn();
        let within = CONNECT_TIMEOUT / u32::try_from(hosts.len()).unwrap_or(u32::MAX);
        let mut failed = Vec::with_capacity(hosts.len());
        for (endpoint, uri) in hosts {
            match self.open_at(&endpoint, uri, within).await {
                Ok(connection) => return Ok((connection, endpoint)),
                Err(error) if error.remedy() == Remedy::Wait => failed.push(error),
                Err(error) => return Err(error),
            }
        }
        match failed.pop() {
            Some(error) if failed.is_empty() => Err(error),
            last => Err(AmqpError::NoHost {
                failed: failed.into_iter().chain(last).collect(),
            }),
        }
    }

    async fn open_at(&self, endpoint: &str, uri: AMQPUri, within: Duration) -> Result<Connection, AmqpError> {
        let open = async {
            let properties = ConnectionProperties::default()
                .with_connection_name(format!("{} {}", self.config.client, self.role).into());
            let tls =
                OwnedTLSConfig {
                    cert_chain: self.config.tls.authority.clone(),
                    identity: self.config.tls.identity.as_ref().map(|(certificate, key)| {
                        OwnedIdentity::PKCS8 {
                            pem: certificate.clone().into_bytes(),
                            key: key.clone().into_bytes(),
                        }
                    }),
                };
            let runtime = lapin::runtime::default_runtime()?;
            Connection::connect_uri_with_config(uri, properties, tls, runtime).await
        };
        let opened = tokio::time::timeout(within, open)
            .await
            .map_err(|_| AmqpError::Away {
                endpoint: endpoint.to_owned(),
                why: format!("no answer within {within:?}"),
            })?;
        let user = self.config.url.user();
        let connection = opened.map_err(|error| AmqpError::from_lapin(endpoint.to_owned(), user, &error))?;
        if self.config.reconnect == Reconnect::Forever {
            self.declare(&connection, endpoint).await?;
        }
        Ok(connection)
    }

    /// Returns the state of a queue, from a passive declaration.
    pub(super) async fn look_at(&self, queue: &str) -> Result<QueueLook, AmqpError> {
        let channel = self.channel().await?;
        let look = self
            .answer("looking at", Some(queue), declare::look_at(&channel, queue))
            .await;
        if look.is_ok() {
            // After an error, the broker has closed the channel already.
            _ = self
                .answer("closing a channel", None, channel.close(200, "done".into()))
                .await;
        }
        look.map_err(|error| match error {
            AmqpError::Missing { endpoint, .. } => AmqpError::NoQueue {
                endpoint,
                queue: queue.to_owned(),
            },
            other => other,
        })
    }

    /// Closes the connection, so that the broker requeues unsettled messages at once.
    pub(super) async fn close(&self) {
        let Some(connection) = self.current.lock().await.take() else {
            return;
        };
        *self.seen() = None;
        // A connection that is already lost needs no close.
        _ = tokio::time::timeout(CLOSE_TIMEOUT, connection.close(200, "done".into())).await;
    }
}

/// Returns the waits between attempts to reach the broker.
pub(super) fn backoff() -> Backoff {
    Backoff::new(FIRST_WAIT, LONGEST_WAIT)
}

pub(super) fn text(value: &str) -> AMQPValue {
    AMQPValue::LongString(value.into())
}
