//! Whether the store can be used, as far as is known.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::{LOCK_FILE, Store, StoreError};

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

    /// Looks at the store now and then for as long as the runtime lives, so that [`Store::trouble`] also knows of an
    /// idle service's store.
    pub fn watch(&self) {
        let store = self.clone();
        tokio::spawn(async move {
            loop {
                // What it finds is noted by the store itself.
                _ = store.get(PROBE).await;
                tokio::time::sleep(LOOK_EVERY).await;
            }
        });
    }
}
