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

    /// Returns the windows of the hour, 64 in a word, with the numbers of their first.
    fn words(&self) -> impl DoubleEndedIterator<Item = (i64, u64)> {
        let words = self.scored.len().max(self.dispatched.len());
        let word = |bits: &[u64], at: usize| bits.get(at).copied().unwrap_or(0);
        (0..words).map(move |at| {
            let both = word(&self.scored, at) | word(&self.dispatched, at);
            (at as i64 * 64, both)
        })
    }

    /// Returns the number of its first window in the hour.
    fn first(&self) -> Option<i64> {
        let (from, word) = self.words().find(|(_, word)| *word != 0)?;
        Some(from + i64::from(word.trailing_zeros()))
    }

    /// Returns the number of its last window in the hour.
    fn last(&self) -> Option<i64> {
        let (from, word) = self.words().rfind(|(_, word)| *word != 0)?;
        Some(from + 63 - i64::from(word.leading_zeros()))
    }

    /// Forgets its windows, and keeps their room for those of the next hour.
    pub(super) fn clear(&mut self, window_length: Length) {
        self.window_length = window_length;
        self.scored.clear();
        self.dispatched.clear();
    }

    fn start(&self, hour: EventTime, number: i64) -> EventTime {
        EventTime::from_millis(hour.as_millis() + number * self.window_length.as_millis())
    }

    pub(super) fn end(&self, hour: EventTime) -> EventTime {
        self.last().map_or(hour, |last| self.start(hour, last + 1))
    }

    pub(super) fn present(&self, hour: EventTime) -> Option<Present> {
        let windows = self.words().map(|(_, word)| word.count_ones()).sum();
        Some(Present {
            windows,
            first: self.start(hour, self.first()?),
            end: self.end(hour),
        })
    }

    /// Returns how many of its scored windows start between two times.
    pub(super) fn scored_between(&self, hour: EventTime, from: EventTime, to: EventTime) -> u32 {
        let numbers = 0..(self.scored.len() as i64) * 64;
        let is_between = |number: &i64| {
            let start = self.start(hour, *number);
            start >= from && start < to
        };
        let scored = numbers.filter(|number| is_set(&self.scored, *number));
        u32::try_from(scored.filter(is_between).count()).unwrap_or(u32::MAX)
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
