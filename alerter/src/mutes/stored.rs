//! The mutes in the store.

use windrow_store::{SharedJson, Store, StoreError};

use super::Mutes;

const DOCUMENT: SharedJson = SharedJson {
    path: "alerting/mutes.json",
    without: "nothing is muted",
};

/// The mutes as they were read.
#[derive(Clone, Debug, Default)]
pub struct StoredMutes {
    /// The mutes.
    pub mutes: Mutes,
}

/// Why mutes cannot be changed.
#[derive(Debug, thiserror::Error)]
pub enum MutesError {
    /// What is asked for cannot be done.
    #[error("{0}")]
    Refused(String),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl StoredMutes {
    /// Reads the mutes of a store.
    pub async fn read(store: &Store) -> Result<Self, StoreError> {
        let (mutes, _) = DOCUMENT.read(store).await?;
        Ok(Self { mutes })
    }

    /// Reads the mutes again if they have changed. Returns whether they have.
    pub(crate) async fn refresh(&mut self, store: &Store) -> Result<bool, StoreError> {
        let now = Self::read(store).await?;
        let has_changed = now.mutes != self.mutes;
        *self = now;
        Ok(has_changed)
    }

    /// Changes the mutes of a store. If another program changes them at the same time, `change` is called again on what that one
    /// wrote.
    pub async fn change<T>(
        store: &Store,
        mut change: impl FnMut(&mut Mutes) -> Result<T, String>,
    ) -> Result<T, MutesError> {
        DOCUMENT
            .change(store, |mutes| change(mutes).map_err(MutesError::Refused))
            .await
    }
}
