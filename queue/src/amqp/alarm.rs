//! The broker's alarms: short of memory or disk, it takes no messages.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::{Stream, StreamExt};
use lapin::{Connection, Event};
use tokio::time::timeout;
use tokio_util::task::AbortOnDropHandle;

/// How often a lasting alarm is logged.
const SAY_EVERY: Duration = Duration::from_secs(60);

/// What the broker said when it blocked a connection. Clones share it.
#[derive(Clone, Debug, Default)]
pub(super) struct Alarm(Arc<Mutex<String>>);

impl Alarm {
    /// Watches a connection until the returned handle is dropped.
    pub(super) fn watch(
        connection: &Connection,
        role: &'static str,
        endpoint: String,
    ) -> (Self, AbortOnDropHandle<()>) {
        let alarm = Self::default();
        let watch = alarm.clone().follow(connection.events_listener(), role, endpoint);
        (alarm, AbortOnDropHandle::new(tokio::spawn(watch)))
    }

    /// Returns what the broker lacks.
    pub(super) fn lacks(&self) -> &'static str {
        let reason = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // "low on memory", "low on disk", "low on memory & disk".
        match (reason.contains("memory"), reason.contains("disk")) {
            (true, false) => "memory",
            (false, true) => "disk",
            _ => "memory or disk",
        }
    }

    /// Logs when the connection is blocked, every minute while it is, and when it no longer is.
    async fn follow(self, events: impl Stream<Item = Event>, role: &'static str, endpoint: String) {
        let mut events = std::pin::pin!(events);
        let mut blocked = false;
        loop {
            let event = match blocked {
                true => timeout(SAY_EVERY, events.next()).await,
                false => Ok(events.next().await),
            };
            match event {
                Ok(None) => return,
                Ok(Some(Event::ConnectionBlocked(reason))) => {
                    *self.0.lock().unwrap_or_else(PoisonError::into_inner) = reason;
                    blocked = true;
                }
                Ok(Some(Event::ConnectionUnblocked)) => {
                    blocked = false;
                    tracing::info!(role, endpoint, "RabbitMQ takes messages again");
                }
                Ok(Some(_)) => continue,
                Err(_) => {}
            }
            if blocked {
                let lacks = self.lacks();
                tracing::warn!(
                    role,
                    endpoint,
                    lacks,
                    "RabbitMQ takes no messages; waiting until it does"
                );
            }
        }
    }
}
