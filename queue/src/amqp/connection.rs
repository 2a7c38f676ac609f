//! One connection that comes back, and the queues on it.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use lapin::options::{ExchangeDeclareOptions, QueueDeclareOptions};
use lapin::tcp::{OwnedIdentity, OwnedTLSConfig};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{Channel, Connection, ConnectionProperties, ExchangeKind};

use super::{AmqpConfig, AmqpError, Reconnect};
use windrow_common::{Backoff, HasRemedy, Remedy};

/// A broker that accepts a connection and then says nothing for this long is away.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// A close that is not answered is not waited for longer.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);
/// Waits between tries: short at first, for a broker that restarts; never so long that a person gives up first.
const FIRST_WAIT: Duration = Duration::from_millis(200);
const LONGEST_WAIT: Duration = Duration::from_secs(10);

/// How long a queue that has just been made is left alone. A node that is killed in the first second of a quorum queue
/// forgets the queue's log, and with it what it has confirmed (seen with RabbitMQ 3.10.8).
const SETTLING: Duration = Duration::from_secs(2);

/// How long a queue that was deleted is left deleted. Messages of one that is made again within 20 ms go to consumers of
/// the one before, which get nothing of it (seen with RabbitMQ 3.10.8).
const DELETED_FOR: Duration = Duration::from_secs(1);

/// Deliveries of a dead letter before a broker of version 4 drops it: looking at one is a delivery too.
const DEAD_LETTER_DELIVERIES: i64 = 1_000_000_000;

/// A connection, opened when it is needed and again when it was lost. Whoever needs it waits meanwhile, and one of
/// them does the opening.
#[derive(Debug)]
pub(super) struct Link {
    config: Arc<AmqpConfig>,
    /// For logs and the broker's list.
    role: &'static str,
    current: tokio::sync::Mutex<Option<Arc<Connection>>>,
    /// The same connection, to look at without waiting.
    seen: Mutex<Option<Arc<Connection>>>,
    opening: AtomicBool,
    /// Publishes that have waited for their confirmation longer than is usual.
    stalled: AtomicUsize,
}

/// One publish that waits too long.
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
            opening: AtomicBool::new(false),
            stalled: AtomicUsize::new(0),
        }
    }

    /// Notes that a publish waits too long for its confirmation, until what it gives is dropped.
    pub(super) fn stalls(&self) -> Stalled<'_> {
        if self.stalled.fetch_add(1, Relaxed) == 0 {
            tracing::warn!(
                role = self.role,
                endpoint = self.config.url.endpoint(),
                "RabbitMQ confirms nothing"
            );
        }
        Stalled(&self.stalled)
    }

    pub(super) fn config(&self) -> &AmqpConfig {
        &self.config
    }

    pub(super) fn error(&self, error: &lapin::Error) -> AmqpError {
        AmqpError::from_lapin(&self.config, error)
    }

    /// Why the broker cannot be used; `None` also before it is first needed.
    pub(super) fn outage(&self) -> Option<String> {
        let endpoint = self.config.url.endpoint();
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        match &*seen {
            _ if self.opening.load(Relaxed) => Some(format!("connecting to RabbitMQ at {endpoint}")),
            Some(connection) if connection.status().blocked() => Some(format!(
                "RabbitMQ at {endpoint} is out of memory or disk and takes nothing"
            )),
            Some(connection) if !connection.status().connected() => {
                Some(format!("the connection to RabbitMQ at {endpoint} is lost"))
            }
            _ if self.stalled.load(Relaxed) > 0 => Some(format!(
                "RabbitMQ at {endpoint} takes messages and confirms nothing"
            )),
            _ => None,
        }
    }

    /// The live connection, its queues declared.
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
        *current = Some(Arc::clone(&connection));
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&connection));
        Ok(connection)
    }

    /// A new channel on the live connection.
    pub(super) async fn channel(&self) -> Result<Channel, AmqpError> {
        let connection = self.connection().await?;
        connection
            .create_channel()
            .await
            .map_err(|error| self.error(&error))
    }

    async fn open_until_it_works(&self) -> Result<Connection, AmqpError> {
        let mut backoff = backoff();
        loop {
            match self.open().await {
                Ok(connection) => {
                    if backoff.attempts() > 0 {
                        tracing::info!(
                            role = self.role,
                            tries = backoff.attempts() + 1,
                            "connected to RabbitMQ again"
                        );
                    }
                    return Ok(connection);
                }
                Err(error)
                    if error.remedy() == Remedy::Wait && self.config.reconnect == Reconnect::Forever =>
                {
                    if backoff.attempts() == 0 {
                        tracing::warn!(role = self.role, %error, "trying again until it works");
                    }
                    tokio::time::sleep(backoff.next_wait()).await;
                }
                Err(error) => return Err(error),
            }
        }
    }

    async fn open(&self) -> Result<Connection, AmqpError> {
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
            Connection::connect_uri_with_config(self.config.url.uri(), properties, tls, runtime).await
        };
        let opened = tokio::time::timeout(CONNECT_TIMEOUT, open)
            .await
            .map_err(|_| AmqpError::Away {
                endpoint: self.config.url.endpoint(),
                why: format!("no answer within {CONNECT_TIMEOUT:?}"),
            })?;
        let connection = opened.map_err(|error| self.error(&error))?;
        self.declare(&connection).await?;
        Ok(connection)
    }

    /// Declares the queues again, for when one was deleted under a live connection. That this fails because the broker
    /// went away is no error: whoever asked tries again, and asks again if need be.
    pub(super) async fn declare_again(&self) -> Result<(), AmqpError> {
        tokio::time::sleep(DELETED_FOR).await;
        let connection = self.connection().await?;
        match self.declare(&connection).await {
            Err(error) if error.remedy() == Remedy::Wait => {
                tracing::debug!(%error, "not declared");
                Ok(())
            }
            declared => declared,
        }
    }

    /// Declares queues and exchange; what is there already has to be the same.
    async fn declare(&self, connection: &Connection) -> Result<(), AmqpError> {
        let names = &self.config.names;
        let channel = || async {
            let channel = connection.create_channel().await;
            channel.map_err(|error| self.error(&error))
        };
        // Asking closes the channel when the answer is no.
        let is_new = look_at(&channel().await?, &names.score).await.is_err();
        let channel = channel().await?;
        let dead = [
            ("x-queue-type", text("quorum")),
            ("x-delivery-limit", AMQPValue::LongLongInt(DEAD_LETTER_DELIVERIES)),
        ];
        // At-least-once dead-lettering: the broker itself moves a message over only once `dead` has confirmed it, for
        // which the queue must refuse, not drop, what it has no room for
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

    /// What the broker says of a queue.
    pub(super) async fn look_at(&self, queue: &str) -> Result<QueueLook, AmqpError> {
        let channel = self.channel().await?;
        let look = look_at(&channel, queue).await;
        // One that was refused is closed.
        _ = channel.close(200, "done".into()).await;
        look.map_err(|error| self.error(&error))
    }

    /// Says goodbye to the broker, which then gives back what is not settled at once.
    pub(super) async fn close(&self) {
        let Some(connection) = self.current.lock().await.take() else {
            return;
        };
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = None;
        // One that is gone already needs no goodbye.
        _ = tokio::time::timeout(CLOSE_TIMEOUT, connection.close(200, "done".into())).await;
    }
}

/// What a passive declaration tells of a queue.
pub(super) struct QueueLook {
    /// Messages that wait for a consumer.
    pub(super) ready: u64,
    /// Consumers, cancelled ones that hold messages included.
    pub(super) consumers: u64,
}

/// Looks at a queue, which must exist.
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

/// The waits between tries to reach the broker.
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
