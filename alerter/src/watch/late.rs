//! Predictions that come when their hour is settled.

use std::collections::{HashMap, HashSet};

use windrow_common::{EventTime, Length};
use windrow_store::StoreError;

use super::{PARTS_AT_ONCE, Watch, hours_of};
use crate::fleet::Key;
use crate::habits::StoredHabits;
use crate::state;
use windrow_incidents::Track;

impl Watch {
    /// Looks for parts of settled hours, and works the incidents of their sensors out again.
    pub(super) async fn look_back(&mut self) -> Result<(), StoreError> {
        let base = self.follower.base();
        if base == EventTime::MIN {
            return Ok(());
        }
        let from = base.saturating_sub(self.options.look_back).floor(Length::HOUR);
        let late = self.follower.late(from).await?;
        let Some(first) = late.first().map(|news| news.start) else {
            return Ok(());
        };
        let mut keys = HashSet::new();
        for news in &late {
            for parts in news.new.in_groups(PARTS_AT_ONCE) {
                let rows = self.store.predictions(&parts).await?.rows;
                keys.extend(rows.iter().map(Key::of));
            }
        }
        tracing::warn!(
            hours = late.len(),
            sensors = keys.len(),
            first = %first,
            "predictions of settled hours came late; the incidents of their sensors are worked out again"
        );
        self.is_torn = true;
        self.rework(&keys, first).await?;
        self.is_torn = false;
        for news in &late {
            self.follower.note_late(news);
        }
        self.publish().await?;
        // These do not know the late parts, and a rework from one of them would forget them.
        state::forget_between(&self.store, first, base).await?;
        self.save().await
    }

    /// Works the incidents of some sensors out again, from the last state before `time` on.
    async fn rework(&mut self, keys: &HashSet<Key>, time: EventTime) -> Result<(), StoreError> {
        let saved = state::load(&self.store, Some(time)).await?;
        let (from, to) = (saved.head.base, self.follower.base());
        let mut tracks: HashMap<Key, Track> = saved
            .tracks
            .into_iter()
            .filter(|(key, _)| keys.contains(key))
            .collect();
        let openings = tracks.values().flat_map(hours_of);
        self.table.read(openings, Some(from)).await?;
        let mut habits = HashMap::new();
        if keys.iter().any(|key| !tracks.contains_key(key)) {
            habits = StoredHabits::default().news(&self.store).await?;
        }
        for key in keys {
            let base = tracks.remove(key).or_else(|| habits.remove(key));
            self.fleet.put_back(key, base.unwrap_or_default());
        }
        self.recall(from, |key| keys.contains(key));
        let from = (from > EventTime::MIN).then_some(from);
        for hour in self.store.hours("predictions", from, Some(to)).await? {
            self.read(&hour, &hour, |row| keys.contains(&Key::of(row)))
                .await?;
            if let Some(start) = hour.start() {
                self.pending.extend(self.fleet.settle_only(keys, start));
            }
        }
        self.pending.extend(self.fleet.settle_only(keys, to));
        self.counts.reworked += keys.len() as u64;
        Ok(())
    }
}
