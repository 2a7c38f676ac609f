//! The rows that a model is trained on.

use windrow_common::{Aggregate, EventTime, Length, ScoringMessage};
use windrow_model::{Features, TrainingWindows};

/// A sensor's training rows, thinned evenly so that memory stays bounded for any length of history.
#[derive(Debug)]
pub(crate) struct Sample {
    /// The features of the rows that were kept, row by row.
    pub(crate) values: Vec<f64>,
    /// When the window of each of them starts.
    pub(crate) starts: Vec<EventTime>,
    /// Number of rows seen.
    pub(crate) seen: usize,
    /// Start of the first window and end of the last one.
    pub(crate) span: Option<(EventTime, EventTime)>,
    /// Length of the windows; 0 before the first one.
    pub(crate) window_length: Length,
    keep_every: usize,
}

impl Default for Sample {
    fn default() -> Self {
        Self {
            values: Vec::new(),
            starts: Vec::new(),
            seen: 0,
            span: None,
            window_length: Length::from_millis(0),
            keep_every: 1,
        }
    }
}

impl Sample {
    /// Creates a sample of all windows that there are, in order of time.
    pub(crate) fn of_all(starts: Vec<EventTime>, values: Vec<f64>, window_length: Length) -> Self {
        let first = starts.first().copied();
        let last = starts
            .last()
            .map(|last| last.saturating_add(window_length.as_duration()));
        Self {
            seen: starts.len(),
            span: first.zip(last),
            window_length,
            values,
            starts,
            ..Self::default()
        }
    }

    /// Returns the rows as windows to train on.
    pub(crate) fn windows(&self) -> TrainingWindows<'_> {
        TrainingWindows {
            starts: &self.starts,
            rows: &self.values,
        }
    }

    /// Adds the windows of a message.
    pub(super) fn take(&mut self, message: &ScoringMessage, features: &Features, max_rows: usize) {
        self.window_length = message.window_length;
        for aggregate in &message.aggregates {
            let start = aggregate.window_start;
            let end = start.saturating_add(self.window_length.as_duration());
            let (from, to) = self.span.unwrap_or((start, end));
            self.span = Some((from.min(start), to.max(end)));
            self.add(aggregate, features, max_rows);
        }
    }

    fn add(&mut self, aggregate: &Aggregate, features: &Features, max_rows: usize) {
        if self.seen.is_multiple_of(self.keep_every) {
            features.extract(std::slice::from_ref(aggregate), &mut self.values);
            self.starts.push(aggregate.window_start);
        }
        self.seen += 1;
        if self.starts.len() >= 2 * max_rows {
            self.thin(features.len());
        }
    }

    /// Drops every second row.
    fn thin(&mut self, row: usize) {
        let left = self.starts.len().div_ceil(2);
        for kept in 0..left {
            self.starts[kept] = self.starts[2 * kept];
            self.values
                .copy_within(2 * kept * row..(2 * kept + 1) * row, kept * row);
        }
        self.starts.truncate(left);
        self.values.truncate(left * row);
        self.keep_every *= 2;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use windrow_common::{Aggregate, EventTime};

    #[test]
    fn a_long_history_is_thinned_evenly() {
        let features: Features = "mean,count".parse().unwrap();
        let mut sample = Sample::default();
        for at in 0..100_u32 {
            let mean = f64::from(at);
            let aggregate = Aggregate {
                window_start: EventTime::from_millis(i64::from(at)),
                count: 1,
                mean,
                std: 0.0,
                min: mean,
                max: mean,
                first: mean,
                last: mean,
            };
            sample.add(&aggregate, &features, 8);
        }
        let means: Vec<f64> = sample.values.iter().step_by(2).copied().collect();
        let right: Vec<f64> = (0..100_u32).step_by(8).map(f64::from).collect();
        assert_eq!(means, right);
        let starts: Vec<i64> = sample.starts.iter().map(|start| start.as_millis()).collect();
        assert_eq!(starts, (0..100).step_by(8).collect::<Vec<i64>>());
        assert!(sample.values.iter().skip(1).step_by(2).all(|count| *count == 1.0));
    }
}
