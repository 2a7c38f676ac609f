//! Whether the store can be used, as far as is known.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::{Backend, LOCK_FILE, Store, StoreError};
use windrow_common::{HasRemedy, Remedy};

/// How often a service looks whether its store is there while it has no other business with it.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// A blob that is never there; looking for it shows whether the store answers.
const PROBE: &str = "checkpoints/.probe";

/// What an operation does to the store: that it can be read does not mean that it has room.
#[derive(Clone, Copy, Debug)]
pub(super) enum Access {
    Read,
    Write,
}

/// What the last operations on a store showed.
#[derive(Debug, Default)]
pub(super) struct Health {
    reading: Outage,
    writing: Outage,
    /// Of a folder store: the file that marks the folder as the one that was opened.
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

    fn of(&self, access: Access) -> &Outage {
        match access {
            Access::Read => &self.reading,
            Access::Write => &self.writing,
        }
    }

    /// Whether the folder, or what was mounted there, is gone: a blob that seems absent may then only be out of reach.
    pub(super) fn folder_is_gone(&self) -> bool {
        self.marker.as_ref().is_some_and(|marker| !marker.exists())
    }
}

/// Why something does not work, if it does not; cheap to ask and to set while it does.
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
    /// What is the matter with the store; `None` when the last read and the last write worked.
    pub fn outage(&self) -> Option<String> {
        self.health.reading.get().or_else(|| self.health.writing.get())
    }

    /// Looks whether the store can be used before a service relies on it, and from then on now and then, so that
    /// [`Store::outage`] also knows of an idle service's store. One that does not answer will be waited for; only what
    /// takes a person is an error.
    pub async fn watch(&self) -> Result<(), StoreError> {
        match self.get(PROBE).await {
            Err(error @ (StoreError::NoContainer { .. } | StoreError::Refused { .. })) => return Err(error),
            Err(error) if error.remedy() == Remedy::Wait => {
                tracing::warn!(%error, "the store does not answer; it is waited for");
            }
            Err(error) => return Err(error),
            Ok(_) => {}
        }
        let store = self.clone();
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(LOOK_EVERY).await;
                // What it finds is noted by the store itself.
                _ = store.get(PROBE).await;
            }
        });
        Ok(())
    }

    /// Makes the store's container in Azure if it is not there. Buckets of other clouds have to be made by hand, as their
    /// names are the whole world's.
    pub async fn create_container(&self) -> Result<(), StoreError> {
        match (self.get(PROBE).await, &self.backend) {
            (Err(StoreError::NoContainer { .. }), Backend::Cloud(Some(container))) => {
                container
                    .make()
                    .await
                    .map_err(self.failed(Access::Write, "make", ""))?;
                tracing::info!(store = self.url, "made the store's container");
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
