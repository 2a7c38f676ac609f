//! How many messages a busy worker scores in a second, by the size of the fleet.

use serde::{Deserialize, Serialize};

/// How fast a measurement is trusted: after this many seconds, a new rate counts for two thirds.
const TRUST_SECONDS: f64 = 60.0;
/// Fleets beyond 2^20 workers count as that large.
const MOST_DOUBLINGS: usize = 20;
/// A fleet of twice the size that scores less than this much more has no gain from it.
const GAIN: f64 = 1.2;
/// How long to wait before trying a fleet size again that had no gain, in seconds. The broker may only have been slow
/// for a while.
const TRY_AGAIN: f64 = 3_600.0;

/// Messages per second and busy worker, for fleets of 1, 2 to 3, 4 to 7, … workers.
///
/// A worker of a large fleet is slower than one of a small fleet as soon as the broker or the store is the limit.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Rates(Vec<Option<Measured>>);

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct Measured {
    rate: f64,
    /// When it was measured last, in seconds since 1970.
    at: f64,
}

impl Rates {
    /// Takes in that `workers` scored `rate` messages per second each, for `seconds` up to `now`, without waiting for
    /// messages.
    pub(super) fn observe(&mut self, now: f64, workers: u32, rate: f64, seconds: f64) {
        if workers == 0 || !rate.is_finite() || rate <= 0.0 {
            return;
        }
        let doublings = doublings(workers);
        if self.0.len() <= doublings {
            self.0.resize(doublings + 1, None);
        }
        let known = &mut self.0[doublings];
        let trust = 1.0 - (-seconds / TRUST_SECONDS).exp();
        let rate = known.map_or(rate, |known| known.rate + trust * (rate - known.rate));
        *known = Some(Measured { rate, at: now });
    }

    /// Returns the rate of a worker in a fleet of this size: that of the next smaller fleet that was measured, or else of
    /// the smallest.
    pub(super) fn of(&self, workers: u32) -> Option<f64> {
        let upto = (doublings(workers.max(1)) + 1).min(self.0.len());
        let smaller = self.0[..upto].iter().rev().find_map(|known| *known);
        let known = smaller.or_else(|| self.0[upto..].iter().find_map(|known| *known));
        known.map(|known| known.rate)
    }

    pub(super) fn is_plausible(&self) -> bool {
        let mut known = self.0.iter().flatten();
        let is_one = |known: &Measured| known.rate.is_finite() && known.rate > 0.0 && known.at.is_finite();
        self.0.len() <= MOST_DOUBLINGS + 1 && known.all(is_one)
    }

    /// Returns the size beyond which further workers score hardly more, because something else is the limit.
    pub(super) fn ceiling(&self, now: f64) -> Option<u32> {
        let mut known = self.0.iter().enumerate();
        let mut before: Option<(usize, f64)> = None;
        known.find_map(|(doublings, measured)| {
            let Measured { rate, at } = (*measured)?;
            let (fewer, faster) = before.replace((doublings, rate))?;
            let gain = rate / faster * f64::from(1_u32 << (doublings - fewer));
            (gain < GAIN && now - at < TRY_AGAIN).then(|| (2 << fewer) - 1)
        })
    }
}

fn doublings(workers: u32) -> usize {
    (workers.ilog2() as usize).min(MOST_DOUBLINGS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_that_of_fleets_of_the_same_size() {
        let mut rates = Rates::default();
        assert_eq!(rates.of(1), None);
        rates.observe(0.0, 5, 400.0, 10.0);
        assert_eq!(
            (rates.of(1), rates.of(7), rates.of(100)),
            (Some(400.0), Some(400.0), Some(400.0))
        );
        rates.observe(0.0, 16, 300.0, 10.0);
        assert_eq!((rates.of(15), rates.of(16)), (Some(400.0), Some(300.0)));
        for absurd in [f64::NAN, f64::INFINITY, -1.0, 0.0] {
            rates.observe(0.0, 5, absurd, 10.0);
        }
        assert_eq!(rates.of(5), Some(400.0));
        for _ in 0..60 {
            rates.observe(0.0, 5, 100.0, 5.0);
        }
        assert!((rates.of(5).unwrap() - 100.0).abs() < 3.0);
    }

    #[test]
    fn a_fleet_that_gains_nothing_from_doubling_has_a_ceiling() {
        let mut rates = Rates::default();
        rates.observe(0.0, 2, 500.0, 10.0);
        rates.observe(0.0, 4, 480.0, 10.0);
        rates.observe(0.0, 8, 460.0, 10.0);
        assert_eq!(rates.ceiling(60.0), None);
        rates.observe(0.0, 16, 235.0, 10.0);
        assert_eq!(rates.ceiling(60.0), Some(15));
        assert_eq!(
            rates.ceiling(3_600.0),
            None,
            "a broker that was slow may be fast again"
        );
        // What was measured at 4 and at 32: eight times as many score only as much.
        let mut rates = Rates::default();
        rates.observe(0.0, 4, 400.0, 10.0);
        rates.observe(0.0, 32, 50.0, 10.0);
        assert_eq!(rates.ceiling(60.0), Some(7));
    }
}
