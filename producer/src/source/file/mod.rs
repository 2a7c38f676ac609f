//! Readings from files (CSV, NDJSON and Parquet): one file or a folder of files, where each file is a partition.
//!
//! [`decode`] turns the bytes into readings, `partition` opens and closes the files, and [`FileSource`]
//! decides which file is read next.

mod outlook;
mod partition;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use std::{fs, io};

use windrow_common::EventTime;

use crate::sensors::SensorTable;
use crate::source::{Batch, Offset, PartitionIndex, Progress, Read, Source, SourceError, Until};

use super::decode::{self, ColumnMapping, InputFile, ROWS_PER_BATCH, RowSink};
use outlook::Outlook;
use partition::Partition;

/// How often a folder is scanned for new files.
const RESCAN_EVERY: Duration = Duration::from_secs(1);

/// How often files that were read to their end are checked for appended rows.
const POLL_EVERY: Duration = Duration::from_millis(100);

/// How many files are kept open, as long as others can be closed instead. It is well below the common limit of 1,024.
const MAX_OPEN_FILES: usize = 128;

/// A source that replays files, and follows them with [`Until::Stopped`].
///
/// It reads the files of a folder in step by event time: daily files one after another, a file per device in turns. The
/// order depends only on the files and the offsets.
pub struct FileSource {
    mapping: ColumnMapping,
    until: Until,
    partitions: Vec<Partition>,
    names: Vec<String>,
    /// How many runs have been read.
    calls: u64,
    last_poll: Instant,
    poll_every: Duration,
    folder: Option<Folder>,
    /// With [`Until::CaughtUp`]: what lies ahead, from the first read on.
    outlook: Option<Outlook>,
}

/// A folder watched for new files.
struct Folder {
    path: PathBuf,
    last_scan: Instant,
    scan_every: Duration,
    known: HashSet<String>,
    /// The files that must be complete to be read, with their size when last seen. A file that still grows is not read
    /// yet.
    unsettled: HashMap<String, u64>,
}

impl FileSource {
    /// Opens the file or folder at `path` and checks the columns of every file. A followed folder may be empty.
    ///
    /// With [`Until::CaughtUp`], a last line without a newline is a row; in a followed file, it waits for its end.
    pub fn open(path: &Path, mapping: &ColumnMapping, until: Until) -> Result<Self, SourceError> {
        let no_input = |why: String| SourceError::NoInput {
            path: path.to_owned(),
            why,
        };
        let metadata = fs::metadata(path).map_err(|error| no_input(format!("cannot be read: {error}")))?;
        let files = if metadata.is_dir() {
            let files = decode::list(path)?;
            if files.is_empty() && until == Until::CaughtUp {
                return Err(no_input(format!("holds no file named {}", decode::ENDINGS)));
            }
            files
        } else {
            vec![decode::single(path)?]
        };
        let now = Instant::now();
        let mut source = Self {
            mapping: mapping.clone(),
            until,
            partitions: Vec::with_capacity(files.len()),
            names: Vec::with_capacity(files.len()),
            calls: 0,
            last_poll: now,
            poll_every: POLL_EVERY,
            folder: metadata.is_dir().then(|| Folder {
                path: path.to_owned(),
                last_scan: now,
                scan_every: RESCAN_EVERY,
                known: files.iter().map(|file| file.name.clone()).collect(),
                unsettled: HashMap::new(),
            }),
            outlook: None,
        };
        let tolerant = until == Until::Stopped && source.folder.is_some();
        let mut unusable = Vec::new();
        for file in files {
            match tolerant {
                true => unusable.extend(source.add_or_set_aside(file)?),
                false => source.add(file)?,
            }
        }
        // If no file can be used, it is the folder or the options that are wrong.
        if !unusable.is_empty() && unusable.len() == source.partitions.len() {
            return Err(unusable.swap_remove(0));
        }
        Ok(source)
    }

    fn add(&mut self, file: InputFile) -> Result<(), SourceError> {
        let partition = Partition::new(file, self.until, &self.mapping)?;
        self.names.push(partition.file.name.clone());
        self.partitions.push(partition);
        Ok(())
    }

    /// Adds a file of a followed folder. One that cannot be used must not stop the others: it is reported as unreadable,
    /// and the error is returned.
    fn add_or_set_aside(&mut self, file: InputFile) -> Result<Option<SourceError>, SourceError> {
        let name = file.name.clone();
        let unusable = match self.add(file.clone()) {
            Ok(()) => None,
            // The file was deleted before it was opened.
            Err(SourceError::Read { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                return Ok(None);
            }
            Err(SourceError::Read { source, .. }) if !partition::is_damage(&source) => {
                return Err(SourceError::Read {
                    path: file.path,
                    offset: 0,
                    source,
                });
            }
            Err(error) => {
                self.names.push(name.clone());
                self.partitions
                    .push(Partition::unusable(file, self.until, error.to_string()));
                Some(error)
            }
        };
        // The file counts as known only now, so a file that could not be read is retried and reported again.
        if let Some(folder) = &mut self.folder {
            folder.unsettled.remove(&name);
            folder.known.insert(name);
        }
        Ok(unusable)
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

    /// Returns the time before which no reading is to come. At the end, the caller decides what becomes of the rest.
    fn complete_before(&self) -> Option<EventTime> {
        let outlook = self.outlook.as_ref()?;
        Some(outlook.earliest(&self.partitions).unwrap_or(EventTime::MIN))
    }

    /// Looks for appended rows and for new files, if the last look is long enough ago.
    fn look_around(&mut self) -> Result<(), SourceError> {
        let now = Instant::now();
        if now.duration_since(self.last_poll) >= self.poll_every {
            self.last_poll = now;
            self.partitions.iter_mut().try_for_each(Partition::poll)?;
        }
        let Some(folder) = &mut self.folder else {
            return Ok(());
        };
        if now.duration_since(folder.last_scan) >= folder.scan_every {
            folder.last_scan = now;
            for file in folder.new_files()? {
                self.add_or_set_aside(file)?;
            }
        }
        Ok(())
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

impl Folder {
    fn new_files(&mut self) -> Result<Vec<InputFile>, SourceError> {
        let mut files = decode::list(&self.path)?;
        files.retain(|file| {
            if self.known.contains(&file.name) {
                return false;
            }
            if file.can_grow() {
                return true;
            }
            let size = fs::metadata(&file.path).map_or(0, |metadata| metadata.len());
            let before = self.unsettled.insert(file.name.clone(), size);
            size > 0 && before == Some(size)
        });
        Ok(files)
    }
}

impl Source for FileSource {
    fn partitions(&self) -> &[String] {
        &self.names
    }

    fn seek(&mut self, partition: PartitionIndex, to: Offset) -> Result<(), SourceError> {
        self.partitions[partition].seek(to, &self.mapping)
    }

    fn next_time(&self, partition: PartitionIndex) -> Option<EventTime> {
        self.partitions.get(partition)?.look_ahead()
    }

    fn read(&mut self, sensors: &mut SensorTable, batch: &mut Batch) -> Result<Read, SourceError> {
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
            }
            let mut out = RowSink {
                sensors,
                batch,
                arrival: EventTime::now(),
                limit: ROWS_PER_BATCH,
            };
            self.partitions[index].read(&self.mapping, self.calls, &mut out)?;
            // Half a line at the end of a followed file results in an empty batch.
            if !batch.readings.is_empty() || !batch.unreadable.is_empty() || batch.ended {
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
