//! Stands in for `cloud.rs` in a build without clouds, such as the one of `make demo`.

use url::Url;

use super::open::wrong;
use super::{BlobLease, Store, StoreError};

/// A container. It has no values, because this build has no clouds.
pub(super) enum Container {}

impl Container {
    pub(super) async fn make(&self) -> object_store::Result<()> {
        match *self {}
    }

    pub(super) async fn lease(&self, _: &str) -> BlobLease {
        match *self {}
    }
}

/// Refuses the URL.
pub(super) fn open(url: &str, _: &Url) -> Result<Store, StoreError> {
    Err(wrong(
        url,
        &"this build has no cloud stores: build it with the default features",
    ))
}
