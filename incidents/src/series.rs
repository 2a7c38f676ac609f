//! The windows of one sensor, brought into order.

use std::collections::BTreeMap;
use std::sync::Arc;

use windrow_common::{Cause, Course, EventTime, Length};

use super::{Limits, Rules, Track, Window};

/// The recent windows of one sensor, and where it stood before them.
///
/// Windows arrive in any order, more than once, and sometimes a second time with more readings. Those that came late are
/// sorted in, and everything after the base is worked out again.
#[derive(Clone, Debug)]
pub struct Series {
    window_length: Length,
    /// The sensor's physical range.
    limits: Limits,
    /// Where the sensor stood before the first of `points`.
    base: Track,
    points: Vec<Point>,
    /// What makes those of the points anomalous that are, by their start: few of millions.
    causes: BTreeMap<EventTime, Arc<Cause>>,
    /// Where it stands after the first `taken` points.
    current: Track,
    taken: usize,
    /// The incidents that closed since the base.
    ended: Vec<Course>,
}

/// A window, and what decides which of two rows of it counts. Millions are held, so it is small.
#[derive(Clone, Copy, Debug)]
pub struct Point {
    /// Start of the window.
    pub start: EventTime,
    /// Its score; above 0 is beyond the model's boundary.
    pub score: f64,
    /// The threshold of its own; NaN if it has none, which takes half the room of an `Option`.
    pub threshold: f64,
    /// Its smallest value.
    pub min: f64,
    /// Its largest value.
    pub max: f64,
    /// Rank of the model's version among all versions, by name.
    pub version: u64,
    /// Number of its readings.
    pub count: u32,
}

impl Point {
    fn end(&self, length: Length) -> EventTime {
        self.start.saturating_add(length.as_duration())
    }

    fn window(&self, length: Length, limits: Limits, cause: Option<&Arc<Cause>>) -> Window {
        let has_one_value = self.min.to_bits() == self.max.to_bits() && !self.min.is_nan();
        Window {
            start: self.start,
            end: self.end(length),
            score: self.score,
            threshold: Some(self.threshold).filter(|own| !own.is_nan()),
            value: has_one_value.then_some(self.min),
            count: self.count,
            breach: limits.breach(self.min, self.max, self.start),
            cause: cause.cloned(),
        }
    }

    /// Compares what incidents depend on, bit for bit, but for causes.
    fn is_same(&self, other: &Self) -> bool {
        let bits = |point: &Self| [point.score, point.threshold, point.min, point.max].map(f64::to_bits);
        bits(self) == bits(other)
    }
}

/// What became of a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Inserted {
    /// It was not known.
    New,
    /// It was known.
    Repeat,
    /// It takes the place of one with fewer readings, or of an earlier version.
    Replaced,
    /// It is known with more readings, or with a later version.
    Superseded,
    /// It is known with as many readings and the same version, but not with the same result.
    Conflict,
}

impl Series {
    /// Creates the series of a sensor with windows of this length that stands at `base`.
    pub fn new(window_length: Length, limits: Limits, base: Track) -> Self {
        Self {
            window_length,
            limits,
            current: base.clone(),
            base,
            points: Vec::new(),
            causes: BTreeMap::new(),
            taken: 0,
            ended: Vec::new(),
        }
    }

    /// Returns the same windows after another base.
    pub fn rebased(&self, base: Track) -> Self {
        Self {
            points: self.points.clone(),
            causes: self.causes.clone(),
            ..Self::new(self.window_length, self.limits, base)
        }
    }

    /// Adds a window, and what makes it anomalous if it is.
    pub fn insert(&mut self, point: Point, cause: Option<Arc<Cause>>) -> Inserted {
        let start = point.start;
        if self.points.last().is_none_or(|last| last.start < start) {
            self.points.push(point);
            self.keep_cause(start, cause);
            return Inserted::New;
        }
        match self.points.binary_search_by_key(&start, |point| point.start) {
            Err(at) => {
                self.points.insert(at, point);
                self.keep_cause(start, cause);
                self.forget_from(at);
                Inserted::New
            }
            Ok(at) => {
                let known = self.points[at];
                let precedence = |point: &Point| (point.count, point.version);
                match precedence(&point).cmp(&precedence(&known)) {
                    std::cmp::Ordering::Greater => {
                        self.points[at] = point;
                        self.keep_cause(start, cause);
                        self.forget_from(at);
                        Inserted::Replaced
                    }
                    std::cmp::Ordering::Less => Inserted::Superseded,
                    std::cmp::Ordering::Equal if self.is_known(at, &point, cause.as_deref()) => {
                        Inserted::Repeat
                    }
                    std::cmp::Ordering::Equal => Inserted::Conflict,
                }
            }
        }
    }

    /// Puts a window in the place of the one that is known, whichever counts.
    pub fn overwrite(&mut self, point: Point, cause: Option<Arc<Cause>>) {
        let start = point.start;
        if let Ok(at) = self.points.binary_search_by_key(&start, |point| point.start)
            && !self.is_known(at, &point, cause.as_deref())
        {
            self.points[at] = point;
            self.keep_cause(start, cause);
            self.forget_from(at);
        }
    }

    /// Returns whether a point is that at `at` in all that incidents depend on.
    fn is_known(&self, at: usize, point: &Point, cause: Option<&Cause>) -> bool {
        let has_same_cause = match (self.causes.get(&point.start), cause) {
            (Some(known), Some(cause)) => known.total_cmp(cause).is_eq(),
            (known, cause) => known.is_none() == cause.is_none(),
        };
        has_same_cause && self.points[at].is_same(point)
    }

    fn keep_cause(&mut self, start: EventTime, cause: Option<Arc<Cause>>) {
        match cause {
            Some(cause) => self.causes.insert(start, cause),
            None => self.causes.remove(&start),
        };
    }

    /// Forgets what was worked out, if it went past the point `at`.
    fn forget_from(&mut self, at: usize) {
        if at < self.taken {
            self.current = self.base.clone();
            self.taken = 0;
            self.ended.clear();
        }
    }

    /// Returns the incidents since the base at the event time `now`: those that closed, then those that are open.
    pub fn incidents(&mut self, now: EventTime, rules: &Rules) -> Vec<Course> {
        for point in &self.points[self.taken..] {
            let cause = self.causes.get(&point.start);
            let window = point.window(self.window_length, self.limits, cause);
            self.current.take(&window, rules, &mut self.ended);
        }
        self.taken = self.points.len();
        let open = self.current.open(now, rules);
        self.ended.iter().cloned().chain(open).collect()
    }

    /// Returns whether the sensor is silent at the event time `now`, as far as its windows were looked at.
    pub fn is_silent(&self, now: EventTime, rules: &Rules) -> bool {
        self.current.is_silent(now, rules)
    }

    /// Returns the end of the newest window, as far as windows were looked at; the beginning of time if there is none.
    pub fn end(&self) -> EventTime {
        let last = self.points.last().map(|point| point.end(self.window_length));
        last.or(self.base.end()).unwrap_or(EventTime::MIN)
    }

    /// Moves the base past the windows that start before `time`, which are forgotten. Returns the incidents that closed
    /// with them, which are final.
    pub fn advance_base(&mut self, time: EventTime, rules: &Rules) -> Vec<Course> {
        let settled = self.points.partition_point(|point| point.start < time);
        let mut ended = Vec::new();
        for point in self.points.drain(..settled) {
            let cause = self.causes.get(&point.start);
            let window = point.window(self.window_length, self.limits, cause);
            self.base.take(&window, rules, &mut ended);
        }
        self.causes = self.causes.split_off(&time);
        // A backlog leaves room for far more than is held later.
        if self.points.capacity() > 4 * self.points.len() {
            self.points.shrink_to(2 * self.points.len());
        }
        if self.taken > settled {
            self.taken -= settled;
            // The first that closed are those that closed before the base.
            self.ended.drain(..ended.len());
        } else {
            self.taken = 0;
            self.current = self.base.clone();
            self.ended.clear();
        }
        ended
    }

    /// Returns where the sensor stood before the windows that are held.
    pub fn base(&self) -> &Track {
        &self.base
    }

    /// Returns the number of windows that are held.
    pub fn len(&self) -> usize {
        self.points.len()
    }

    /// Returns whether no windows are held.
    pub fn is_empty(&self) -> bool {
        self.points.is_empty()
    }
}

#[cfg(test)]
mod tests;
