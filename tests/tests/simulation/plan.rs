//! Draws a plan from a seed: the readings, the source they come from, and how they are cut into windows.

use std::collections::HashMap;
use std::time::Duration;

use windrow_common::EventTime;
use windrow_producer::window::WindowConfig;
use windrow_tests::Draws;

/// The event time at which the simulated clock starts: 2026-01-01.
const EPOCH: i64 = 1_767_225_600_000;
/// A window's readings have different powers of two as values, so that a sum tells which of them it holds.
const MAX_READINGS_PER_WINDOW: u32 = 40;

/// How the readings reach the producer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Files that are read to the end they have, and may have grown by the next run.
    Files,
    /// Files that are followed.
    Followed,
    /// A followed folder of real files that are renamed, rotated and rewritten meanwhile.
    Folder,
    /// A hub, whose partitions move between producers.
    Hub,
}

/// An item of a partition.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) offset: u64,
    /// When it can be read, in milliseconds of simulated time.
    pub(crate) released_ms: u64,
    pub(crate) content: Content,
}

/// What an entry holds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Content {
    /// A reading of a sensor, by its number.
    Reading {
        sensor: usize,
        time: EventTime,
        value: f64,
    },
    Garbage,
}

/// Everything that is fixed before a simulation begins.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) kind: Kind,
    pub(crate) window: Duration,
    pub(crate) interval: Duration,
    pub(crate) sensors: usize,
    /// The items of each partition, in the order of their offsets.
    pub(crate) partitions: Vec<Vec<Entry>>,
    /// Whether each sensor's readings come in the order of their times, without gaps and from one partition, so that
    /// none of them can be late.
    pub(crate) orderly: bool,
    /// Whether the last sensor has no model.
    pub(crate) one_without_model: bool,
    /// The last release, in milliseconds.
    pub(crate) released_by_ms: u64,
}

/// Returns the event time that the clock shows after `ms` of simulated time.
pub(crate) fn event_time(ms: u64) -> EventTime {
    EventTime::from_millis(EPOCH + ms as i64)
}

pub(crate) fn below(draws: &mut Draws, bound: u64) -> u64 {
    draws.below(bound.max(1))
}

pub(crate) fn chance(draws: &mut Draws, percent: u64) -> bool {
    below(draws, 100) < percent
}

pub(crate) fn any<T: Copy>(draws: &mut Draws, of: &[T]) -> T {
    of[below(draws, of.len() as u64) as usize]
}

impl Plan {
    pub(crate) fn draw(draws: &mut Draws) -> Self {
        let kind = any(draws, &[Kind::Files, Kind::Followed, Kind::Folder, Kind::Hub]);
        let window = Duration::from_secs(any(draws, &[5, 10]));
        let mut plan = Self {
            kind,
            window,
            interval: window * any(draws, &[1, 1, 3, 6]),
            sensors: 1 + below(draws, 4) as usize,
            partitions: vec![Vec::new(); 1 + below(draws, 3) as usize],
            orderly: chance(draws, 30),
            one_without_model: chance(draws, 20),
            released_by_ms: 0,
        };
        plan.draw_entries(draws);
        plan
    }

    fn draw_entries(&mut self, draws: &mut Draws) {
        let steps = 20 + below(draws, 120);
        let step_ms = any(draws, &[500, 1_000, 3_000]);
        let mut bits: HashMap<(usize, EventTime), u32> = HashMap::new();
        let mut clock_ms = 0;
        for _ in 0..steps {
            clock_ms += 1 + below(draws, 2 * step_ms);
            if !self.orderly && chance(draws, 2) {
                // Everybody is silent for a while.
                clock_ms += 60_000;
            }
            let sensor = below(draws, self.sensors as u64) as usize;
            let partitions = self.partitions.len();
            let spread = self.kind != Kind::Hub && !self.orderly;
            let partition = match spread {
                true => below(draws, partitions as u64) as usize,
                false => sensor % partitions,
            };
            // As long as nothing of a partition could be used, its position does not move, and all of it is judged again.
            let is_first = self.partitions[partition].is_empty();
            let time = match is_first {
                true => event_time(clock_ms),
                false => self.draw_time(draws, clock_ms),
            };
            let bit = bits
                .entry((sensor, time.floor(self.window_length())))
                .or_default();
            let value = match () {
                () if !self.orderly && !is_first && self.kind != Kind::Folder && chance(draws, 2) => f64::NAN,
                () if *bit >= MAX_READINGS_PER_WINDOW => continue,
                () => {
                    *bit += 1;
                    (1_u64 << (*bit - 1)) as f64
                }
            };
            let content = match !is_first && chance(draws, 3) {
                true => Content::Garbage,
                false => Content::Reading { sensor, time, value },
            };
            let entries = &mut self.partitions[partition];
            let offset = entries.last().map_or(0, |last| last.offset) + 1 + below(draws, 3);
            entries.push(Entry {
                offset,
                released_ms: clock_ms,
                content,
            });
        }
        self.released_by_ms = clock_ms;
    }

    fn draw_time(&self, draws: &mut Draws, clock_ms: u64) -> EventTime {
        let time = event_time(clock_ms);
        if self.orderly {
            return time;
        }
        match below(draws, 100) {
            // A clock that is wrong by months, or by less than any skew.
            0..3 => time.saturating_add(Duration::from_secs(90 * 86_400)),
            3..6 => time.saturating_add(Duration::from_secs(any(draws, &[5, 20, 400]))),
            6..30 => time.saturating_sub(Duration::from_millis(below(draws, 12_000))),
            30..33 => time.saturating_sub(Duration::from_secs(120)),
            _ => time,
        }
    }

    pub(crate) fn window_length(&self) -> windrow_common::Length {
        windrow_common::Length::from_millis(self.window.as_millis() as i64)
    }

    /// Returns the options of a run. They may be others in the next one.
    pub(crate) fn draw_options(&self, draws: &mut Draws) -> WindowConfig {
        WindowConfig {
            window: self.window,
            interval: Some(self.interval),
            out_of_orderness: Duration::from_secs(any(draws, &[0, 2, 5, 15])),
            allowed_lateness: Duration::from_secs(any(draws, &[0, 0, 10])),
            max_skew: Duration::from_secs(any(draws, &[10, 60, 300])),
            idle_after: Duration::from_secs(match self.orderly {
                true => 86_400,
                false => any(draws, &[10, 60, 3_600]),
            }),
        }
    }

    /// Returns all entries, each with its partition.
    pub(crate) fn entries(&self) -> impl Iterator<Item = (usize, &Entry)> {
        let partitions = self.partitions.iter().enumerate();
        partitions.flat_map(|(partition, entries)| entries.iter().map(move |entry| (partition, entry)))
    }
}
