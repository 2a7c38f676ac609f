//! Opens a store from its URL.

use std::path::{Path as FsPath, PathBuf};
use std::sync::Arc;

use object_store::ObjectStore;
use object_store::local::LocalFileSystem;
use object_store::memory::InMemory;
use url::Url;

use super::folder::lock_file;
use super::health::Health;
use super::{Backend, Store, StoreError, cloud, letter_case};

/// The kind of store that a URL names.
enum Named {
    Memory,
    Folder(PathBuf),
    Cloud(Url),
}

impl Store {
    /// Opens an existing store: a folder path, `file:///folder`, `az://container/prefix`, `s3://bucket/prefix`,
    /// `gs://bucket/prefix` or `memory:///`. A cloud store is not contacted before its first use. Its credentials come
    /// from the provider's own environment variables (`AZURE_STORAGE_ACCOUNT_NAME`, `AWS_REGION`, …).
    pub fn open(url: &str) -> Result<Self, StoreError> {
        match named(url)? {
            Named::Folder(folder) if !folder.is_dir() => Err(StoreError::Missing(folder)),
            Named::Folder(folder) => Self::at_folder(url, &folder),
            Named::Memory => Ok(Self::in_memory(url)),
            Named::Cloud(parsed) => cloud::open(url, &parsed),
        }
    }

    /// Opens a store for writing. Creates a folder if necessary and checks that it is writable; for a container, see
    /// [`Store::create_container`].
    pub fn create(url: &str) -> Result<Self, StoreError> {
        let folder = match named(url)? {
            Named::Folder(folder) => folder,
            Named::Memory => return Ok(Self::in_memory(url)),
            Named::Cloud(parsed) => return cloud::open(url, &parsed),
        };
        let unwritable = |source| StoreError::Unwritable {
            folder: folder.clone(),
            source,
        };
        std::fs::create_dir_all(&folder).map_err(unwritable)?;
        lock_file(&folder).map_err(unwritable)?;
        Self::at_folder(url, &folder)
    }

    /// Creates a store over any `object_store` implementation, for tests that inject faults. `url` is its name in
    /// messages.
    pub fn from_objects(objects: Arc<dyn ObjectStore>, url: &str) -> Self {
        Self::at(Backend::Elsewhere, objects, Health::default(), url)
    }

    pub(super) fn at(backend: Backend, objects: Arc<dyn ObjectStore>, health: Health, url: &str) -> Self {
        Self {
            objects,
            url: url.to_owned(),
            backend,
            ignores_case: false,
            turn: Arc::default(),
            health: Arc::new(health),
        }
    }

    fn in_memory(url: &str) -> Self {
        Self::from_objects(Arc::new(InMemory::new()), url)
    }

    fn at_folder(url: &str, folder: &FsPath) -> Result<Self, StoreError> {
        let folder = folder.canonicalize().map_err(|error| wrong(url, &error))?;
        // A message is acked once its predictions are durable, so the folder store syncs what it writes.
        let objects = LocalFileSystem::new_with_prefix(&folder).map_err(|error| wrong(url, &error))?;
        let objects = Arc::new(objects.with_fsync(true));
        let health = Health::of_folder(&folder);
        Ok(Self {
            ignores_case: letter_case::is_ignored(&folder),
            ..Self::at(Backend::Folder(folder), objects, health, url)
        })
    }
}

pub(super) fn wrong(url: &str, why: &dyn std::fmt::Display) -> StoreError {
    StoreError::Url {
        url: url.to_owned(),
        why: why.to_string(),
    }
}

fn named(url: &str) -> Result<Named, StoreError> {
    if url.is_empty() {
        return Err(wrong(url, &"it is empty"));
    }
    if !url.contains("://") {
        return Ok(Named::Folder(PathBuf::from(url)));
    }
    let parsed = Url::parse(url).map_err(|error| wrong(url, &error))?;
    match parsed.scheme() {
        "file" => match parsed.to_file_path() {
            Ok(folder) => Ok(Named::Folder(folder)),
            Err(()) => Err(wrong(url, &"it names no local folder")),
        },
        "memory" => Ok(Named::Memory),
        "az" | "s3" | "gs" if parsed.host_str().is_none_or(str::is_empty) => {
            Err(wrong(url, &"it names no container or bucket"))
        }
        "az" | "s3" | "gs" => Ok(Named::Cloud(parsed)),
        scheme => Err(wrong(url, &format!("there is no store for `{scheme}://`"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use windrow_common::{HasRemedy, Remedy};

    #[test]
    fn what_is_no_store_is_refused_in_one_sentence() {
        for url in ["", "ftp://host/x", "s3://", "az:///x", "file://host/x/y"] {
            let error = Store::open(url).unwrap_err();
            assert!(
                error.remedy() != Remedy::Wait && error.to_string().contains("is not a store"),
                "{error}"
            );
        }
        assert!(matches!(
            Store::open("/no/such/folder"),
            Err(StoreError::Missing(_))
        ));
        assert!(matches!(
            Store::create("/proc/windrow"),
            Err(StoreError::Unwritable { .. })
        ));
    }

    #[test]
    fn a_cloud_store_needs_no_network_to_be_named() {
        assert_eq!(Store::open("gs://bucket/a/b").unwrap().url(), "gs://bucket/a/b");
        assert_eq!(Store::open("s3://bucket").unwrap().folder(), None);
        let error = Store::open(&format!("gs://bucket/{}", "p".repeat(481))).unwrap_err();
        assert!(error.to_string().contains("at most 480"), "{error}");
    }
}
