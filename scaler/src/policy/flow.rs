//! What arrived and what was done since the last observation.

use super::Load;

/// An interval after which nothing can be said about rates, in seconds: the scaler was away, or the clock jumped.
const LONGEST_STEP: f64 = 600.0;
/// Time constant of the smoothed arrival rate, in seconds.
const SMOOTHING: f64 = 60.0;

/// The messages of the time between two observations.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Step {
    /// How long it was, in seconds; 0 if it says nothing about rates.
    pub(super) seconds: f64,
    /// Messages that arrived.
    pub(super) arrived: f64,
    /// Messages that were settled.
    pub(super) done: f64,
    /// Messages that are left, ready or unacked.
    pub(super) total: f64,
    /// Whether messages waited at both ends, so that no worker ran out of them.
    pub(super) is_saturated: bool,
}

/// The last observation, and the smoothed arrival rate.
#[derive(Clone, Debug, Default)]
pub(super) struct Flow {
    before: Option<(f64, Load)>,
    /// Messages per second.
    pub(super) arrivals: f64,
}

impl Flow {
    /// Returns what happened since the last observation. It is `None` if the clock jumped, so that what is known by time
    /// has to be forgotten.
    pub(super) fn step(&mut self, now: f64, load: Load) -> Option<Step> {
        let before = self.before.replace((now, load));
        let total = load.total();
        let Some((then, before)) = before else {
            return Some(Step {
                arrived: total,
                total,
                ..Step::default()
            });
        };
        let seconds = now - then;
        if !(0.0..=LONGEST_STEP).contains(&seconds) {
            self.arrivals = 0.0;
            return None;
        }
        let more = total - before.total();
        let since = |now: Option<u64>, then: Option<u64>| match (now, then) {
            (Some(now), Some(then)) if now >= then => Some((now - then) as f64),
            // The broker does not count, or has restarted and counts from zero.
            _ => None,
        };
        let (published, acked) = (
            since(load.published, before.published),
            since(load.acked, before.acked),
        );
        // The number of messages left is certain, so a missing counter can be computed from the other one.
        let arrived = published
            .or_else(|| acked.map(|acked| acked + more))
            .unwrap_or(more);
        let arrived = arrived.max(more).max(0.0);
        // A counter that jumps must not look like work that was done.
        let done = (arrived - more).min(acked.unwrap_or(f64::MAX));
        let step = Step {
            seconds,
            arrived,
            done,
            total,
            is_saturated: before.ready > 0 && load.ready > 0,
        };
        if seconds > 0.0 {
            let trust = 1.0 - (-seconds / SMOOTHING).exp();
            self.arrivals += trust * (arrived / seconds - self.arrivals);
        }
        Some(step)
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::load;
    use super::*;

    #[test]
    fn what_left_the_queue_follows_from_what_arrived_and_what_is_left() {
        let mut flow = Flow::default();
        assert_eq!(flow.step(0.0, load(90, 10, 1_000)).unwrap().arrived, 100.0);
        let step = flow.step(10.0, load(70, 10, 1_030)).unwrap();
        assert_eq!(
            (step.seconds, step.arrived, step.done, step.total),
            (10.0, 30.0, 50.0, 80.0)
        );
        assert!(step.is_saturated);
        // The broker has restarted and counts from 0.
        let step = flow.step(20.0, load(0, 60, 5)).unwrap();
        assert_eq!((step.arrived, step.done), (0.0, 20.0));
        assert!(!step.is_saturated);
        // One counter jumps.
        let counted = |published, acked| Load {
            acked: Some(acked),
            ..load(50, 10, published)
        };
        flow.step(25.0, counted(10, 70));
        assert_eq!(flow.step(30.0, counted(1_000_000_000, 100)).unwrap().done, 30.0);
        assert_eq!(flow.step(15.0, load(0, 60, 5)), None, "the clock went backwards");
        assert_eq!(flow.step(5_000.0, load(0, 60, 5)), None, "the scaler was away");
    }
}
