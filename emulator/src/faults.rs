//! The faults that a test asks for; links look them up as they work.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::state::Token;

/// A set of faults that a test asks for, and that links look up as they work.
#[derive(Default)]
pub(crate) struct Faults {
    wanted: Mutex<Wanted>,
}

#[derive(Default)]
struct Wanted {
    busy_until: Option<Instant>,
    delay: Duration,
    answer_delay: Duration,
    /// The name of the only key whose tokens are accepted; without one, all tokens are.
    key_name: Option<String>,
}

impl Faults {
    /// Refuses events and new links for this long, from now on.
    pub(crate) fn throttle(&self, duration: Duration) {
        // A duration that overflows the clock ends the throttling; no test asks for one.
        self.lock().busy_until = Instant::now().checked_add(duration);
    }

    /// Returns whether to refuse events and new links now.
    pub(crate) fn busy(&self) -> bool {
        self.lock().busy_until.is_some_and(|until| Instant::now() < until)
    }

    /// Holds back every burst of events for this long.
    pub(crate) fn set_delay(&self, delay: Duration) {
        self.lock().delay = delay;
    }

    /// Returns how long to hold back a burst of events.
    pub(crate) fn delay(&self) -> Duration {
        self.lock().delay
    }

    /// Holds back every answer about the hub and its partitions for this long.
    pub(crate) fn set_answer_delay(&self, delay: Duration) {
        self.lock().answer_delay = delay;
    }

    /// Returns how long to hold back an answer.
    pub(crate) fn answer_delay(&self) -> Duration {
        self.lock().answer_delay
    }

    /// Accepts only tokens signed with the key of this name, from now on.
    pub(crate) fn accept_only(&self, key_name: &str) {
        self.lock().key_name = Some(key_name.to_owned());
    }

    /// Returns whether a token is to be refused, by the name of its key in `skn`.
    pub(crate) fn refuses(&self, token: Option<&Token>) -> bool {
        match &self.lock().key_name {
            Some(name) => {
                let field = format!("skn={name}");
                !token.is_some_and(|token| token.text.split('&').any(|part| part == field))
            }
            None => false,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Wanted> {
        // Each value is set in one statement, so a panic cannot leave one broken.
        self.wanted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
