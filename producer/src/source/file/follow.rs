//! A followed file: whether it has grown, was moved, or was replaced by another.

use std::fs::{File, Metadata};
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use file_id::FileId;

use crate::source::decode::InputFile;
use crate::source::{Content, Until};

use super::names::{self, Stranger};
use super::partition::{Partition, State};

/// How long to keep reading a file that has lost its path: its writer may still have it open, as when a log is rotated.
const READ_ON_FOR: Duration = Duration::from_secs(60);

/// What is known of a followed file from looks at it.
#[derive(Debug)]
pub(super) struct Watch {
    /// As it was last looked at.
    seen: Option<Seen>,
    /// As it was when it was last known to be the file at its path.
    recognised: Option<Seen>,
    /// Whether its content was replaced. Nothing more of it can be read, unless it comes back.
    pub(super) is_replaced: bool,
    /// Since when it has no path, or has not grown without one.
    without_path_since: Option<Instant>,
    pub(super) read_on_for: Duration,
}

impl Watch {
    pub(super) fn of(file: &InputFile) -> Self {
        let seen = file.metadata().ok().map(|metadata| Seen::of(&metadata));
        Self {
            seen,
            recognised: seen,
            is_replaced: false,
            without_path_since: None,
            read_on_for: READ_ON_FOR,
        }
    }
}

/// What changes when a file is written to: its size and the time of its last write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Seen {
    size: u64,
    written: Option<SystemTime>,
}

impl Seen {
    fn of(metadata: &Metadata) -> Self {
        Self {
            size: metadata.len(),
            written: metadata.modified().ok(),
        }
    }
}

impl Partition {
    /// Returns what was read of the file, in short; `None` before anything was.
    pub(super) fn content(&mut self) -> Option<Content> {
        let bytes = match self.file.can_grow() {
            true => self.position.offset,
            false => self.size,
        };
        let longest = self.content.map_or(0, |content| content.bytes);
        // A file that is replaced at this moment must not be identified by the bytes of its successor, whose id or
        // first bytes differ.
        if self.position.offset > 0 && bytes > longest && !self.watch.is_replaced && self.is_itself() {
            let read = self
                .file
                .open()
                .and_then(|mut opened| Content::of(&mut opened, bytes));
            self.content = read.ok().or(self.content);
        }
        self.content
    }

    fn is_itself(&self) -> bool {
        let has_id = || self.id == file_id::get_file_id(&self.file.path).ok();
        (self.file.handle.is_some() || has_id())
            && self
                .content
                .is_none_or(|content| names::holds(&self.file, &content).unwrap_or(false))
    }

    /// Keeps the file open, so that it can be read to its end after another has taken its path.
    pub(super) fn keep_open(&mut self) {
        if self.until == Until::CaughtUp || !self.file.can_grow() || self.file.handle.is_some() {
            return;
        }
        let handle = self.file.open().ok().map(Arc::new);
        let id = handle.as_deref().and_then(id_of);
        self.file.handle = handle;
        match &self.content {
            Some(content) if !names::holds(&self.file, content).unwrap_or(false) => {
                // It was replaced a moment ago: the next scan tells.
                self.file.handle = None;
            }
            // The file may have been recreated since its id was read, and the old id may soon belong to another file.
            _ => self.id = id,
        }
    }

    /// Checks whether a file that was read to its end has grown or was replaced.
    pub(super) fn poll(&mut self, now: Instant) {
        if !matches!(self.state, State::Waiting) {
            return;
        }
        if !self.watch.is_replaced
            && let Ok(metadata) = self.file.metadata()
        {
            let seen = Seen::of(&metadata);
            if self.watch.seen.replace(seen) != Some(seen) {
                return self.look_again(metadata.len(), now);
            }
        }
        let since = self.watch.without_path_since;
        if since.is_some_and(|since| now.duration_since(since) >= self.watch.read_on_for) {
            match self.file.handle {
                _ if self.watch.is_replaced => self.leave(),
                Some(_) => self.finish(),
                None => self.leave_unread(),
            }
        }
    }

    /// Waits for the scan to tell where the file is.
    pub(super) fn wait_for_scan(&mut self) {
        self.state = State::Waiting;
        self.forget_look();
    }

    /// Makes the next poll look at the file even if nothing has changed.
    fn forget_look(&mut self) {
        self.watch.seen = self.watch.seen.map(|seen| Seen {
            written: None,
            ..seen
        });
    }

    /// Looks at a file that was written to.
    fn look_again(&mut self, size: u64, now: Instant) {
        let same = self.content.map(|content| names::holds(&self.file, &content));
        // One that is gone in between is found by the next scan.
        let Ok(same) = same.transpose() else {
            return self.forget_look();
        };
        if same == Some(false) {
            self.leave_replaced();
        } else if size > self.position.offset {
            self.state = State::Closed;
            self.watch.without_path_since = self.watch.without_path_since.map(|_| now);
        }
    }

    /// Returns whether the file at its path is still the one that was read.
    pub(super) fn is_at(&mut self, file: &InputFile) -> bool {
        if self.watch.is_replaced {
            return false;
        }
        let id = file_id::get_file_id(&file.path).ok();
        if id.is_some() && id == self.id {
            if matches!(self.state, State::Ended) {
                return self.goes_on(file);
            }
            // Unless the file is held open, its id may belong to another file by now.
            if self.is_open() || self.file.handle.is_some() || self.is_as_recognised(file) {
                return true;
            }
        }
        let same = self.content.map(|content| names::holds(file, &content));
        let Ok(same) = same.transpose() else {
            return true;
        };
        let same = same.unwrap_or(false);
        // Nothing was read of a file that waits without content, so any other will do.
        if same || (self.content.is_none() && matches!(self.state, State::Waiting | State::Closed)) {
            self.move_to(file);
            true
        } else {
            false
        }
    }

    /// Returns whether the file at its path is as it was when it was last known to be this one.
    fn is_as_recognised(&mut self, file: &InputFile) -> bool {
        let Ok(metadata) = std::fs::metadata(&file.path) else {
            return true;
        };
        let seen = Seen::of(&metadata);
        self.watch.recognised.replace(seen) == Some(seen)
    }

    /// Returns whether a file that was read to its final end still has the same content. If the file has grown,
    /// continues to read it.
    fn goes_on(&mut self, file: &InputFile) -> bool {
        let Ok(metadata) = std::fs::metadata(&file.path) else {
            return true;
        };
        let seen = Seen::of(&metadata);
        if self.watch.seen.replace(seen).is_none_or(|before| before == seen) {
            return true;
        }
        let same = self.content.map(|content| names::holds(file, &content));
        let Ok(same) = same.transpose() else {
            self.forget_look();
            return true;
        };
        let same = same.unwrap_or(false);
        let has_more = match self.file.can_grow() {
            true => seen.size > self.position.offset,
            false => seen.size != self.size,
        };
        if same && has_more {
            self.until = Until::Stopped;
            self.state = State::Closed;
        }
        same
    }

    /// Returns whether this is the partition of a file that is found under another path. It may have been written anew on
    /// the way there.
    pub(super) fn is_moved_to(&self, stranger: &mut Stranger<'_>) -> bool {
        match &self.content {
            Some(content) => stranger.holds(content).unwrap_or(false),
            None => self.id.is_some() && self.id == stranger.id(),
        }
    }

    /// Returns whether the file at its path may be being rewritten, and is not yet as long as what was read.
    pub(super) fn is_rewritten_by(&self, stranger: &mut Stranger<'_>) -> bool {
        self.file.path == stranger.file.path
            && self
                .content
                .is_some_and(|content| stranger.may_grow_into(&content).unwrap_or(false))
    }

    /// Stops reading a file that was truncated after it was read: it now holds other content, or its old content only
    /// in part. The old content may come back until a scan tells which of the two holds, or for as long as a file
    /// without a path is read. Until then, its intervals stay open.
    pub(super) fn leave_replaced(&mut self) {
        self.watch.is_replaced = true;
        self.watch.without_path_since.get_or_insert_with(super::now);
        self.file.handle = None;
        self.state = State::Waiting;
    }

    /// Ends a file that was cut, now that another has taken its path.
    pub(super) fn leave_to(&mut self, other: &InputFile) {
        if self.watch.is_replaced && self.file.path == other.path && matches!(self.state, State::Waiting) {
            self.leave();
        }
    }

    /// Continues with the same content at the path of `file`.
    pub(super) fn move_to(&mut self, file: &InputFile) {
        let id = file_id::get_file_id(&file.path).ok();
        if id != self.id {
            self.id = id;
            self.file.handle = None;
        }
        self.file.path.clone_from(&file.path);
        self.watch.without_path_since = None;
        // It was cut, and what was read of it is back.
        self.watch.is_replaced = false;
        self.forget_look();
        if !matches!(self.state, State::Ended) {
            self.until = Until::Stopped;
        }
        if let State::Open(_) | State::Leaving = self.state {
            self.state = State::Closed;
        }
    }

    /// Returns whether the file has a path at which it is expected.
    pub(super) fn has_path(&self) -> bool {
        self.watch.without_path_since.is_none() && !self.watch.is_replaced
    }

    /// Notes that the file is no longer at its path. What is left of it is read as long as it can be.
    pub(super) fn lose_path(&mut self, now: Instant) {
        if self.has_path() {
            self.watch.without_path_since = Some(now);
        }
    }

    /// Ends a file that went missing before it was certainly read to its end.
    fn leave_unread(&mut self) {
        tracing::warn!(
            file = %self.file.path.display(),
            offset = self.position.offset,
            "the file is missing; rows after this offset, if there were any, are not read"
        );
        self.leave();
    }

    /// Reads what is left of a file that has lost its path, half a line at its end included, and ends it.
    fn finish(&mut self) {
        self.until = Until::CaughtUp;
        self.state = State::Closed;
    }

    /// Ends a file of which nothing more can be read. The next read reports its end.
    fn leave(&mut self) {
        self.file.handle = None;
        self.state = State::Leaving;
    }
}

/// Returns which file of the file system is open.
fn id_of(file: &File) -> Option<FileId> {
    let metadata = file.metadata().ok()?;
    Some(FileId::new_inode(metadata.dev(), metadata.ino()))
}
