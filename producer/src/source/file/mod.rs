//! Readings from files (CSV, NDJSON, Parquet and Avro): one file or a folder of files, where each file is a partition.
//!
//! [`decode`] turns the bytes into readings, `partition` opens and closes the files, and [`FileSource`]
//! decides which file is read next.

mod folder;
mod follow;
mod names;
mod notes;
mod outlook;
mod partition;
mod scan;
#[cfg(test)]
mod tests;
mod whole;

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};
use std::{fs, io};

use windrow_common::EventTime;

use crate::sensors::SensorTable;
use crate::source::{
    Batch, Content, Known, Offset, PartitionIndex, Progress, Read, Source, SourceError, Until,
};

use super::decode::{self, ColumnMapping, InputFile, ROWS_PER_BATCH, RowSink};
use super::suggest::with_suggestion;
use folder::Folder;
use names::{Claim, Names};
use notes::Notes;
use outlook::Outlook;
use partition::Partition;

/// How often files that were read to their end are checked for appended rows.
const POLL_EVERY: Duration = Duration::from_millis(100);

/// How many files are kept open, as long as others can be closed instead. It is well below the common limit of 1,024.
const MAX_OPEN_FILES: usize = 128;

/// How many followed files are kept open, so that they can be read to their end after another has taken their path.
const MAX_KEPT_FILES: usize = 256;

/// Returns the time by the clock of the runtime, which a simulation may set.
fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// A source that replays files, and follows them with [`Until::Stopped`].
///
/// It reads the files of a folder in step by event time: daily files one after another, a file per device in turns. The
/// order depends only on the files and the offsets.
pub struct FileSource {
    mapping: ColumnMapping,
    until: Until,
    partitions: Vec<Partition>,
    /// The name of each partition.
    names: Vec<String>,
    claims: Names,
    /// How many runs have been read.
    calls: u64,
    last_poll: Instant,
    poll_every: Duration,
    folder: Folder,
    /// With [`Until::CaughtUp`]: what lies ahead, from the first read on.
    outlook: Option<Outlook>,
    /// Why the first read fails, unless earlier runs have read other files.
    refusal: Option<SourceError>,
    notes: Notes,
}

impl FileSource {
    /// Opens the file or folder at `path` and checks the columns of every file. A followed folder may be empty.
    ///
    /// If no file of a followed folder can be used, the first read fails, unless the source recognises earlier partitions.
    /// With [`Until::CaughtUp`], a last line without a newline is a row; in a followed file, it waits for its end.
    /// Compressed files and Parquet files that are still being written are left out: a followed folder reads them once
    /// they are whole.
    pub fn open(path: &Path, mapping: &ColumnMapping, until: Until) -> Result<Self, SourceError> {
        Self::open_as_given(path, mapping, until).map_err(|error| with_suggestion(error, path, mapping))
    }

    fn open_as_given(path: &Path, mapping: &ColumnMapping, until: Until) -> Result<Self, SourceError> {
        let no_input = |why: String| SourceError::NoInput {
            path: path.to_owned(),
            why,
        };
        let metadata = fs::metadata(path).map_err(|error| no_input(format!("cannot be read: {error}")))?;
        let folder = Folder::new(path, metadata.is_dir());
        let files = folder.first_list()?;
        if files.is_empty() && until == Until::CaughtUp {
            return Err(no_input(format!("holds no file named {}", decode::ENDINGS)));
        }
        let mut source = Self {
            mapping: mapping.clone(),
            until,
            partitions: Vec::with_capacity(files.len()),
            names: Vec::with_capacity(files.len()),
            claims: Names::default(),
            calls: 0,
            last_poll: now(),
            poll_every: POLL_EVERY,
            folder,
            outlook: None,
            refusal: None,
            notes: Notes::default(),
        };
        source.add_all(files)?;
        source.check_times();
        Ok(source)
    }

    /// Adds the files that are there at the start.
    fn add_all(&mut self, files: Vec<InputFile>) -> Result<(), SourceError> {
        let tolerant = self.until == Until::Stopped && self.folder.is_folder();
        let mut unusable = Vec::new();
        for file in files {
            // A scan finds it once there is something to read: it may be the rest of one that was read.
            let is_empty = || file.metadata().is_ok_and(|metadata| metadata.len() == 0);
            if self.until == Until::Stopped && is_empty() {
                continue;
            }
            if !whole::is_settled(&file, self.until, self.folder.settled_after).unwrap_or(true) {
                self.leave_out(&file)?;
            } else if tolerant {
                unusable.extend(self.add_or_set_aside(file)?);
            } else {
                self.add(file)?;
            }
        }
        // If no file can be used, it is the folder or the options that are wrong, unless they were right before.
        if !unusable.is_empty() && unusable.len() == self.partitions.len() {
            self.refusal = Some(unusable.swap_remove(0));
        }
        Ok(())
    }

    /// Leaves out a file that is still being written.
    fn leave_out(&self, file: &InputFile) -> Result<(), SourceError> {
        if self.until == Until::CaughtUp && !self.folder.is_folder() {
            return Err(SourceError::Format {
                path: file.path.clone(),
                why: format!(
                    "it is not whole and was written to less than {} s ago: try again once all of it is there",
                    self.folder.settled_after.as_secs()
                ),
            });
        }
        let when = match self.until {
            Until::CaughtUp => "a later run",
            Until::Stopped => "once it is whole, this run",
        };
        tracing::warn!(
            file = file.name,
            "the file is still being written; {when} reads it"
        );
        Ok(())
    }

    fn add(&mut self, file: InputFile) -> Result<(), SourceError> {
        let partition = Partition::new(file, self.until, &self.mapping)?;
        self.push(partition);
        Ok(())
    }

    /// Adds a partition under the name that its content has, and continues it where an earlier run has left it.
    fn push(&mut self, mut partition: Partition) {
        self.notes.say(&partition, &self.mapping);
        let Claim { name, known } = self.claims.claim_any(&partition.file);
        partition.content = known.and_then(|known| known.content);
        partition.name_devices_after(&name);
        self.names.push(name);
        self.partitions.push(partition);
        if let Some(Known { resume, .. }) = known {
            // An error comes up again when the file is read.
            _ = self.seek(self.partitions.len() - 1, resume);
        }
    }

    /// Adds a file of a followed folder. One that cannot be used must not stop the others: it is reported as unreadable,
    /// and the error is returned.
    fn add_or_set_aside(&mut self, file: InputFile) -> Result<Option<SourceError>, SourceError> {
        match self.add(file.clone()) {
            Ok(()) => Ok(None),
            // The file was deleted before it was opened.
            Err(SourceError::Read { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(SourceError::Read { source, .. }) if !partition::is_damage(&source) => {
                Err(SourceError::Read {
                    path: file.path,
                    offset: 0,
                    source,
                })
            }
            Err(error) => {
                self.push(Partition::unusable(file, self.until, error.to_string()));
                Ok(Some(error))
            }
        }
    }

    /// Returns the partition furthest behind in event time, among those with something to read.
    fn furthest_behind(&self) -> Option<PartitionIndex> {
        let ready = self
            .partitions
            .iter()
            .enumerate()
            .filter(|(_, partition)| partition.is_ready());
        ready
            .min_by_key(|(_, partition)| partition.reached())
            .map(|(index, _)| index)
    }

    /// Scans on, unless that is done. While it is not, the batch stays empty, so that the caller notices a stop.
    fn is_scanning(&mut self, batch: &mut Batch) -> Result<bool, SourceError> {
        let files = self.partitions.len();
        let outlook = self.outlook.get_or_insert_with(|| Outlook::new(files));
        if outlook.is_complete() {
            return Ok(false);
        }
        outlook.scan(&self.partitions, &self.mapping)?;
        if outlook.is_complete() {
            return Ok(false);
        }
        batch.clear(0);
        batch.next = Offset(self.partitions.first().map_or(0, Partition::offset));
        batch.complete_before = Some(EventTime::MIN);
        Ok(true)
    }

    /// Returns the time before which no further reading comes. At the end, the caller decides about the windows that
    /// are still open.
    fn complete_before(&self) -> Option<EventTime> {
        let outlook = self.outlook.as_ref()?;
        Some(outlook.earliest(&self.partitions).unwrap_or(EventTime::MIN))
    }

    /// Keeps the file of a partition open, unless too many are.
    fn keep_open(&mut self, index: PartitionIndex) {
        let kept = self.partitions.iter();
        if kept.filter(|partition| partition.file.handle.is_some()).count() < MAX_KEPT_FILES {
            self.partitions[index].keep_open();
        }
    }

    /// Closes the least recently read file, if too many are open.
    fn make_room(&mut self) {
        if self
            .partitions
            .iter()
            .filter(|partition| partition.is_open())
            .count()
            >= MAX_OPEN_FILES
        {
            let closable = self.partitions.iter_mut();
            let oldest = closable
                .filter_map(|partition| Some((partition.can_be_closed()?, partition)))
                .min_by_key(|(last_read, _)| *last_read);
            if let Some((_, partition)) = oldest {
                partition.close();
            }
        }
    }
}

impl Source for FileSource {
    fn partitions(&self) -> &[String] {
        &self.names
    }

    fn recognise(&mut self, known: BTreeMap<String, Known>) {
        if !known.is_empty()
            && let Some(error) = self.refusal.take()
        {
            tracing::warn!(%error, "no file can be used at the moment; continuing, because earlier runs have read this source");
        }
        self.claims.remember(known);
        // A file keeps its own name, if its content allows, before a copy of it can take that.
        let partitions = self.partitions.iter();
        let own: Vec<_> = partitions
            .map(|partition| self.claims.claim_own(&partition.file))
            .collect();
        let partitions = std::mem::take(&mut self.partitions);
        let known = partitions.iter().zip(own);
        let known: Vec<_> = known
            .map(|(partition, own)| own.or_else(|| self.claims.claim_known(&partition.file)))
            .collect();
        self.names.clear();
        for (mut partition, known) in partitions.into_iter().zip(known) {
            let claim = match known {
                Some(claim) => claim,
                None if self.until == Until::Stopped && self.may_come_back(&partition.file) => continue,
                None => self.claims.claim_new(&partition.file),
            };
            partition.content = claim.known.and_then(|known| known.content);
            partition.name_devices_after(&claim.name);
            self.names.push(claim.name);
            self.partitions.push(partition);
        }
    }

    fn content(&mut self, partition: PartitionIndex) -> Option<Content> {
        self.partitions[partition].content()
    }

    fn seek(&mut self, partition: PartitionIndex, to: Offset) -> Result<(), SourceError> {
        self.partitions[partition].seek(to, &self.mapping)
    }

    fn next_time(&self, partition: PartitionIndex) -> Option<EventTime> {
        self.partitions.get(partition)?.look_ahead()
    }

    fn read(&mut self, sensors: &mut SensorTable, batch: &mut Batch) -> Result<Read, SourceError> {
        if let Some(error) = self.refusal.take() {
            return Err(error);
        }
        match self.until {
            Until::Stopped => self.look_around()?,
            Until::CaughtUp => {
                if self.is_scanning(batch)? {
                    return Ok(Read::Batch);
                }
            }
        }
        while let Some(index) = self.furthest_behind() {
            batch.clear(index);
            self.calls += 1;
            if !self.partitions[index].is_open() {
                self.make_room();
                self.keep_open(index);
            }
            let mut out = RowSink {
                sensors,
                batch,
                arrival: EventTime::now(),
                limit: ROWS_PER_BATCH,
            };
            self.partitions[index].read(&self.mapping, self.calls, &mut out)?;
            self.notes.say_twice(&self.partitions[index]);
            // Half a line at the end of a followed file results in an empty batch.
            if !batch.readings.is_empty() || !batch.unreadable.is_empty() || batch.left_out > 0 || batch.ended
            {
                let waiting = self.partitions.iter().map(Partition::is_ready);
                batch.waiting.extend(waiting);
                batch.complete_before = self.complete_before();
                return Ok(Read::Batch);
            }
        }
        Ok(match self.until {
            Until::CaughtUp => Read::End { complete_until: None },
            Until::Stopped => Read::Idle { complete_until: None },
        })
    }

    fn progress(&self) -> Progress {
        let (mut done, mut total) = (0, 0);
        for (part, all) in self.partitions.iter().map(Partition::progress) {
            done += part;
            total += all;
        }
        Progress {
            done,
            total: Some(total),
        }
    }
}
