//! The promises of a store, tested on every implementation.
//!
//! Everything here is for tests, so code that cannot continue panics and says why.
#![allow(clippy::unwrap_used, clippy::missing_panics_doc)]

use bytes::Bytes;
use windrow_common::{Incident, Prediction};

use crate::{DispatchedWindow, Store, StoreError, TableError, dispatched, incidents, predictions};

/// Decodes a part of `predictions/`.
pub fn predictions_of(part: Bytes) -> Result<Vec<Prediction>, TableError> {
    predictions::decode(part)
}

/// Decodes a part of `dispatched/`.
pub fn dispatched_of(part: Bytes) -> Result<Vec<DispatchedWindow>, TableError> {
    dispatched::decode(part)
}

/// Encodes a file of `incidents/`.
pub fn file_of(incidents: &[Incident]) -> Result<Bytes, TableError> {
    incidents::encode(incidents)
}

/// Decodes a file of `incidents/`.
pub fn incidents_of(file: Bytes) -> Result<Vec<Incident>, TableError> {
    incidents::decode(file)
}

/// Checks that the second of two conditional writes of a blob is refused, whether it creates or replaces.
pub async fn conditional_writes_refuse_the_second_writer(store: &Store) {
    let first = store.put_if("a/b.json", "1", None).await.unwrap();
    assert!(matches!(
        store.put_if("a/b.json", "x", None).await,
        Err(StoreError::Conflict { .. })
    ));
    let second = store.put_if("a/b.json", "22", Some(&first)).await.unwrap();
    assert!(matches!(
        store.put_if("a/b.json", "y", Some(&first)).await,
        Err(StoreError::Conflict { .. })
    ));
    store.put_if("a/b.json", "333", Some(&second)).await.unwrap();
    let (bytes, version) = store.get_versioned("a/b.json").await.unwrap().unwrap();
    assert_eq!(bytes, "333");
    store.put_if("a/b.json", "4444", Some(&version)).await.unwrap();
}

/// Checks that names that are percent-encoded in different ways are different blobs in every operation.
pub async fn encoded_names_are_one_blob_each(store: &Store) {
    let names = ["%2E.", "a%2Fb", "a%252Fb", "plain"];
    for name in names {
        let path = format!("models/{name}/t/current");
        store.put(&path, name.to_owned()).await.unwrap();
    }
    for name in names {
        let read = store.get(&format!("models/{name}/t/current")).await.unwrap();
        assert_eq!(read.unwrap(), name);
    }
    assert_eq!(store.list("models").await.unwrap().len(), names.len());
    let folders = store.folders("models").await.unwrap();
    assert_eq!(folders.len(), names.len(), "{folders:?}");
    for name in names {
        let path = format!("models/{name}/t/current");
        assert!(store.any("models").await.unwrap());
        store.delete(&path).await.unwrap();
        // A blob that does not exist is deleted already.
        store.delete(&path).await.unwrap();
        assert_eq!(store.get(&path).await.unwrap(), None);
    }
    assert!(!store.any("models").await.unwrap());
}
