//! Decides when to end idle workers.
//!
//! Ending a worker and starting another costs a start-up time. So one without work is kept for that long: then it has
//! cost no more than twice what the best choice would have cost, whatever comes (the ski-rental problem; M. Lin,
//! A. Wierman, L. Andrew, E. Thereska: Dynamic right-sizing for power-proportional data centers, INFOCOM 2011). If it is
//! known that nothing comes for longer than that, it ends at once.

use std::collections::VecDeque;

/// How long the queue has to be empty before anything is ended, in seconds: the broker's figures are five seconds old.
const SETTLED: f64 = 10.0;
/// A worker that would be busy for less than this share of the time is not kept; the backlog waits instead.
const WORTHWHILE: f64 = 0.75;
/// The shortest time between two steps down, in seconds.
const STEP_EVERY: f64 = 15.0;

/// How many workers were needed lately.
#[derive(Clone, Debug, Default)]
pub(super) struct Needs {
    /// Times in seconds, with the number that was needed from then on.
    needed: VecDeque<(f64, u32)>,
    empty_since: Option<f64>,
    last_step: Option<f64>,
}

/// Returns how many workers are needed for `arrivals` messages a second.
pub(super) fn for_flow(arrivals: f64, rate: f64) -> u32 {
    let busy = arrivals / rate;
    // Saturates.
    (busy - WORTHWHILE).ceil().max(0.0) as u32
}

impl Needs {
    /// Takes in that `needed` workers have work. Returns the most that had work within the last `window` seconds; `None`
    /// if less than that is known.
    pub(super) fn observe(&mut self, now: f64, needed: u32, window: f64) -> Option<u32> {
        if self.needed.back().is_none_or(|(_, before)| *before != needed) {
            self.needed.push_back((now, needed));
        }
        // The first of them began before the window.
        while self.needed.get(1).is_some_and(|(next, _)| *next <= now - window) {
            self.needed.pop_front();
        }
        let (since, _) = self.needed.front()?;
        let most = self.needed.iter().map(|(_, needed)| *needed).max();
        most.filter(|_| *since <= now - window)
    }

    /// Takes in whether there is any message. Returns for how long there was none, in seconds.
    pub(super) fn empty_for(&mut self, now: f64, is_empty: bool) -> Option<f64> {
        match is_empty {
            true => Some(now - *self.empty_since.get_or_insert(now)),
            false => {
                self.empty_since = None;
                None
            }
        }
    }

    /// Returns for how long there was no message, if the last observation had none.
    pub(super) fn was_empty_for(&self, now: f64) -> Option<f64> {
        self.empty_since
            .map(|since| now - since)
            .filter(|gap| *gap > SETTLED)
    }

    /// Returns how far `requested` workers may be reduced now, towards `enough`: by half at once.
    pub(super) fn step_down(&mut self, now: f64, requested: u32, enough: u32) -> u32 {
        if self.last_step.is_some_and(|last| now - last < STEP_EVERY) {
            return requested;
        }
        self.last_step = Some(now);
        enough.max(requested / 2)
    }

    /// Forgets everything, because the clock jumped.
    pub(super) fn restart(&mut self) {
        *self = Self::default();
    }
}

/// Returns how long the queue has to be empty before workers end, in seconds; `None` if they are kept. A new start is
/// worth `break_even` seconds.
pub(super) fn linger(break_even: f64, next_batch_in: Option<f64>, gaps_are_long: bool) -> Option<f64> {
    match next_batch_in {
        Some(next) if next <= break_even => None,
        Some(_) => Some(SETTLED),
        None if gaps_are_long => Some(SETTLED),
        None => Some(break_even.max(SETTLED)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_that_would_mostly_wait_is_not_kept() {
        assert_eq!(
            [0.0, 800.0, 100.0, 2_990.0, 3_100.0, 3_700.0].map(|rate| for_flow(rate, 1_000.0)),
            [0, 1, 0, 3, 3, 3]
        );
    }

    #[test]
    fn the_most_that_was_needed_lately_is_kept() {
        let mut needs = Needs::default();
        assert_eq!(needs.observe(0.0, 5, 90.0), None, "less than the window is known");
        assert_eq!(needs.observe(90.0, 2, 90.0), Some(5));
        assert_eq!(needs.observe(170.0, 3, 90.0), Some(5));
        assert_eq!(needs.observe(180.0, 3, 90.0), Some(3));
    }

    #[test]
    fn without_work_workers_are_kept_as_long_as_a_start_is_worth() {
        assert_eq!(linger(90.0, None, false), Some(90.0));
        assert_eq!(linger(90.0, None, true), Some(SETTLED));
        assert_eq!(linger(90.0, Some(600.0), false), Some(SETTLED));
        assert_eq!(linger(90.0, Some(60.0), true), None);
    }

    #[test]
    fn a_fleet_shrinks_by_half_at_once() {
        let mut needs = Needs::default();
        assert_eq!(needs.step_down(0.0, 40, 3), 20);
        assert_eq!(needs.step_down(5.0, 20, 3), 20);
        assert_eq!(needs.step_down(15.0, 20, 3), 10);
        assert_eq!(needs.step_down(30.0, 4, 3), 3);
    }
}
