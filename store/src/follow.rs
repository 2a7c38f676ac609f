//! Tracks which parts of the predictions a program has read, and which are new.

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::Instant;
use windrow_common::EventTime;

use crate::{Blob, Hour, Store, StoreError};

/// How much the clocks of a store's machines may differ.
const SKEW: Duration = Duration::from_secs(120);

/// The parts of an hour that were read.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct SeenHour {
    /// Start of the hour.
    pub hour: EventTime,
    /// Number of its parts.
    pub parts: u64,
    /// When the newest of them was written, by the store's clock.
    pub newest: EventTime,
}

/// An hour with unread parts.
#[derive(Debug)]
pub struct News {
    /// Start of the hour.
    pub start: EventTime,
    /// All of its parts.
    pub whole: Hour,
    /// The parts that were not read.
    pub new: Hour,
}

/// Tracks the parts that were read: their names from the base on, only their number before it.
#[derive(Debug)]
pub struct Follower {
    store: Store,
    base: EventTime,
    read: BTreeMap<EventTime, Read>,
    seen: BTreeMap<EventTime, SeenHour>,
}

#[derive(Debug)]
struct Read {
    parts: HashSet<String>,
    newest: Option<EventTime>,
    /// When unread parts were last found in it.
    news: Instant,
}

impl Follower {
    /// Creates a follower of the predictions in `store` that continues from a saved state: `base` and `seen`.
    pub fn new(store: Store, base: EventTime, seen: Vec<SeenHour>) -> Self {
        Self {
            store,
            base,
            read: BTreeMap::new(),
            seen: seen.into_iter().map(|seen| (seen.hour, seen)).collect(),
        }
    }

    /// Returns the base. Hours before it are settled; parts that still arrive for them are late.
    pub fn base(&self) -> EventTime {
        self.base
    }

    /// Returns the hours from the base on that have new parts, oldest first.
    pub async fn news(&self) -> Result<Vec<News>, StoreError> {
        let from = (self.base > EventTime::MIN).then_some(self.base);
        let hours = self.store.hours("predictions", from, None).await?;
        let news = hours.into_iter().filter_map(|whole| {
            let start = whole.start()?;
            let read = self.read.get(&start);
            let is_new = |part: &Blob| read.is_none_or(|read| !read.parts.contains(&part.path));
            let new = whole.clone().only(is_new);
            (!new.parts().is_empty()).then_some(News { start, whole, new })
        });
        Ok(news.collect())
    }

    /// Notes that the new parts of an hour were read.
    pub fn note(&mut self, news: &News) {
        let read = self.read.entry(news.start).or_insert_with(|| Read {
            parts: HashSet::new(),
            newest: None,
            news: Instant::now(),
        });
        read.news = Instant::now();
        for part in news.new.parts() {
            read.parts.insert(part.path.clone());
            read.newest = read.newest.max(Some(part.modified));
        }
    }

    /// Returns the earliest hour that got new parts within the last `calm`; `None` if no hour did.
    pub fn busy_from(&self, calm: Duration) -> Option<EventTime> {
        let busy = self.read.iter().find(|(_, read)| read.news.elapsed() < calm);
        busy.map(|(hour, _)| *hour)
    }

    /// Moves the base. Of earlier hours, keeps only the number of parts and the time of the newest, back to
    /// `keep_from`.
    pub fn advance_base(&mut self, base: EventTime, keep_from: EventTime) {
        self.base = base;
        let later = self.read.split_off(&base);
        for (hour, read) in std::mem::replace(&mut self.read, later) {
            self.seen.insert(hour, read.seen(hour));
        }
        self.seen = self.seen.split_off(&keep_from);
    }

    /// Returns what was read of the hours before the base.
    pub fn seen(&self) -> Vec<SeenHour> {
        self.seen.values().copied().collect()
    }

    /// Returns what was read of the hours since the base.
    pub fn read(&self) -> Vec<SeenHour> {
        self.read.iter().map(|(hour, read)| read.seen(*hour)).collect()
    }

    /// Returns the hours from `from` to the base whose number of parts has changed since they were read. [`News::new`]
    /// may then include parts that were already read.
    pub async fn late(&self, from: EventTime) -> Result<Vec<News>, StoreError> {
        let to = Some(self.base);
        let hours = self.store.hours("predictions", Some(from), to).await?;
        let late = hours.into_iter().filter_map(|whole| {
            let start = whole
                .start()
                .filter(|start| *start >= from && *start < self.base)?;
            let seen = self.seen.get(&start);
            let number = whole.parts().len() as u64;
            if seen.is_some_and(|seen| seen.parts == number) {
                return None;
            }
            let since = seen.map(|seen| seen.newest.saturating_sub(SKEW));
            let is_new = |part: &Blob| since.is_none_or(|since| part.modified >= since);
            let new = whole.clone().only(is_new);
            Some(News { start, whole, new })
        });
        Ok(late.collect())
    }

    /// Notes the parts of an hour before the base.
    pub fn note_late(&mut self, news: &News) {
        let newest = news.whole.parts().iter().map(|part| part.modified).max();
        let seen = SeenHour {
            hour: news.start,
            parts: news.whole.parts().len() as u64,
            newest: newest.unwrap_or(news.start),
        };
        self.seen.insert(news.start, seen);
    }
}

impl Read {
    fn seen(&self, hour: EventTime) -> SeenHour {
        SeenHour {
            hour,
            parts: self.parts.len() as u64,
            newest: self.newest.unwrap_or(hour),
        }
    }
}
