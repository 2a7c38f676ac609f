//! The windows of a sensor in an hour.

use windrow_common::{EventTime, Length};

use super::cadence::Present;

/// Most windows of a sensor in an hour: one a second.
const MOST_WINDOWS: i64 = 3_600;

/// The windows of one sensor in an hour, a bit each.
#[derive(Debug)]
pub(super) struct Cell {
    pub(super) window_length: Length,
    /// Those with a prediction.
    pub(super) scored: Vec<u64>,
    /// Those that were put into a message.
    pub(super) dispatched: Vec<u64>,
}

impl Cell {
    pub(super) fn new(window_length: Length) -> Self {
        Self {
            window_length,
            scored: Vec::new(),
            dispatched: Vec::new(),
        }
    }

    /// Returns the numbers of its windows in the hour.
    fn numbers(&self) -> impl Iterator<Item = i64> {
        let words = self.scored.len().max(self.dispatched.len());
        let word = |bits: &[u64], at: usize| bits.get(at).copied().unwrap_or(0);
        (0..words).flat_map(move |at| {
            let both = word(&self.scored, at) | word(&self.dispatched, at);
            (0..64)
                .filter(move |bit| both >> bit & 1 == 1)
                .map(move |bit| (at as i64) * 64 + bit)
        })
    }

    fn start(&self, hour: EventTime, number: i64) -> EventTime {
        EventTime::from_millis(hour.as_millis() + number * self.window_length.as_millis())
    }

    pub(super) fn end(&self, hour: EventTime) -> EventTime {
        let last = self.numbers().last();
        last.map_or(hour, |last| self.start(hour, last + 1))
    }

    pub(super) fn present(&self, hour: EventTime) -> Option<Present> {
        let first = self.numbers().next()?;
        Some(Present {
            windows: u32::try_from(self.numbers().count()).unwrap_or(u32::MAX),
            first: self.start(hour, first),
            end: self.end(hour),
        })
    }

    /// Returns how many of its scored windows start between two times.
    pub(super) fn scored_between(&self, hour: EventTime, from: EventTime, to: EventTime) -> u32 {
        let is_scored = |number: &i64| is_set(&self.scored, *number);
        let is_between = |number: &i64| {
            let start = self.start(hour, *number);
            start >= from && start < to
        };
        let count = self.numbers().filter(is_scored).filter(is_between).count();
        u32::try_from(count).unwrap_or(u32::MAX)
    }
}

pub(super) fn set(bits: &mut Vec<u64>, at: i64) {
    // A part that holds the windows of another hour is not ours.
    let Some(at) = usize::try_from(at).ok().filter(|_| at < MOST_WINDOWS) else {
        return;
    };
    if bits.len() <= at / 64 {
        bits.resize(at / 64 + 1, 0);
    }
    bits[at / 64] |= 1 << (at % 64);
}

pub(super) fn is_set(bits: &[u64], at: i64) -> bool {
    let at = usize::try_from(at).unwrap_or(usize::MAX);
    bits.get(at / 64).is_some_and(|word| word >> (at % 64) & 1 == 1)
}

pub(super) fn ones(bits: &[u64]) -> u32 {
    bits.iter().map(|word| word.count_ones()).sum()
}
