//! Conditional replaces in a folder store. A file system has none, so a lock file stands in.

use std::fs::{File, TryLockError};
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use object_store::{ObjectStoreExt, PutMode, UpdateVersion};
use tokio::time::Instant;

use super::health::Access;
use super::{LOCK_FILE, Store, StoreError, Version};

/// Time between attempts to lock the lock file. Another process holds it for the duration of a write.
const LOCK_EVERY: Duration = Duration::from_millis(2);
/// How long to wait for the lock file before failing. A process that holds it for longer is frozen, or its disk hangs.
const LOCK_WITHIN: Duration = Duration::from_secs(10);

impl Store {
    /// Implements [`Store::put_if`] in a folder store, for a blob that existed when it was read.
    ///
    /// A separate task holds the locks. Otherwise, a caller that is dropped or not polled for a while could keep
    /// everyone else waiting.
    pub(super) async fn replace_in_folder(
        &self,
        folder: &Path,
        path: &str,
        bytes: Bytes,
        expected: &Version,
    ) -> Result<Version, StoreError> {
        let (store, folder) = (self.clone(), folder.to_owned());
        let (path, expected) = (path.to_owned(), expected.clone());
        let (named, failed_at) = (self.clone(), path.clone());
        let replaced =
            tokio::spawn(async move { store.replace_locked(&folder, &path, bytes, &expected).await });
        replaced
            .await
            .unwrap_or_else(|panic| Err(named.lock_failed(&failed_at, std::io::Error::other(panic))))
    }

    async fn replace_locked(
        &self,
        folder: &Path,
        path: &str,
        bytes: Bytes,
        expected: &Version,
    ) -> Result<Version, StoreError> {
        self.is_there()?;
        let _turn = self.turn.lock().await;
        let _lock = locked(folder)
            .await
            .map_err(|error| self.lock_failed(path, error))?;
        let current = match self.objects.head(&self.path(path)?).await {
            Err(object_store::Error::NotFound { .. }) => None,
            other => other.map_err(self.failed(Access::Read, "read", path))?.e_tag,
        };
        if current != expected.0.e_tag {
            return Err(StoreError::Conflict {
                path: path.to_owned(),
                url: self.url.clone(),
            });
        }
        self.put_with(path, bytes, PutMode::Overwrite).await?;
        let written = self.objects.head(&self.path(path)?).await;
        let written = written.map_err(self.failed(Access::Read, "read", path))?;
        Ok(Version(UpdateVersion {
            e_tag: written.e_tag,
            version: written.version,
        }))
    }

    fn lock_failed(&self, path: &str, error: std::io::Error) -> StoreError {
        self.failed(Access::Write, "lock", path)(object_store::Error::Generic {
            store: "lock file",
            source: error.into(),
        })
    }
}

/// Locks the folder's lock file until the returned file is dropped. Polls instead of blocking, because a blocked thread
/// could be the last one that the holder of the lock needs to continue.
async fn locked(folder: &Path) -> std::io::Result<File> {
    let file = lock_file(folder)?;
    let deadline = Instant::now() + LOCK_WITHIN;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) if Instant::now() < deadline => {
                tokio::time::sleep(LOCK_EVERY).await;
            }
            Err(TryLockError::WouldBlock) => {
                let why = format!(
                    "another process has held {LOCK_FILE} for {LOCK_WITHIN:?}; if it is frozen, resume it or stop it"
                );
                return Err(std::io::Error::new(std::io::ErrorKind::TimedOut, why));
            }
            Err(TryLockError::Error(error)) => return Err(error),
        }
    }
}

/// Opens the folder's lock file, creating it if necessary.
pub(super) fn lock_file(folder: &Path) -> std::io::Result<File> {
    File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(folder.join(LOCK_FILE))
}

#[cfg(test)]
mod tests {
    use super::*;
    use windrow_common::{HasRemedy, Remedy};

    #[tokio::test]
    async fn a_caller_that_is_not_polled_holds_nobody_up() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::create(folder.path().to_str().unwrap()).unwrap();
        let first = store.put_if("a", "1", None).await.unwrap();
        let second = store.put_if("b", "1", None).await.unwrap();
        let mut forgotten = Box::pin(store.put_if("a", "22", Some(&first)));
        // One poll: up to its first wait, where it holds the locks.
        assert!(futures::poll!(forgotten.as_mut()).is_pending());
        let other = store.put_if("b", "22", Some(&second));
        let other = tokio::time::timeout(Duration::from_secs(10), other).await;
        other
            .expect("it waits for the locks of a caller that is not polled")
            .unwrap();
        forgotten.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_frozen_holder_of_the_lock_is_told_of_and_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::create(folder.path().to_str().unwrap()).unwrap();
        let first = store.put_if("a", "1", None).await.unwrap();
        let holder = lock_file(folder.path()).unwrap();
        holder.lock().unwrap();
        let error = store.put_if("a", "22", Some(&first)).await.unwrap_err();
        assert!(error.remedy() == Remedy::Wait, "{error:?}");
        let outage = store.outage().unwrap();
        assert!(
            outage.contains("another process has held .windrow.lock"),
            "{outage}"
        );
        drop(holder);
        store.put_if("a", "22", Some(&first)).await.unwrap();
        assert_eq!(store.outage(), None);
    }
}
