//! Checks that a file system can hold a folder store, before a program relies on it.
//!
//! A folder store writes blobs under another name and renames them. It publishes a blob that must not exist yet with a
//! hard link, and takes turns at conditional replaces with a lock. Network mounts may lack hard links or locks. Without
//! this check, missing links would show up as "unable to rename" in the middle of the work, and missing locks as a
//! program that hangs.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::timeout;
use windrow_common::random;

use super::folder::lock_file;
use super::{Backend, LOCK_FILE, Store, StoreError};

/// Longest wait for the file system. A lock on NFS may wait for a server that never answers.
const TRIED_WITHIN: Duration = Duration::from_secs(5);

impl Store {
    /// Fails if the store is a folder whose file system lacks something that the store needs.
    pub async fn check_file_system(&self) -> Result<(), StoreError> {
        let Backend::Folder(folder) = &self.backend else {
            return Ok(());
        };
        let tried = try_within(TRIED_WITHIN, {
            let folder = folder.clone();
            move || lacks(&folder)
        });
        let folder = folder.clone();
        match tried.await {
            Ok(None) => Ok(()),
            Ok(Some(why)) => Err(StoreError::Unfit { folder, why }),
            Err(Silent) => Err(StoreError::SilentFolder { folder }),
        }
    }
}

/// The file system has not answered. An NFS server that has just started takes a minute or two to answer.
#[derive(Debug)]
struct Silent;

/// Runs `tried` on a thread of its own, which is left alone if it hangs.
async fn try_within(
    limit: Duration,
    tried: impl FnOnce() -> Option<String> + Send + 'static,
) -> Result<Option<String>, Silent> {
    let (done, result) = oneshot::channel();
    std::thread::spawn(move || {
        // An error means that nobody waits any more.
        _ = done.send(tried());
    });
    match timeout(limit, result).await {
        Ok(Ok(lacks)) => Ok(lacks),
        Ok(Err(_)) => Ok(Some("trying it crashed".to_owned())),
        Err(_) => Err(Silent),
    }
}

const USE_LOCKS: &str =
    "mount it with locks (NFS 4, or NFS 3 with rpc.statd and without nolock), or use a cloud store";
const USE_LINKS: &str = "mount it by NFS instead of SMB, or use a cloud store";

/// Returns what the folder's file system lacks, in a sentence.
fn lacks(folder: &Path) -> Option<String> {
    let name = format!(".windrow.check-{:016x}", random());
    let paths = ["a", "b", "c"].map(|end| folder.join(format!("{name}{end}")));
    let lacks = lacks_names(&paths).or_else(|| lacks_locks(folder));
    for path in &paths {
        // Most of them do not exist.
        _ = fs::remove_file(path);
    }
    lacks
}

fn lacks_names([first, second, third]: &[PathBuf; 3]) -> Option<String> {
    // If no file can be created at all, the first write reports why. That may pass: the disk may be full.
    File::create_new(first).ok()?;
    if let Err(error) = fs::rename(first, second) {
        return says(
            "its file system cannot rename a file",
            &error,
            "use another folder",
        );
    }
    match fs::hard_link(second, third) {
        Ok(()) => None,
        Err(error) => says("its file system has no hard links", &error, USE_LINKS),
    }
}

fn lacks_locks(folder: &Path) -> Option<String> {
    let (first, second) = (lock_file(folder).ok()?, lock_file(folder).ok()?);
    match first.try_lock() {
        // Another process holds the lock, so locks work.
        Err(TryLockError::WouldBlock) => None,
        Err(TryLockError::Error(error)) => {
            let what = format!("its file system cannot lock {LOCK_FILE}");
            says(&what, &error, USE_LOCKS)
        }
        Ok(()) => second
            .try_lock()
            .is_ok()
            .then(|| format!("its file system lets two holders lock {LOCK_FILE} at once; {USE_LOCKS}")),
    }
}

/// `EPERM`, `EXDEV`, `EINVAL`, `ENOLCK`, `ENOSYS`, `EOPNOTSUPP`: the errors of an operation that a file system does not
/// support. Other errors may pass.
const IS_MISSING: [i32; 6] = [1, 18, 22, 37, 38, 95];

/// Returns the sentence if the error says that something is missing.
fn says(what: &str, error: &io::Error, way_on: &str) -> Option<String> {
    let is_missing = error
        .raw_os_error()
        .is_some_and(|number| IS_MISSING.contains(&number));
    is_missing.then(|| format!("{what} ({error}); {way_on}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_folder_of_this_machine_lacks_nothing_and_keeps_nothing_of_the_try() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::create(folder.path().to_str().unwrap()).unwrap();
        store.check_file_system().await.unwrap();
        // Also while another process writes.
        let holder = lock_file(folder.path()).unwrap();
        holder.lock().unwrap();
        store.check_file_system().await.unwrap();
        let left: Vec<_> = fs::read_dir(folder.path()).unwrap().collect();
        assert_eq!(left.len(), 1, "{left:?}");
    }

    #[tokio::test]
    async fn a_file_system_that_hangs_is_not_waited_for() {
        let (never, hangs) = std::sync::mpsc::channel::<()>();
        let tried = try_within(Duration::from_millis(10), move || {
            hangs.recv().err().map(|_| String::new())
        });
        assert!(matches!(tried.await, Err(Silent)));
        drop(never);
    }

    #[test]
    fn a_full_disk_is_no_reason_to_refuse_the_folder() {
        let of = |number| says("x", &io::Error::from_raw_os_error(number), "y");
        let (no_space, not_permitted, no_locks, not_supported) = (28, 1, 37, 95);
        assert_eq!(of(no_space), None);
        for number in [not_permitted, no_locks, not_supported] {
            assert!(of(number).is_some(), "{number}");
        }
    }
}
