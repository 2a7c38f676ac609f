//! The counts of an audit, and what they mean.

use serde::Serialize;

use crate::show;

/// The counts of an audit, for one hour or in total.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Tally {
    /// Windows that were put into a message.
    pub(crate) dispatched: u64,
    /// Of these, windows with a prediction.
    pub(crate) predicted: u64,
    /// Of these, windows whose message is among the dead letters and that have no prediction, or one that the message
    /// would have corrected.
    pub(crate) dead_lettered: u64,
    /// Of these, windows with neither.
    pub(crate) lost: u64,
    /// Windows with a prediction that were never dispatched.
    pub(crate) unexpected: u64,
    /// Windows whose prediction has fewer readings than the dispatched window.
    pub(crate) fewer: u64,
    /// Windows whose prediction has more readings than the dispatched window.
    pub(crate) more: u64,
    /// Rows of predictions that contradict the one that counts: as many readings, the same model and other values.
    pub(crate) conflicting: u64,
    /// Rows of predictions with fewer readings or another model than the one that counts.
    pub(crate) superseded: u64,
    /// Duplicate rows of predictions.
    pub(crate) repeats: u64,
}

impl Tally {
    pub(super) fn add(&mut self, other: &Self) {
        self.dispatched += other.dispatched;
        self.predicted += other.predicted;
        self.dead_lettered += other.dead_lettered;
        self.lost += other.lost;
        self.unexpected += other.unexpected;
        self.fewer += other.fewer;
        self.more += other.more;
        self.conflicting += other.conflicting;
        self.superseded += other.superseded;
        self.repeats += other.repeats;
    }

    /// Returns the number of contradictions between what was dispatched and what was predicted.
    pub(super) fn differing(&self) -> u64 {
        self.fewer + self.more + self.conflicting
    }

    /// Returns the number of windows of which the prediction, or a prediction of all readings, is missing.
    pub(super) fn missing(&self) -> u64 {
        self.lost + self.fewer
    }

    /// Returns whether there are contradictions that waiting does not resolve.
    pub(super) fn contradicts(&self) -> bool {
        self.unexpected > 0 || self.more > 0 || self.conflicting > 0
    }

    /// Returns the verdict as one line.
    pub(crate) fn verdict(&self) -> String {
        let mut line = format!(
            "{} dispatched = {} predicted + {} dead-lettered; {} lost",
            show::count(self.dispatched),
            show::count(self.predicted),
            show::count(self.dead_lettered),
            show::count(self.lost),
        );
        for (count, what) in [
            (self.unexpected, "never dispatched"),
            (self.differing(), "differing"),
            (self.superseded, "superseded rows do not count"),
            (self.repeats, "duplicates dropped"),
        ] {
            if count > 0 {
                line += &format!(", {} {what}", show::count(count));
            }
        }
        line
    }

    /// Returns one sentence for each kind of contradiction: its likely cause, and what to do next.
    pub(super) fn explanations(&self) -> Vec<String> {
        let kinds = [
            (
                self.fewer,
                "predictions have fewer readings than the dispatched windows: a correction of them is still to be scored, \
                 or was lost",
            ),
            (
                self.more,
                "predictions have more readings than the dispatched windows: parts of dispatched/ were deleted; restore \
                 them, or delete the same days from predictions/",
            ),
            (
                self.conflicting,
                "rows contradict the prediction that counts, with as many readings and the same model: the same windows \
                 were cut from several partitions or sources, which gives none of them all readings, or a model's file was \
                 changed; send each sensor to one partition (with its id as the partition key)",
            ),
            (
                self.unexpected,
                "predictions are of windows that were never dispatched: their days were deleted from dispatched/, or the \
                 producer writes to another store; delete the same days from predictions/, or give producer \
                 and worker the same --store",
            ),
        ];
        let found = kinds.into_iter().filter(|(count, _)| *count > 0);
        found
            .map(|(count, what)| format!("{} {what}", show::count(count)))
            .collect()
    }
}
