//! Follows the predictions in the store, and publishes scoring messages that join the tags of a device.

use std::collections::HashMap;
use std::sync::Arc;

use tokio::time::Instant;
use tracing::Instrument;
use windrow_common::{EventTime, GroupMessage, Length, Prediction, ScoringMessage, SensorId};
use windrow_queue::{Confirmation, Message, Queue, QueueError, Trace};
use windrow_store::{Follower, News, SeenHour, Store, StoreError};

use crate::device::{Device, Patience};
use crate::models::Groups;
use crate::state::State;
use crate::stats::Stats;
use crate::{GrouperError, GrouperOptions};

/// Number of parts whose rows are in memory at once.
const PARTS_AT_ONCE: usize = 8;

/// How to treat windows that lack tags.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Incomplete {
    /// Wait for them until the grace period is over.
    Wait,
    /// Request them at once, because nothing more arrives for now.
    Ask,
}

/// A grouper.
#[derive(Debug)]
pub struct Grouper<Q> {
    queue: Q,
    pub(crate) store: Store,
    pub(crate) options: GrouperOptions,
    pub(crate) stats: Arc<Stats>,
    groups: Groups,
    /// `None` before the first step, and after an error: the next step begins with what is in the store.
    following: Option<Following>,
}

/// What a grouper knows about the predictions.
#[derive(Debug)]
struct Following {
    follower: Follower,
    base: EventTime,
    origin: EventTime,
    /// By device.
    devices: HashMap<Arc<str>, Device>,
    /// The end of the newest window of any sensor.
    reached: EventTime,
    looked_back: Instant,
    /// Whether the hours before the base have been read. Later rows need their windows.
    has_context: bool,
    /// Number of known parts of each hour that the follower rereads for context.
    known: HashMap<EventTime, u64>,
    /// The first hour whose read parts are on record.
    known_from: EventTime,
}

impl<Q: Queue> Grouper<Q> {
    /// Creates a grouper of the predictions in `store` that publishes to `queue`.
    pub fn new(queue: Q, store: Store, options: GrouperOptions, stats: Arc<Stats>) -> Self {
        Self {
            queue,
            groups: Groups::new(store.clone(), options.model_refresh),
            store,
            options,
            stats,
            following: None,
        }
    }

    /// Reads to the end of the predictions, and requests all windows that can be scored. Their messages are in the
    /// queue when it returns.
    pub async fn catch_up(&mut self, incomplete: Incomplete) -> Result<(), GrouperError> {
        while self.step(incomplete).await? {}
        Ok(())
    }

    /// Reads new predictions, and publishes the messages that follow. Returns whether the next step has work
    /// immediately.
    pub async fn step(&mut self, incomplete: Incomplete) -> Result<bool, GrouperError> {
        if self.groups.refresh().await? {
            self.following = None;
        }
        if self.groups.is_empty() {
            self.following = None;
            return Ok(false);
        }
        let mut following = match self.following.take() {
            Some(following) => following,
            None => self.open().await?,
        };
        self.read(&mut following).await?;
        let windows = self.ask(&mut following, incomplete).await?;
        self.advance_base(&mut following).await?;
        let goes_back = self.look_back(&mut following).await?;
        let held: usize = following.devices.values().map(Device::held).sum();
        self.stats.held_windows.set(held as i64);
        self.stats.devices.set(following.devices.len() as i64);
        self.following = Some(following);
        Ok(windows > 0 || goes_back)
    }

    /// Drops all knowledge, because another grouper leads.
    pub(crate) fn forget(&mut self) {
        self.following = None;
    }

    /// Begins where the last grouper of the store left off.
    async fn open(&self) -> Result<Following, StoreError> {
        let state = match State::load(&self.store).await? {
            Some(state) => state,
            None => {
                // Save it now. By the next start there are more predictions, and the origin would be later.
                let origin = self.origin().await?;
                let state = State::new(origin, origin, Vec::new());
                state.save(&self.store).await?;
                state
            }
        };
        Ok(self.follow_from(state.base, state.origin, &state.hours))
    }

    /// Returns where the first grouper begins: not long before the newest hour, or before everything if there is none yet.
    async fn origin(&self) -> Result<EventTime, StoreError> {
        let days = self.store.folders("predictions").await?;
        let newest = days.iter().filter_map(|day| day.strip_prefix("date=")).max();
        let newest: Option<EventTime> = newest.and_then(|day| format!("{day}T00:00:00Z").parse().ok());
        let from = newest.map(|day| day.saturating_sub(self.options.look_back).floor(Length::HOUR));
        Ok(from.unwrap_or(EventTime::MIN))
    }

    /// Begins at `base`. `seen` lists the parts already read of the hours before it.
    fn follow_from(&self, base: EventTime, origin: EventTime, seen: &[SeenHour]) -> Following {
        let first = if base > EventTime::MIN {
            base.saturating_sub(self.groups.context()).floor(Length::HOUR)
        } else {
            base
        };
        let (before, again): (Vec<_>, Vec<_>) = seen
            .iter()
            .filter(|seen| seen.hour < base)
            .partition(|seen| seen.hour < first);
        Following {
            follower: Follower::new(self.store.clone(), first, before),
            base,
            origin,
            devices: HashMap::new(),
            reached: EventTime::MIN,
            looked_back: Instant::now(),
            has_context: false,
            known: again.into_iter().map(|seen| (seen.hour, seen.parts)).collect(),
            known_from: seen.iter().map(|seen| seen.hour).min().unwrap_or(base),
        }
    }

    /// Reads all new parts. A part of an hour before the base is late, so everything since that hour is checked again.
    async fn read(&self, following: &mut Following) -> Result<(), StoreError> {
        loop {
            let news = following.follower.news().await?;
            let is_late = |news: &&News| {
                let known = following.known.get(&news.start).copied().unwrap_or(0);
                let came_since = known != news.whole.parts().len() as u64;
                // Hours without a record of the parts read serve only as context.
                news.start < following.base
                    && news.start >= following.origin.max(following.known_from)
                    && (following.has_context || came_since)
            };
            if let Some(late) = news.iter().find(is_late).map(|news| news.start) {
                self.rewind(following, late);
                continue;
            }
            for news in news {
                for parts in news.new.in_groups(PARTS_AT_ONCE) {
                    let rows = self.store.predictions(&parts).await?.rows;
                    self.take(following, &rows);
                }
                following.follower.note(&news);
            }
            following.has_context = true;
            return Ok(());
        }
    }

    /// Begins again at an earlier hour. The windows that were scored since are known from their predictions.
    fn rewind(&self, following: &mut Following, hour: EventTime) {
        tracing::info!(hour = %hour, "predictions of a settled hour came late; the hours since are looked at again");
        self.stats.rewinds.inc();
        let mut seen = following.follower.seen();
        seen.extend(following.follower.read());
        seen.retain(|seen| seen.hour < hour);
        *following = self.follow_from(hour, following.origin, &seen);
    }

    fn take(&self, following: &mut Following, rows: &[Prediction]) {
        let now = Instant::now();
        // Rows of a device come together, so it is looked up once for all of them.
        for rows in rows.chunk_by(|a, b| a.sensor.device == b.sensor.device) {
            let Some(first) = rows.first() else { continue };
            for row in rows.iter().filter(|row| !row.sensor.is_group()) {
                let end = row
                    .aggregate
                    .window_start
                    .saturating_add(row.window_length.as_duration());
                following.reached = following.reached.max(end);
            }
            let Some(group) = self.groups.of(&first.sensor.device) else {
                continue;
            };
            let device = following
                .devices
                .entry(Arc::clone(&first.sensor.device))
                .or_insert_with_key(|device| Device::new(SensorId::of_group(device), group.clone()));
            for row in rows {
                device.take(row, now);
            }
        }
    }

    /// Publishes the messages of the windows that can be scored, and waits until the queue has them.
    async fn ask(&self, following: &mut Following, incomplete: Incomplete) -> Result<u64, GrouperError> {
        let patience = match incomplete {
            Incomplete::Ask => Patience::None,
            Incomplete::Wait => Patience::Until {
                reached: following.reached,
                now: Instant::now(),
                grace: self.options.grace,
            },
        };
        let mut trace = Trace::begin();
        // Workers find the trace id in each message.
        let span = tracing::info_span!("step", trace_id = trace.id());
        let mut confirmations = Vec::new();
        let mut windows = 0;
        for device in following.devices.values_mut() {
            let wanted = device.wanted(following.base, patience);
            self.stats.unscored_windows.inc_by(wanted.unscored);
            windows += wanted.windows;
            for message in wanted.messages {
                let published = self.publish(&message, trace.next_parent());
                confirmations.push(published.instrument(span.clone()).await?);
                self.stats.messages.inc();
            }
        }
        if !confirmations.is_empty() {
            span.in_scope(|| tracing::info!(messages = confirmations.len(), "published"));
        }
        for confirmation in confirmations {
            match confirmation.wait().await {
                Ok(()) => {}
                Err(QueueError::TooLarge { why, .. }) => {
                    self.stats.too_large.inc();
                    tracing::error!(why, "windows of several tags together are not scored");
                }
                Err(error) => return Err(error.into()),
            }
        }
        self.stats.windows.inc_by(windows);
        Ok(windows)
    }

    async fn publish(
        &self,
        message: &GroupMessage,
        traceparent: String,
    ) -> Result<Confirmation, GrouperError> {
        let id = message.id();
        let body = message.encode().map_err(|source| GrouperError::Encode {
            id: id.clone(),
            source,
        })?;
        let message = Message {
            id,
            kind: ScoringMessage::KIND.into(),
            content_type: ScoringMessage::CONTENT_TYPE.into(),
            enqueued_at: EventTime::now(),
            traceparent: Some(traceparent),
            body: body.into(),
        };
        tracing::debug!(id = message.id, "publishing");
        Ok(self.queue.publish(message).await?)
    }

    /// Moves the base past hours that are old enough, have had no news for a while, and have no window that waits for
    /// tags.
    async fn advance_base(&self, following: &mut Following) -> Result<(), StoreError> {
        let held = following.reached.saturating_sub(self.options.hold);
        let busy = following.follower.busy_from(self.options.calm);
        let waiting = following.devices.values().filter_map(Device::waits_from);
        let base = waiting.chain(busy).fold(held, EventTime::min).floor(Length::HOUR);
        if base <= following.base {
            return Ok(());
        }
        let mut hours = following.follower.seen();
        hours.extend(
            following
                .follower
                .read()
                .into_iter()
                .filter(|seen| seen.hour < base),
        );
        following.base = base;
        for device in following.devices.values_mut() {
            device.advance_base(base);
        }
        let first = base.saturating_sub(self.groups.context()).floor(Length::HOUR);
        let keep_from = first.saturating_sub(self.options.look_back).floor(Length::HOUR);
        following.follower.advance_base(first, keep_from);
        hours.retain(|seen| seen.hour >= keep_from);
        State::new(base, following.origin, hours).save(&self.store).await
    }

    /// Looks for parts of hours that are no longer followed. Returns whether there are any.
    async fn look_back(&self, following: &mut Following) -> Result<bool, StoreError> {
        if following.looked_back.elapsed() < self.options.look_back_every || following.base == EventTime::MIN
        {
            return Ok(false);
        }
        following.looked_back = Instant::now();
        let first = following.follower.base();
        let from = first.saturating_sub(self.options.look_back).floor(Length::HOUR);
        let late = following.follower.late(from.max(following.origin)).await?;
        if let Some(first) = late.first() {
            self.rewind(following, first.start);
        }
        Ok(!late.is_empty())
    }
}

#[cfg(test)]
mod tests;
