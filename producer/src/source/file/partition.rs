//! One file as a partition: opened when its turn comes, closed when it ends.

use std::{fs, io};

use windrow_common::EventTime;

use crate::sensors::SensorTable;
use crate::source::{Batch, Offset, Reading, SourceError, Until};
use crate::window::MAX_ABS_VALUE;

use super::cells::Output;
use super::decoder::{Decoder, End, Position, Step};
use super::kind::InputFile;
use super::lines::LastLine;
use super::mapping::ColumnMapping;

/// How many bad rows at the start of a file are passed over in search of its first event time.
const PEEKED_ROWS: usize = 1_000;

/// A file, and how far it has been read.
pub(super) struct Partition {
    pub(super) file: InputFile,
    until: Until,
    state: State,
    position: Position,
    /// Bytes on disk: all there are to read, or those seen so far of a file that is followed.
    size: u64,
    /// Bytes on disk that are done.
    done: u64,
    reached: Option<EventTime>,
    /// Event time of the first reading that counts from the position on, until that is read.
    ahead: Option<EventTime>,
    /// When it was read last, in calls of [`Partition::read`] to any partition.
    last_read: u64,
}

enum State {
    /// To be opened at the position.
    Closed,
    Open(Decoder),
    /// Read to where it ends at the moment.
    Waiting,
    /// Read to its end.
    Ended,
    /// Of no use, for this reason, which is yet to be told.
    Unusable(String),
}

impl Partition {
    /// The partition of `file`, of which columns and first event time are looked up.
    pub(super) fn new(file: InputFile, until: Until, mapping: &ColumnMapping) -> Result<Self, SourceError> {
        let mut partition = Self {
            file,
            until,
            state: State::Closed,
            position: Position::default(),
            size: 0,
            done: 0,
            reached: None,
            ahead: None,
            last_read: 0,
        };
        partition.size = partition.size_on_disk()?;
        partition.peek(mapping)?;
        Ok(partition)
    }

    /// The partition of a file that cannot be opened: all it has is the reason, as something unreadable.
    pub(super) fn unusable(file: InputFile, until: Until, why: String) -> Self {
        Self {
            file,
            until,
            state: State::Unusable(why),
            position: Position::default(),
            size: 0,
            done: 0,
            reached: None,
            ahead: None,
            last_read: 0,
        }
    }

    /// Goes on from `to`, an offset that an earlier run was handed.
    pub(super) fn seek(&mut self, to: Offset, mapping: &ColumnMapping) -> Result<(), SourceError> {
        self.state = State::Closed;
        self.position = Position {
            offset: to.0,
            line: None,
        };
        // A compressed text has to be read all the way to there, which is done once, when its turn comes; until then
        // the event time it starts with has to do.
        if self.reopens_cheaply() {
            self.peek(mapping)?;
        }
        Ok(())
    }

    /// Event time of the next reading, as far as nothing has been read yet.
    pub(super) fn look_ahead(&self) -> Option<EventTime> {
        self.ahead
    }

    /// The event time it has got to, or that it starts with.
    pub(super) fn reached(&self) -> Option<EventTime> {
        self.reached
    }

    /// Whether there is something to read.
    pub(super) fn is_ready(&self) -> bool {
        matches!(self.state, State::Closed | State::Open(_) | State::Unusable(_))
    }

    /// When it was read last, if it holds a file open that can be closed and opened again without reading it anew.
    pub(super) fn can_be_closed(&self) -> Option<u64> {
        (self.is_open() && self.reopens_cheaply()).then_some(self.last_read)
    }

    pub(super) fn is_open(&self) -> bool {
        matches!(self.state, State::Open(_))
    }

    /// Closes the file; the next read opens it again.
    pub(super) fn close(&mut self) {
        if self.is_open() {
            self.state = State::Closed;
        }
    }

    /// Bytes on disk that are done, and all.
    pub(super) fn progress(&self) -> (u64, u64) {
        (self.done.min(self.size), self.size)
    }

    /// Reads the next rows into `out`, whose batch was cleared for this partition.
    pub(super) fn read(
        &mut self,
        mapping: &ColumnMapping,
        call: u64,
        out: &mut Output<'_>,
    ) -> Result<(), SourceError> {
        self.last_read = call;
        self.ahead = None;
        if let State::Unusable(why) = &mut self.state {
            out.unreadable(0, None, std::mem::take(why), b"");
            self.give_up(out.batch);
            return Ok(());
        }
        if !self.is_open() {
            if self.until == Until::Stopped {
                self.size = self.size_on_disk()?;
            }
            if let Some(decoder) = self.open(mapping)? {
                self.state = State::Open(decoder);
            }
        }
        let State::Open(decoder) = &mut self.state else {
            out.batch.next = Offset(self.position.offset);
            self.end(out.batch, self.size);
            return Ok(());
        };
        let decoded = decoder.decode(out);
        self.position = decoder.position();
        self.done = decoder.disk_position(self.file.compression, self.size);
        out.batch.next = Offset(self.position.offset);
        self.reached = self.reached.max(typical_time(&out.batch.readings));
        match decoded {
            Ok(Step::More) => {}
            Ok(Step::End) => {
                let size = decoder.disk_size(self.size);
                self.end(out.batch, size);
            }
            Err(source) if is_damage(&source) => {
                let offset = decoder.read_to();
                let detail = format!(
                    "damaged or incomplete at byte or row {offset}: {source}; what lies behind is read by a run \
                     that finds the file whole"
                );
                // Not moved past: a later run goes on from here.
                out.unreadable(self.position.offset, self.position.line, detail, b"");
                self.give_up(out.batch);
            }
            Err(source) => {
                let offset = decoder.read_to();
                self.state = State::Closed;
                // Rows before the damage are good: they go out first, and the next read meets the damage again.
                if out.batch.readings.is_empty() && out.batch.unreadable.is_empty() {
                    return Err(SourceError::Read {
                        path: self.file.path.clone(),
                        offset,
                        source,
                    });
                }
            }
        }
        Ok(())
    }

    /// Nothing more to read in a file of `size` bytes, for now or for good.
    fn end(&mut self, batch: &mut Batch, size: u64) {
        if self.until == Until::Stopped && self.file.can_grow() {
            self.size = size;
            self.state = State::Waiting;
        } else {
            self.give_up(batch);
        }
    }

    /// Nothing will ever be read from the file again.
    fn give_up(&mut self, batch: &mut Batch) {
        self.done = self.size;
        self.state = State::Ended;
        batch.ended = true;
    }

    /// Looks whether a file that was read to its end has grown.
    pub(super) fn poll(&mut self) -> Result<(), SourceError> {
        if !matches!(self.state, State::Waiting) {
            return Ok(());
        }
        // A file that was read and then removed is no news.
        let Ok(metadata) = fs::metadata(&self.file.path) else {
            return Ok(());
        };
        if metadata.len() < self.position.offset {
            return Err(SourceError::Shrunk {
                path: self.file.path.clone(),
                offset: self.position.offset,
                end: metadata.len(),
            });
        }
        if metadata.len() != self.size {
            self.state = State::Closed;
        }
        Ok(())
    }

    /// Opens the file, checks its columns and takes the event time of the first reading from the position on.
    fn peek(&mut self, mapping: &ColumnMapping) -> Result<(), SourceError> {
        (self.reached, self.ahead) = (None, None);
        let Some(mut decoder) = self.open(mapping)? else {
            return Ok(());
        };
        self.done = decoder.disk_position(self.file.compression, self.size);
        let (mut sensors, mut batch) = (SensorTable::new(), Batch::default());
        for _ in 0..PEEKED_ROWS {
            batch.clear(0);
            let mut out = Output {
                sensors: &mut sensors,
                batch: &mut batch,
                arrival: EventTime::now(),
                limit: 1,
            };
            // Whatever is wrong with the rows comes up again when they are read.
            let step = decoder.decode(&mut out);
            if let Some(reading) = batch.readings.first() {
                self.reached = self.reached.or(Some(reading.time));
                if counts(reading) {
                    (self.reached, self.ahead) = (Some(reading.time), Some(reading.time));
                    break;
                }
            }
            if !matches!(step, Ok(Step::More)) {
                break;
            }
        }
        Ok(())
    }

    fn open(&self, mapping: &ColumnMapping) -> Result<Option<Decoder>, SourceError> {
        if self.size == 0 && self.position.offset == 0 {
            return Ok(None);
        }
        let follow = self.until == Until::Stopped && self.file.can_grow();
        let end = End {
            size: (!follow).then_some(self.size),
            last_line: if follow { LastLine::Waits } else { LastLine::Counts },
        };
        Decoder::open(&self.file, self.position, end, mapping)
    }

    fn size_on_disk(&self) -> Result<u64, SourceError> {
        let metadata = fs::metadata(&self.file.path).map_err(|source| SourceError::Read {
            path: self.file.path.clone(),
            offset: self.position.offset,
            source,
        })?;
        Ok(metadata.len())
    }

    fn reopens_cheaply(&self) -> bool {
        self.file.compression == super::kind::Compression::None
    }
}

/// Whether the windower takes the reading in whatever skew it allows. One that it quarantines moves no watermark, so it
/// must not by being looked ahead to either.
fn counts(reading: &Reading) -> bool {
    reading.time <= reading.arrival && reading.value.abs() <= MAX_ABS_VALUE
}

/// The event time a run of readings stands for: of its first, middle and last, the one in between, so that a device
/// with a wrong clock does not make the whole file wait for the others.
fn typical_time(readings: &[Reading]) -> Option<EventTime> {
    let past = |reading: &&Reading| reading.time <= reading.arrival;
    let time = |reading: &Reading| reading.time;
    let middle = &readings[readings.len() / 2..];
    let first = readings.iter().find(past).or(readings.first()).map(time)?;
    let last = readings.iter().rfind(past).or(readings.last()).map(time)?;
    let middle = middle.iter().find(past).map_or(last, time);
    Some(first.min(last).max(first.max(last).min(middle)))
}

/// Whether a file's bytes are wrong, as opposed to the system that could not hand them over.
pub(super) fn is_damage(error: &io::Error) -> bool {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<io::Error>()
            && error.raw_os_error().is_some()
        {
            return false;
        }
        cause = error.source();
    }
    true
}
