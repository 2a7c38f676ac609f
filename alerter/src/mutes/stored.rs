//! The mutes in the store.

use windrow_store::{Store, StoreError, Version};

use super::Mutes;

const PATH: &str = "alerting/mutes.json";

/// How often a change is tried when others change the mutes, too.
const ATTEMPTS: usize = 20;

/// The mutes as they were read.
#[derive(Clone, Debug, Default)]
pub struct StoredMutes {
    /// The mutes.
    pub mutes: Mutes,
    version: Option<Version>,
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
        let Some((bytes, version)) = store.get_versioned(PATH).await? else {
            return Ok(Self::default());
        };
        let mutes = serde_json::from_slice(&bytes).map_err(|error| StoreError::Damaged {
            path: PATH.to_owned(),
            why: format!("{error}; mend or delete it, and nothing is muted"),
        })?;
        Ok(Self {
            mutes,
            version: Some(version),
        })
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
        let mut attempts = 1;
        loop {
            let mut read = Self::read(store).await?;
            let changed = change(&mut read.mutes).map_err(MutesError::Refused)?;
            let bytes = serde_json::to_vec_pretty(&read.mutes).map_err(|error| StoreError::Unencodable {
                path: PATH.to_owned(),
                source: error.into(),
            })?;
            match store.put_if(PATH, bytes, read.version.as_ref()).await {
                Ok(_) => return Ok(changed),
                Err(StoreError::Conflict { .. }) if attempts < ATTEMPTS => attempts += 1,
                Err(error) => return Err(error.into()),
            }
        }
    }
}
