//! The series of all sensors, and the changes of their incidents.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use windrow_common::{Course, EventTime, Incident, IncidentKind, Length, Prediction, SensorId};

use crate::mutes::Mutes;
use crate::ranges::Ranges;
use crate::row::{cause, point};
use windrow_incidents::{Inserted, Rules, Series, Track};

/// A sensor with windows of one length; another length makes another series.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Key {
    pub(crate) sensor: SensorId,
    pub(crate) window_length: Length,
}

impl Key {
    pub(crate) fn of(row: &Prediction) -> Self {
        Self {
            sensor: row.sensor.clone(),
            window_length: row.window_length,
        }
    }

    /// Returns the rules that hold for the sensor.
    fn rules(&self, rules: &Rules) -> Rules {
        match self.sensor.is_group() {
            true => rules.for_group(),
            false => *rules,
        }
    }
}

/// A change of one incident: as receivers last heard of it, and as it is now.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Change {
    pub(crate) key: Key,
    /// `None` if it is new.
    pub(crate) before: Option<Course>,
    /// `None` if late windows removed it.
    pub(crate) now: Option<Course>,
}

impl Change {
    /// Returns the incident as it is, or as it was if nothing is left of it.
    pub(crate) fn course(&self) -> Option<&Course> {
        self.now.as_ref().or(self.before.as_ref())
    }
}

/// The result of taking rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Taken {
    /// Windows that were not known.
    pub(crate) windows: u64,
    /// Whether a window was known with another result that cannot be compared.
    pub(crate) conflict: bool,
}

/// The series of a fleet.
#[derive(Debug)]
pub(crate) struct Fleet {
    rules: Rules,
    ranges: Arc<Ranges>,
    mutes: Mutes,
    series: HashMap<Key, Watched>,
    /// State learned from histories, for sensors that are not watched yet.
    habits: HashMap<Key, Track>,
    changed: HashSet<Key>,
    /// The end of the newest window.
    reached: EventTime,
    /// Number of windows that are held.
    held: usize,
}

#[derive(Debug)]
struct Watched {
    series: Series,
    /// The incidents since the base, as they were told.
    told: Vec<Course>,
}

impl Fleet {
    pub(crate) fn new(rules: Rules, ranges: Arc<Ranges>) -> Self {
        Self {
            rules,
            ranges,
            mutes: Mutes::default(),
            series: HashMap::new(),
            habits: HashMap::new(),
            changed: HashSet::new(),
            reached: EventTime::MIN,
            held: 0,
        }
    }

    /// Replaces the mutes, and marks all incidents that are not final again.
    pub(crate) fn set_mutes(&mut self, mutes: Mutes) {
        self.mutes = mutes;
        let has_incidents = self.series.iter().filter(|(_, watched)| !watched.told.is_empty());
        self.changed.extend(has_incidents.map(|(key, _)| key.clone()));
    }

    /// Sets where a sensor stood before the windows to come.
    pub(crate) fn begin(&mut self, key: Key, base: Track) {
        let watched = Watched::new(&key, &self.ranges, base);
        self.series.insert(key, watched);
    }

    /// Adds state learned from histories, for sensors that are not watched yet. An entry that exists already stays.
    pub(crate) fn learn(&mut self, habits: HashMap<Key, Track>) {
        for (key, track) in habits {
            if !self.series.contains_key(&key) {
                self.habits.entry(key).or_insert(track);
            }
        }
    }

    /// Returns whether any row belongs to a sensor that is neither watched nor known from a history.
    pub(crate) fn has_strangers(&self, rows: &[Prediction]) -> bool {
        let mut keys = rows
            .chunk_by(|a, b| a.sensor == b.sensor && a.window_length == b.window_length)
            .filter_map(|rows| rows.first().map(Key::of));
        keys.any(|key| !self.series.contains_key(&key) && !self.habits.contains_key(&key))
    }

    fn watched(&mut self, key: &Key) -> &mut Watched {
        let habits = &mut self.habits;
        let new = || Watched::new(key, &self.ranges, habits.remove(key).unwrap_or_default());
        self.series.entry(key.clone()).or_insert_with(new)
    }

    pub(crate) fn reached(&self) -> EventTime {
        self.reached
    }

    /// Says that the fleet has reached a time, as a saved state knows.
    pub(crate) fn reach(&mut self, time: EventTime) {
        self.reached = self.reached.max(time);
    }

    /// Returns the number of windows that are held.
    pub(crate) fn held(&self) -> usize {
        self.held
    }

    /// Returns the number of series, and of their open incidents of a kind.
    pub(crate) fn open(&self, kind: IncidentKind) -> u64 {
        let all = self.series.values().flat_map(|watched| &watched.told);
        all.filter(|course| course.kind == kind && course.closed.is_none())
            .count() as u64
    }

    pub(crate) fn len(&self) -> usize {
        self.series.len()
    }

    /// Takes rows of predictions in any order.
    pub(crate) fn take(&mut self, rows: &[Prediction]) -> Taken {
        let mut taken = Taken::default();
        let mut reached = self.reached;
        // Rows of a sensor come together, so it is looked up once for all of them.
        for rows in rows.chunk_by(|a, b| a.sensor == b.sensor && a.window_length == b.window_length) {
            let Some(first) = rows.first() else { continue };
            let key = Key::of(first);
            let rules = key.rules(&self.rules);
            let series = &mut self.watched(&key).series;
            let mut changed = false;
            for row in rows {
                let start = row.aggregate.window_start;
                reached = reached.max(start.saturating_add(row.window_length.as_duration()));
                match series.insert(point(row), cause(row, &rules)) {
                    Inserted::New => {
                        taken.windows += 1;
                        changed = true;
                    }
                    Inserted::Replaced => changed = true,
                    Inserted::Repeat | Inserted::Superseded => {}
                    Inserted::Conflict => taken.conflict = true,
                }
            }
            if changed {
                self.changed.insert(key);
            }
        }
        self.reached = reached;
        self.held += taken.windows as usize;
        taken
    }

    /// Takes the rows that count of a whole hour. They replace known rows, and so resolve conflicts.
    pub(crate) fn overwrite(&mut self, rows: &[Prediction]) {
        for row in rows {
            let key = Key::of(row);
            let rules = key.rules(&self.rules);
            if let Some(watched) = self.series.get_mut(&key) {
                watched.series.overwrite(point(row), cause(row, &rules));
                self.changed.insert(key);
            }
        }
    }

    /// Returns whether windows from `base` on may still change an incident. All series must stand at `base`.
    pub(crate) fn may_change(&self, key: &Key, course: &Course, base: EventTime) -> bool {
        let is_pending = |watched: &Watched| {
            let mut openings = watched.series.base().openings();
            openings.any(|opening| opening == (course.kind, course.opened))
        };
        course.opened >= base || self.series.get(key).is_some_and(is_pending)
    }

    /// Adds an incident that an earlier process reported for a sensor.
    pub(crate) fn was_told(&mut self, key: &Key, course: Course) {
        self.watched(key).told.push(course);
        self.changed.insert(key.clone());
    }

    /// Puts a sensor back to where it stood before windows that are to be taken again.
    pub(crate) fn put_back(&mut self, key: &Key, base: Track) {
        let watched = self.watched(key);
        watched.series = watched.series.rebased(base);
        watched.told.clear();
        self.changed.insert(key.clone());
    }

    /// Returns the incidents since the base, as they were told.
    pub(crate) fn incidents(&self) -> impl Iterator<Item = Incident> {
        self.series.iter().flat_map(|(key, watched)| {
            watched.told.iter().map(|course| Incident {
                sensor: key.sensor.clone(),
                window_length: key.window_length,
                course: course.clone(),
            })
        })
    }

    /// Returns the changes since the last call, ordered by sensor, including sensors that fell silent.
    pub(crate) fn changes(&mut self) -> Vec<Change> {
        let rules = self.rules;
        let mut changes = Vec::new();
        let newest = self.newest_of_several();
        let retires = self.mutes.retire_any();
        for (key, watched) in &mut self.series {
            // A sensor that goes on with windows of another length is not silent.
            let goes_on = newest
                .get(&key.sensor)
                .is_some_and(|newest| *newest > watched.series.end());
            let now = if goes_on {
                watched.series.end()
            } else {
                self.reached
            };
            let was_silent = goes_on && watched.told.iter().any(is_open_silence);
            // Taking a sensor out of service ends its open incidents.
            let may_retire = retires && !watched.told.is_empty();
            let rules = key.rules(&rules);
            let is_known = !self.changed.contains(key) && !was_silent && !may_retire;
            if is_known && !watched.is_silent_anew(now, &rules) {
                continue;
            }
            let mut courses = watched.series.incidents(now, &rules);
            self.mutes.judge(&key.sensor, self.reached, &mut courses);
            compare(key, &watched.told, &courses, &mut changes);
            watched.told = courses;
        }
        self.changed.clear();
        changes.sort_by(|a, b| order(a).cmp(&order(b)));
        changes
    }

    /// Returns the end of the newest window of sensors that have windows of several lengths.
    fn newest_of_several(&self) -> HashMap<SensorId, EventTime> {
        let mut lengths = self.series.keys().map(|key| key.window_length);
        let first = lengths.next();
        if lengths.all(|length| Some(length) == first) {
            return HashMap::new();
        }
        let mut newest: HashMap<SensorId, EventTime> = HashMap::new();
        for (key, watched) in &self.series {
            let end = newest.entry(key.sensor.clone()).or_insert(EventTime::MIN);
            *end = watched.series.end().max(*end);
        }
        newest
    }

    /// Moves the base of all sensors to `time`. Returns the changes of the incidents that become final.
    pub(crate) fn advance_base(&mut self, time: EventTime) -> Vec<Change> {
        let rules = self.rules;
        let mut changes = Vec::new();
        self.held = 0;
        for (key, watched) in &mut self.series {
            let settled = watched.series.advance_base(time, &key.rules(&rules));
            watched.advance_base(key, settled, (&self.mutes, self.reached), &mut changes);
            self.held += watched.series.len();
        }
        changes.sort_by(|a, b| order(a).cmp(&order(b)));
        changes
    }

    /// Does the same for some sensors.
    pub(crate) fn settle_only(&mut self, keys: &HashSet<Key>, time: EventTime) -> Vec<Change> {
        let rules = self.rules;
        let mut changes = Vec::new();
        for key in keys {
            if let Some(watched) = self.series.get_mut(key) {
                let held = watched.series.len();
                let settled = watched.series.advance_base(time, &key.rules(&rules));
                watched.advance_base(key, settled, (&self.mutes, self.reached), &mut changes);
                self.held -= held - watched.series.len();
            }
        }
        changes.sort_by(|a, b| order(a).cmp(&order(b)));
        changes
    }

    /// Returns where each sensor stood at the base, ordered by sensor.
    pub(crate) fn bases(&self) -> Vec<(&Key, &Track)> {
        let mut bases: Vec<_> = self
            .series
            .iter()
            .map(|(key, watched)| (key, watched.series.base()))
            .collect();
        bases.sort_by_key(|(key, _)| *key);
        bases
    }
}

impl Watched {
    fn new(key: &Key, ranges: &Ranges, base: Track) -> Self {
        Self {
            series: Series::new(key.window_length, ranges.of(&key.sensor), base),
            told: Vec::new(),
        }
    }

    /// Adds what changed for incidents that are final.
    fn advance_base(
        &mut self,
        key: &Key,
        mut settled: Vec<Course>,
        (mutes, reached): (&Mutes, EventTime),
        changes: &mut Vec<Change>,
    ) {
        mutes.judge(&key.sensor, reached, &mut settled);
        for course in settled {
            let at = self.told.iter().position(|told| is_same(told, &course));
            let before = at.map(|at| self.told.remove(at));
            if before.as_ref() != Some(&course) {
                changes.push(Change {
                    key: key.clone(),
                    before,
                    now: Some(course),
                });
            }
        }
    }

    /// Returns whether the sensor is silent now, and this was not told.
    fn is_silent_anew(&self, now: EventTime, rules: &Rules) -> bool {
        self.series.is_silent(now, rules) && !self.told.iter().any(is_open_silence)
    }
}

fn is_open_silence(course: &Course) -> bool {
    course.kind == IncidentKind::Silent && course.closed.is_none()
}

/// Adds what differs between the incidents of a sensor as they were told and as they are.
fn compare(key: &Key, told: &[Course], courses: &[Course], changes: &mut Vec<Change>) {
    for course in courses {
        let before = told.iter().find(|told| is_same(told, course));
        if before != Some(course) {
            changes.push(Change {
                key: key.clone(),
                before: before.cloned(),
                now: Some(course.clone()),
            });
        }
    }
    for told in told {
        if !courses.iter().any(|course| is_same(told, course)) {
            changes.push(Change {
                key: key.clone(),
                before: Some(told.clone()),
                now: None,
            });
        }
    }
}

fn is_same(a: &Course, b: &Course) -> bool {
    (a.kind, a.opened) == (b.kind, b.opened)
}

fn order(change: &Change) -> (&Key, Option<(EventTime, IncidentKind)>) {
    (
        &change.key,
        change.course().map(|course| (course.opened, course.kind)),
    )
}
