//! The folder or file that is watched, and the files in it that are ready to be read.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use std::{fs, io};

use crate::source::SourceError;
use crate::source::decode::{self, InputFile, Listing};

use super::whole::{self, SETTLED_AFTER};

/// How often a folder is scanned for new files.
const SCAN_EVERY: Duration = Duration::from_secs(1);

/// How many names of files that are left out are shown.
const SHOWN_NAMES: usize = 5;

/// A folder, or a path at which a file may be replaced by another.
pub(super) struct Folder {
    path: PathBuf,
    is_folder: bool,
    last_scan: Instant,
    pub(super) scan_every: Duration,
    pub(super) settled_after: Duration,
    /// The files that must be whole to be read and are not, as they were last seen.
    pub(super) unsettled: HashMap<PathBuf, Unsettled>,
}

/// A file that is being written.
#[derive(Clone, Copy)]
pub(super) struct Unsettled {
    size: u64,
    since: Instant,
    /// Whether it was found not to be whole at this size.
    is_partial: bool,
}

impl Folder {
    pub(super) fn new(path: &Path, is_folder: bool) -> Self {
        Self {
            path: path.to_owned(),
            is_folder,
            last_scan: super::now(),
            scan_every: SCAN_EVERY,
            settled_after: SETTLED_AFTER,
            unsettled: HashMap::new(),
        }
    }

    pub(super) fn is_folder(&self) -> bool {
        self.is_folder
    }

    /// Lists its files for the first time, and tells a person which others are in it.
    pub(super) fn first_list(&self) -> Result<Vec<InputFile>, SourceError> {
        if !self.is_folder {
            return self.list();
        }
        let Listing { files, skipped } = decode::list(&self.path)?;
        if !skipped.is_empty() {
            let names = skipped.iter().take(SHOWN_NAMES).map(String::as_str);
            tracing::warn!(
                files = skipped.len(),
                names = names.collect::<Vec<_>>().join(", "),
                "files are left out for their names; a file to read is named {}",
                decode::ENDINGS
            );
        }
        Ok(files)
    }

    /// Lists its files, sorted by name. A single file may be away for a moment, while another takes its place.
    pub(super) fn list(&self) -> Result<Vec<InputFile>, SourceError> {
        if self.is_folder {
            return Ok(decode::list(&self.path)?.files);
        }
        match fs::metadata(&self.path) {
            Ok(_) => Ok(vec![decode::single(&self.path)?]),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(source) => Err(SourceError::Read {
                path: self.path.clone(),
                offset: 0,
                source,
            }),
        }
    }

    /// Returns whether the last scan is long enough ago for another one.
    pub(super) fn is_scan_due(&mut self, now: Instant) -> bool {
        let due = now.duration_since(self.last_scan) >= self.scan_every;
        if due {
            self.last_scan = now;
        }
        due
    }

    /// Returns whether a new file can be read: it may grow, is whole, or has not changed for long enough. Does not look
    /// into a file that still grows from scan to scan, and waits for one that may be being rewritten.
    pub(super) fn is_ready(&mut self, file: &InputFile, is_rewritten: bool, now: Instant) -> bool {
        let Ok(size) = fs::metadata(&file.path).map(|metadata| metadata.len()) else {
            return false;
        };
        if file.can_grow() && !is_rewritten {
            return size > 0;
        }
        let fresh = Unsettled {
            size,
            since: now,
            is_partial: false,
        };
        let Some(seen) = self.unsettled.get_mut(&file.path) else {
            self.unsettled.insert(file.path.clone(), fresh);
            return false;
        };
        if seen.size != size {
            *seen = fresh;
            return false;
        }
        if size == 0 || now.duration_since(seen.since) < self.scan_every {
            return false;
        }
        if file.can_grow() {
            return true;
        }
        if !seen.is_partial {
            match whole::is_whole(file) {
                Ok(true) => return true,
                Ok(false) => {
                    tracing::warn!(
                        file = file.name,
                        "the file is not whole; it is read once it is, or has not changed for {} s",
                        self.settled_after.as_secs()
                    );
                    seen.is_partial = true;
                }
                // The error comes up when the file is read.
                Err(_) => return true,
            }
        }
        now.duration_since(seen.since) >= self.settled_after
    }

    /// Forgets the files that are read now or have disappeared: all but those that nobody reads yet.
    pub(super) fn forget_all_but(&mut self, unread: &[InputFile]) {
        if !self.unsettled.is_empty() {
            let unread: HashSet<&Path> = unread.iter().map(|file| file.path.as_path()).collect();
            self.unsettled.retain(|path, _| unread.contains(path.as_path()));
        }
    }
}
