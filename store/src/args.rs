//! The option that names a store.

use clap::Args;

use crate::{Store, StoreError};

/// Which store.
#[derive(Args, Clone, Debug)]
pub struct StoreArg {
    /// The store: a folder, az://container/prefix, s3://bucket/prefix or gs://bucket/prefix. How to log in to a cloud's
    /// is in its own variables: AZURE_STORAGE_ACCOUNT_NAME, AZURE_STORAGE_ACCOUNT_KEY or AZURE_CLIENT_ID, …; AWS_…;
    /// GOOGLE_…
    #[arg(long, value_name = "URL", env = "WINDROW_STORE")]
    pub store: String,
}

impl StoreArg {
    /// Opens a store that must be there.
    pub fn open(&self) -> Result<Store, StoreError> {
        Store::open(&self.store)
    }

    /// Opens a store to write to, making its folder or Azure container if need be.
    pub async fn create(&self) -> Result<Store, StoreError> {
        let store = Store::create(&self.store)?;
        store.create_container().await?;
        Ok(store)
    }
}
