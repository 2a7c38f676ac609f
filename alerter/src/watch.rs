//! Follows the predictions in the store, and keeps the table of incidents and the outbox up to date.
//!
//! No prediction is lost, and the result does not depend on when predictions are read: the same predictions give the
//! same table. Each step writes the outbox, then the table, and sometimes the state. A crash in between is harmless,
//! because the next process works out the same changes from the previous state.

mod late;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use windrow_common::{EventTime, IncidentKind, Length, Prediction};
use windrow_store::{Follower, Hour, News, Store, StoreError};

use crate::event::{Event, Stage, events_of, is_hushed_anew, opens_again};
use crate::fleet::{Change, Fleet, Key};
use crate::habits::StoredHabits;
use crate::mutes::StoredMutes;
use crate::outbox::{Expired, Outbox};
use crate::ranges::Ranges;
use crate::state::{self, Head};
use crate::table::Table;
use windrow_incidents::{Rules, Track};

/// Number of parts whose rows are in memory at once.
const PARTS_AT_ONCE: usize = 8;

/// How a watch follows the predictions.
#[derive(Clone, Debug)]
pub struct WatchOptions {
    /// The rules by which windows become incidents.
    pub rules: Rules,
    /// The physical ranges of sensors.
    pub ranges: Arc<Ranges>,
    /// The names of those who are told; each event is kept until all have taken it.
    pub receivers: Vec<String>,
    /// Events older than this are written to the table but not sent.
    pub tell_within: Duration,
    /// Windows are held for this much event time, to sort in those that come later.
    pub hold: Duration,
    /// An hour is settled once it has had no news for this long.
    pub calm: Duration,
    /// Most windows to hold; when there are more, hours are settled earlier.
    pub most_held: usize,
    /// How far back parts that come even later are looked for.
    pub look_back: Duration,
    /// How often they are looked for.
    pub look_back_every: Duration,
}

/// What a watch did, in numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WatchCounts {
    /// Windows that were taken.
    pub windows: u64,
    /// Incidents that opened, or opened again.
    pub opened: u64,
    /// Of these, anomalies.
    pub anomalies: u64,
    /// Events that were put into the outbox or, without receivers, would have been.
    pub events: u64,
    /// Events that were too old to be told.
    pub untold: u64,
    /// Incidents that nobody hears of, because their sensor was muted until they were over.
    pub hushed: u64,
    /// Sensors whose incidents were worked out again because of parts that came very late.
    pub reworked: u64,
}

/// A watch over the predictions of a store.
#[derive(Debug)]
pub struct Watch {
    store: Store,
    options: WatchOptions,
    fleet: Fleet,
    follower: Follower,
    table: Table,
    outbox: Outbox,
    mutes: StoredMutes,
    habits: StoredHabits,
    /// Changes that are not in the table.
    pending: Vec<Change>,
    counts: WatchCounts,
    looked_back: Instant,
    /// Whether the base has moved and its state is not saved.
    is_unsaved: bool,
    /// Whether the incidents of some sensors are being worked out again, and not all of their windows were read.
    is_torn: bool,
}

impl Default for WatchOptions {
    fn default() -> Self {
        Self {
            rules: Rules::default(),
            ranges: Arc::default(),
            receivers: Vec::new(),
            tell_within: Duration::from_secs(24 * 3_600),
            hold: Duration::from_secs(3_600),
            calm: Duration::from_secs(60),
            most_held: 5_000_000,
            look_back: Duration::from_secs(7 * 24 * 3_600),
            look_back_every: Duration::from_secs(600),
        }
    }
}

impl Watch {
    /// Begins where the last watch of the store left off.
    pub async fn open(store: Store, options: WatchOptions) -> Result<Self, StoreError> {
        let saved = state::load(&store, None).await?;
        let Head {
            base, reached, hours, ..
        } = saved.head;
        let mut table = Table::new(store.clone());
        let mut outbox = Outbox::open(store.clone()).await?;
        let forgotten = outbox.set_receivers(&options.receivers);
        if forgotten > 0 {
            tracing::warn!(
                forgotten,
                "events that waited for receivers that are no longer configured are not told"
            );
        }
        let mut fleet = Fleet::new(options.rules, Arc::clone(&options.ranges));
        fleet.reach(reached);
        let mutes = StoredMutes::read(&store).await?;
        fleet.set_mutes(mutes.mutes.clone());
        let mut openings = BTreeSet::new();
        for (key, track) in saved.tracks {
            openings.extend(hours_of(&track));
            fleet.begin(key, track);
        }
        let mut habits = StoredHabits::default();
        fleet.learn(habits.news(&store).await?);
        table.read(openings, Some(base)).await?;
        let mut watch = Self {
            follower: Follower::new(store.clone(), base, hours),
            store,
            options,
            fleet,
            table,
            outbox,
            mutes,
            habits,
            pending: Vec::new(),
            counts: WatchCounts::default(),
            looked_back: Instant::now(),
            is_unsaved: false,
            is_torn: false,
        };
        watch.recall(base, |_| true);
        Ok(watch)
    }

    /// Loads from the table the incidents that windows from `base` on may still change. All others are final and must
    /// not be loaded: the fleet would withdraw them.
    fn recall(&mut self, base: EventTime, wanted: impl Fn(&Key) -> bool) {
        for (key, course) in self.table.courses() {
            if wanted(key) && self.fleet.may_change(key, course, base) {
                self.fleet.was_told(key, course.clone());
            }
        }
    }

    /// Reads new predictions, and writes the resulting changes. After an error the next step continues, unless the
    /// error [tore the watch](Watch::is_torn).
    pub async fn step(&mut self) -> Result<(), StoreError> {
        self.finish().await?;
        if self.mutes.refresh(&self.store).await? {
            self.fleet.set_mutes(self.mutes.mutes.clone());
        }
        for news in self.follower.news().await? {
            // A state for each day of a history, from which late parts are worked in.
            let day = news.start.saturating_sub(self.options.hold).floor(Length::DAY);
            self.advance_base(day).await?;
            self.take(&news).await?;
            for back in [self.options.hold, Duration::ZERO] {
                if self.fleet.held() > self.options.most_held {
                    self.advance_base(news.start.saturating_sub(back)).await?;
                }
            }
        }
        self.publish().await?;
        let time = self.fleet.reached().saturating_sub(self.options.hold);
        let busy = self.follower.busy_from(self.options.calm);
        self.advance_base(busy.map_or(time, |busy| busy.min(time)))
            .await?;
        self.expire().await?;
        if self.looked_back.elapsed() >= self.options.look_back_every {
            self.look_back().await?;
            self.looked_back = Instant::now();
        }
        Ok(())
    }

    /// Reads to the end of what is there, and settles all of it that is old enough.
    pub async fn catch_up(&mut self) -> Result<(), StoreError> {
        self.step().await?;
        self.look_back().await?;
        let time = self.fleet.reached().saturating_sub(self.options.hold);
        self.advance_base(time).await
    }

    async fn take(&mut self, news: &News) -> Result<(), StoreError> {
        self.counts.windows += self.read(&news.new, &news.whole, |_| true).await?;
        self.follower.note(news);
        Ok(())
    }

    /// Gives the fleet the rows of some parts of an hour, those of the sensors that are wanted; a few parts at a time. Returns
    /// the number of windows that were not known.
    async fn read(
        &mut self,
        some: &Hour,
        whole: &Hour,
        wanted: impl Fn(&Prediction) -> bool,
    ) -> Result<u64, StoreError> {
        let (mut windows, mut conflict) = (0, false);
        for parts in some.in_groups(PARTS_AT_ONCE) {
            let mut read = self.store.predictions(&parts).await?;
            read.rows.retain(&wanted);
            if self.fleet.has_strangers(&read.rows) {
                self.fleet.learn(self.habits.news(&self.store).await?);
            }
            let taken = self.fleet.take(&read.rows);
            conflict |= taken.conflict || read.conflicts > 0;
            windows += taken.windows;
        }
        // The fields that the fleet keeps cannot tell which of two conflicting rows counts; only all rows of the hour
        // can.
        if conflict {
            let mut rows = self.store.predictions(whole).await?.rows;
            rows.retain(wanted);
            self.fleet.overwrite(&rows);
        }
        Ok(windows)
    }

    /// Writes what has changed.
    async fn publish(&mut self) -> Result<(), StoreError> {
        self.pending.extend(self.fleet.changes());
        self.write().await
    }

    /// Writes the changes that are pending: first what is to be told, then the table.
    async fn write(&mut self) -> Result<(), StoreError> {
        let opened: BTreeSet<EventTime> = self
            .pending
            .iter()
            .filter_map(Change::course)
            .map(|course| course.opened)
            .collect();
        self.table.read(opened, None).await?;
        let applied = self.table.apply(std::mem::take(&mut self.pending));
        self.outbox.reach(self.fleet.reached());
        for change in &applied {
            self.counts.hushed += u64::from(is_hushed_anew(change));
            self.outbox.mute(change);
            if opens_again(change) {
                self.outbox.open_again(change);
            }
            for event in events_of(change) {
                self.tell(event);
            }
        }
        self.outbox.write().await?;
        self.table.write().await
    }

    fn tell(&mut self, event: Event) {
        let is_opened = event.stage == Stage::Opened;
        self.counts.opened += u64::from(is_opened);
        self.counts.anomalies += u64::from(is_opened && event.course.kind == IncidentKind::Anomaly);
        if event.at() < EventTime::now().saturating_sub(self.options.tell_within) {
            self.counts.untold += 1;
            return;
        }
        let is_silence = event.course.kind == IncidentKind::Silent && event.stage == Stage::Opened;
        let not_before = is_silence
            .then(|| EventTime::now().saturating_add(patience(Length::from_millis(event.window_ms))));
        if self.outbox.add(event, not_before) {
            self.counts.events += 1;
        }
    }

    /// Drops events that some receiver has not taken within `tell_within`.
    async fn expire(&mut self) -> Result<(), StoreError> {
        let Expired { untaken, retired } = self.outbox.expire(
            EventTime::now().saturating_sub(self.options.tell_within),
            self.options.look_back,
        );
        if untaken > 0 {
            self.counts.untold += untaken as u64;
            tracing::warn!(
                expired = untaken,
                "events were dropped: a receiver did not take them within --tell-within"
            );
        }
        if retired > 0 {
            tracing::info!(
                events = retired,
                "events of sensors that are taken out of service were dropped: nobody hears of them"
            );
        }
        if untaken + retired > 0 {
            self.outbox.write().await?;
        }
        Ok(())
    }

    /// Settles the hours that end before `time`.
    async fn advance_base(&mut self, time: EventTime) -> Result<(), StoreError> {
        let base = time.floor(Length::HOUR);
        if base <= self.follower.base() {
            return Ok(());
        }
        // Settle the follower and the fleet together: from now on, parts of hours before the base are late.
        self.pending.extend(self.fleet.advance_base(base));
        let keep_from = base.saturating_sub(self.options.look_back);
        self.follower.advance_base(base, keep_from.floor(Length::HOUR));
        self.is_unsaved = true;
        self.finish().await
    }

    /// Writes the changes from the last settling to the table, then saves the state.
    async fn finish(&mut self) -> Result<(), StoreError> {
        if !self.is_unsaved {
            return Ok(());
        }
        self.write().await?;
        let base = self.follower.base();
        self.table.forget_before(base);
        self.save().await?;
        self.is_unsaved = false;
        Ok(())
    }

    async fn save(&self) -> Result<(), StoreError> {
        let base = self.follower.base();
        let keep_from = base.saturating_sub(self.options.look_back);
        let head = Head::new(base, self.fleet.reached(), self.follower.seen());
        state::save(&self.store, &head, self.fleet.bases(), keep_from).await
    }

    /// Returns up to `most` events that a receiver has not taken and that may be told at `time`.
    pub fn waiting(&self, receiver: &str, time: EventTime, most: usize) -> Vec<Event> {
        self.outbox.waiting(receiver, time, most)
    }

    /// Returns whether an error came while windows were half read, so that a new watch has to begin.
    pub fn is_torn(&self) -> bool {
        self.is_torn
    }

    /// Notes that a receiver has taken events, so that they are not told again.
    pub async fn taken(&mut self, receiver: &str, events: &[Event]) -> Result<(), StoreError> {
        self.outbox.taken(receiver, events);
        self.outbox.write().await
    }

    /// Returns the open incidents that people were told of and that are not muted, as events of their opening.
    pub fn open_incidents(&self) -> Vec<Event> {
        let told = self.outbox.told_open();
        let reached = self.fleet.reached();
        let open = self.fleet.incidents().filter(|incident| {
            let course = &incident.course;
            course.closed.is_none() && course.muted_until.is_none_or(|until| until <= reached)
        });
        open.map(|incident| Event::new(&incident, Stage::Opened))
            .filter(|event| told.contains(event.incident.as_str()))
            .collect()
    }

    /// Returns the number of open incidents of a kind.
    pub fn open_of(&self, kind: IncidentKind) -> u64 {
        self.fleet.open(kind)
    }

    /// Returns what it did.
    pub fn counts(&self) -> WatchCounts {
        self.counts
    }

    /// Returns the number of sensors, of windows that are held, and of events that wait to be told.
    pub fn sizes(&self) -> (usize, usize, usize) {
        (self.fleet.len(), self.fleet.held(), self.outbox.len())
    }

    /// Returns the end of the newest window.
    pub fn reached(&self) -> EventTime {
        self.fleet.reached()
    }
}

/// Returns the hours of the table whose incidents later windows of a sensor may change. `track` is the state before
/// those windows.
fn hours_of(track: &Track) -> impl Iterator<Item = EventTime> {
    track.openings().map(|(_, opening)| opening.floor(Length::HOUR))
}

/// Returns how long a silence has to last before it is reported, because sensors that lag behind the fleet seem silent
/// between any two windows.
fn patience(window_length: Length) -> Duration {
    (2 * window_length.as_duration()).clamp(Duration::from_secs(5), Duration::from_secs(900))
}

#[cfg(test)]
mod tests;
