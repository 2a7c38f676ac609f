//! The workers that were asked for and do not score yet.

use std::collections::VecDeque;

use crate::fleet::Capacity;

/// When workers were asked for.
#[derive(Clone, Debug, Default)]
pub(super) struct Boots {
    /// The last observation, and its time in seconds.
    before: Option<(f64, Capacity)>,
    /// Whether the same workers were ready at the last two observations, and no others booted.
    is_steady: bool,
    /// The time in seconds, and the number of workers.
    pending: VecDeque<(f64, u32)>,
}

impl Boots {
    /// Takes in what the fleet has now. Returns how long each group of workers took that has become ready, in seconds.
    pub(super) fn observe(&mut self, now: f64, capacity: Capacity) -> Vec<f64> {
        if self.before.is_some_and(|(then, _)| then > now) {
            self.restart(now);
        }
        let before = self.before.replace((now, capacity));
        let Some((then, before)) = before else {
            // The request for these was not observed, so count it as made now.
            self.ask(now, capacity.booting);
            return Vec::new();
        };
        self.is_steady = before == capacity && capacity.booting == 0 && capacity.draining == 0;
        // They were asked for after the last observation.
        self.ask(then, capacity.requested.saturating_sub(before.requested));
        let booted = self.take(capacity.ready.saturating_sub(before.ready), now);
        // Some were cancelled, or evicted while they booted.
        let surplus = self.count().saturating_sub(capacity.booting);
        self.take(surplus, now);
        booted
    }

    /// Returns whether the same workers were ready at the last two observations, and no others booted.
    pub(super) fn is_steady(&self) -> bool {
        self.is_steady
    }

    /// Returns for each group of booting workers in how many seconds it will be ready, and its size, if a worker takes
    /// `boot` seconds to start.
    pub(super) fn due(&self, now: f64, boot: f64) -> impl Iterator<Item = (f64, u32)> + '_ {
        let pending = self.pending.iter();
        pending.map(move |(since, count)| ((boot - (now - since)).max(0.0), *count))
    }

    /// Forgets the times, because the clock jumped.
    pub(super) fn restart(&mut self, now: f64) {
        self.before = self.before.map(|(_, capacity)| (now, capacity));
        for (since, _) in &mut self.pending {
            *since = now;
        }
    }

    fn ask(&mut self, now: f64, count: u32) {
        if count > 0 {
            self.pending.push_back((now, count));
        }
    }

    fn count(&self) -> u32 {
        self.pending.iter().map(|(_, count)| count).sum()
    }

    fn take(&mut self, mut count: u32, now: f64) -> Vec<f64> {
        let mut took = Vec::new();
        while count > 0 {
            let Some((since, pending)) = self.pending.front_mut() else {
                break;
            };
            took.push(now - *since);
            let taken = count.min(*pending);
            count -= taken;
            *pending -= taken;
            if *pending == 0 {
                self.pending.pop_front();
            }
        }
        took
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::fleet;
    use super::*;

    #[test]
    fn the_first_that_was_asked_for_is_the_first_that_is_ready() {
        let mut boots = Boots::default();
        assert!(boots.observe(0.0, fleet(0, 0)).is_empty());
        assert!(boots.observe(5.0, fleet(2, 0)).is_empty());
        assert!(boots.observe(35.0, fleet(3, 0)).is_empty());
        assert_eq!(boots.due(35.0, 90.0).collect::<Vec<_>>(), [(55.0, 2), (60.0, 1)]);
        assert_eq!(boots.observe(95.0, fleet(3, 2)), [95.0]);
        // The third is cancelled.
        assert!(boots.observe(100.0, fleet(2, 2)).is_empty());
        assert!(!boots.is_steady());
        assert!(boots.observe(105.0, fleet(2, 2)).is_empty());
        assert!(boots.is_steady());
    }
}
