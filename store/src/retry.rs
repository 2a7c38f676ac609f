//! Waits for the end of an outage of a dependency.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use windrow_common::{Backoff, HasRemedy, Reminder, format_duration};

/// Waits between attempts: short at first, then long enough not to burden a store that recovers.
const FIRST_WAIT: Duration = Duration::from_millis(200);
const LONGEST_WAIT: Duration = Duration::from_secs(15);

/// The operations of this process that wait, by what they do. Many fail at once, and a line for each would hide what
/// happened.
static WAITS: Mutex<Waits> = Mutex::new(Waits(BTreeMap::new()));

/// Runs `operation` until it succeeds or fails with an error that waiting does not cure. Logs an outage when it
/// begins, each minute, and when it ends: once for all operations that do the same, not on each attempt. To stop
/// waiting, drop the future.
pub async fn wait_out<T, E: HasRemedy, F: Future<Output = Result<T, E>>>(
    what: &'static str,
    mut operation: impl FnMut() -> F,
) -> Result<T, E> {
    let mut backoff = Backoff::new(FIRST_WAIT, LONGEST_WAIT);
    let mut waiting: Option<Waiting> = None;
    loop {
        match operation().await {
            Err(error) if error.remedy().may_pass() => {
                waiting.get_or_insert_with(|| Waiting::new(what));
                let failed = waits().failed(what, Instant::now());
                match failed {
                    Some(Failed { attempts: 1, .. }) => {
                        tracing::warn!(what, %error, "failed; retrying until it works");
                    }
                    Some(Failed { attempts, since }) => {
                        let lasted = lasted(since);
                        tracing::warn!(what, attempts, lasted, %error, "still failing; retrying until it works");
                    }
                    None => {}
                }
                tokio::time::sleep(backoff.next_wait()).await;
            }
            Ok(done) => {
                let waited = waiting.as_ref().and_then(|_| waits().works(what));
                if let Some(Failed { attempts, since }) = waited {
                    let lasted = lasted(since);
                    tracing::info!(what, attempts, lasted, "works again");
                }
                return Ok(done);
            }
            Err(error) => return Err(error),
        }
    }
}

fn waits() -> MutexGuard<'static, Waits> {
    // Nothing panics while it is locked.
    WAITS.lock().unwrap_or_else(PoisonError::into_inner)
}

fn lasted(since: Instant) -> String {
    format_duration(Duration::from_secs(since.elapsed().as_secs()))
}

/// An operation that waits, until it is dropped.
struct Waiting(&'static str);

impl Waiting {
    fn new(what: &'static str) -> Self {
        waits().of(what, Instant::now()).operations += 1;
        Self(what)
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        waits().left(self.0);
    }
}

struct Waits(BTreeMap<&'static str, Wait>);

/// The waiting operations of one kind.
struct Wait {
    operations: usize,
    attempts: u64,
    since: Instant,
    reminder: Reminder,
}

/// An outage, as a log line reports it.
struct Failed {
    attempts: u64,
    since: Instant,
}

impl Waits {
    fn of(&mut self, what: &'static str, now: Instant) -> &mut Wait {
        self.0.entry(what).or_insert(Wait {
            operations: 0,
            attempts: 0,
            since: now,
            reminder: Reminder::default(),
        })
    }

    /// Counts a failed attempt, and returns what to log, if it is time for that.
    fn failed(&mut self, what: &'static str, now: Instant) -> Option<Failed> {
        let wait = self.of(what, now);
        if wait.attempts == 0 {
            wait.since = now;
        }
        wait.attempts += 1;
        wait.reminder.is_due(now).then_some(Failed {
            attempts: wait.attempts,
            since: wait.since,
        })
    }

    /// Notes that one of the operations has succeeded; returns what to log if it is the first. The others succeed within
    /// their next wait, or begin an outage of their own.
    fn works(&mut self, what: &'static str) -> Option<Failed> {
        let wait = self.0.get_mut(what)?;
        if !wait.reminder.reset() {
            return None;
        }
        let attempts = std::mem::take(&mut wait.attempts);
        Some(Failed {
            attempts,
            since: wait.since,
        })
    }

    fn left(&mut self, what: &'static str) {
        if let Some(wait) = self.0.get_mut(what) {
            wait.operations -= 1;
            if wait.operations == 0 {
                self.0.remove(what);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outage_of_many_operations_is_one_line_then_a_count_a_minute_and_one_when_it_ends() {
        let mut waits = Waits(BTreeMap::new());
        let start = Instant::now();
        let mut lines = Vec::new();
        for _ in 0..32 {
            waits.of("reading", start).operations += 1;
        }
        for second in 0..150 {
            for _ in 0..32 {
                let failed = waits.failed("reading", start + Duration::from_secs(second));
                lines.extend(failed.map(|failed| (second, failed.attempts)));
            }
        }
        assert_eq!(lines, [(0, 1), (60, 60 * 32 + 1), (120, 120 * 32 + 1)]);
        // Others fail on their own.
        assert!(waits.failed("writing", start).is_some());
        assert_eq!(waits.works("reading").unwrap().attempts, 150 * 32);
        for _ in 0..31 {
            waits.left("reading");
            assert!(waits.works("reading").is_none());
        }
        waits.left("reading");
        assert!(waits.failed("reading", start).is_some(), "the next outage");
    }
}
