//! Declares the queues and the exchange. Every program checks whether they exist; services create those that are
//! missing, as far as the user's permissions allow.

use std::sync::Once;
use std::time::Duration;

use lapin::options::{ExchangeDeclareOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{Channel, Connection, ExchangeKind};
use tokio::time::{Instant, sleep, timeout};

use super::connection::{Link, backoff, text};
use super::{AmqpConfig, AmqpError};
use windrow_common::{HasRemedy, Remedy};

/// How long to leave a new queue alone. A node that is killed in the first second of a quorum queue's life loses the
/// queue's log, and the confirmed messages in it (seen with RabbitMQ 3.10.8).
const SETTLING: Duration = Duration::from_secs(2);

/// How long to wait before recreating a deleted queue. If it is recreated within 20 ms, its messages are assigned to
/// consumers of the deleted queue and never arrive (seen with RabbitMQ 3.10.8).
const DELETED_FOR: Duration = Duration::from_secs(1);

/// Deliveries of a dead letter before RabbitMQ 4 drops it. The number is huge because each listing is a delivery too.
const DEAD_LETTER_DELIVERIES: i64 = 1_000_000_000;

/// How long the broker may take to declare everything. A cluster without a majority takes ten seconds to refuse a queue.
const DECLARE_WITHIN: Duration = Duration::from_secs(30);

/// Warns of an old dead-letter queue once, not at each connection.
static TOLD_OF_OVERFLOW: Once = Once::new();

/// A queue or exchange that services need.
struct Thing<'a> {
    name: &'a str,
    kind: Kind,
}

enum Kind {
    Queue {
        arguments: FieldTable,
        /// The arguments that an earlier version created it with.
        earlier: Option<FieldTable>,
    },
    Exchange,
}

/// What a declaration is for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Aim {
    /// Checks whether the thing exists. Every user may do this.
    Look,
    /// Creates it, or compares its arguments if it exists. Needs the permission `configure`.
    Create,
}

impl Link {
    /// Creates what is missing, and checks the arguments of what exists if the user may.
    pub(super) async fn declare(&self, connection: &Connection, endpoint: &str) -> Result<(), AmqpError> {
        let declaring = Declaring {
            connection,
            endpoint,
            config: self.config(),
        };
        let declared = timeout(DECLARE_WITHIN, declaring.all()).await;
        declared.unwrap_or_else(|_| {
            Err(AmqpError::Away {
                endpoint: endpoint.to_owned(),
                why: format!("no answer within {DECLARE_WITHIN:?} to the declaration of the queues"),
            })
        })
    }

    /// Declares everything again after a queue was deleted under a live connection. An outage of the broker meanwhile
    /// is not an error: the caller retries, and calls this again if necessary. If the user may not create what was
    /// deleted, a service that has worked before waits until somebody recreates it.
    pub(super) async fn declare_again(&self) -> Result<(), AmqpError> {
        let missed_at = Instant::now();
        sleep(DELETED_FOR).await;
        // One of the tasks that miss the queue declares it; the others wait.
        let mut declared_at = self.declared_at().lock().await;
        if declared_at.is_some_and(|declared_at| declared_at > missed_at) {
            return Ok(());
        }
        tracing::error!(
            role = self.role(),
            "a queue or exchange is missing; declaring them again"
        );
        let mut backoff = backoff();
        let mut unready = None;
        loop {
            let connection = self.connection().await?;
            match self.declare(&connection, &self.endpoint()).await {
                Ok(()) => {
                    *declared_at = Some(Instant::now());
                    return Ok(());
                }
                Err(error) if error.remedy() == Remedy::Wait => {
                    tracing::warn!(%error, "cannot declare the queues; retrying");
                    return Ok(());
                }
                Err(error) if self.waits_out(&error) => {
                    if unready.is_none() {
                        tracing::warn!(role = self.role(), %error, "waiting until it exists again");
                    }
                    unready = Some(self.waits_for(error.to_string()));
                    sleep(backoff.next_wait()).await;
                }
                Err(error) => return Err(error),
            }
        }
    }
}

/// A connection on which everything is declared.
struct Declaring<'a> {
    connection: &'a Connection,
    endpoint: &'a str,
    config: &'a AmqpConfig,
}

impl<'a> Declaring<'a> {
    async fn all(&self) -> Result<(), AmqpError> {
        let mut missing = Vec::new();
        for thing in self.things() {
            match self.declare(&thing, Aim::Look).await {
                Ok(()) => self.compare(&thing).await?,
                Err(AmqpError::Missing { .. }) => missing.push(thing),
                Err(error) => return Err(error),
            }
        }
        for thing in &missing {
            let created = self.declare(thing, Aim::Create).await;
            created.map_err(|error| thing.not_created(error))?;
        }
        if missing
            .iter()
            .any(|thing| matches!(thing.kind, Kind::Queue { .. }))
        {
            sleep(SETTLING).await;
        }
        Ok(())
    }

    fn things(&self) -> [Thing<'a>; 3] {
        let names = &self.config.names;
        let dead = [
            ("x-queue-type", text("quorum")),
            ("x-delivery-limit", AMQPValue::LongLongInt(DEAD_LETTER_DELIVERIES)),
        ];
        // A queue at a limit that a policy sets refuses dead letters instead of dropping the oldest.
        let refuses = [("x-overflow", text("reject-publish"))];
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
        [
            Thing {
                name: &names.dead,
                kind: Kind::Queue {
                    arguments: table(dead.iter().cloned().chain(refuses)),
                    earlier: Some(table(dead)),
                },
            },
            Thing {
                name: &names.score,
                kind: Kind::Queue {
                    arguments: table(score),
                    earlier: None,
                },
            },
            Thing {
                name: &names.anomalies,
                kind: Kind::Exchange,
            },
        ]
    }

    /// Compares the arguments of an existing thing with ours. Without the permission `configure`, this is skipped.
    async fn compare(&self, thing: &Thing<'_>) -> Result<(), AmqpError> {
        match self.declare(thing, Aim::Create).await {
            Err(AmqpError::Refused { why, .. }) => {
                tracing::debug!(name = thing.name, why, "cannot compare the arguments");
                Ok(())
            }
            Err(AmqpError::OtherArguments { endpoint, why }) => match thing.as_created_earlier() {
                Some(earlier) => {
                    self.declare(&earlier, Aim::Create).await?;
                    warn_of_overflow(&endpoint, thing.name);
                    Ok(())
                }
                None => Err(AmqpError::OtherArguments { endpoint, why }),
            },
            compared => compared,
        }
    }

    /// Declares on a channel of its own, because the broker closes the channel after an error.
    async fn declare(&self, thing: &Thing<'_>, aim: Aim) -> Result<(), AmqpError> {
        let channel = self.connection.create_channel().await;
        let channel = channel.map_err(|error| self.error(&error))?;
        let passive = aim == Aim::Look;
        let declared = match &thing.kind {
            Kind::Queue { arguments, .. } => {
                let options = QueueDeclareOptions {
                    passive,
                    ..QueueDeclareOptions::durable()
                };
                let declared = channel.queue_declare(thing.name.into(), options, arguments.clone());
                declared.await.map(|_| ())
            }
            Kind::Exchange => {
                let options = ExchangeDeclareOptions {
                    durable: true,
                    passive,
                    ..ExchangeDeclareOptions::default()
                };
                let (kind, none) = (ExchangeKind::Topic, FieldTable::default());
                channel
                    .exchange_declare(thing.name.into(), kind, options, none)
                    .await
            }
        };
        if declared.is_ok() {
            _ = channel.close(200, "done".into()).await;
        }
        declared.map_err(|error| self.error(&error))
    }

    fn error(&self, error: &lapin::Error) -> AmqpError {
        AmqpError::from_lapin(
            self.endpoint.to_owned(),
            self.config.access.latest().url.user(),
            error,
        )
    }
}

impl Thing<'_> {
    /// Returns it with the arguments of an earlier version, if they differ.
    fn as_created_earlier(&self) -> Option<Thing<'_>> {
        match &self.kind {
            Kind::Queue {
                earlier: Some(earlier),
                ..
            } => Some(Thing {
                name: self.name,
                kind: Kind::Queue {
                    arguments: earlier.clone(),
                    earlier: None,
                },
            }),
            _ => None,
        }
    }

    /// Explains why it was not created.
    fn not_created(&self, error: AmqpError) -> AmqpError {
        let kind = match self.kind {
            Kind::Queue { .. } => "queue",
            Kind::Exchange => "exchange",
        };
        match error {
            AmqpError::Refused { endpoint, user, why } => AmqpError::MayNotCreate {
                endpoint,
                user,
                what: format!("{kind} `{}`", self.name),
                why,
            },
            other => other,
        }
    }
}

fn warn_of_overflow(endpoint: &str, queue: &str) {
    TOLD_OF_OVERFLOW.call_once(|| {
        tracing::warn!(
            endpoint,
            queue,
            "an earlier version created this queue: under a policy with max-length it drops the oldest dead letters. Set a \
             policy with `overflow: reject-publish` on it, or delete it once it is empty: the next start recreates it"
        );
    });
}

/// The state of a queue, from a passive declaration: up to date, but without the messages that consumers hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueLook {
    /// Number of messages that wait for a consumer.
    pub ready: u64,
    /// Number of consumers, including cancelled ones that still hold messages.
    pub consumers: u64,
}

/// Declares a queue passively, which fails if it does not exist.
pub(super) async fn look_at(channel: &Channel, queue: &str) -> Result<QueueLook, lapin::Error> {
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

fn table(entries: impl IntoIterator<Item = (&'static str, AMQPValue)>) -> FieldTable {
    let mut table = FieldTable::default();
    for (name, value) in entries {
        table.insert(name.into(), value);
    }
    table
}
