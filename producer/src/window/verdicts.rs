//! Which readings were set aside, so that a replay judges none of them again.
//!
//! A checkpoint resumes where an open interval begins, so a new run reads some readings a second time. It must treat
//! each as the earlier run did, even if its clock or its options would now decide otherwise. The readings that were
//! dispatched are known by their time. Of the others, a checkpoint lists those that were set aside; the rest were
//! accepted.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::judge::unusable;
use crate::quarantine::QuarantineReason;
use crate::source::{Offset, Reading};

/// The place of a reading in its partition: its offset, and its number among the readings of that offset. The readings
/// of one event share its offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct ReadingPlace(u64, u32);

impl fmt::Display for ReadingPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.1 {
            0 => write!(f, "{}", self.0),
            nth => write!(f, "{}.{nth}", self.0),
        }
    }
}

impl FromStr for ReadingPlace {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (offset, nth) = text.split_once('.').unwrap_or((text, "0"));
        match (offset.parse(), nth.parse()) {
            (Ok(offset), Ok(nth)) => Ok(Self(offset, nth)),
            _ => Err(format!("`{text}` is not the place of a reading")),
        }
    }
}

/// The readings of one partition that were set aside, as runs of neighbours in reading order.
///
/// As text it lists the offsets: `51200 51260-51290 51300.2`. The last one is the third reading of its event.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct SetAside {
    /// First and last place of each run; no accepted reading lies within a run.
    runs: Vec<(ReadingPlace, ReadingPlace)>,
}

impl SetAside {
    /// Adds the reading at `at`, which lies after all others. `adjoins` says that no accepted reading lies between the
    /// last one added and this one.
    fn push(&mut self, at: ReadingPlace, adjoins: bool) {
        match self.runs.last_mut() {
            Some((_, last)) if adjoins => *last = at,
            _ => self.runs.push((at, at)),
        }
    }

    /// Creates the set of these runs. Some may be the same: a claim that is not read again yet is listed beside the
    /// readings that were set aside, which include its own.
    fn of(mut runs: Vec<(ReadingPlace, ReadingPlace)>) -> Self {
        runs.sort_unstable();
        runs.dedup_by(|next, before| {
            let overlaps = next.0 <= before.1;
            if overlaps {
                before.1 = before.1.max(next.1);
            }
            overlaps
        });
        Self { runs }
    }

    fn contains(&self, at: ReadingPlace) -> bool {
        let next = self.runs.partition_point(|(first, _)| *first <= at);
        next > 0 && at <= self.runs[next - 1].1
    }

    /// Returns the part from `resume` on.
    fn from(&self, resume: Offset) -> Self {
        let gone = self.runs.partition_point(|(_, last)| last.0 < resume.0);
        Self {
            runs: self.runs[gone..].to_vec(),
        }
    }

    /// Returns whether it is empty.
    pub fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }
}

impl From<SetAside> for String {
    fn from(set_aside: SetAside) -> Self {
        let runs = set_aside.runs.iter().map(|(first, last)| match first == last {
            true => first.to_string(),
            false => format!("{first}-{last}"),
        });
        runs.collect::<Vec<_>>().join(" ")
    }
}

impl TryFrom<String> for SetAside {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let runs = text.split_whitespace().map(|run| {
            let (first, last) = run.split_once('-').unwrap_or((run, run));
            Ok((first.parse()?, last.parse()?))
        });
        let runs: Vec<(ReadingPlace, ReadingPlace)> = runs.collect::<Result<_, String>>()?;
        let is_sorted = runs.is_sorted() && runs.iter().all(|(first, last)| first <= last);
        match is_sorted {
            true => Ok(Self::of(runs)),
            false => Err("the readings that were set aside are out of order".to_owned()),
        }
    }
}

/// The verdicts of a run beyond its durable position. The next run repeats them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claim {
    /// Every reading below this offset was judged.
    #[serde(
        serialize_with = "offset::serialize",
        deserialize_with = "offset::deserialize"
    )]
    pub judged: Offset,
    /// Of those from the position on, the ones that were late.
    #[serde(default, skip_serializing_if = "SetAside::is_empty")]
    late: SetAside,
    /// Of those from the position on, the ones that were too far in the future.
    #[serde(default, skip_serializing_if = "SetAside::is_empty")]
    far_future: SetAside,
}

impl Claim {
    /// Adds what was judged after it.
    pub fn extend(&mut self, later: &Self) {
        self.judged = self.judged.max(later.judged);
        self.late.runs.extend_from_slice(&later.late.runs);
        self.far_future.runs.extend_from_slice(&later.far_future.runs);
    }

    fn reason(&self, at: ReadingPlace) -> Option<QuarantineReason> {
        match at {
            at if self.late.contains(at) => Some(QuarantineReason::Late),
            at if self.far_future.contains(at) => Some(QuarantineReason::FarFuture),
            _ => None,
        }
    }
}

/// The verdicts on the readings of one partition: those of earlier runs, and this run's.
#[derive(Clone, Debug)]
pub(super) struct Verdicts {
    /// An earlier run has judged everything below.
    judged_before: Offset,
    set_aside: SetAside,
    /// How many readings had been kept when the last one of `set_aside` was set aside.
    kept_then: u64,
    /// How many had been kept when the last one of all was set aside, and why it was.
    last: Option<(u64, QuarantineReason)>,
    /// What was set aside since [`Verdicts::take_news`].
    news: Claim,
    /// From this offset on, what an earlier run has set aside may not have reached the quarantine.
    claimed_from: Offset,
    claim: Option<Claim>,
}

impl Verdicts {
    pub(super) fn new(judged: Offset, set_aside: SetAside, claim: Option<Claim>) -> Self {
        let judged_before = claim.as_ref().map_or(judged, |claim| judged.max(claim.judged));
        let mut runs = set_aside.runs;
        if let Some(Claim { late, far_future, .. }) = &claim {
            runs.extend_from_slice(&late.runs);
            runs.extend_from_slice(&far_future.runs);
        }
        Self {
            judged_before,
            set_aside: SetAside::of(runs),
            // Others may lie between those that an earlier run set aside and those that this run does.
            kept_then: u64::MAX,
            last: None,
            news: Claim::default(),
            claimed_from: judged,
            claim,
        }
    }

    /// Returns what an earlier run has claimed and this one, which is at `next`, has not read again yet.
    pub(super) fn claim_beyond(&self, next: Offset) -> Option<Claim> {
        self.claim.clone().filter(|claim| next < claim.judged)
    }

    /// Returns whether the item at `offset` was judged, but may not have reached the quarantine.
    pub(super) fn is_claimed(&self, offset: Offset) -> bool {
        self.claim.is_some() && offset >= self.claimed_from && self.cover(offset)
    }

    /// Returns why an earlier run has set aside the `index`-th of these readings, if that may not have reached the
    /// quarantine.
    #[cold]
    pub(super) fn to_repeat(&self, readings: &[Reading], index: usize) -> Option<QuarantineReason> {
        let claim = self.claim.as_ref()?;
        let reading = &readings[index];
        if reading.offset < self.claimed_from {
            return None;
        }
        unusable(reading.value).or_else(|| claim.reason(place(readings, index)))
    }

    /// Returns what was set aside since the last call.
    pub(super) fn take_news(&mut self) -> Claim {
        self.last = None;
        std::mem::take(&mut self.news)
    }

    /// Begins with what an earlier pass of this run has set aside and nobody has taken yet.
    pub(super) fn continue_news(&mut self, news: Claim) {
        self.news = news;
    }

    /// Returns whether an earlier run has judged everything at `offset`.
    #[inline]
    pub(super) fn cover(&self, offset: Offset) -> bool {
        offset < self.judged_before
    }

    /// Returns whether the `index`-th of these readings was set aside. The readings of one offset are never split
    /// between two batches.
    pub(super) fn was_set_aside(&self, readings: &[Reading], index: usize) -> bool {
        !self.set_aside.is_empty() && self.set_aside.contains(place(readings, index))
    }

    /// Records that the `index`-th of these readings is set aside, after `kept` readings were not. `is_open` says that its
    /// interval is not dispatched; a replay knows the others by their time.
    #[cold]
    pub(super) fn set_aside(
        &mut self,
        readings: &[Reading],
        index: usize,
        reason: QuarantineReason,
        kept: u64,
        is_open: bool,
    ) {
        let at = place(readings, index);
        let adjoins = self.last == Some((kept, reason));
        self.last = Some((kept, reason));
        match reason {
            QuarantineReason::Late => self.news.late.push(at, adjoins),
            QuarantineReason::FarFuture => self.news.far_future.push(at, adjoins),
            // A replay recognises the others by their values.
            _ => {}
        }
        if is_open {
            self.set_aside.push(at, kept == self.kept_then);
            self.kept_then = kept;
        }
    }

    /// Returns whether no reading was set aside.
    pub(super) fn is_empty(&self) -> bool {
        self.set_aside.is_empty()
    }

    /// Returns the readings that were set aside from `resume` on.
    pub(super) fn from(&self, resume: Offset) -> SetAside {
        self.set_aside.from(resume)
    }

    /// Forgets the readings before `resume`, which no run reads again.
    pub(super) fn forget_before(&mut self, resume: Offset) {
        self.set_aside = self.set_aside.from(resume);
    }
}

/// Offsets as numbers.
mod offset {
    use serde::{Deserialize, Deserializer, Serializer};

    use super::Offset;

    pub(super) fn serialize<S: Serializer>(offset: &Offset, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(offset.0)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Offset, D::Error> {
        u64::deserialize(deserializer).map(Offset)
    }
}

/// Returns the number of the `index`-th of these readings, which are in offset order, among those of its offset.
pub(super) fn nth(readings: &[Reading], index: usize) -> u32 {
    let offset = readings[index].offset;
    // An event may have a hundred thousand readings, so they are not counted one by one.
    let first = readings[..index].partition_point(|reading| reading.offset < offset);
    u32::try_from(index - first).unwrap_or(u32::MAX)
}

fn place(readings: &[Reading], index: usize) -> ReadingPlace {
    ReadingPlace(readings[index].offset.0, nth(readings, index))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readings_are_numbered_within_their_offset() {
        let reading = |offset| Reading {
            sensor: crate::sensors::SensorIndex(0),
            time: windrow_common::EventTime::MIN,
            arrival: windrow_common::EventTime::MIN,
            value: 0.0,
            offset: Offset(offset),
        };
        let readings = [3, 3, 3, 7, 9, 9].map(reading);
        let numbers: Vec<_> = (0..readings.len()).map(|index| nth(&readings, index)).collect();
        assert_eq!(numbers, [0, 1, 2, 0, 0, 1]);
    }

    #[test]
    fn a_claim_that_is_listed_already_is_not_listed_twice() {
        let parse = |text: &str| SetAside::try_from(text.to_owned()).unwrap();
        let claim = Claim {
            judged: Offset(300),
            late: parse("180-212"),
            far_future: parse("230"),
        };
        let mut listed = parse("20 180-212");
        // Each run of a program that crashes before it has read its claim again adds the claim once more.
        for _ in 0..3 {
            let verdicts = Verdicts::new(Offset(20), listed, Some(claim.clone()));
            let text = String::from(verdicts.from(Offset(0)));
            assert_eq!(text, "20 180-212 230");
            listed = parse(&text);
        }
        // As earlier versions have saved it.
        assert_eq!(String::from(parse("180-212 180-212 200-220")), "180-220");
    }

    #[test]
    fn neighbours_become_one_run_and_others_do_not() {
        let mut set_aside = SetAside::default();
        for (at, adjoins) in [
            (ReadingPlace(3, 0), false),
            (ReadingPlace(3, 1), true),
            (ReadingPlace(9, 0), true),
            (ReadingPlace(9, 2), false),
            (ReadingPlace(20, 0), false),
        ] {
            set_aside.push(at, adjoins);
        }
        assert_eq!(set_aside.runs.len(), 3);
        for inside in [
            ReadingPlace(3, 0),
            ReadingPlace(5, 7),
            ReadingPlace(9, 0),
            ReadingPlace(9, 2),
            ReadingPlace(20, 0),
        ] {
            assert!(set_aside.contains(inside), "{inside:?}");
        }
        for outside in [
            ReadingPlace(2, 9),
            ReadingPlace(9, 1),
            ReadingPlace(9, 3),
            ReadingPlace(20, 1),
            ReadingPlace(21, 0),
        ] {
            assert!(!set_aside.contains(outside), "{outside:?}");
        }
        assert_eq!(set_aside.from(Offset(9)), set_aside);
        assert_eq!(
            set_aside.from(Offset(10)).runs,
            [(ReadingPlace(20, 0), ReadingPlace(20, 0))]
        );
        let text = String::from(set_aside.clone());
        assert_eq!(text, "3-9 9.2 20");
        assert_eq!(SetAside::try_from(text), Ok(set_aside));
        for damaged in ["3-", "x", "9 3", "5-4"] {
            assert!(SetAside::try_from(damaged.to_owned()).is_err(), "{damaged}");
        }
    }
}
