//! The blob store: one concrete type over `object_store`, and the tables and letters kept in it.

mod dead_letters;
mod dispatched;
mod health;
mod part;
mod predictions;
mod reader;
mod table;

use std::fs::{File, TryLockError};
use std::path::{Path as FsPath, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use object_store::local::LocalFileSystem;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutMode, PutOptions, UpdateVersion};
use tokio::sync::Mutex;

pub use dead_letters::DeadLetter;
pub use dispatched::{Dispatched, decode_dispatched, encode_dispatched};
pub use part::PartNames;
pub use predictions::{decode_predictions, encode_predictions};
pub use reader::{Hour, HourRows};
pub use table::TableError;

use crate::EventTime;
use health::Health;

/// Largest blob read whole, in bytes.
const MAX_BLOB_BYTES: u64 = 1 << 30;

/// Marks a folder as a store, and is what conditional writes lock.
const LOCK_FILE: &str = ".windrow.lock";

/// Between looks whether another process has let go of the lock file; it holds it for a write.
const LOCK_EVERY: Duration = Duration::from_millis(2);

/// Where models, predictions, checkpoints and letters live. Clones share one connection.
#[derive(Clone, Debug)]
pub struct Store {
    objects: Arc<dyn ObjectStore>,
    url: String,
    /// Folder of a `file:` store: it has no conditional replace of its own, so a lock file stands in.
    folder: Option<PathBuf>,
    /// One conditional replace of this process at a time; the lock file is for those of others.
    turn: Arc<Mutex<()>>,
    health: Arc<Health>,
}

/// The state a blob was read in, for a conditional write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version(UpdateVersion);

/// One listed blob.
#[derive(Clone, Debug)]
pub struct Blob {
    /// Path from the store's root.
    pub path: String,
    /// Size in bytes.
    pub bytes: u64,
    /// When it was last written.
    pub modified: EventTime,
}

/// What can go wrong with a store.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The URL cannot be used.
    #[error("`{url}` is not a store: {why} (write a folder, file:///folder or memory:///)")]
    Url {
        /// As given.
        url: String,
        /// What is wrong with it.
        why: String,
    },
    /// A folder store whose folder is not there.
    #[error("the store folder {} does not exist", .0.display())]
    Missing(PathBuf),
    /// A folder store whose folder cannot be made or written.
    #[error("the store folder {} cannot be written: {source}", .folder.display())]
    Unwritable {
        /// The folder.
        folder: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Someone else wrote the blob since it was read.
    #[error("{path} in {url} was changed by another process since it was read")]
    Conflict {
        /// The blob.
        path: String,
        /// The store.
        url: String,
    },
    /// A blob is too large to read.
    #[error("{path} has {bytes} bytes; at most {MAX_BLOB_BYTES} are read")]
    TooLarge {
        /// The blob.
        path: String,
        /// Its size.
        bytes: u64,
    },
    /// An operation failed.
    #[error("cannot {action} {path} in {url}: {source}")]
    Operation {
        /// Read, write, list or delete.
        action: &'static str,
        /// The blob or prefix.
        path: String,
        /// The store.
        url: String,
        /// What the store said.
        source: Box<object_store::Error>,
    },
    /// The store as a whole is not there at the moment, as a folder that is not mounted.
    #[error("the store {url} is away: its folder is not there, or is another")]
    Away {
        /// The store.
        url: String,
    },
    /// A blob is there but is not what it should be.
    #[error("{path} is damaged: {why}")]
    Damaged {
        /// The blob.
        path: String,
        /// What is wrong with it.
        why: String,
    },
}

impl StoreError {
    /// Whether a person has to change what the program was told, as opposed to the world it met.
    pub fn is_usage(&self) -> bool {
        matches!(
            self,
            Self::Url { .. } | Self::Missing(_) | Self::Unwritable { .. }
        )
    }

    /// Whether waiting may mend it: a store that is away, slow or full. Wrong names, rights and contents stay wrong.
    pub fn is_transient(&self) -> bool {
        use object_store::Error as E;
        match self {
            Self::Away { .. } => true,
            Self::Operation { source, .. } => !matches!(
                **source,
                E::NotFound { .. }
                    | E::InvalidPath { .. }
                    | E::NotSupported { .. }
                    | E::AlreadyExists { .. }
                    | E::Precondition { .. }
                    | E::NotModified { .. }
                    | E::PermissionDenied { .. }
                    | E::Unauthenticated { .. }
                    | E::UnknownConfigurationKey { .. }
            ),
            _ => false,
        }
    }
}

impl Store {
    /// Opens an existing store: a folder path, `file:///folder` or `memory:///`.
    pub fn open(url: &str) -> Result<Self, StoreError> {
        match folder_of(url)? {
            Some(folder) if !folder.is_dir() => Err(StoreError::Missing(folder)),
            Some(folder) => Self::at_folder(url, &folder),
            None => Ok(Self::in_memory(url)),
        }
    }

    /// Opens a store to write to, making its folder if need be, and checks that it can be written.
    pub fn create(url: &str) -> Result<Self, StoreError> {
        let Some(folder) = folder_of(url)? else {
            return Ok(Self::in_memory(url));
        };
        let unwritable = |source| StoreError::Unwritable {
            folder: folder.clone(),
            source,
        };
        std::fs::create_dir_all(&folder).map_err(unwritable)?;
        lock_file(&folder).map_err(unwritable)?;
        Self::at_folder(url, &folder)
    }

    /// A store over any `object_store` implementation, for tests that wrap one in faults; `url` is its name in messages.
    pub fn from_objects(objects: Arc<dyn ObjectStore>, url: &str) -> Self {
        Self {
            objects,
            url: url.to_owned(),
            folder: None,
            turn: Arc::default(),
            health: Arc::default(),
        }
    }

    fn at_folder(url: &str, folder: &FsPath) -> Result<Self, StoreError> {
        let wrong = |why: String| StoreError::Url {
            url: url.to_owned(),
            why,
        };
        let folder = folder.canonicalize().map_err(|error| wrong(error.to_string()))?;
        // A prediction is acked once it is durable, so the folder store syncs what it writes.
        let objects = LocalFileSystem::new_with_prefix(&folder).map_err(|error| wrong(error.to_string()))?;
        Ok(Self {
            objects: Arc::new(objects.with_fsync(true)),
            url: url.to_owned(),
            health: Arc::new(Health::of_folder(&folder)),
            folder: Some(folder),
            turn: Arc::default(),
        })
    }

    fn in_memory(url: &str) -> Self {
        Self {
            objects: Arc::new(InMemory::new()),
            url: url.to_owned(),
            folder: None,
            turn: Arc::default(),
            health: Arc::default(),
        }
    }

    /// The URL it was opened with.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The folder of a `file:` store.
    pub fn folder(&self) -> Option<&FsPath> {
        self.folder.as_deref()
    }

    fn path(&self, path: &str) -> Result<Path, StoreError> {
        Path::parse(path).map_err(|error| StoreError::Damaged {
            path: path.to_owned(),
            why: error.to_string(),
        })
    }

    fn failed(&self, action: &'static str, path: &str) -> impl Fn(object_store::Error) -> StoreError {
        let (path, url, health) = (path.to_owned(), self.url.clone(), Arc::clone(&self.health));
        move |source| {
            let error = StoreError::Operation {
                action,
                path: path.clone(),
                url: url.clone(),
                source: Box::new(source),
            };
            if error.is_transient() {
                health.failed(&error);
            }
            error
        }
    }

    /// An error when it is the whole store that is not there, which a missing blob may stand for.
    fn is_there(&self) -> Result<(), StoreError> {
        if !self.health.folder_is_gone() {
            return Ok(());
        }
        let error = StoreError::Away {
            url: self.url.clone(),
        };
        self.health.failed(&error);
        Err(error)
    }

    /// Reads a blob whole; `None` when there is none.
    pub async fn get(&self, path: &str) -> Result<Option<Bytes>, StoreError> {
        Ok(self.get_versioned(path).await?.map(|(bytes, _)| bytes))
    }

    /// Reads a blob whole, with the version to hand to [`Store::put_if`].
    pub async fn get_versioned(&self, path: &str) -> Result<Option<(Bytes, Version)>, StoreError> {
        let failed = self.failed("read", path);
        let result = match self.objects.get(&self.path(path)?).await {
            Err(object_store::Error::NotFound { .. }) => {
                self.is_there()?;
                self.health.works();
                return Ok(None);
            }
            other => other.map_err(&failed)?,
        };
        self.health.works();
        let meta = &result.meta;
        if meta.size > MAX_BLOB_BYTES {
            return Err(StoreError::TooLarge {
                path: path.to_owned(),
                bytes: meta.size,
            });
        }
        let version = Version(UpdateVersion {
            e_tag: meta.e_tag.clone(),
            version: meta.version.clone(),
        });
        Ok(Some((result.bytes().await.map_err(&failed)?, version)))
    }

    /// Writes a blob, replacing any other; when this returns it is durable and visible whole.
    pub async fn put(&self, path: &str, bytes: impl Into<Bytes>) -> Result<(), StoreError> {
        self.put_with(path, bytes.into(), PutMode::Overwrite)
            .await
            .map(|_| ())
    }

    /// Writes a blob only if it is still as it was read: in `expected`'s version, or absent. [`StoreError::Conflict`]
    /// says that another process was first.
    pub async fn put_if(
        &self,
        path: &str,
        bytes: impl Into<Bytes>,
        expected: Option<&Version>,
    ) -> Result<Version, StoreError> {
        let Some(expected) = expected else {
            return self.put_with(path, bytes.into(), PutMode::Create).await;
        };
        let Some(folder) = self.folder.clone() else {
            return self
                .put_with(path, bytes.into(), PutMode::Update(expected.0.clone()))
                .await;
        };
        self.is_there()?;
        let _turn = self.turn.lock().await;
        let _lock = locked(&folder).await.map_err(|error| {
            let generic = object_store::Error::Generic {
                store: "lock file",
                source: error.into(),
            };
            self.failed("lock", path)(generic)
        })?;
        let current = match self.objects.head(&self.path(path)?).await {
            Err(object_store::Error::NotFound { .. }) => None,
            other => other.map_err(self.failed("read", path))?.e_tag,
        };
        if current != expected.0.e_tag {
            return Err(StoreError::Conflict {
                path: path.to_owned(),
                url: self.url.clone(),
            });
        }
        self.put_with(path, bytes.into(), PutMode::Overwrite).await?;
        let written = self
            .objects
            .head(&self.path(path)?)
            .await
            .map_err(self.failed("read", path))?;
        Ok(Version(UpdateVersion {
            e_tag: written.e_tag,
            version: written.version,
        }))
    }

    async fn put_with(&self, path: &str, bytes: Bytes, mode: PutMode) -> Result<Version, StoreError> {
        use object_store::Error as E;
        let options = PutOptions {
            mode,
            ..PutOptions::default()
        };
        match self
            .objects
            .put_opts(&self.path(path)?, bytes.into(), options)
            .await
        {
            Ok(put) => {
                self.health.works();
                Ok(Version(UpdateVersion {
                    e_tag: put.e_tag,
                    version: put.version,
                }))
            }
            Err(E::AlreadyExists { .. } | E::Precondition { .. }) => Err(StoreError::Conflict {
                path: path.to_owned(),
                url: self.url.clone(),
            }),
            Err(error) => Err(self.failed("write", path)(error)),
        }
    }

    /// Deletes a blob; one that is not there is no error.
    pub async fn delete(&self, path: &str) -> Result<(), StoreError> {
        match self.objects.delete(&self.path(path)?).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(self.failed("delete", path)(error)),
        }
    }

    /// Whether there is any blob under the folder `prefix`.
    pub async fn any(&self, prefix: &str) -> Result<bool, StoreError> {
        let mut listed = self.objects.list(Some(&self.path(prefix)?));
        let first = listed.try_next().await.map_err(self.failed("list", prefix))?;
        Ok(first.is_some())
    }

    /// Every blob under the folder `prefix`, by path.
    pub async fn list(&self, prefix: &str) -> Result<Vec<Blob>, StoreError> {
        let failed = self.failed("list", prefix);
        let listed = self.objects.list(Some(&self.path(prefix)?));
        let mut blobs: Vec<Blob> = listed
            .map_ok(|meta| Blob {
                path: meta.location.to_string(),
                bytes: meta.size,
                modified: EventTime::from_millis(meta.last_modified.timestamp_millis()),
            })
            .map(|blob| blob.map_err(&failed))
            .try_collect()
            .await?;
        blobs.sort_unstable_by(|a, b| a.path.cmp(&b.path));
        Ok(blobs)
    }
}

/// The folder a URL names, `None` for `memory:`.
fn folder_of(url: &str) -> Result<Option<PathBuf>, StoreError> {
    let wrong = |why: &str| StoreError::Url {
        url: url.to_owned(),
        why: why.to_owned(),
    };
    if url.is_empty() {
        return Err(wrong("it is empty"));
    }
    if !url.contains("://") {
        return Ok(Some(PathBuf::from(url)));
    }
    let parsed = url::Url::parse(url).map_err(|error| wrong(&error.to_string()))?;
    match parsed.scheme() {
        "file" => parsed
            .to_file_path()
            .map(Some)
            .map_err(|()| wrong("it names no local folder")),
        "memory" => Ok(None),
        scheme => Err(wrong(&format!("`{scheme}` stores are not built in"))),
    }
}

/// The folder's lock file, locked until it is dropped. It is asked for again and again instead of waited for: a thread
/// that waits could be the last that its holder needs to go on.
async fn locked(folder: &FsPath) -> std::io::Result<File> {
    let file = lock_file(folder)?;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) => tokio::time::sleep(LOCK_EVERY).await,
            Err(TryLockError::Error(error)) => return Err(error),
        }
    }
}

fn lock_file(folder: &FsPath) -> std::io::Result<File> {
    File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(folder.join(LOCK_FILE))
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn conditional_writes_refuse_the_second_writer(store: Store) {
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

    #[tokio::test]
    async fn a_stale_writer_is_refused_in_memory_and_in_a_folder() {
        conditional_writes_refuse_the_second_writer(Store::create("memory:///").unwrap()).await;
        let folder = tempfile::tempdir().unwrap();
        let store = Store::create(folder.path().to_str().unwrap()).unwrap();
        conditional_writes_refuse_the_second_writer(store).await;
    }

    #[tokio::test]
    async fn encoded_names_are_one_file_each() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::create(&format!("file://{}", folder.path().display())).unwrap();
        for name in ["%2E.", "a%2Fb", "a%252Fb", "plain"] {
            store
                .put(&format!("models/{name}/t/current"), name.to_owned())
                .await
                .unwrap();
        }
        for name in ["%2E.", "a%2Fb", "a%252Fb", "plain"] {
            let read = store.get(&format!("models/{name}/t/current")).await.unwrap();
            assert_eq!(read.unwrap(), name);
        }
        assert_eq!(store.list("models").await.unwrap().len(), 4);
        assert!(folder.path().join("models").join("a%2Fb").is_dir());
    }

    #[test]
    fn what_is_no_store_is_refused_in_one_sentence() {
        for url in ["", "ftp://host/x", "s3://bucket", "file://host/x/y"] {
            let error = Store::open(url).unwrap_err();
            assert!(
                !error.is_transient() && error.to_string().contains("is not a store"),
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
}
