//! What can go wrong between a client and ARM.

use std::time::{Duration, Instant};

/// Faults that a test switches on. Shares are of one: 0.2 is a fifth of the requests.
#[derive(Clone, Debug, Default)]
pub struct Faults {
    /// Longest delay of an answer.
    pub latency: Duration,
    /// Number of requests that are still to be answered by 429 or 503, with `Retry-After: 1`.
    pub throttle: u32,
    /// Share of requests that are answered by 500 or 503.
    pub errors: f64,
    /// Share of requests that are carried out and whose connection is cut before the answer.
    pub lost_answers: f64,
    /// Share of requests whose connection is cut before anything is carried out.
    pub lost_requests: f64,
    /// Share of readings of the scale set that show its state before the last change.
    pub stale_readings: f64,
    /// How operations end.
    pub operations: Ending,
    /// Share of new instances that never become ready.
    pub never_boot: f64,
    /// Whether the next page of a list is on another host.
    pub foreign_pages: bool,
    /// Number of instances that the region has room for.
    pub room: Option<u32>,
}

/// How operations end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Ending {
    /// They succeed.
    #[default]
    Success,
    /// They fail: new instances are in the state `Failed`, and deleted ones stay.
    Failure,
    /// Their work is done, but they never report an end.
    Never,
}

/// What happens to one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    Served,
    /// Its answer is lost.
    AnswerLost,
    RequestLost,
    /// It is answered by this status, and the client is asked to wait.
    Throttled(u16),
    /// It is answered by this status.
    Failed(u16),
}

/// The share of one second during which a client that was asked to wait must not ask.
const RETRY_AFTER: Duration = Duration::from_millis(950);

/// Draws faults from a seed.
#[derive(Clone, Debug)]
pub(super) struct Dice(u64);

impl Dice {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Returns true in a `share` of the calls (SplitMix64, <https://prng.di.unimi.it/splitmix64.c>).
    pub(super) fn falls(&mut self, share: f64) -> bool {
        self.unit() < share
    }

    /// Returns a number from 0 up to 1.
    pub(super) fn unit(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^= mixed >> 31;
        (mixed >> 11) as f64 / (1_u64 << 53) as f64
    }
}

impl Faults {
    /// Decides what happens to the next request. `wait_until` is when a client that was throttled may ask again.
    pub(super) fn fate(&mut self, dice: &mut Dice, wait_until: &mut Option<Instant>) -> Fate {
        if self.throttle > 0 {
            self.throttle -= 1;
            *wait_until = Some(Instant::now() + RETRY_AFTER);
            return Fate::Throttled(if self.throttle.is_multiple_of(2) { 429 } else { 503 });
        }
        if dice.falls(self.errors) {
            return Fate::Failed(if dice.falls(0.5) { 500 } else { 503 });
        }
        if dice.falls(self.lost_requests) {
            return Fate::RequestLost;
        }
        match dice.falls(self.lost_answers) {
            true => Fate::AnswerLost,
            false => Fate::Served,
        }
    }
}
