//! What was current when, and what may become it: `models/<device>/<tag>/registry.json`.
//!
//! `current` is the authority: workers read it alone, and it changes by conditional write. The registry is the record beside
//! it, and is written after it. A crash between the two leaves a promotion that is in effect but not recorded. The next
//! writer of the registry sees that the record does not end with `current`, and adds it ([`Registry::catch_up`]). The
//! other order could record promotions that never took effect, and a rollback could then return to a version that never
//! scored.

use serde::{Deserialize, Serialize};
use windrow_common::EventTime;

use crate::time_text;

/// Most promotions that are kept; older ones are dropped. A sensor that is trained each week keeps a year of them.
const MOST_PROMOTIONS: usize = 52;

/// The record of a sensor's versions.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Registry {
    /// When the sensor was pinned, so that its current version may not be replaced; `None` if it is not pinned.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        with = "time_text::optional"
    )]
    pub pinned: Option<EventTime>,
    /// The version that waits to be promoted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub candidate: Option<String>,
    /// The promotions, the oldest first; each replaced what the one before made current.
    #[serde(default)]
    pub history: Vec<Promotion>,
}

/// A version that became current.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Promotion {
    /// When it was promoted; if it was only found later, when it was found.
    #[serde(with = "time_text")]
    pub at: EventTime,
    /// The version.
    pub version: String,
    /// The version that was current before; `None` if there was none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replaced: Option<String>,
    /// What made it current.
    pub by: PromotedBy,
}

/// What makes a version current.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PromotedBy {
    /// `windrow models train`.
    Train,
    /// `windrow retrain`.
    Retrain,
    /// `windrow models tune`.
    Tune,
    /// `windrow models import`.
    Import,
    /// `windrow models promote`.
    Promote,
    /// `windrow models rollback`.
    Rollback,
    /// A program that stores models with [`put`](crate::ModelRepository::put).
    Put,
    /// Unknown: `current` was written by hand or by an older program, or a command ended before it had recorded it.
    Unrecorded,
}

impl PromotedBy {
    /// Returns its name, as in the file.
    pub fn name(self) -> &'static str {
        match self {
            Self::Train => "train",
            Self::Retrain => "retrain",
            Self::Tune => "tune",
            Self::Import => "import",
            Self::Promote => "promote",
            Self::Rollback => "rollback",
            Self::Put => "put",
            Self::Unrecorded => "unrecorded",
        }
    }
}

impl Registry {
    /// Adds what `current` names if the record does not end with it.
    pub(crate) fn catch_up(&mut self, current: &str, at: EventTime) {
        let last = self.history.last().map(|last| last.version.clone());
        if last.as_deref() != Some(current) {
            self.history.push(Promotion {
                at,
                version: current.to_owned(),
                replaced: last,
                by: PromotedBy::Unrecorded,
            });
            self.cut();
        }
    }

    /// Records a promotion that has happened.
    ///
    /// Promotions happen one after the other, but may be recorded in any order: the command that promoted second may
    /// write first. It then adds the other promotion as [`PromotedBy::Unrecorded`], which the other command later replaces
    /// with its own record.
    pub(crate) fn record(&mut self, promotion: Promotion) {
        if promotion.by != PromotedBy::Rollback || self.candidate.as_ref() == Some(&promotion.version) {
            // A candidate that is older than what is current now must not be promoted by accident.
            self.candidate = None;
        }
        // Entries that a later command added for this promotion.
        let added = |one: &Promotion| one.by == PromotedBy::Unrecorded && one.at >= promotion.at;
        let itself = |one: &Promotion| added(one) && one.version == promotion.version;
        let later = |one: &Promotion| added(one) && one.at > promotion.at;
        let follows = |last: &Promotion| promotion.replaced.as_ref() == Some(&last.version);
        let at = if let Some(at) = self.history.iter().rposition(itself) {
            self.history[at] = promotion;
            at
        } else if self.history.last().is_none_or(follows) {
            self.history.push(promotion);
            self.history.len() - 1
        } else {
            let at = self.history.iter().position(later).unwrap_or(self.history.len());
            self.history.insert(at, promotion);
            at
        };
        self.link(at);
        self.cut();
    }

    /// Closes the gaps between a promotion and its neighbours, if there are any.
    fn link(&mut self, at: usize) {
        let Promotion {
            version, replaced, ..
        } = self.history[at].clone();
        if let Some(next) = self.history.get_mut(at + 1)
            && next.by == PromotedBy::Unrecorded
        {
            next.replaced = Some(version);
        }
        let before = at
            .checked_sub(1)
            .map(|before| self.history[before].version.clone());
        if let Some(version) = replaced.filter(|replaced| before.as_ref() != Some(replaced)) {
            let missing = Promotion {
                at: self.history[at].at,
                version,
                replaced: before,
                by: PromotedBy::Unrecorded,
            };
            self.history.insert(at, missing);
        }
    }

    fn cut(&mut self) {
        let extra = self.history.len().saturating_sub(MOST_PROMOTIONS);
        self.history.drain(..extra);
    }

    /// Returns the version that a rollback goes back to. A second rollback goes further back, not forward again.
    pub fn previous(&self) -> Option<&str> {
        let mut stack: Vec<&str> = Vec::new();
        stack.extend(self.history.first().and_then(|first| first.replaced.as_deref()));
        for Promotion { version, by, .. } in &self.history {
            if *by == PromotedBy::Rollback
                && let Some(at) = stack.iter().rposition(|earlier| *earlier == version)
            {
                stack.truncate(at + 1);
            } else if stack.last() != Some(&version.as_str()) {
                stack.push(version);
            }
        }
        stack.pop();
        stack.pop()
    }

    /// Returns the version that was current before everything that was promoted at or after `time`. Returns `None` if
    /// nothing was, or if nothing is known to have been current before.
    pub fn before(&self, time: EventTime) -> Option<&str> {
        self.first_since(time)?.replaced.as_deref()
    }

    /// Returns the first promotion at or after `time`.
    pub fn first_since(&self, time: EventTime) -> Option<&Promotion> {
        // The first one may stand for what was current before there was a record; it was not promoted when it was added.
        let was_there = |one: &Promotion| one.by == PromotedBy::Unrecorded && one.replaced.is_none();
        self.history.iter().find(|one| one.at >= time && !was_there(one))
    }

    /// Returns the versions that were current last, the newest first.
    pub(crate) fn last_versions(&self) -> impl Iterator<Item = &str> {
        let first = self.history.first().and_then(|first| first.replaced.as_deref());
        let versions = self.history.iter().rev().map(|one| one.version.as_str());
        versions.chain(first)
    }

    /// Returns whether `version` may have been current at or after `time`.
    pub(crate) fn was_current_since(&self, version: &str, time: EventTime) -> bool {
        // What was dropped from the record was replaced before the oldest one that is kept.
        let is_cut = self.history.len() >= MOST_PROMOTIONS;
        let cut = is_cut && self.history.first().is_some_and(|first| first.at >= time);
        let replaced = |one: &&Promotion| one.replaced.as_deref() == Some(version);
        cut || self
            .history
            .iter()
            .rev()
            .find(replaced)
            .is_some_and(|one| one.at >= time)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn promotion(at: i64, version: &str, replaced: Option<&str>, by: PromotedBy) -> Promotion {
        Promotion {
            at: EventTime::from_millis(at),
            version: version.to_owned(),
            replaced: replaced.map(str::to_owned),
            by,
        }
    }

    proptest! {
        /// Each promotion replaces the one before; they are recorded in any order.
        #[test]
        fn promotions_are_recorded_in_their_order_whoever_writes_first(
            order in Just((0..5_usize).collect::<Vec<_>>()).prop_shuffle()
        ) {
            let versions = ["a", "b", "c", "d", "e"];
            let before = |at: usize| at.checked_sub(1).map(|at| versions[at]);
            let happened: Vec<Promotion> = (0..5)
                .map(|at| promotion(at as i64, versions[at], before(at), PromotedBy::Promote))
                .collect();
            let mut registry = Registry::default();
            for at in order {
                registry.record(happened[at].clone());
            }
            prop_assert_eq!(registry.history, happened);
        }
    }

    #[test]
    fn what_was_not_recorded_is_added_by_the_next_writer() {
        let mut registry = Registry::default();
        registry.record(promotion(1, "a", None, PromotedBy::Train));
        // A command made `b` current and died; another then made `c` current.
        registry.record(promotion(3, "c", Some("b"), PromotedBy::Promote));
        let right = [
            promotion(1, "a", None, PromotedBy::Train),
            promotion(3, "b", Some("a"), PromotedBy::Unrecorded),
            promotion(3, "c", Some("b"), PromotedBy::Promote),
        ];
        assert_eq!(registry.history, right);
        assert_eq!(registry.previous(), Some("b"));
    }

    #[test]
    fn a_rollback_goes_back_and_a_second_one_further() {
        let mut registry = Registry::default();
        assert_eq!(registry.previous(), None);
        // `a` is of a store without records.
        registry.record(promotion(1, "b", Some("a"), PromotedBy::Train));
        assert_eq!(registry.previous(), Some("a"));
        registry.record(promotion(2, "c", Some("b"), PromotedBy::Promote));
        assert_eq!(registry.previous(), Some("b"));
        registry.record(promotion(3, "b", Some("c"), PromotedBy::Rollback));
        assert_eq!(registry.previous(), Some("a"));
        registry.record(promotion(4, "d", Some("b"), PromotedBy::Promote));
        assert_eq!(registry.previous(), Some("b"));
        let before = |at| registry.before(EventTime::from_millis(at));
        assert_eq!(
            [before(1), before(2), before(3), before(4), before(5)],
            [Some("a"), Some("b"), Some("c"), Some("b"), None]
        );
    }

    #[test]
    fn the_record_is_bounded_and_what_it_dropped_counts_as_recent() {
        let mut registry = Registry::default();
        let names: Vec<String> = (0..100).map(|at| format!("v{at}")).collect();
        for at in 1..100 {
            registry.record(promotion(
                at as i64,
                &names[at],
                Some(&names[at - 1]),
                PromotedBy::Train,
            ));
        }
        assert_eq!(registry.history.len(), MOST_PROMOTIONS);
        assert_eq!(registry.history[0].version, "v48");
        let since = |version: &str, at| registry.was_current_since(version, EventTime::from_millis(at));
        assert!(since("v60", 61) && !since("v60", 62));
        assert!(since("v3", 48) && !since("v3", 49));
    }
}
