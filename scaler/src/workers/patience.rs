//! How long to wait before another worker is started, when workers end soon after their start.

use std::time::Duration;

use tokio::time::Instant;

/// A worker that has lived this long has started well.
pub(super) const LONG_LIFE: Duration = Duration::from_secs(30);
/// The first wait; it doubles with each worker that ends soon.
const FIRST_WAIT: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// The patience with workers that end soon after their start, as those with a wrong option do.
#[derive(Debug, Default)]
pub(super) struct Patience {
    waits: u32,
    until: Option<Instant>,
    why: String,
}

impl Patience {
    /// Notes that a worker has ended, though nobody had asked it to. One that was at work for long is replaced at once.
    pub(super) fn note_end(&mut self, now: Instant, why: String, lived: Duration) {
        if lived >= LONG_LIFE {
            return;
        }
        let wait = FIRST_WAIT * 2_u32.saturating_pow(self.waits).min(1 << 10);
        // Workers that were started together end together, and that is one reason to wait, not several.
        if self.until.is_none_or(|until| now >= until) {
            self.waits += 1;
            self.until = Some(now + wait.min(LONGEST_WAIT));
        }
        self.why = why;
    }

    /// Notes that a worker lives long.
    pub(super) fn note_life(&mut self) {
        (self.waits, self.until) = (0, None);
    }

    /// Returns whether no worker should be started now.
    pub(super) fn waits(&self, now: Instant) -> bool {
        self.until.is_some_and(|until| now < until)
    }

    /// Returns why the last worker ended soon; `None` once another lives long.
    pub(super) fn outage(&self) -> Option<&str> {
        self.until.is_some().then_some(self.why.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_ends_soon_is_waited_for_longer_each_time_and_who_worked_for_long_is_replaced_at_once() {
        let mut now = Instant::now();
        let mut patience = Patience::default();
        patience.note_end(now, "killed".to_owned(), LONG_LIFE);
        assert_eq!(patience.outage(), None);
        let mut waited = Vec::new();
        for _ in 0..8 {
            // Three that end at once count once.
            for _ in 0..3 {
                patience.note_end(now, "ended".to_owned(), Duration::ZERO);
            }
            let from = now;
            while patience.waits(now) {
                now += Duration::from_secs(1);
            }
            waited.push((now - from).as_secs());
        }
        assert_eq!(waited, [1, 2, 4, 8, 16, 32, 60, 60]);
        assert_eq!(patience.outage(), Some("ended"));
        patience.note_life();
        patience.note_end(now, "ended".to_owned(), Duration::ZERO);
        assert!(!patience.waits(now + Duration::from_secs(1)));
    }
}
