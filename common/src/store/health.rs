//! Whether the store can be used, as far as is known.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::{LOCK_FILE, Place, Store, StoreError};

/// How often a service looks whether its store is there while it has no other business with it.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// A blob that is never there; looking for it shows whether the store answers.
const PROBE: &str = "checkpoints/.probe";

/// What the last operation on a store showed.
#[derive(Debug, Default)]
pub(super) struct Health {
    away: AtomicBool,
    trouble: Mutex<Option<String>>,
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

    pub(super) fn works(&self) {
        if self.away.swap(false, Relaxed) {
            *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = None;
        }
    }

    pub(super) fn failed(&self, error: &StoreError) {
        *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = Some(error.to_string());
        self.away.store(true, Relaxed);
    }

    /// Whether the folder, or what was mounted there, is gone: a blob that seems absent may then only be out of reach.
    pub(super) fn folder_is_gone(&self) -> bool {
        self.marker.as_ref().is_some_and(|marker| !marker.exists())
    }
}

impl Store {
    /// What is the matter with the store; `None` when the last operation worked.
    pub fn trouble(&self) -> Option<String> {
        if !self.health.away.load(Relaxed) {
            return None;
        }
        let trouble = self.health.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        trouble.clone()
    }

    /// Looks whether the store can be used before a service relies on it, and from then on now and then, so that
    /// [`Store::trouble`] also knows of an idle service's store. One that does not answer will be waited for; only what
    /// takes a person is an error.
    pub async fn watch(&self) -> Result<(), StoreError> {
        match self.get(PROBE).await {
            Err(error @ (StoreError::NoContainer { .. } | StoreError::Refused { .. })) => return Err(error),
            Err(error) if error.is_transient() => {
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
    pub async fn make(&self) -> Result<(), StoreError> {
        match (self.get(PROBE).await, &self.place) {
            (Err(StoreError::NoContainer { .. }), Place::Cloud(Some(container))) => {
                container.make().await.map_err(self.failed("make", ""))?;
                tracing::info!(store = self.url, "made the store's container");
                Ok(())
            }
            (looked, _) => looked.map(|_| ()),
        }
    }
}
