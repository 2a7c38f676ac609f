//! The health of a store, as far as is known.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::{Backend, LOCK_FILE, Store, StoreError};
use windrow_common::{HasRemedy, Remedy};

/// Wait between probes of a store that does not answer, in a service that cannot start work without it.
const WAIT_FOR_ANSWER: Duration = Duration::from_secs(1);

/// How often a service probes its store, so that an outage shows even while the service is idle.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// How long after its last attempt a failed write of a blob keeps a service unready. Nobody retries some blobs, such as
/// the checkpoint of a partition that moved to another producer. Retries are at most 15 seconds apart.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(60);
/// A blob that never exists. Reading it shows whether the store answers.
const PROBE: &str = "checkpoints/.probe";

/// The kind of an operation. Health is kept for each kind, because a store that can be read may have no room to write.
#[derive(Clone, Copy, Debug)]
pub(super) enum Access {
    Read,
    Write,
}

/// The results of the last operations on a store.
#[derive(Debug, Default)]
pub(super) struct Health {
    reading: Outage,
    writing: Outage,
    /// What keeps single blobs from being written, by path. Other writes succeed meanwhile.
    blocked: Mutex<BTreeMap<String, Block>>,
    /// For a folder store: the file that marks the folder as the one that was opened.
    marker: Option<PathBuf>,
}

impl Health {
    pub(super) fn of_folder(folder: &Path) -> Self {
        let marker = folder.join(LOCK_FILE);
        Self {
            marker: marker.exists().then_some(marker),
            ..Self::default()
        }
    }

    pub(super) fn works(&self, access: Access) {
        self.of(access).set(None);
    }

    pub(super) fn failed(&self, access: Access, error: &StoreError) {
        self.of(access).set(Some(error.to_string()));
    }

    pub(super) fn blocked(&self, path: &str, error: &StoreError) {
        let block = Block {
            why: error.to_string(),
            seen: Instant::now(),
        };
        self.blocks().insert(path.to_owned(), block);
    }

    pub(super) fn unblocked(&self, path: &str) {
        self.blocks().remove(path);
    }

    fn blocks(&self) -> MutexGuard<'_, BTreeMap<String, Block>> {
        // Nothing panics while it is locked.
        let mut blocks = self.blocked.lock().unwrap_or_else(PoisonError::into_inner);
        blocks.retain(|_, block| block.seen.elapsed() < FORGOTTEN_AFTER);
        blocks
    }

    fn of(&self, access: Access) -> &Outage {
        match access {
            Access::Read => &self.reading,
            Access::Write => &self.writing,
        }
    }

    /// Returns whether the folder, or what was mounted there, is missing. A blob that seems absent may then only be out
    /// of reach.
    pub(super) fn folder_is_gone(&self) -> bool {
        self.marker.as_ref().is_some_and(|marker| !marker.exists())
    }
}

/// Why a blob could not be written, and when that was last tried.
#[derive(Debug)]
struct Block {
    why: String,
    seen: Instant,
}

/// The reason for an outage, if there is one. Reading it and clearing it are cheap while there is none.
#[derive(Debug, Default)]
struct Outage {
    there: AtomicBool,
    what: Mutex<Option<String>>,
}

impl Outage {
    fn set(&self, what: Option<String>) {
        let there = what.is_some();
        if there || self.there.load(Relaxed) {
            *self.what.lock().unwrap_or_else(PoisonError::into_inner) = what;
            self.there.store(there, Relaxed);
        }
    }

    fn get(&self) -> Option<String> {
        let what = || self.what.lock().unwrap_or_else(PoisonError::into_inner);
        self.there.load(Relaxed).then(what)?.clone()
    }
}

impl Store {
    /// Returns why the store cannot be used; `None` if the last read and the last write succeeded, and no blob waits to
    /// be written.
    pub fn outage(&self) -> Option<String> {
        let health = &self.health;
        let blocked = || health.blocks().values().next().map(|block| block.why.clone());
        health
            .reading
            .get()
            .or_else(|| health.writing.get())
            .or_else(blocked)
    }

    /// Checks a folder's file system, and probes the store now and every few seconds from then on, so that
    /// [`Store::outage`] is up to date even in an idle service. Fails only if a person has to fix something; a store
    /// that does not answer is not an error, because it may recover.
    pub async fn watch(&self) -> Result<(), StoreError> {
        self.check_file_system().await?;
        match self.get(PROBE).await {
            Err(error @ (StoreError::NoContainer { .. } | StoreError::Refused { .. })) => return Err(error),
            Err(error) if error.remedy() == Remedy::Wait => {
                tracing::warn!(%error, "the store does not answer; waiting for it");
            }
            Err(error) => return Err(error),
            Ok(_) => {}
        }
        let store = self.clone();
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(LOOK_EVERY).await;
                // The store itself records the result.
                _ = store.get(PROBE).await;
            }
        });
        Ok(())
    }

    /// Waits for the end of an outage, if there is one. A service that took work earlier would hold work that it cannot
    /// finish.
    pub async fn wait_for_answer(&self) -> Result<(), StoreError> {
        while self.outage().is_some() {
            match self.get(PROBE).await {
                // The task that saw the outage first has logged it.
                Err(error) if error.remedy() == Remedy::Wait => tokio::time::sleep(WAIT_FOR_ANSWER).await,
                answered => return answered.map(drop),
            }
        }
        Ok(())
    }

    /// Creates the store's Azure container if it does not exist. Buckets of other clouds have to be created by hand,
    /// because their names are global.
    pub async fn create_container(&self) -> Result<(), StoreError> {
        match (self.get(PROBE).await, &self.backend) {
            (Err(StoreError::NoContainer { .. }), Backend::Cloud(Some(container))) => {
                container
                    .make()
                    .await
                    .map_err(self.failed(Access::Write, "create", "the container"))?;
                tracing::info!(store = self.url, "created the store's container");
                Ok(())
            }
            (looked, _) => looked.map(|_| ()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_that_can_be_read_and_not_written_is_in_trouble() {
        let health = Health::default();
        let full = StoreError::Away {
            url: "az://full".to_owned(),
        };
        health.failed(Access::Write, &full);
        health.works(Access::Read);
        assert_eq!(health.writing.get(), Some(full.to_string()));
        assert_eq!(health.reading.get(), None);
        health.works(Access::Write);
        assert_eq!(health.writing.get(), None);
    }
}
