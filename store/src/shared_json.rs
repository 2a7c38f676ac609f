//! JSON documents that several programs change.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::{Store, StoreError, Version};

/// How often a change is tried while others change the document, too.
const ATTEMPTS: usize = 20;

/// A JSON document in a store, and the consequence of deleting it.
#[derive(Clone, Copy, Debug)]
pub struct SharedJson {
    /// Its path.
    pub path: &'static str,
    /// The consequence of deleting it, for the error that a damaged document causes: `nothing is muted`.
    pub without: &'static str,
}

impl SharedJson {
    /// Reads the document and its version. If there is none, returns the default and no version.
    pub async fn read<T: Default + DeserializeOwned>(
        self,
        store: &Store,
    ) -> Result<(T, Option<Version>), StoreError> {
        let Some((bytes, version)) = store.get_versioned(self.path).await? else {
            return Ok((T::default(), None));
        };
        let document = serde_json::from_slice(&bytes).map_err(|error| StoreError::Damaged {
            path: self.path.to_owned(),
            why: format!("{error}; mend or delete it, and {}", self.without),
        })?;
        Ok((document, Some(version)))
    }

    /// Changes the document. If another program changes it at the same time, `change` is called again on what that one wrote.
    pub async fn change<T, R, E>(
        self,
        store: &Store,
        mut change: impl FnMut(&mut T) -> Result<R, E>,
    ) -> Result<R, E>
    where
        T: Default + DeserializeOwned + Serialize,
        E: From<StoreError>,
    {
        let mut attempts = 1;
        loop {
            let (mut document, version) = self.read(store).await?;
            let changed = change(&mut document)?;
            let bytes = serde_json::to_vec_pretty(&document).map_err(|error| StoreError::Unencodable {
                path: self.path.to_owned(),
                source: error.into(),
            })?;
            match store.put_if(self.path, bytes, version.as_ref()).await {
                Ok(_) => return Ok(changed),
                Err(StoreError::Conflict { .. }) if attempts < ATTEMPTS => attempts += 1,
                Err(error) => return Err(error.into()),
            }
        }
    }
}
