//! The option that names a store.

use clap::Args;

use crate::{Store, StoreError};

/// The option that names a store.
#[derive(Args, Clone, Debug)]
pub struct StoreArg {
    /// The store: a folder, az://container/prefix, s3://bucket/prefix or gs://bucket/prefix. Credentials come from the
    /// cloud's own environment variables: AZURE_STORAGE_ACCOUNT_NAME, AZURE_STORAGE_ACCOUNT_KEY or AZURE_CLIENT_ID, …;
    /// AWS_…; GOOGLE_…. Keys may be in files that AZURE_STORAGE_ACCOUNT_KEY_FILE or AWS_SECRET_ACCESS_KEY_FILE name
    #[arg(long, value_name = "URL", env = "WINDROW_STORE")]
    pub store: String,
}

impl StoreArg {
    /// Opens a store that must exist.
    pub fn open(&self) -> Result<Store, StoreError> {
        Store::open(&self.store)
    }

    /// Opens a store for writing. Creates its folder or Azure container if necessary.
    pub async fn create(&self) -> Result<Store, StoreError> {
        let store = Store::create(&self.store)?;
        store.check_file_system().await?;
        store.create_container().await?;
        Ok(store)
    }
}
