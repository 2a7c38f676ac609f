//! The messages that are not done, by the time they arrived.

use std::collections::VecDeque;

/// Most arrivals kept apart. Beyond it, the oldest two become one with the older time, which is on the safe side.
const MOST_ARRIVALS: usize = 512;

/// The messages that have arrived and are not done, oldest first.
///
/// The queue does not tell the ages of its messages. It is first in, first out, so they follow from the arrival times
/// and the number of messages left.
#[derive(Clone, Debug, Default)]
pub(super) struct Backlog {
    /// When messages arrived, in seconds, and how many of them are left.
    left: VecDeque<(f64, f64)>,
    total: f64,
}

impl Backlog {
    /// Takes in that `arrived` messages came before `now`, and that `total` are left, ready and unacked.
    pub(super) fn observe(&mut self, now: f64, arrived: f64, total: f64) {
        if arrived > 0.0 {
            self.left.push_back((now, arrived));
            self.total += arrived;
        }
        if total > self.total {
            // Nobody saw these arrive.
            self.left.push_back((now, total - self.total));
            self.total = total;
        }
        while self.total > total {
            let Some((_, oldest)) = self.left.front_mut() else {
                break;
            };
            let done = oldest.min(self.total - total);
            *oldest -= done;
            self.total -= done;
            if *oldest <= 0.0 {
                self.left.pop_front();
            }
        }
        if self.left.is_empty() || total <= 0.0 {
            *self = Self::default();
        }
        while self.left.len() > MOST_ARRIVALS {
            if let (Some((time, first)), Some((_, second))) = (self.left.pop_front(), self.left.pop_front()) {
                self.left.push_front((time, first + second));
            }
        }
    }

    /// Returns how many messages are left.
    pub(super) fn total(&self) -> f64 {
        self.total
    }

    /// Returns the times at which messages arrived, each with how many are left of those up to then.
    pub(super) fn due(&self) -> impl Iterator<Item = (f64, f64)> + '_ {
        self.left.iter().scan(0.0, |sum, (time, left)| {
            *sum += left;
            Some((*time, *sum))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_done_is_the_oldest() {
        let mut backlog = Backlog::default();
        backlog.observe(10.0, 100.0, 100.0);
        backlog.observe(20.0, 50.0, 120.0);
        assert_eq!(backlog.due().collect::<Vec<_>>(), [(10.0, 70.0), (20.0, 120.0)]);
        backlog.observe(30.0, 0.0, 20.0);
        assert_eq!(backlog.due().collect::<Vec<_>>(), [(20.0, 20.0)]);
        // A worker died: its messages are ready again, and nobody knows how old they are.
        backlog.observe(40.0, 0.0, 25.0);
        assert_eq!(backlog.due().collect::<Vec<_>>(), [(20.0, 20.0), (40.0, 25.0)]);
        backlog.observe(50.0, 0.0, 0.0);
        assert_eq!((backlog.due().count(), backlog.total()), (0, 0.0));
    }

    #[test]
    fn memory_is_bounded_and_the_oldest_stays_the_oldest() {
        let mut backlog = Backlog::default();
        for second in 0..10_000 {
            backlog.observe(f64::from(second), 1.0, f64::from(second + 1));
        }
        assert_eq!(backlog.left.len(), MOST_ARRIVALS);
        assert_eq!(backlog.due().next().map(|(time, _)| time), Some(0.0));
        assert_eq!(backlog.total(), 10_000.0);
    }
}
