//! What is new in a followed folder: appended rows, and files that are new, moved or written once more.

use std::collections::HashMap;
use std::path::PathBuf;
use std::time::Instant;

use super::names::Stranger;
use super::{FileSource, now};
use crate::source::decode::InputFile;
use crate::source::{PartitionIndex, SourceError};

impl FileSource {
    /// Looks for appended rows and for new files, if the last look is long enough ago.
    pub(super) fn look_around(&mut self) -> Result<(), SourceError> {
        let now = now();
        if now.duration_since(self.last_poll) >= self.poll_every {
            self.last_poll = now;
            for partition in &mut self.partitions {
                partition.poll(now);
            }
        }
        if self.folder.is_scan_due(now) {
            for file in self.new_files(now)? {
                self.add_or_set_aside(file)?;
            }
        }
        Ok(())
    }

    /// Compares the folder with the partitions: follows files that were moved, and returns those that are new.
    fn new_files(&mut self, now: Instant) -> Result<Vec<InputFile>, SourceError> {
        let files = self.folder.list()?;
        let mut expected: HashMap<PathBuf, PartitionIndex> = HashMap::with_capacity(self.partitions.len());
        for (index, partition) in self.partitions.iter().enumerate() {
            if partition.has_path() {
                expected.insert(partition.file.path.clone(), index);
            }
        }
        let mut strangers = Vec::new();
        for file in files {
            let index = expected.get(&file.path).copied();
            match index.is_some_and(|index| self.partitions[index].is_at(&file)) {
                true => drop(expected.remove(&file.path)),
                false => strangers.push(file),
            }
        }
        for index in expected.into_values() {
            self.partitions[index].lose_path(now);
        }
        self.folder.forget_all_but(&strangers);
        strangers.retain(|file| self.is_new(file, now));
        Ok(strangers)
    }

    /// Returns whether the file is a new one, and ready to be read. One that was followed under another path goes on.
    fn is_new(&mut self, file: &InputFile, now: Instant) -> bool {
        // One that was deleted since is found by the next scan, if it comes back.
        let Ok(mut stranger) = Stranger::new(file) else {
            return false;
        };
        let gone = self.partitions.iter_mut().zip(&self.names);
        let mut is_rewritten = false;
        for (partition, name) in gone.filter(|(partition, _)| !partition.has_path()) {
            if partition.is_moved_to(&mut stranger) {
                let what = match partition.file.path == file.path {
                    true => "a file was written once more",
                    false => "a file was renamed",
                };
                tracing::info!(
                    file = file.name,
                    partition = name,
                    "{what}; its partition goes on"
                );
                partition.move_to(file);
                return false;
            }
            is_rewritten |= partition.is_rewritten_by(&mut stranger);
        }
        is_rewritten |= self.claims.may_hold(&mut stranger);
        let is_ready = self.folder.is_ready(file, is_rewritten, now);
        if is_ready {
            for partition in &mut self.partitions {
                partition.leave_to(file);
            }
        }
        is_ready
    }

    /// Returns whether a scan has to tell what becomes of a file that was there when the folder was listed: it was renamed
    /// since, or someone may be writing a file once more that an earlier run has read.
    pub(super) fn may_come_back(&self, file: &InputFile) -> bool {
        Stranger::new(file).map_or(true, |mut stranger| self.claims.may_hold(&mut stranger))
    }
}
