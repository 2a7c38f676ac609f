//! Log lines about something that lasts.

use std::time::{Duration, Instant};

/// Decides when something that lasts is logged: when it begins, and then once a minute.
#[derive(Clone, Debug, Default)]
pub struct Reminder {
    /// When a line was last due.
    last: Option<Instant>,
    why: String,
}

impl Reminder {
    /// Time between two lines.
    pub const EVERY: Duration = Duration::from_secs(60);

    /// Returns whether a line is due, and counts it as written.
    pub fn is_due(&mut self, now: Instant) -> bool {
        let is_due = self
            .last
            .is_none_or(|last| now.duration_since(last) >= Self::EVERY);
        if is_due {
            self.last = Some(now);
        }
        is_due
    }

    /// Does the same for something that has a reason. Another reason than before is a line at once.
    pub fn is_due_for(&mut self, why: &str, now: Instant) -> bool {
        if self.why != why {
            why.clone_into(&mut self.why);
            self.last = None;
        }
        self.is_due(now)
    }

    /// Starts over, once it has ended. Returns whether there was a line about it.
    pub fn reset(&mut self) -> bool {
        self.last.take().is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lasts_is_a_line_a_minute_and_what_begins_again_or_changes_is_one_at_once() {
        let (mut reminder, start) = (Reminder::default(), Instant::now());
        let at = |second| start + Duration::from_secs(second);
        let due = (0..150).filter(|second| reminder.is_due(at(*second)));
        assert_eq!(due.collect::<Vec<_>>(), [0, 60, 120]);
        assert!(reminder.reset() && !reminder.reset());
        assert!(reminder.is_due_for("a", at(150)) && !reminder.is_due_for("a", at(151)));
        assert!(reminder.is_due_for("b", at(152)) && !reminder.is_due_for("b", at(211)));
        assert!(reminder.is_due_for("b", at(212)));
    }
}
