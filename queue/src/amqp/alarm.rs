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
        let events = connection.events_listener();
        let shared = alarm.clone();
        let watch = async move {
            let say = |takes_messages: bool| match takes_messages {
                true => tracing::info!(role, endpoint, "RabbitMQ takes messages again"),
                false => {
                    let lacks = shared.lacks();
                    tracing::warn!(
                        role,
                        endpoint,
                        lacks,
                        "RabbitMQ takes no messages; waiting until it does"
                    );
                }
            };
            shared.follow(events, say).await;
        };
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

    /// Reports when the broker stops taking messages, once a minute while it takes none, and when it resumes.
    async fn follow(&self, events: impl Stream<Item = Event>, mut say: impl FnMut(bool)) {
        let mut events = std::pin::pin!(events);
        let mut blocked = false;
        loop {
            let event = match blocked {
                true => timeout(SAY_EVERY, events.next()).await,
                false => Ok(events.next().await),
            };
            blocked = match event {
                Ok(None | Some(Event::Error(_))) => return,
                Ok(Some(Event::ConnectionBlocked(reason))) => {
                    *self.0.lock().unwrap_or_else(PoisonError::into_inner) = reason;
                    true
                }
                Ok(Some(Event::ConnectionUnblocked)) => false,
                Ok(Some(_)) => continue,
                Err(_) => true,
            };
            say(!blocked);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_lasting_alarm_is_told_every_minute() {
        let (broker, events) = tokio::sync::mpsc::unbounded_channel();
        let events = futures::stream::unfold(events, async |mut events| {
            events.recv().await.map(|event| (event, events))
        });
        let (alarm, began) = (Alarm::default(), tokio::time::Instant::now());
        let mut said = Vec::new();
        let script = async move {
            let wait = |seconds| tokio::time::sleep(Duration::from_secs(seconds));
            broker.send(Event::Connected).unwrap();
            wait(100).await;
            broker
                .send(Event::ConnectionBlocked("low on disk".to_owned()))
                .unwrap();
            wait(150).await;
            broker.send(Event::ConnectionUnblocked).unwrap();
            wait(500).await;
        };
        let say = |takes_messages| said.push((began.elapsed().as_secs(), takes_messages));
        tokio::join!(script, alarm.follow(events, say));
        assert_eq!(said, [(100, false), (160, false), (220, false), (250, true)]);
        assert_eq!(alarm.lacks(), "disk");
    }
}
