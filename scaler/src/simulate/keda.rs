//! KEDA's RabbitMQ scaler and the horizontal pod autoscaler, with their defaults.
//!
//! Between none and one worker, KEDA decides at each poll. From one on, the autoscaler does, every 15 seconds: it wants
//! the queue's length divided by `value`, tolerates a difference of a tenth, grows by four workers or by 100 %, and
//! shrinks to the most that it has wanted within five minutes
//! (<https://keda.sh/docs/latest/reference/scaledobject-spec/>,
//! <https://kubernetes.io/docs/concepts/workloads/autoscaling/horizontal-pod-autoscale/>).

use std::collections::VecDeque;

const POLL: f64 = 30.0;
const SYNC: f64 = 15.0;
const COOLDOWN: f64 = 300.0;
const STABILISATION: f64 = 300.0;
const TOLERANCE: f64 = 0.1;

/// The state of both.
#[derive(Clone, Debug)]
pub(super) struct Keda {
    /// Messages per worker.
    value: f64,
    max: u32,
    last_poll: f64,
    last_sync: f64,
    last_active: f64,
    /// What was wanted lately, and when.
    recommended: VecDeque<(f64, u32)>,
}

impl Keda {
    pub(super) fn new(value: f64, max: u32) -> Self {
        Self {
            value,
            max,
            last_poll: f64::MIN,
            last_sync: f64::MIN,
            last_active: f64::MIN,
            recommended: VecDeque::new(),
        }
    }

    /// Returns how many workers there should be, of which there are `current`.
    pub(super) fn decide(&mut self, now: f64, messages: f64, current: u32) -> u32 {
        if now - self.last_poll >= POLL {
            self.last_poll = now;
            if messages > 0.0 {
                self.last_active = now;
                if current == 0 {
                    return 1;
                }
            } else if current > 0 && now - self.last_active >= COOLDOWN {
                self.recommended.clear();
                return 0;
            }
        }
        if current == 0 || now - self.last_sync < SYNC {
            return current;
        }
        self.last_sync = now;
        self.recommended
            .push_back((now, self.recommendation(messages, current)));
        while self
            .recommended
            .front()
            .is_some_and(|(then, _)| now - then > STABILISATION)
        {
            self.recommended.pop_front();
        }
        let latest = self.recommended.back().map_or(current, |(_, wanted)| *wanted);
        let most = self
            .recommended
            .iter()
            .map(|(_, wanted)| *wanted)
            .max()
            .unwrap_or(current);
        match latest > current {
            true => latest.min((2 * current).max(current + 4)),
            false => current.min(most),
        }
    }

    fn recommendation(&self, messages: f64, current: u32) -> u32 {
        let ratio = messages / (self.value * f64::from(current));
        if (ratio - 1.0).abs() <= TOLERANCE {
            return current;
        }
        // While it is active, one worker is the least.
        ((messages / self.value).ceil() as u32).clamp(1, self.max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_starts_at_a_poll_grows_by_doubling_and_ends_after_the_cooldown() {
        let mut keda = Keda::new(100.0, 50);
        assert_eq!(keda.decide(0.0, 0.0, 0), 0);
        assert_eq!(keda.decide(5.0, 5_000.0, 0), 0, "the next poll is at 30 s");
        assert_eq!(keda.decide(30.0, 5_000.0, 0), 1);
        let mut workers = 1;
        let mut grown = Vec::new();
        for sync in 3..8 {
            workers = keda.decide(f64::from(sync) * 15.0, 5_000.0, workers);
            grown.push(workers);
        }
        assert_eq!(grown, [5, 10, 20, 40, 50]);
        assert_eq!(keda.decide(120.0, 0.0, 50), 50, "five minutes of the most");
        assert_eq!(keda.decide(420.0, 10.0, 50), 1);
        assert_eq!(keda.decide(450.0, 0.0, 1), 1);
        assert_eq!(keda.decide(720.0, 0.0, 1), 0);
        assert_eq!(keda.recommendation(105.0, 1), 1, "a tenth more is tolerated");
    }
}
