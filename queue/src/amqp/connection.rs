//! One connection that is reopened when it is lost.

mod open;

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use lapin::types::AMQPValue;
use lapin::{Channel, Connection, ErrorKind};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::alarm::Alarm;
use super::answer::Unanswered;
use super::declare::{self, QueueLook};
use super::progress::Progress;
use super::{AmqpConfig, AmqpError, Reconnect};
use windrow_common::{Backoff, HasRemedy, InFlight, Remedy};

/// How long to wait for the broker to answer a close.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);
/// The same for a broker that takes no messages. It stops reading from a connection that has published, so it never
/// answers the close. With the longer timeout, an idle worker exceeded its drain timeout.
const BLOCKED_CLOSE_TIMEOUT: Duration = Duration::from_millis(500);
/// Waits between attempts: short at first, for a broker that restarts, and never so long that a person gives up first.
const FIRST_WAIT: Duration = Duration::from_millis(200);
const LONGEST_WAIT: Duration = Duration::from_secs(10);
/// How often to check whether an idle connection is lost.
const LOOK_EVERY: Duration = Duration::from_secs(1);

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
    closed: CancellationToken,
    /// Whether the broker has let a consumer start on it.
    has_consumed: AtomicBool,
    /// Number of messages that the broker keeps refusing.
    refused: AtomicUsize,
    progress: Progress,
    /// Size of the largest message that the broker takes, once it has refused one, for as long as the connection lives.
    largest: AtomicUsize,
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

impl Link {
    pub(super) fn new(config: Arc<AmqpConfig>, role: &'static str) -> Self {
        Self {
            config,
            role,
            current: tokio::sync::Mutex::default(),
            seen: Mutex::default(),
            opening: Mutex::default(),
            closed: CancellationToken::new(),
            has_consumed: AtomicBool::new(false),
            refused: AtomicUsize::new(0),
            progress: Progress::new(),
            largest: AtomicUsize::new(usize::MAX),
            unanswered: Unanswered::default(),
            declared_at: tokio::sync::Mutex::default(),
        }
    }

    /// Records that the broker keeps refusing a message, until the returned guard is dropped.
    pub(super) fn refuses(&self) -> InFlight<'_> {
        InFlight::among(&self.refused)
    }

    /// Returns the progress of what is published on it.
    pub(super) fn progress(&self) -> &Progress {
        &self.progress
    }

    /// Records the size of the largest message that the broker takes, so that no larger message is sent again. The
    /// broker closes the channel on each larger message, which disturbs all others in flight.
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
            None => self.config.access.latest().url.endpoint(),
        }
    }

    pub(super) fn error(&self, error: &lapin::Error) -> AmqpError {
        AmqpError::from_lapin(self.endpoint(), self.config.access.latest().url.user(), error)
    }

    /// Returns whether to wait out this error. A service that has worked before also waits out errors that a person has
    /// to fix: passwords, permissions and certificates change while it runs.
    pub(super) fn waits_out(&self, error: &AmqpError) -> bool {
        let may_pass = match error.remedy() {
            Remedy::Wait => true,
            Remedy::FixConfig | Remedy::GrantAccess => self.config.access.has_worked(),
            Remedy::GiveUp => false,
        };
        may_pass && self.config.reconnect == Reconnect::Forever && !self.closed.is_cancelled()
    }

    /// Returns whether to wait out this error of starting a consumer. If the user was never allowed to read, the
    /// service ends.
    pub(super) fn waits_to_consume(&self, error: &AmqpError) -> bool {
        let may_pass = error.remedy() == Remedy::Wait || self.has_consumed.load(Relaxed);
        may_pass && self.waits_out(error)
    }

    /// Notes that the broker has let a consumer start.
    pub(super) fn consumes(&self) {
        self.has_consumed.store(true, Relaxed);
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
        format!("not connected to RabbitMQ at {} yet", self.endpoint())
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
                self.config.access.latest().url.endpoint()
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
        if self.refused.load(Relaxed) > 0 {
            return Some(format!("RabbitMQ at {endpoint} refuses messages again and again"));
        }
        if let Some(reason) = self.unanswered.first() {
            return Some(reason);
        }
        let silence = self.progress.silence()?;
        let waited = Duration::from_secs(silence.as_secs());
        Some(AmqpError::Silent { endpoint, waited }.to_string())
    }

    /// Returns the live connection. Opens it if necessary, unless it was closed for good.
    pub(super) async fn connection(&self) -> Result<Arc<Connection>, AmqpError> {
        let opened = self.closed.run_until_cancelled(self.open_if_lost()).await;
        opened.unwrap_or_else(|| {
            Err(AmqpError::Away {
                endpoint: self.endpoint(),
                why: "this connection is closed".to_owned(),
            })
        })
    }

    async fn open_if_lost(&self) -> Result<Arc<Connection>, AmqpError> {
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
        self.largest.store(usize::MAX, Relaxed);
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

    /// Reopens the connection each time it is lost, until it is closed. Otherwise an idle service would stay unready
    /// until it next uses the connection, without a log line that says why.
    pub(super) async fn keep_open(link: Weak<Self>) {
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            let Some(link) = link.upgrade().filter(|link| !link.closed.is_cancelled()) else {
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
        let open = async {
            let opened = connection.create_channel().await;
            if let Err(error) = &opened
                && matches!(error.kind(), ErrorKind::ChannelsLimitReached)
            {
                self.give_up(Arc::clone(&connection));
            }
            opened
        };
        self.answer("opening a channel", None, open).await
    }

    /// Closes a connection that has no channel left, so that another one is opened. The client library (lapin 4.12.3) does
    /// not free every channel that the broker has closed after an error, such as a missing permission.
    fn give_up(&self, connection: Arc<Connection>) {
        if !connection.status().connected() {
            // Somebody else has found out.
            return;
        }
        tracing::warn!(
            role = self.role,
            "this connection has no channel left; opening another one"
        );
        tokio::spawn(async move { connection.close(200, "no channel left".into()).await });
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
        // A task that is opening the connection stops, and releases the lock.
        self.closed.cancel();
        let Some(connection) = self.current.lock().await.take() else {
            return;
        };
        *self.seen() = None;
        let within = match connection.status().blocked() {
            true => BLOCKED_CLOSE_TIMEOUT,
            false => CLOSE_TIMEOUT,
        };
        // A connection that is already lost needs no close.
        _ = tokio::time::timeout(within, connection.close(200, "done".into())).await;
    }
}

/// Returns the waits between attempts to reach the broker.
pub(super) fn backoff() -> Backoff {
    Backoff::new(FIRST_WAIT, LONGEST_WAIT)
}

pub(super) fn text(value: &str) -> AMQPValue {
    AMQPValue::LongString(value.into())
}
