//! Remembers the state of each instance from one look to the next.

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::Instant;

use super::plan::{AgentReport, Facts, Platform};

/// The instances that the last look listed, and since when each observation has held.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    instances: HashMap<String, Entry>,
    has_looked: bool,
    mismatch: Option<Mismatch>,
}

/// A capacity that does not fit the instances.
#[derive(Debug)]
struct Mismatch {
    capacity: u32,
    since: Instant,
    is_logged: bool,
}

#[derive(Debug)]
struct Entry {
    first_seen: Instant,
    is_older_than_us: bool,
    asked: Option<Instant>,
    answered: Option<Instant>,
    drain_asked: bool,
    delete_asked: bool,
    delete_accepted: Option<Instant>,
    protection_asked: bool,
    /// Whether its silence was logged.
    is_logged: bool,
    address: Option<String>,
}

impl Ledger {
    /// Takes note of the listed instances, and forgets the others. `patience` is how long an accepted deletion may
    /// leave an instance as it is before it counts as not accepted.
    pub(super) fn list<'a>(
        &mut self,
        now: Instant,
        ids: impl Iterator<Item = &'a str> + Clone,
        patience: Duration,
    ) {
        let listed: std::collections::HashSet<&str> = ids.clone().collect();
        self.instances.retain(|id, _| listed.contains(id.as_str()));
        let is_older_than_us = !self.has_looked;
        for id in ids {
            let entry = self.instances.entry(id.to_owned()).or_insert(Entry {
                first_seen: now,
                is_older_than_us,
                asked: None,
                answered: None,
                drain_asked: false,
                delete_asked: false,
                delete_accepted: None,
                protection_asked: false,
                is_logged: false,
                address: None,
            });
            entry.delete_accepted = entry.delete_accepted.filter(|at| now - *at < patience);
        }
        self.has_looked = true;
    }

    /// Takes note of whether a capacity does not fit the instances. Returns for how long it has not.
    pub(super) fn mismatch(&mut self, now: Instant, capacity: u32, does_not_fit: bool) -> Duration {
        let new = Mismatch {
            capacity,
            since: now,
            is_logged: false,
        };
        let old = self.mismatch.take().filter(|old| old.capacity == capacity);
        self.mismatch = does_not_fit.then(|| old.unwrap_or(new));
        let since = self.mismatch.as_ref().map(|mismatch| now - mismatch.since);
        since.unwrap_or_default()
    }

    /// Returns whether the mismatch has not been logged yet, and records that it is logged now.
    pub(super) fn logs_mismatch(&mut self) -> bool {
        let mismatch = self.mismatch.as_mut();
        mismatch.is_some_and(|mismatch| !std::mem::replace(&mut mismatch.is_logged, true))
    }

    /// Restarts the wait for the capacity, because it has just been requested.
    pub(super) fn asked_for_capacity(&mut self) {
        self.mismatch = None;
    }

    pub(super) fn asked(&mut self, id: &str, now: Instant, answer: Option<AgentReport>) {
        let Some(entry) = self.instances.get_mut(id) else {
            return;
        };
        entry.asked = Some(now);
        if let Some(report) = answer {
            entry.answered = Some(now);
            entry.drain_asked &= report.draining;
            entry.is_logged = false;
        }
    }

    /// Returns when an instance's agent was last asked.
    pub(super) fn last_asked(&self, id: &str) -> Option<Instant> {
        self.instances.get(id)?.asked
    }

    pub(super) fn drain_asked(&mut self, id: &str) {
        if let Some(entry) = self.instances.get_mut(id) {
            entry.drain_asked = true;
        }
    }

    /// Records deletions before they are requested. Until their outcome is known, ARM may have carried them out.
    pub(super) fn delete_asked(&mut self, ids: &[String]) {
        self.each(ids, |entry| entry.delete_asked = true);
    }

    pub(super) fn delete_accepted(&mut self, ids: &[String], now: Instant) {
        self.each(ids, |entry| entry.delete_accepted = Some(now));
    }

    /// Clears deletions that were refused or whose operation failed. The next list of instances shows what exists.
    pub(super) fn delete_failed(&mut self, ids: &[String]) {
        self.each(ids, |entry| {
            (entry.delete_asked, entry.delete_accepted) = (false, None);
        });
    }

    /// Returns whether an instance's deletion was asked for, and neither refused nor seen to fail.
    pub(super) fn may_be_deleted(&self, id: &str) -> bool {
        self.instances.get(id).is_some_and(|entry| entry.delete_asked)
    }

    fn each(&mut self, ids: &[String], change: impl Fn(&mut Entry)) {
        for id in ids {
            if let Some(entry) = self.instances.get_mut(id) {
                change(entry);
            }
        }
    }

    /// Returns whether an instance's protection has not been requested yet, and records that it is requested now.
    pub(super) fn asks_for_protection(&mut self, id: &str) -> bool {
        let entry = self.instances.get_mut(id);
        entry.is_some_and(|entry| !std::mem::replace(&mut entry.protection_asked, true))
    }

    /// Returns whether the silence of an instance has not been logged yet, and records that it is logged now.
    pub(super) fn logs_silence(&mut self, id: &str) -> bool {
        let entry = self.instances.get_mut(id);
        entry.is_some_and(|entry| !std::mem::replace(&mut entry.is_logged, true))
    }

    pub(super) fn address(&self, id: &str) -> Option<&str> {
        self.instances.get(id)?.address.as_deref()
    }

    pub(super) fn set_address(&mut self, id: &str, address: String) {
        if let Some(entry) = self.instances.get_mut(id) {
            entry.address = Some(address);
        }
    }

    /// Returns what is known of a listed instance.
    pub(super) fn facts(
        &self,
        id: &str,
        now: Instant,
        platform: Platform,
        agent: Option<AgentReport>,
    ) -> Option<Facts> {
        let entry = self.instances.get(id)?;
        Some(Facts {
            platform,
            agent,
            was_asked: entry.asked.is_some(),
            has_answered: entry.answered.is_some(),
            is_older_than_us: entry.is_older_than_us,
            silent_for: now - entry.answered.unwrap_or(entry.first_seen),
            seen_for: now - entry.first_seen,
            drain_asked: entry.drain_asked,
            delete_accepted: entry.delete_accepted.is_some(),
        })
    }
}
