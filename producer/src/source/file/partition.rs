//! One file as a partition: opened when its turn comes, closed when it ends.

use std::io;

use file_id::FileId;
use windrow_common::{EventTime, LocalTime};

use super::follow::Watch;
use crate::sensors::SensorTable;
use crate::source::decode::{
    ColumnMapping, Compression, Decoder, End, InputFile, LastLine, RowPosition, RowSink, Step,
};
use crate::source::{Batch, Content, Offset, Reading, SourceError, Until};
use crate::window::MAX_ABS_VALUE;

/// How many rows at the start of a file are searched for its first event time.
const PEEKED_ROWS: usize = 1_000;

/// A file, and how far it has been read.
pub(super) struct Partition {
    pub(super) file: InputFile,
    pub(super) until: Until,
    pub(super) state: State,
    pub(super) position: RowPosition,
    /// Bytes on disk: all there are to read, or those seen so far of a followed file.
    pub(super) size: u64,
    /// Bytes on disk that are done.
    done: u64,
    reached: Option<EventTime>,
    /// Event time of the first usable reading from the position on, until that reading is read.
    ahead: Option<EventTime>,
    /// When it was last read, counted in calls of [`Partition::read`] to any partition.
    last_read: u64,
    /// Which file of the file system it is; `None` if that cannot be told.
    pub(super) id: Option<FileId>,
    /// The longest content that was read, by this run or by an earlier one.
    pub(super) content: Option<Content>,
    /// What is known of a followed file from looks at it.
    pub(super) watch: Watch,
    /// How the file is understood, and what a look at its first rows showed.
    pub(super) look: Look,
    /// A time that was read and occurs twice in its zone.
    time_twice: Option<LocalTime>,
}

/// What a look at the first rows of a file shows.
#[derive(Clone, Debug, Default)]
pub(super) struct Look {
    /// How the file is understood, for a person; `None` while nothing is written.
    pub(super) summary: Option<String>,
    /// Whether it could be understood otherwise, so that a person should know.
    pub(super) is_guessed: bool,
    /// Times without a zone were read.
    pub(super) without_zone: bool,
    /// Why no row can be read, if it is the time of each.
    pub(super) bad_time: Option<String>,
}

pub(super) enum State {
    /// To be opened at the position.
    Closed,
    Open(Decoder),
    /// Read to the end it has at the moment.
    Waiting,
    /// Read to its end, for good.
    Ended,
    /// Cannot be used, for this reason, which is not reported yet.
    Unusable(String),
    /// Nothing more of it can be read, which is not reported yet.
    Leaving,
}

impl Partition {
    /// Creates the partition of `file`: checks its columns and looks up its first event time.
    pub(super) fn new(file: InputFile, until: Until, mapping: &ColumnMapping) -> Result<Self, SourceError> {
        let mut partition = Self::in_state(State::Closed, file, until);
        partition.size = partition.size_on_disk()?;
        partition.peek(mapping)?;
        Ok(partition)
    }

    /// Creates the partition of a file that cannot be opened; its only item is the reason, as unreadable.
    pub(super) fn unusable(file: InputFile, until: Until, why: String) -> Self {
        Self::in_state(State::Unusable(why), file, until)
    }

    fn in_state(state: State, file: InputFile, until: Until) -> Self {
        Self {
            id: file_id::get_file_id(&file.path).ok(),
            watch: Watch::of(&file),
            file,
            until,
            state,
            position: RowPosition::default(),
            size: 0,
            done: 0,
            reached: None,
            ahead: None,
            last_read: 0,
            content: None,
            look: Look::default(),
            time_twice: None,
        }
    }

    /// Names devices after the partition, which keeps its name when the file is renamed.
    pub(super) fn name_devices_after(&mut self, partition: &str) {
        let is_number = |number: &str| number.bytes().all(|byte| byte.is_ascii_digit());
        let name = partition.rsplit_once('#').filter(|(_, number)| is_number(number));
        name.map_or(partition, |(name, _)| name)
            .clone_into(&mut self.file.first_name);
    }

    /// Continues from `to`, an offset that an earlier run returned.
    pub(super) fn seek(&mut self, to: Offset, mapping: &ColumnMapping) -> Result<(), SourceError> {
        if matches!(self.state, State::Unusable(_)) {
            return Ok(());
        }
        self.state = State::Closed;
        self.position = RowPosition {
            offset: to.0,
            line: None,
        };
        // Compressed text must be read all the way to `to`. That is done once, when its turn comes; until then the
        // event time it starts with is used.
        if self.reopens_cheaply() {
            self.peek(mapping)?;
        }
        Ok(())
    }

    /// Returns the event time of the next reading, as long as nothing has been read.
    pub(super) fn look_ahead(&self) -> Option<EventTime> {
        self.ahead
    }

    /// Returns the event time it has reached, or the one it starts with.
    pub(super) fn reached(&self) -> Option<EventTime> {
        self.reached
    }

    /// Returns the offset of the next row.
    pub(super) fn offset(&self) -> u64 {
        self.position.offset
    }

    /// Opens another decoder from the position on; `None` if there is nothing to decode.
    pub(super) fn decoder(&self, mapping: &ColumnMapping) -> Result<Option<Decoder>, SourceError> {
        match self.state {
            State::Unusable(_) | State::Ended | State::Leaving => Ok(None),
            _ => self.open(mapping),
        }
    }

    /// Returns whether there is something to read.
    pub(super) fn is_ready(&self) -> bool {
        !matches!(self.state, State::Waiting | State::Ended)
    }

    /// Returns when it was last read, if its file is open and can be reopened without reading it from the start.
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

    /// Returns the bytes on disk that are done, and all of them.
    pub(super) fn progress(&self) -> (u64, u64) {
        (self.done.min(self.size), self.size)
    }

    /// Reads the next rows into `out`, whose batch was cleared for this partition.
    pub(super) fn read(
        &mut self,
        mapping: &ColumnMapping,
        call: u64,
        out: &mut RowSink<'_>,
    ) -> Result<(), SourceError> {
        self.last_read = call;
        self.ahead = None;
        if let State::Unusable(why) = &mut self.state {
            out.unreadable(0, None, std::mem::take(why), b"");
            self.give_up(out.batch);
            return Ok(());
        }
        if let State::Leaving = self.state {
            out.batch.next = Offset(self.position.offset);
            self.give_up(out.batch);
            return Ok(());
        }
        if !self.is_open() {
            if self.until == Until::Stopped {
                match self.size_on_disk() {
                    Ok(size) => self.size = size,
                    // It was renamed or deleted a moment ago: the next scan tells.
                    Err(error) if is_missing(&error) => {
                        self.wait_for_scan();
                        return Ok(());
                    }
                    Err(error) => return Err(error),
                }
            }
            match self.open(mapping) {
                Ok(Some(decoder)) => self.state = State::Open(decoder),
                Ok(None) => {}
                // It was cut a moment ago.
                Err(SourceError::Shrunk { .. }) if self.until == Until::Stopped && self.file.can_grow() => {
                    self.leave_replaced();
                    return Ok(());
                }
                Err(error) => return Err(error),
            }
        }
        let State::Open(decoder) = &mut self.state else {
            out.batch.next = Offset(self.position.offset);
            self.end(out.batch, self.size);
            return Ok(());
        };
        let decoded = decoder.decode(out);
        self.position = decoder.position();
        self.time_twice = self.time_twice.or(decoder.noticed().twice);
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
                    "damaged or incomplete at byte or row {offset}: {source}; once the file is whole, \
                     a later run reads the rest"
                );
                // The position stays before the damage, so that a later run continues from here.
                out.unreadable(self.position.offset, self.position.line, detail, b"");
                self.give_up(out.batch);
            }
            Err(source) => {
                let offset = decoder.read_to();
                self.state = State::Closed;
                // The rows before the error are good: they are returned first, and the next read meets the error again.
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

    /// Ends a file of `size` bytes, for now or for good.
    fn end(&mut self, batch: &mut Batch, size: u64) {
        if self.until == Until::Stopped && self.file.can_grow() {
            // Before the file can be replaced.
            self.content();
            self.size = size;
            self.state = State::Waiting;
        } else {
            self.give_up(batch);
        }
    }

    /// Ends the file for good.
    pub(super) fn give_up(&mut self, batch: &mut Batch) {
        self.content();
        self.done = self.size;
        self.state = State::Ended;
        self.file.handle = None;
        batch.ended = true;
    }

    /// Opens the file, checks its columns and looks up the event time of the first usable reading from the position on.
    fn peek(&mut self, mapping: &ColumnMapping) -> Result<(), SourceError> {
        (self.reached, self.ahead) = (None, None);
        let opened = match self.open(mapping) {
            Err(error) if self.until == Until::Stopped && is_missing(&error) => return Ok(()),
            opened => opened?,
        };
        let Some(mut decoder) = opened else {
            return Ok(());
        };
        self.done = decoder.disk_position(self.file.compression, self.size);
        let (mut sensors, mut batch) = (SensorTable::new(), Batch::default());
        let mut bad_time = None;
        for _ in 0..PEEKED_ROWS {
            batch.clear(0);
            let mut out = RowSink {
                sensors: &mut sensors,
                batch: &mut batch,
                arrival: EventTime::now(),
                limit: 1,
            };
            // Errors in the rows come up again when the rows are read.
            let step = decoder.decode(&mut out);
            if let Some(row) = batch.unreadable.first() {
                let is_time = batch.bad_times > 0 && !matches!(bad_time, Some(None));
                // Once something else was wrong, the times are not the only problem.
                bad_time = Some(
                    bad_time
                        .flatten()
                        .or(Some(row.detail.clone()))
                        .filter(|_| is_time),
                );
            }
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
        self.look = Look {
            summary: Some(decoder.summary().to_owned()),
            is_guessed: decoder.is_guessed(),
            without_zone: decoder.noticed().without_zone,
            bad_time: bad_time.flatten().filter(|_| self.reached.is_none()),
        };
        Ok(())
    }

    /// Returns a time that was read although it occurs twice in its zone.
    pub(super) fn time_twice(&self) -> Option<LocalTime> {
        self.time_twice
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
        let metadata = self.file.metadata().map_err(|source| SourceError::Read {
            path: self.file.path.clone(),
            offset: self.position.offset,
            source,
        })?;
        Ok(metadata.len())
    }

    fn reopens_cheaply(&self) -> bool {
        self.file.compression == Compression::None
    }
}

fn is_missing(error: &SourceError) -> bool {
    matches!(error, SourceError::Read { source, .. } if source.kind() == io::ErrorKind::NotFound)
}

/// Returns whether the windower accepts the reading, whatever skew it allows. A quarantined reading moves no watermark,
/// so looking ahead to it must not move one either.
fn counts(reading: &Reading) -> bool {
    reading.time <= reading.arrival && reading.value.abs() <= MAX_ABS_VALUE
}

/// Returns the event time that stands for a run of readings: the median of its first, middle and last one. So a device
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

/// Returns whether the bytes of the file are wrong, as opposed to a system error while reading them.
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
