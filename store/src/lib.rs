//! The blob store: one concrete type over `object_store`, and the tables kept in it.
//!
//! ```
//! use windrow_store::{Store, StoreError};
//!
//! # tokio::runtime::Builder::new_current_thread().build()?.block_on(async {
//! let store = Store::create("memory:///")?;
//! let first = store.put_if("checkpoints/demo.json", "1", None).await?;
//! store.put_if("checkpoints/demo.json", "2", Some(&first)).await?;
//! // A writer that still has the first version is refused.
//! let stale = store.put_if("checkpoints/demo.json", "3", Some(&first)).await;
//! assert!(matches!(stale, Err(StoreError::Conflict { .. })));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! # })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod aggregates;
mod args;
#[cfg(feature = "cloud")]
mod azure;
mod blocking;
#[cfg_attr(not(feature = "cloud"), path = "no_cloud.rs")]
mod cloud;
#[cfg(feature = "cloud")]
mod cloud_keys;
mod counting;
mod dispatched;
mod error;
mod folder;
mod follow;
mod health;
mod incidents;
mod leader;
mod letter_case;
mod meaning;
mod needs;
mod open;
mod part;
mod predictions;
mod reader;
mod retry;
mod secret_file;
mod shared_json;
mod table;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
#[cfg(feature = "tls")]
mod tls;
mod windows;

use std::fmt;
use std::path::{Path as FsPath, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutMode, PutOptions, UpdateVersion};
use tokio::sync::Mutex;

pub use aggregates::{AggregateReader, ScoredWindow};
pub use args::StoreArg;
pub use blocking::run_blocking;
pub use counting::HourRows;
pub use dispatched::DispatchedWindow;
pub use error::{BlobLease, StoreError};
pub use follow::{Follower, News, SeenHour};
pub use incidents::HourOfIncidents;
pub use leader::{Handover, LeaderLease, Standing, host_name};
pub use part::{PartWriter, Row};
pub use reader::{DispatchedHour, Hour};
pub use retry::wait_out;
pub use secret_file::{SecretFile, SecretFileError};
pub use shared_json::SharedJson;
pub use table::TableError;
#[cfg(feature = "tls")]
pub use tls::choose_tls;
pub use windows::WindowRow;

use cloud::Container;
use health::{Access, Health};
use meaning::{Meaning, meaning};
use windrow_common::{EventTime, HasRemedy};

/// Maximum size of a blob that is read, in bytes.
const MAX_BLOB_BYTES: u64 = 1 << 30;

/// The file that marks a folder as a store, and that conditional writes lock.
const LOCK_FILE: &str = ".windrow.lock";

/// The store of models, predictions, checkpoints and dead letters. Clones share one connection.
#[derive(Clone)]
pub struct Store {
    objects: Arc<dyn ObjectStore>,
    url: String,
    backend: Backend,
    /// Whether its folder treats names that differ only in case as the same name.
    ignores_case: bool,
    /// Admits one conditional replace of this process at a time; the lock file keeps out other processes.
    turn: Arc<Mutex<()>>,
    health: Arc<Health>,
}

/// Where blobs are kept, as far as it makes a difference.
#[derive(Clone)]
enum Backend {
    /// A folder. It has no conditional replace of its own, so a lock file stands in.
    Folder(PathBuf),
    /// A bucket or container. For an Azure container, this holds what is needed to create it.
    #[cfg_attr(not(feature = "cloud"), allow(dead_code))]
    Cloud(Option<Arc<Container>>),
    /// Memory, or an object store that a test supplies.
    Elsewhere,
}

/// The version of a blob that was read, for a conditional write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version(UpdateVersion);

/// A blob in a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blob {
    /// Path from the store's root.
    pub path: String,
    /// Size in bytes.
    pub bytes: u64,
    /// When it was last written.
    pub modified: EventTime,
}

/// Leaves out the client, which knows a key.
impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store")
            .field("url", &self.url)
            .finish_non_exhaustive()
    }
}

impl Store {
    /// Returns the URL that the store was opened with.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Returns the folder of a folder store.
    pub fn folder(&self) -> Option<&FsPath> {
        match &self.backend {
            Backend::Folder(folder) => Some(folder),
            _ => None,
        }
    }

    fn path(&self, path: &str) -> Result<Path, StoreError> {
        Path::parse(path).map_err(|error| StoreError::Damaged {
            path: path.to_owned(),
            why: error.to_string(),
        })
    }

    fn failed<'a>(
        &'a self,
        access: Access,
        action: &'static str,
        path: &'a str,
    ) -> impl Fn(object_store::Error) -> StoreError + 'a {
        move |source| self.noted(access, self.error(action, path, source))
    }

    /// Records an error that callers wait out, so that [`Store::outage`] reports it.
    fn noted(&self, access: Access, error: StoreError) -> StoreError {
        match &error {
            StoreError::Leased { path, .. } => self.health.blocked(path, &error),
            error if error.remedy().may_pass() => self.health.failed(access, error),
            _ => {}
        }
        error
    }

    fn error(&self, action: &'static str, path: &str, source: object_store::Error) -> StoreError {
        let (path, url) = (path.to_owned(), self.url.clone());
        let source = Box::new(source);
        match meaning(&source) {
            Meaning::Archived => StoreError::Archived { path, url },
            Meaning::Leased => StoreError::Leased {
                path,
                url,
                lease: BlobLease::default(),
            },
            Meaning::NoContainer if self.is_in_cloud() => StoreError::NoContainer { url },
            Meaning::NotOfService => StoreError::NotOfService {
                action,
                path,
                url,
                source,
            },
            Meaning::Refused if self.is_in_cloud() => StoreError::Refused { url, source },
            // Something else has taken the place of what was mounted.
            Meaning::Name if self.health.folder_is_gone() => StoreError::Away { url },
            _ => StoreError::Operation {
                action,
                path,
                url,
                source,
            },
        }
    }

    fn is_in_cloud(&self) -> bool {
        matches!(self.backend, Backend::Cloud(_))
    }

    /// Fails if the whole store is missing. A blob that seems absent is then only out of reach, and a blob that is
    /// written would end up in the folder below the mount point.
    fn is_there(&self) -> Result<(), StoreError> {
        if !self.health.folder_is_gone() {
            return Ok(());
        }
        let error = StoreError::Away {
            url: self.url.clone(),
        };
        self.health.failed(Access::Read, &error);
        Err(error)
    }

    /// Reads a blob whole; `None` if it does not exist.
    pub async fn get(&self, path: &str) -> Result<Option<Bytes>, StoreError> {
        Ok(self.get_versioned(path).await?.map(|(bytes, _)| bytes))
    }

    /// Reads a blob whole, with the version to pass to [`Store::put_if`]; `None` if it does not exist.
    pub async fn get_versioned(&self, path: &str) -> Result<Option<(Bytes, Version)>, StoreError> {
        let failed = self.failed(Access::Read, "read", path);
        self.has_no_other_case(path).await?;
        let result = match self.objects.get(&self.path(path)?).await {
            Err(error) if meaning(&error) == Meaning::NoBlob => {
                self.is_there()?;
                self.health.works(Access::Read);
                return Ok(None);
            }
            other => other.map_err(&failed)?,
        };
        self.health.works(Access::Read);
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

    /// Writes a blob, replacing any existing one. On return, it is durable and visible as a whole.
    pub async fn put(&self, path: &str, bytes: impl Into<Bytes>) -> Result<(), StoreError> {
        self.put_with(path, bytes.into(), PutMode::Overwrite)
            .await
            .map(|_| ())
    }

    /// Writes a blob only if it still has the `expected` version, or is still absent if that is `None`. Fails with
    /// [`StoreError::Conflict`] if another process wrote it first.
    pub async fn put_if(
        &self,
        path: &str,
        bytes: impl Into<Bytes>,
        expected: Option<&Version>,
    ) -> Result<Version, StoreError> {
        let Some(expected) = expected else {
            return self.put_with(path, bytes.into(), PutMode::Create).await;
        };
        if let Backend::Folder(folder) = &self.backend {
            return self.replace_in_folder(folder, path, bytes.into(), expected).await;
        }
        self.put_with(path, bytes.into(), PutMode::Update(expected.0.clone()))
            .await
    }

    async fn put_with(&self, path: &str, bytes: Bytes, mode: PutMode) -> Result<Version, StoreError> {
        use object_store::Error as E;
        let conditional = !matches!(mode, PutMode::Overwrite);
        let options = PutOptions {
            mode,
            ..PutOptions::default()
        };
        self.is_there()?;
        self.has_no_other_case(path).await?;
        let put = self
            .objects
            .put_opts(&self.path(path)?, bytes.into(), options)
            .await;
        // Checked again, in case the folder was unmounted in between: a blob below the mount point is not in the store.
        self.is_there()?;
        match put {
            Ok(put) => {
                self.health.works(Access::Write);
                self.health.unblocked(path);
                Ok(Version(UpdateVersion {
                    e_tag: put.e_tag,
                    version: put.version,
                }))
            }
            Err(error @ (E::AlreadyExists { .. } | E::Precondition { .. }))
                if conditional && matches!(meaning(&error), Meaning::Other | Meaning::NoBlob) =>
            {
                self.health.works(Access::Write);
                self.health.unblocked(path);
                Err(StoreError::Conflict {
                    path: path.to_owned(),
                    url: self.url.clone(),
                })
            }
            Err(error) => {
                let mut error = self.error("write", path, error);
                if let (StoreError::Leased { lease, .. }, Backend::Cloud(Some(container))) =
                    (&mut error, &self.backend)
                {
                    *lease = container.lease(path).await;
                }
                Err(self.noted(Access::Write, error))
            }
        }
    }

    /// Deletes a blob. An absent blob is not an error.
    pub async fn delete(&self, path: &str) -> Result<(), StoreError> {
        match self.has_no_other_case(path).await {
            Err(StoreError::OtherCase { .. }) => return Ok(()),
            looked => looked?,
        }
        match self.objects.delete(&self.path(path)?).await {
            Ok(()) => Ok(()),
            Err(error) if meaning(&error) == Meaning::NoBlob => Ok(()),
            Err(error) => Err(self.failed(Access::Write, "delete", path)(error)),
        }
    }

    /// Returns whether any blob exists under the folder `prefix`.
    pub async fn any(&self, prefix: &str) -> Result<bool, StoreError> {
        self.is_there()?;
        let mut listed = self.objects.list(Some(&self.path(prefix)?));
        let first = listed
            .try_next()
            .await
            .map_err(self.failed(Access::Read, "list", prefix))?;
        Ok(first.is_some())
    }

    /// Returns the names of the folders in the folder `prefix`.
    pub async fn folders(&self, prefix: &str) -> Result<Vec<String>, StoreError> {
        self.is_there()?;
        let listed = self.objects.list_with_delimiter(Some(&self.path(prefix)?)).await;
        let listed = listed.map_err(self.failed(Access::Read, "list", prefix))?;
        let folders = listed.common_prefixes.iter();
        Ok(folders
            .filter_map(|folder| folder.filename().map(str::to_owned))
            .collect())
    }

    /// Returns every blob under the folder `prefix`, ordered by path.
    pub async fn list(&self, prefix: &str) -> Result<Vec<Blob>, StoreError> {
        self.is_there()?;
        let failed = self.failed(Access::Read, "list", prefix);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn memory_and_folder_keep_the_promises_of_a_store() {
        let folder = tempfile::tempdir().unwrap();
        for url in ["memory:///", folder.path().to_str().unwrap()] {
            let store = Store::create(url).unwrap();
            testing::conditional_writes_refuse_the_second_writer(&store).await;
            testing::encoded_names_are_one_blob_each(&store).await;
        }
        assert!(folder.path().join("models").join("a%2Fb").is_dir());
    }
}
