//! The lines of a stream, found in a reused buffer.

use std::io::{self, Read};

use memchr::memchr;

use super::stream::{Seeked, Stream};

/// Longest row that is looked at, in bytes; a longer one is unreadable and its rest is never held in memory.
pub(super) const MAX_ROW_BYTES: usize = 1024 * 1024;

/// How much is read at a time; large enough to make the call cheap, small enough to stay in the processor's cache.
const CHUNK_BYTES: usize = 256 * 1024;

/// What a last line without a newline is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LastLine {
    /// A row like any other: the file is complete.
    Counts,
    /// Half a row, whose rest is still to be written.
    Waits,
}

/// Where a byte looked for is, counted from the start of the current row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// Here.
    At(usize),
    /// Nowhere: the stream ends after so many bytes.
    End(usize),
    /// Not within [`MAX_ROW_BYTES`].
    TooLong,
}

/// A stream cut into rows by whoever reads it; the current row starts at [`Lines::offset`].
pub(super) struct Lines {
    stream: Stream,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    offset: u64,
    /// The line of the current row, while it is known.
    line: Option<u64>,
    at_end: bool,
}

impl Lines {
    /// The lines of `stream`, which has not been read yet.
    pub(super) fn new(stream: Stream) -> Self {
        Self {
            stream,
            buffer: vec![0; CHUNK_BYTES],
            start: 0,
            end: 0,
            offset: 0,
            line: Some(1),
            at_end: false,
        }
    }

    /// Where the current row starts in the decompressed stream.
    pub(super) fn offset(&self) -> u64 {
        self.offset
    }

    /// Which line, counted from 1, the current row starts on.
    pub(super) fn line(&self) -> Option<u64> {
        self.line
    }

    /// How far the stream has been read.
    pub(super) fn read_to(&self) -> u64 {
        self.offset + (self.end - self.start) as u64
    }

    /// How many bytes were read from the disk.
    pub(super) fn disk_position(&self) -> u64 {
        self.stream.disk_position()
    }

    /// What is in memory from the start of the current row on.
    #[inline]
    pub(super) fn data(&self) -> &[u8] {
        &self.buffer[self.start..self.end]
    }

    /// Looks for a byte from the start of the current row on, reading on as needed.
    #[inline]
    pub(super) fn find(&mut self, needle: impl Fn(&[u8]) -> Option<usize>) -> io::Result<Found> {
        let mut searched = 0;
        loop {
            if let Some(at) = needle(&self.data()[searched..]) {
                let at = searched + at;
                return Ok(if at > MAX_ROW_BYTES {
                    Found::TooLong
                } else {
                    Found::At(at)
                });
            }
            searched = self.end - self.start;
            if searched > MAX_ROW_BYTES {
                return Ok(Found::TooLong);
            }
            if !self.more()? {
                return Ok(Found::End(searched));
            }
        }
    }

    /// The next row starts `bytes` further on, `lines` lines below.
    #[inline]
    pub(super) fn consume(&mut self, bytes: usize, lines: u64) {
        self.start += bytes;
        self.offset += bytes as u64;
        self.line = self.line.map(|line| line + lines);
    }

    /// Reads more behind what is in memory; false at the end of the stream.
    #[cold]
    pub(super) fn more(&mut self) -> io::Result<bool> {
        if self.at_end {
            return Ok(false);
        }
        self.buffer.copy_within(self.start..self.end, 0);
        self.end -= self.start;
        self.start = 0;
        if self.end == self.buffer.len() {
            self.buffer.resize(self.buffer.len() * 2, 0);
        }
        let read = read_some(&mut self.stream, &mut self.buffer[self.end..])?;
        self.end += read;
        self.at_end = read == 0;
        Ok(read > 0)
    }

    /// Passes over a line that is too long. False, and nowhere moved, if its end is yet to be written and waited for.
    #[cold]
    pub(super) fn skip_long_line(&mut self, last_line: LastLine) -> io::Result<bool> {
        let (offset, line) = (self.offset, self.line);
        loop {
            if let Some(at) = memchr(b'\n', self.data()) {
                self.consume(at + 1, 1);
                return Ok(true);
            }
            self.consume(self.end - self.start, 0);
            if !self.more()? {
                if last_line == LastLine::Waits {
                    // What was passed over is gone from memory: at the end of a stream it is opened anew anyway.
                    (self.offset, self.line) = (offset, line);
                    return Ok(false);
                }
                return Ok(true);
            }
        }
    }

    /// Makes `offset` the start of the current row; the line there is `line`, if that is known. `Err(end)` within if
    /// the stream ends before.
    pub(super) fn seek(&mut self, offset: u64, line: Option<u64>) -> io::Result<Result<(), u64>> {
        match self.stream.try_seek(offset)? {
            Seeked::There => (self.start, self.end, self.offset, self.at_end) = (0, 0, offset, false),
            Seeked::EndsAt(end) => return Ok(Err(end)),
            Seeked::CannotSeek => {
                while self.offset < offset {
                    let here = (self.end - self.start) as u64;
                    let skip = here.min(offset - self.offset);
                    self.consume(skip as usize, 0);
                    if self.offset < offset && !self.more()? {
                        return Ok(Err(self.offset));
                    }
                }
            }
        }
        self.line = line;
        Ok(Ok(()))
    }
}

fn read_some(stream: &mut Stream, into: &mut [u8]) -> io::Result<usize> {
    loop {
        match stream.read(into) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}
