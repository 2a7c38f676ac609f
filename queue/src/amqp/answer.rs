//! Waits for the broker's answers: commands for some seconds, services for as long as it takes, with the reason in
//! `/readyz`.

use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, timeout};

use super::connection::Link;
use super::{AmqpError, Management, Reconnect};

/// How long a command waits for an answer, and how long until a service logs that there is none.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);
/// How often a service says again that there is no answer.
const SAY_EVERY: Duration = Duration::from_secs(60);
/// How long the management API may take to explain a silence.
const EXPLAIN_WITHIN: Duration = Duration::from_secs(2);

/// The outstanding answers, oldest first.
#[derive(Debug, Default)]
pub(super) struct Unanswered(Mutex<BTreeMap<u64, String>>);

impl Unanswered {
    /// Returns the oldest reason: the cause of the others, too.
    pub(super) fn first(&self) -> Option<String> {
        self.reasons().first_key_value().map(|(_, reason)| reason.clone())
    }

    fn reasons(&self) -> MutexGuard<'_, BTreeMap<u64, String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A reason for not being ready, until this is dropped.
pub(super) struct Waiting<'a> {
    unanswered: &'a Unanswered,
    number: u64,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.unanswered.reasons().remove(&self.number);
    }
}

impl Link {
    /// Makes readiness show `reason` until the returned guard is dropped.
    pub(super) fn waits_for(&self, reason: String) -> Waiting<'_> {
        let unanswered = self.unanswered();
        let mut reasons = unanswered.reasons();
        let number = reasons.last_key_value().map_or(0, |(number, _)| number + 1);
        reasons.insert(number, reason);
        Waiting { unanswered, number }
    }

    /// Waits for the broker's answer to `call`, which does `what` to `queue`. A command gives up after ten seconds. A
    /// service waits, because the broker answers once it can: giving up could use up delivery attempts of messages.
    /// Meanwhile it is not ready, and it says so every minute.
    pub(super) async fn answer<T>(
        &self,
        what: &'static str,
        queue: Option<&str>,
        call: impl Future<Output = Result<T, lapin::Error>>,
    ) -> Result<T, AmqpError> {
        let mut call = pin!(call);
        let mut patience = ANSWER_WITHIN;
        let began = Instant::now();
        let _waiting = self.waits_for(format!(
            "RabbitMQ at {} has not answered yet: {}",
            self.endpoint(),
            asked(what, queue)
        ));
        loop {
            if let Ok(answered) = timeout(patience, &mut call).await {
                return answered.map_err(|error| self.error(&error));
            }
            let silence = self.silence(what, queue, began.elapsed()).await;
            if self.config().reconnect == Reconnect::Never {
                return Err(silence);
            }
            tracing::warn!(role = self.role(), error = %silence, "waiting");
            patience = SAY_EVERY;
        }
    }

    /// Explains why the broker has not answered.
    pub(super) async fn silence(
        &self,
        what: &'static str,
        queue: Option<&str>,
        waited: Duration,
    ) -> AmqpError {
        if let Some(blocked) = self.blocked() {
            return blocked;
        }
        let majority = match queue {
            Some(queue) => self.majority_of(queue).await,
            None => None,
        };
        AmqpError::NoAnswer {
            endpoint: self.endpoint(),
            seconds: waited.as_secs(),
            asked: asked(what, queue),
            why: majority.unwrap_or_else(|| {
                "a majority of the queue's nodes may be away, or a disk slow; the management API does not tell".to_owned()
            }),
        }
    }

    /// Returns which nodes of `queue` are away, if it lacks a majority and the management API says so in time.
    async fn majority_of(&self, queue: &str) -> Option<String> {
        let config = self.config();
        let management = Management::new(config.access.clone(), config.management_url.as_deref()).ok()?;
        let state = timeout(EXPLAIN_WITHIN, management.queue(queue)).await;
        state.ok()?.ok()?.no_majority()
    }
}

fn asked(what: &str, queue: Option<&str>) -> String {
    match queue {
        Some(queue) => format!("{what} `{queue}`"),
        None => what.to_owned(),
    }
}
