//! Joins the windows of one device's tags: decides which can be scored, and records which were requested.
//!
//! Nothing here does I/O or looks at a clock.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::time::Instant;
use windrow_common::{Aggregate, EventTime, GroupMessage, Interval, Length, Prediction, SensorId, TagSeries};
use windrow_model::Group;

/// Most aggregates in one message: about a megabyte.
const MOST_AGGREGATES: usize = 16_384;

/// Decides when to request a window that lacks tags.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Patience {
    /// Once the window ends before `reached`, the end of the newest window, and its first tag arrived `grace` ago.
    Until {
        reached: EventTime,
        now: Instant,
        grace: Duration,
    },
    /// At once, because nothing more arrives for now.
    None,
}

/// The windows of one device.
#[derive(Debug)]
pub(crate) struct Device {
    sensor: SensorId,
    group: Group,
    /// The windows of each tag, in order of time, each with the readings that count.
    series: Vec<Vec<Aggregate>>,
    /// Number of readings with which each window was last requested or scored.
    asked: BTreeMap<EventTime, u64>,
    /// When the first tag of each window arrived, for windows that may lack tags.
    came: BTreeMap<EventTime, Instant>,
    /// Start of the first window that has to be checked.
    from: EventTime,
    /// Whether the window at `from` waits for tags.
    waits: bool,
    /// Windows that cannot be scored.
    unscored: BTreeSet<EventTime>,
}

/// The messages to publish.
#[derive(Debug, Default)]
pub(crate) struct Wanted {
    pub(crate) messages: Vec<GroupMessage>,
    /// Number of windows in them.
    pub(crate) windows: u64,
    /// Number of windows newly found to be unscorable.
    pub(crate) unscored: u64,
}

impl Device {
    pub(crate) fn new(sensor: SensorId, group: Group) -> Self {
        Self {
            series: vec![Vec::new(); group.tags().len()],
            sensor,
            group,
            asked: BTreeMap::new(),
            came: BTreeMap::new(),
            from: EventTime::MAX,
            waits: false,
            unscored: BTreeSet::new(),
        }
    }

    /// Takes a row of the predictions: a window of one of the tags, or of all together.
    pub(crate) fn take(&mut self, row: &Prediction, now: Instant) {
        let (aggregate, length) = (row.aggregate, self.group.window_length());
        let start = aggregate.window_start;
        if row.window_length != length || start.floor(length) != start {
            return;
        }
        if row.sensor.is_group() {
            let asked = self.asked.entry(start).or_default();
            *asked = aggregate.count.max(*asked);
            return;
        }
        let Ok(tag) = self.group.tags().binary_search(&row.sensor.tag) else {
            return;
        };
        let series = &mut self.series[tag];
        match series.binary_search_by_key(&start, |known| known.window_start) {
            Err(at) => series.insert(at, aggregate),
            Ok(at) if precedence(&aggregate) > precedence(&series[at]) => series[at] = aggregate,
            Ok(_) => return,
        }
        self.came.entry(start).or_insert(now);
        if start < self.from {
            (self.from, self.waits) = (start, false);
        }
    }

    /// Returns messages for the windows from `base` on that can be scored and were not yet requested with as many
    /// readings.
    ///
    /// Windows are requested in order. A window that waits delays the later ones, because it is part of their rows.
    pub(crate) fn wanted(&mut self, base: EventTime, patience: Patience) -> Wanted {
        let mut wanted = Wanted::default();
        let series: Vec<&[Aggregate]> = self.series.iter().map(Vec::as_slice).collect();
        let first = self.from.max(base);
        let mut starts: Vec<EventTime> = (series.iter())
            .flat_map(|series| &series[series.partition_point(|known| known.window_start < first)..])
            .map(|aggregate| aggregate.window_start)
            .collect();
        starts.sort_unstable();
        starts.dedup();
        (self.from, self.waits) = (EventTime::MAX, false);
        let mut runs: Vec<Interval> = Vec::new();
        for start in starts {
            let window = self.group.window(&series, start);
            if window.missing > 0 && !self.is_due(start, patience) {
                (self.from, self.waits) = (start, true);
                break;
            }
            if !window.has_row {
                wanted.unscored += u64::from(self.unscored.insert(start));
                continue;
            }
            self.unscored.remove(&start);
            if self.asked.get(&start).is_some_and(|asked| *asked >= window.count) {
                continue;
            }
            self.asked.insert(start, window.count);
            wanted.windows += 1;
            self.extend(&mut runs, start);
        }
        let settled = self.from;
        self.came.retain(|start, _| *start >= settled);
        wanted.messages = runs.into_iter().map(|run| self.message(run)).collect();
        wanted
    }

    fn is_due(&self, start: EventTime, patience: Patience) -> bool {
        let Patience::Until { reached, now, grace } = patience else {
            return true;
        };
        let end = start.saturating_add(self.group.window_length().as_duration());
        let came = self.came.get(&start).copied().unwrap_or(now);
        reached > end && now.saturating_duration_since(came) >= grace
    }

    /// Adds a window to the last run, or begins a new one.
    fn extend(&self, runs: &mut Vec<Interval>, start: EventTime) {
        let length = self.group.window_length();
        let most = (MOST_AGGREGATES / self.series.len()).saturating_sub(self.group.smoothing());
        #[allow(clippy::cast_possible_wrap)] // At most 8,192.
        let most = (most.max(1) as i64).saturating_mul(length.as_millis());
        match runs.last_mut() {
            Some(run) if run.end() == start && run.length.as_millis() < most => {
                run.length = Length::from_millis(run.length.as_millis() + length.as_millis());
            }
            _ => runs.push(Interval { start, length }),
        }
    }

    fn message(&self, interval: Interval) -> GroupMessage {
        let first = interval.start.saturating_sub(self.group.context());
        let before = |series: &[Aggregate], time: EventTime| {
            series.partition_point(|aggregate| aggregate.window_start < time)
        };
        let series = self.group.tags().iter().zip(&self.series);
        let series = series.map(|(tag, series)| TagSeries {
            tag: tag.clone(),
            aggregates: series[before(series, first)..before(series, interval.end())].to_vec(),
        });
        GroupMessage {
            sensor: self.sensor.clone(),
            interval,
            window_length: self.group.window_length(),
            series: series.collect(),
        }
    }

    /// Returns the window that waits for tags.
    pub(crate) fn waits_from(&self) -> Option<EventTime> {
        self.waits.then_some(self.from)
    }

    /// Drops the windows before `base`, except those that later rows need.
    pub(crate) fn advance_base(&mut self, base: EventTime) {
        let first = base.saturating_sub(self.group.context());
        for series in &mut self.series {
            series.retain(|aggregate| aggregate.window_start >= first);
        }
        self.asked = self.asked.split_off(&base);
        self.unscored = self.unscored.split_off(&base);
    }

    /// Returns the number of windows that are held.
    pub(crate) fn held(&self) -> usize {
        self.series.iter().map(Vec::len).sum()
    }
}

/// Returns the sort key that decides which of two aggregates of a window counts: first the number of readings, then the
/// values.
fn precedence(aggregate: &Aggregate) -> (u64, [i64; 6]) {
    let Aggregate {
        mean,
        std,
        min,
        max,
        first,
        last,
        ..
    } = *aggregate;
    // The order of `f64::total_cmp`.
    let rank = |value: f64| {
        let bits = value.to_bits().cast_signed();
        bits ^ ((bits >> 63).cast_unsigned() >> 1).cast_signed()
    };
    (aggregate.count, [mean, std, min, max, first, last].map(rank))
}

#[cfg(test)]
mod tests;
