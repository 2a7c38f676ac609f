//! Several tags of a device at once: which tags, and the rows that a model of them scores.
//!
//! A row has a column for each feature of each tag, tag by tag. A column is the mean of the feature over the window and
//! those before it, as many as the group's smoothing says, so that what the tags have in common stands out from the noise of
//! each. It is a function of these windows alone: it does not depend on how they were cut into messages.
//!
//! A window may lack tags. It has a row if each of these holds:
//!
//! - at most a quarter of the tags lack the window itself;
//! - each tag has at least half of the windows that its columns are means of.
//!
//! The column of a tag that lacks a window is then the mean of its other windows, which is about its last value.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use windrow_common::{Aggregate, EventTime, Length, SensorId};

use crate::{Features, ModelError};

/// Most columns of a row: the features of all tags.
pub const MAX_COLUMNS: usize = 64;

/// Most windows that a column is a mean of.
pub const MAX_SMOOTHING: usize = 500;

/// One in this many tags may lack a window.
const MAY_LACK: usize = 4;

/// The tags of a device that one model scores together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    tags: Box<[Arc<str>]>,
    smoothing: usize,
    window_length: Length,
}

/// The rows of a group's windows.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct GroupRows {
    /// When the window of each row starts.
    pub starts: Vec<EventTime>,
    /// Number of readings behind each row: those of all tags, in its window and in the earlier windows that it
    /// averages. It grows whenever a missing window arrives, or a window arrives again with more readings.
    pub counts: Vec<u64>,
    /// The columns, row by row.
    pub values: Vec<f64>,
    /// Number of windows that have no row, because tags are missing.
    pub unscored: u64,
}

/// The data that a group has for one window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GroupWindow {
    /// See [`GroupRows::counts`].
    pub count: u64,
    /// Number of tags that lack the window itself.
    pub missing: usize,
    /// Whether the window has a row.
    pub has_row: bool,
}

impl Group {
    /// Creates a group of two or more tags, which are in ascending order, with windows of this length.
    pub fn new(tags: Vec<Arc<str>>, smoothing: usize, window_length: Length) -> Result<Self, ModelError> {
        if tags.len() < 2 || tags.len() > MAX_COLUMNS {
            return Err(ModelError::Group("it has 2 to 64 tags"));
        }
        if tags.iter().any(|tag| SensorId::check("device", tag).is_err()) {
            return Err(ModelError::Group("a tag's name is empty or too long"));
        }
        if tags.windows(2).any(|pair| pair[0] >= pair[1]) {
            return Err(ModelError::Group("its tags are in ascending order, none twice"));
        }
        if smoothing == 0 || smoothing > MAX_SMOOTHING {
            return Err(ModelError::Group("its columns are means of 1 to 500 windows"));
        }
        if !window_length.is_positive() {
            return Err(ModelError::Group("its windows have no length"));
        }
        Ok(Self {
            tags: tags.into(),
            smoothing,
            window_length,
        })
    }

    /// Returns the tags, in ascending order.
    pub fn tags(&self) -> &[Arc<str>] {
        &self.tags
    }

    /// Returns the number of windows that a column is a mean of: the window itself and those before it.
    pub fn smoothing(&self) -> usize {
        self.smoothing
    }

    /// Returns the length of the windows.
    pub fn window_length(&self) -> Length {
        self.window_length
    }

    /// Returns how long before a window the other windows of its row begin.
    pub fn context(&self) -> Duration {
        let before = u32::try_from(self.smoothing - 1).unwrap_or(u32::MAX);
        self.window_length.as_duration().saturating_mul(before)
    }

    /// Returns the memory that the names take, in bytes.
    pub(crate) fn heap_bytes(&self) -> usize {
        let names = self.tags.iter().map(|tag| tag.len() + size_of::<Arc<str>>());
        names.sum()
    }

    /// Returns what there is of the window that starts at `start`. `series` has the windows of each tag in order of time.
    pub fn window(&self, series: &[&[Aggregate]], start: EventTime) -> GroupWindow {
        let mut window = GroupWindow {
            count: 0,
            missing: 0,
            has_row: series.len() == self.tags.len(),
        };
        for series in series {
            let recent = self.recent(series, start);
            window.count += recent.iter().map(|aggregate| aggregate.count).sum::<u64>();
            window.missing += usize::from(recent.last().is_none_or(|last| last.window_start != start));
            window.has_row &= recent.len() >= self.smoothing.div_ceil(2);
        }
        window.has_row &= window.missing <= self.tags.len() / MAY_LACK;
        window
    }

    /// Returns the rows of the windows that start in `interval` and that any tag has. `series` has the windows of each tag, in
    /// the order of the tags and of time; those before the interval are the context of the first rows.
    pub fn rows(
        &self,
        features: &Features,
        series: &[&[Aggregate]],
        interval: Range<EventTime>,
    ) -> GroupRows {
        let mut starts: Vec<EventTime> = (series.iter())
            .flat_map(|series| between(series, &interval))
            .map(|aggregate| aggregate.window_start)
            .collect();
        starts.sort_unstable();
        starts.dedup();
        let mut rows = GroupRows::default();
        let mut of_window = Vec::new();
        for start in starts {
            let window = self.window(series, start);
            if !window.has_row {
                rows.unscored += 1;
                continue;
            }
            for series in series {
                let recent = self.recent(series, start);
                of_window.clear();
                features.extract(recent, &mut of_window);
                rows.values.extend(means(&of_window, features.len()));
            }
            rows.starts.push(start);
            rows.counts.push(window.count);
        }
        rows
    }

    /// Returns the windows of a tag that the columns of a window are means of.
    fn recent<'a>(&self, series: &'a [Aggregate], start: EventTime) -> &'a [Aggregate] {
        let first = start.saturating_sub(self.context());
        between(
            series,
            &(first..start.saturating_add(self.window_length.as_duration())),
        )
    }
}

impl GroupRows {
    /// Keeps only the rows for whose start `wanted` returns true.
    pub fn retain(&mut self, wanted: impl Fn(EventTime) -> bool) {
        let Some(columns) = self.values.len().checked_div(self.starts.len()) else {
            return;
        };
        let mut kept = 0;
        for row in 0..self.starts.len() {
            if !wanted(self.starts[row]) {
                continue;
            }
            self.starts[kept] = self.starts[row];
            self.counts[kept] = self.counts[row];
            self.values
                .copy_within(row * columns..(row + 1) * columns, kept * columns);
            kept += 1;
        }
        self.starts.truncate(kept);
        self.counts.truncate(kept);
        self.values.truncate(kept * columns);
    }
}

/// Returns the windows that start in an interval.
fn between<'a>(series: &'a [Aggregate], interval: &Range<EventTime>) -> &'a [Aggregate] {
    let before = |time: EventTime| series.partition_point(|aggregate| aggregate.window_start < time);
    let (from, to) = (before(interval.start), before(interval.end));
    &series[from.min(to)..to]
}

/// Returns the mean of each column; the rows are added in their order, so that the same rows have the same means.
fn means(rows: &[f64], columns: usize) -> impl Iterator<Item = f64> + '_ {
    #[allow(clippy::cast_precision_loss)] // At most 500.
    let count = (rows.len() / columns) as f64;
    (0..columns).map(move |column| rows.iter().skip(column).step_by(columns).sum::<f64>() / count)
}

#[cfg(test)]
mod tests;
