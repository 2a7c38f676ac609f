//! One connection that is reopened when it is lost, and the queues declared on it.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use lapin::options::{ExchangeDeclareOptions, QueueDeclareOptions};
use lapin::tcp::{OwnedIdentity, OwnedTLSConfig};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{Channel, Connection, ConnectionProperties, ExchangeKind};

use super::progress::Progress;
use super::{AmqpConfig, AmqpError, Login, Reconnect};
use windrow_common::{Backoff, HasRemedy, Remedy};

/// A broker that accepts a connection and then stays silent for this long counts as unavailable.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long to wait for the broker to answer a close.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);
/// Waits between attempts: short at first, for a broker that restarts, and never so long that a person gives up first.
const FIRST_WAIT: Duration = Duration::from_millis(200);
const LONGEST_WAIT: Duration = Duration::from_secs(10);
/// How often to look whether an idle connection is lost.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How long until an outage that goes on is logged once more.
const REMIND_AFTER: Duration = Duration::from_secs(60);

/// How long to leave a new queue alone. A node that is killed in the first second of a quorum queue's life loses the
/// queue's log, and the confirmed messages in it (seen with RabbitMQ 3.10.8).
const SETTLING: Duration = Duration::from_secs(2);

/// How long to wait before recreating a deleted queue. If it is recreated within 20 ms, its messages are assigned to
/// consumers of the deleted queue and never arrive (seen with RabbitMQ 3.10.8).
const DELETED_FOR: Duration = Duration::from_secs(1);

/// Deliveries of a dead letter before RabbitMQ 4 drops it. The number is huge because each listing is a delivery too.
const DEAD_LETTER_DELIVERIES: i64 = 1_000_000_000;

/// A connection that is opened on first use and reopened when it is lost. One of the tasks that need it opens it; the
/// others wait.
#[derive(Debug)]
pub(super) struct Link {
    config: Arc<AmqpConfig>,
    /// The purpose of the connection, for logs and the broker's list of connections.
    role: &'static str,
    current: tokio::sync::Mutex<Option<Arc<Connection>>>,
    /// The same connection, which can be inspected without waiting.
    seen: Mutex<Option<Arc<Connection>>>,
    opening: AtomicBool,
    closed: AtomicBool,
    /// Why the last attempt to open it failed, while it is being opened.
    failure: Mutex<Option<String>>,
    /// Number of messages that the broker has refused again and again.
    refused: AtomicUsize,
    /// Number of consumers that wait for the broker to start them.
    subscribing: AtomicUsize,
    progress: Progress,
    /// Size of the largest message that the broker takes, once it has refused one, for as long as the connection lives.
    largest: AtomicUsize,
}

/// One of the things that a link counts, until this is dropped.
pub(super) struct Counted<'a>(&'a AtomicUsize);

impl<'a> Counted<'a> {
    fn among(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Relaxed);
        Self(count)
    }
}

impl Drop for Counted<'_> {
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
            opening: AtomicBool::new(false),
            closed: AtomicBool::new(false),
            failure: Mutex::default(),
            refused: AtomicUsize::new(0),
            subscribing: AtomicUsize::new(0),
            progress: Progress::new(),
            largest: AtomicUsize::new(usize::MAX),
        }
    }

    /// Records that the broker refuses a message again and again, until the returned guard is dropped.
    pub(super) fn refuses(&self) -> Counted<'_> {
        Counted::among(&self.refused)
    }

    /// Records that a consumer waits for the broker to start it, until the returned guard is dropped.
    pub(super) fn subscribes(&self) -> Counted<'_> {
        Counted::among(&self.subscribing)
    }

    /// Returns the progress of what is published on it.
    pub(super) fn progress(&self) -> &Progress {
        &self.progress
    }

    /// Notes the size of the largest message that the broker takes. It closes the channel for each that is larger, which
    /// disturbs all the others, so no such message is sent to it again.
    pub(super) fn note_largest(&self, bytes: usize) {
        if self.largest.swap(bytes, Relaxed) != bytes {
            tracing::warn!(
                limit = bytes,
                endpoint = self.endpoint(),
                "RabbitMQ has refused a message: it is larger than max_message_size"
            );
        }
    }

    /// Returns the size of the largest message that the broker takes, as far as is known.
    pub(super) fn largest(&self) -> usize {
        self.largest.load(Relaxed)
    }

    pub(super) fn config(&self) -> &AmqpConfig {
        &self.config
    }

    pub(super) fn error(&self, error: &lapin::Error) -> AmqpError {
        AmqpError::from_lapin(&self.config.access.latest().url, error)
    }

    /// Returns the broker's address.
    pub(super) fn endpoint(&self) -> String {
        self.config.access.latest().url.endpoint()
    }

    /// Returns whether this error is waited for. A person has to mend some errors before it is worth it, but a service
    /// that has worked before waits for that too: passwords, rights and certificates are changed while it runs.
    pub(super) fn waits_for(&self, error: &AmqpError) -> bool {
        let may_pass = match error.remedy() {
            Remedy::Wait => true,
            Remedy::FixConfig | Remedy::GrantAccess => self.config.access.has_worked(),
            Remedy::GiveUp => false,
        };
        may_pass && self.config.reconnect == Reconnect::Forever
    }

    /// Returns whether it has never been open.
    pub(super) fn is_unused(&self) -> bool {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).is_none()
    }

    pub(super) fn not_connected(&self) -> String {
        format!("not connected to RabbitMQ at {} yet", self.endpoint())
    }

    /// Returns why the broker cannot be used; `None` if it can, and before the first use.
    pub(super) fn outage(&self) -> Option<String> {
        let endpoint = self.endpoint();
        if self.opening.load(Relaxed) {
            return Some(match &*self.lock_failure() {
                Some(failure) => format!("connecting to RabbitMQ at {endpoint}: {failure}"),
                None => format!("connecting to RabbitMQ at {endpoint}"),
            });
        }
        if self.is_blocked() {
            return Some(self.why_silent(Duration::ZERO).to_string());
        }
        if self.is(|connection| !connection.status().connected()) {
            return Some(format!("the connection to RabbitMQ at {endpoint} is lost"));
        }
        if let Some(silence) = self.progress.silence() {
            return Some(
                self.why_silent(Duration::from_secs(silence.as_secs()))
                    .to_string(),
            );
        }
        if self.refused.load(Relaxed) > 0 {
            return Some(format!("RabbitMQ at {endpoint} refuses messages again and again"));
        }
        (self.subscribing.load(Relaxed) > 0).then(|| {
            let queue = &self.config.names.score;
            format!("waiting for RabbitMQ at {endpoint} to start a consumer of {queue}")
        })
    }

    fn is_blocked(&self) -> bool {
        self.is(|connection| connection.status().blocked())
    }

    /// Returns whether there is a connection, of which `this` is true.
    fn is(&self, this: impl Fn(&Connection) -> bool) -> bool {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.as_deref().is_some_and(this)
    }

    /// Returns why nothing has been confirmed for `waited`.
    pub(super) fn why_silent(&self, waited: Duration) -> AmqpError {
        let endpoint = self.endpoint();
        match self.is_blocked() {
            true => AmqpError::Blocked {
                endpoint,
                lacks: self.progress.lacks(),
            },
            false => AmqpError::Silent { endpoint, waited },
        }
    }

    /// Returns the live connection, with its queues declared. Opens it if necessary.
    pub(super) async fn connection(&self) -> Result<Arc<Connection>, AmqpError> {
        let mut current = self.current.lock().await;
        if let Some(connection) = &*current
            && connection.status().connected()
        {
            return Ok(Arc::clone(connection));
        }
        self.opening.store(true, Relaxed);
        let opened = self.open_until_it_works().await;
        self.opening.store(false, Relaxed);
        let connection = Arc::new(opened?);
        self.largest.store(usize::MAX, Relaxed);
        self.progress.watch(&connection, self.endpoint());
        *current = Some(Arc::clone(&connection));
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&connection));
        Ok(connection)
    }

    /// Opens the connection again each time it is lost, until it is closed. Otherwise an idle service would not be ready
    /// until it uses the connection, and nobody would see why.
    pub(super) async fn keep_open(link: Weak<Self>) {
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            let Some(link) = link.upgrade().filter(|link| !link.closed.load(Relaxed)) else {
                return;
            };
            if let Err(error) = link.connection().await {
                tracing::warn!(role = link.role, %error, "cannot connect to RabbitMQ");
            }
        }
    }

    /// Opens a channel on the live connection.
    pub(super) async fn channel(&self) -> Result<Channel, AmqpError> {
        let connection = self.connection().await?;
        connection
            .create_channel()
            .await
            .map_err(|error| self.error(&error))
    }

    fn lock_failure(&self) -> MutexGuard<'_, Option<String>> {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn open_until_it_works(&self) -> Result<Connection, AmqpError> {
        let mut backoff = backoff();
        let mut told: Option<(Instant, String)> = None;
        loop {
            let error = match self.open().await {
                Ok(connection) => {
                    if backoff.attempts() > 0 {
                        let tries = backoff.attempts() + 1;
                        tracing::info!(role = self.role, tries, "connected to RabbitMQ again");
                    }
                    *self.lock_failure() = None;
                    self.config.access.works();
                    return Ok(connection);
                }
                Err(error) if self.waits_for(&error) => error,
                Err(error) => return Err(error),
            };
            let why = error.to_string();
            let is_news =
                |(when, before): &(Instant, String)| *before != why || when.elapsed() > REMIND_AFTER;
            if told.as_ref().is_none_or(is_news) {
                let tries = backoff.attempts() + 1;
                tracing::warn!(role = self.role, %error, tries, "trying again until it works");
                told = Some((Instant::now(), why.clone()));
            }
            *self.lock_failure() = Some(why);
            tokio::time::sleep(backoff.next_wait()).await;
        }
    }

    async fn open(&self) -> Result<Connection, AmqpError> {
        let Login { url, tls } = &*self.config.access.renew()?;
        let open = async {
            let properties = ConnectionProperties::default()
                .with_connection_name(format!("{} {}", self.config.client, self.role).into());
            let tls = OwnedTLSConfig {
                cert_chain: tls.authority.clone(),
                identity: tls
                    .identity
                    .as_ref()
                    .map(|(certificate, key)| OwnedIdentity::PKCS8 {
                        pem: certificate.clone().into_bytes(),
                        key: key.clone().into_bytes(),
                    }),
            };
            let runtime = lapin::runtime::default_runtime()?;
            Connection::connect_uri_with_config(url.uri(), properties, tls, runtime).await
        };
        let opened = tokio::time::timeout(CONNECT_TIMEOUT, open)
            .await
            .map_err(|_| AmqpError::Away {
                endpoint: url.endpoint(),
                why: format!("no answer within {CONNECT_TIMEOUT:?}"),
            })?;
        let connection = opened.map_err(|error| AmqpError::from_lapin(url, &error))?;
        self.declare(&connection).await?;
        Ok(connection)
    }

    /// Declares the queues again after one was deleted under a live connection. An outage of the broker meanwhile is
    /// not an error: the caller retries, and calls this again if necessary.
    pub(super) async fn declare_again(&self) -> Result<(), AmqpError> {
        tokio::time::sleep(DELETED_FOR).await;
        let connection = self.connection().await?;
        match self.declare(&connection).await {
            Err(error) if self.waits_for(&error) => {
                tracing::warn!(%error, "cannot declare the queues; retrying");
                Ok(())
            }
            declared => declared,
        }
    }

    /// Declares the queues and the exchange. Existing ones must have the same arguments.
    async fn declare(&self, connection: &Connection) -> Result<(), AmqpError> {
        let names = &self.config.names;
        let channel = || async {
            let channel = connection.create_channel().await;
            channel.map_err(|error| self.error(&error))
        };
        // The broker closes the channel if the queue does not exist.
        let is_new = look_at(&channel().await?, &names.score).await.is_err();
        let channel = channel().await?;
        let dead = [
            ("x-queue-type", text("quorum")),
            ("x-delivery-limit", AMQPValue::LongLongInt(DEAD_LETTER_DELIVERIES)),
        ];
        // At-least-once dead-lettering: the broker removes a message from the queue only once `dead` has confirmed it.
        // This requires that a full queue rejects publishes instead of dropping messages
        // (https://www.rabbitmq.com/docs/quorum-queues#dead-lettering).
        let score = [
            ("x-queue-type", text("quorum")),
            (
                "x-delivery-limit",
                AMQPValue::LongLongInt(i64::from(self.config.delivery_limit)),
            ),
            ("x-dead-letter-exchange", text("")),
            ("x-dead-letter-routing-key", text(&names.dead)),
            ("x-dead-letter-strategy", text("at-least-once")),
            ("x-overflow", text("reject-publish")),
        ];
        self.declare_queue(&channel, &names.dead, table(dead)).await?;
        self.declare_queue(&channel, &names.score, table(score)).await?;
        let options = ExchangeDeclareOptions {
            durable: true,
            ..ExchangeDeclareOptions::default()
        };
        channel
            .exchange_declare(
                names.anomalies.as_str().into(),
                ExchangeKind::Topic,
                options,
                FieldTable::default(),
            )
            .await
            .map_err(|error| self.error(&error))?;
        if is_new {
            tokio::time::sleep(SETTLING).await;
        }
        Ok(())
    }

    async fn declare_queue(
        &self,
        channel: &Channel,
        name: &str,
        arguments: FieldTable,
    ) -> Result<(), AmqpError> {
        let declared = channel.queue_declare(name.into(), QueueDeclareOptions::durable(), arguments);
        declared.await.map(|_| ()).map_err(|error| self.error(&error))
    }

    /// Returns the state of a queue, from a passive declaration.
    pub(super) async fn look_at(&self, queue: &str) -> Result<QueueLook, AmqpError> {
        let channel = self.channel().await?;
        let look = look_at(&channel, queue).await;
        // After an error, the broker has closed the channel already.
        _ = channel.close(200, "done".into()).await;
        look.map_err(|error| self.error(&error))
    }

    /// Closes the connection, so that the broker requeues unsettled messages at once.
    pub(super) async fn close(&self) {
        self.closed.store(true, Relaxed);
        let Some(connection) = self.current.lock().await.take() else {
            return;
        };
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = None;
        // A connection that is already lost needs no close.
        _ = tokio::time::timeout(CLOSE_TIMEOUT, connection.close(200, "done".into())).await;
    }
}

/// The state of a queue, as a passive declaration returns it: not what consumers hold, but up to date.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueLook {
    /// Number of messages that wait for a consumer.
    pub ready: u64,
    /// Number of consumers, including cancelled ones that still hold messages.
    pub consumers: u64,
}

/// Declares a queue passively, which fails if it does not exist.
async fn look_at(channel: &Channel, queue: &str) -> Result<QueueLook, lapin::Error> {
    let options = QueueDeclareOptions {
        passive: true,
        ..QueueDeclareOptions::durable()
    };
    let declared = channel
        .queue_declare(queue.into(), options, FieldTable::default())
        .await?;
    Ok(QueueLook {
        ready: u64::from(declared.message_count()),
        consumers: u64::from(declared.consumer_count()),
    })
}

/// Returns the waits between attempts to reach the broker.
pub(super) fn backoff() -> Backoff {
    Backoff::new(FIRST_WAIT, LONGEST_WAIT)
}

pub(super) fn text(value: &str) -> AMQPValue {
    AMQPValue::LongString(value.into())
}

pub(super) fn table<const N: usize>(entries: [(&'static str, AMQPValue); N]) -> FieldTable {
    let mut table = FieldTable::default();
    for (name, value) in entries {
        table.insert(name.into(), value);
    }
    table
}
