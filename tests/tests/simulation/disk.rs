//! The simulated plant: it appends to files in a folder, and renames, rotates and rewrites them, in place too.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tempfile::TempDir;
use tokio::time::Instant;
use windrow_tests::Draws;

use crate::plan::{Content, Entry, Plan, below, chance};

const HEADER: &str = "ts,device,tag,value\n";

/// A folder of files, one or more for each partition of a plan.
#[derive(Clone, Debug)]
pub(crate) struct Disk {
    folder: Arc<TempDir>,
    first_files: FirstFiles,
}

/// The first file of each partition, as long as it has its name.
type FirstFiles = Arc<Mutex<BTreeMap<usize, FirstFile>>>;

#[derive(Debug, Default)]
struct FirstFile {
    /// The offsets of the entries in it.
    offsets: Vec<u64>,
    ends_with_a_whole_line: bool,
}

impl Disk {
    /// Creates the folder. What the plan says happens in it from now on, whatever becomes of those who read it.
    pub(crate) fn start(plan: &Arc<Plan>, draws: &mut Draws) -> std::io::Result<Self> {
        let disk = Self {
            folder: Arc::new(tempfile::tempdir()?),
            first_files: FirstFiles::default(),
        };
        for partition in 0..plan.partitions.len() {
            let mut files = disk.first_files.lock().expect("nobody panics with it");
            files.insert(partition, FirstFile::default());
        }
        let folder = disk.path().to_owned();
        let writers = (0..plan.partitions.len()).map(|partition| Writer {
            draws: Draws(draws.below(u64::MAX)),
            path: folder.join(format!("{partition}.csv")),
            folder: folder.clone(),
            partition,
            renamed: 0,
            first_files: Arc::clone(&disk.first_files),
        });
        let start = Instant::now();
        for writer in writers {
            tokio::spawn(writer.write(Arc::clone(plan), start));
        }
        Ok(disk)
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Deletes the first file of a partition, if there is one. Returns the partition's number and the offsets of the
    /// entries that were in the file.
    pub(crate) fn delete_a_file(&self) -> Option<(usize, Vec<u64>)> {
        let mut files = self.first_files.lock().expect("nobody panics with it");
        let mut there = files.iter().filter(|(_, file)| file.ends_with_a_whole_line);
        let partition = *there.next()?.0;
        fs::remove_file(self.path().join(format!("{partition}.csv"))).expect("it is there");
        // A folder without files is refused at the end.
        let left = fs::read_dir(self.path()).expect("the folder is there").count();
        if left == 0 {
            let other = self.path().join("other.csv");
            fs::write(other, HEADER).expect("a temporary folder can be written to");
        }
        Some((partition, files.remove(&partition)?.offsets))
    }
}

/// The writer of one file after another.
struct Writer {
    draws: Draws,
    folder: PathBuf,
    path: PathBuf,
    partition: usize,
    /// How many names it has given.
    renamed: u32,
    first_files: FirstFiles,
}

impl Writer {
    async fn write(mut self, plan: Arc<Plan>, start: Instant) {
        // Half a line waits for its other half.
        let mut rest = String::new();
        let entries = &plan.partitions[self.partition];
        for (index, entry) in entries.iter().enumerate() {
            tokio::time::sleep_until(start + Duration::from_millis(entry.released_ms)).await;
            let mut text = std::mem::take(&mut rest) + &self.row(entry);
            if chance(&mut self.draws, 15) && index + 1 < entries.len() {
                rest = text.split_off(below(&mut self.draws, text.len() as u64) as usize);
            }
            let done = self.append(&text).and_then(|()| match rest.is_empty() {
                true => self.move_about(),
                false => Ok(()),
            });
            done.expect("a temporary folder can be written to");
            self.note(entry, rest.is_empty());
            if let Some(next) = entries.get(index + 1)
                && rest.is_empty()
                && chance(&mut self.draws, 4)
            {
                let most = next.released_ms.saturating_sub(entry.released_ms);
                let written = self.write_in_place(Duration::from_millis(most)).await;
                written.expect("a temporary folder can be written to");
            }
        }
    }

    /// Cuts the file and writes it once more, with a pause of at most `most` in between.
    async fn write_in_place(&mut self, most: Duration) -> std::io::Result<()> {
        let text = match fs::read(&self.path) {
            // It was rotated, and the next row begins another.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            text => text?,
        };
        self.set_whole(false);
        fs::write(&self.path, b"")?;
        tokio::time::sleep(most.min(Duration::from_millis(below(&mut self.draws, 3_000)))).await;
        fs::write(&self.path, text)?;
        self.set_whole(true);
        Ok(())
    }

    /// Notes whether the first file, if it is still written to, ends with a whole line.
    fn set_whole(&self, ends_with_a_whole_line: bool) {
        let mut files = self.first_files.lock().expect("nobody panics with it");
        if let Some(file) = files.get_mut(&self.partition) {
            file.ends_with_a_whole_line = ends_with_a_whole_line;
        }
    }

    /// Notes that the entry is in the first file, if it is.
    fn note(&self, entry: &Entry, ends_with_a_whole_line: bool) {
        let mut files = self.first_files.lock().expect("nobody panics with it");
        if self.renamed > 0 {
            files.remove(&self.partition);
        }
        if let Some(file) = files.get_mut(&self.partition) {
            file.offsets.push(entry.offset);
            file.ends_with_a_whole_line = ends_with_a_whole_line;
        }
    }

    fn row(&self, entry: &Entry) -> String {
        match entry.content {
            Content::Reading { sensor, time, value } => format!("{time},d{sensor},t,{value}\n"),
            Content::Garbage => format!("garbage {} {}\n", self.partition, entry.offset),
        }
    }

    fn append(&self, text: &str) -> std::io::Result<()> {
        let mut file = fs::OpenOptions::new()
            .append(true)
            .create(true)
            .open(&self.path)?;
        if file.metadata()?.len() == 0 {
            file.write_all(HEADER.as_bytes())?;
        }
        file.write_all(text.as_bytes())
    }

    /// Sometimes renames the file, rotates it, or writes it anew.
    fn move_about(&mut self) -> std::io::Result<()> {
        let (folder, partition) = (self.folder.clone(), self.partition);
        let mut another = |before: &str| {
            self.renamed += 1;
            folder.join(format!("{before}{partition}-{}.csv", self.renamed))
        };
        match below(&mut self.draws, 100) {
            0..4 => {
                // The next row begins a new file under the old name.
                fs::rename(&self.path, another("old-"))
            }
            4..8 => {
                let path = another("");
                fs::rename(&self.path, &path)?;
                self.path = path;
                Ok(())
            }
            8..12 => {
                let anew = self.folder.join(format!(".{partition}"));
                fs::copy(&self.path, &anew)?;
                fs::rename(&anew, &self.path)
            }
            _ => Ok(()),
        }
    }
}
