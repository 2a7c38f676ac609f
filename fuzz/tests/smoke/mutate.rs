//! Changes inputs as libFuzzer does, without its view of the code: what it finds here, anyone could stumble upon.

use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64Mcg;

/// Longest input.
const MOST_BYTES: usize = 16 << 10;
/// Most changes to one input.
const MOST_CHANGES: usize = 6;

/// Numbers at which lengths, counts and signs go wrong.
const NUMBERS: [u64; 12] = [
    0,
    1,
    0x7f,
    0x80,
    0xff,
    0x7fff,
    0xffff,
    0x7fff_ffff,
    0xffff_ffff,
    i64::MAX as u64,
    i64::MIN as u64,
    u64::MAX,
];

/// A source of inputs: those of a corpus, changed. The same seed gives the same inputs.
pub(crate) struct Mutator<'a> {
    draws: Pcg64Mcg,
    corpus: &'a [Vec<u8>],
    input: Vec<u8>,
}

impl<'a> Mutator<'a> {
    pub(crate) fn new(seed: u64, corpus: &'a [Vec<u8>]) -> Self {
        Self {
            draws: Pcg64Mcg::seed_from_u64(seed),
            corpus,
            input: Vec::new(),
        }
    }

    /// Returns the next input.
    pub(crate) fn next(&mut self) -> &[u8] {
        let chosen = self.draws.random_range(0..self.corpus.len());
        self.input.clone_from(&self.corpus[chosen]);
        for _ in 0..self.draws.random_range(1..=MOST_CHANGES) {
            self.change();
        }
        self.input.truncate(MOST_BYTES);
        &self.input
    }

    fn change(&mut self) {
        let length = self.input.len();
        let at = self.draws.random_range(0..=length);
        // Most ranges are short: fields, not files.
        let bytes = 1 + (self.draws.random::<u16>() >> self.draws.random_range(8..16_u32)) as usize;
        let end = (at + bytes).min(length);
        match self.draws.random_range(0..8) {
            0 if at < length => self.input[at] ^= 1 << self.draws.random_range(0..8_u32),
            1 if at < length => self.input[at] = self.draws.random(),
            2 => {
                self.input.drain(at..end);
            }
            3 => {
                let copy = self.input[at..end].to_vec();
                let to = self.draws.random_range(0..=length);
                self.input.splice(to..to, copy);
            }
            4 => {
                let number = NUMBERS[self.draws.random_range(0..NUMBERS.len())];
                let width = [1, 2, 4, 8][self.draws.random_range(0..4)];
                let number = match self.draws.random() {
                    true => number.to_le_bytes()[..width].to_vec(),
                    false => number.to_be_bytes()[8 - width..].to_vec(),
                };
                self.input.splice(at..(at + width).min(length), number);
            }
            5 => self.input.truncate(at),
            6 => {
                // A piece of another input, in place of one of this.
                let other = &self.corpus[self.draws.random_range(0..self.corpus.len())];
                let from = self.draws.random_range(0..=other.len());
                let to = (from + bytes).min(other.len());
                self.input.splice(at..end, other[from..to].iter().copied());
            }
            _ => {
                let random: Vec<u8> = (0..bytes.min(16)).map(|_| self.draws.random()).collect();
                self.input.splice(at..at, random);
            }
        }
    }
}
