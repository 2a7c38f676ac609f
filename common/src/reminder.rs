//! Log lines about something that lasts.

use std::time::{Duration, Instant};

/// Decides when something that lasts is logged: when it begins, and then once a minute.
#[derive(Clone, Copy, Debug, Default)]
pub struct Reminder(Option<Instant>);

impl Reminder {
    /// Time between two lines.
    pub const EVERY: Duration = Duration::from_secs(60);

    /// Returns whether a line is due, and counts it as written.
    pub fn is_due(&mut self, now: Instant) -> bool {
        let is_due = self.0.is_none_or(|last| now.duration_since(last) >= Self::EVERY);
        if is_due {
            self.0 = Some(now);
        }
        is_due
    }

    /// Starts over, once it has ended. Returns whether there was a line about it.
    pub fn reset(&mut self) -> bool {
        self.0.take().is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lasts_is_a_line_a_minute_and_what_begins_again_is_one_at_once() {
        let (mut reminder, start) = (Reminder::default(), Instant::now());
        let at = |second| start + Duration::from_secs(second);
        let due = (0..150).filter(|second| reminder.is_due(at(*second)));
        assert_eq!(due.collect::<Vec<_>>(), [0, 60, 120]);
        assert!(reminder.reset() && !reminder.reset());
        assert!(reminder.is_due(at(150)));
    }
}
