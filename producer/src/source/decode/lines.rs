//! The lines of a stream, found in a reused buffer.

use std::io::{self, Read};

use memchr::memchr;

use crate::source::{MAX_RAW_BYTES, Offset, Raw, Unreadable};

use super::sink::{RowSink, Step};
use super::stream::{Seeked, Stream};

/// The longest row that is decoded, in bytes. A longer row is unreadable, and its rest is never held in memory.
pub(in crate::source) const MAX_ROW_BYTES: usize = 1024 * 1024;

/// How many bytes are read at a time: enough to make the call cheap, few enough to stay in the processor's cache.
const CHUNK_BYTES: usize = 256 * 1024;

/// How to treat a last line without a newline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::source) enum LastLine {
    /// It is a row like any other: the file is complete.
    Counts,
    /// It is half a row; the rest is not written yet.
    Waits,
}

/// The result of a search for a byte, counted from the start of the current row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::source) enum Found {
    /// The byte is here.
    At(usize),
    /// Not found: the stream ends after this many bytes.
    End(usize),
    /// Not found within [`MAX_ROW_BYTES`].
    TooLong,
}

/// A stream that its reader cuts into rows; the current row starts at [`Lines::offset`].
pub(in crate::source) struct Lines {
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
    /// Creates the lines of `stream`, which must not have been read yet.
    pub(in crate::source) fn new(stream: Stream) -> Self {
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

    /// Returns where the current row starts in the decompressed stream.
    pub(in crate::source) fn offset(&self) -> u64 {
        self.offset
    }

    /// Returns the line on which the current row starts, counted from 1.
    pub(in crate::source) fn line(&self) -> Option<u64> {
        self.line
    }

    /// Returns how far the stream has been read.
    pub(in crate::source) fn read_to(&self) -> u64 {
        self.offset + (self.end - self.start) as u64
    }

    /// Returns how many bytes were read from disk.
    pub(in crate::source) fn disk_position(&self) -> u64 {
        self.stream.disk_position()
    }

    /// Returns the bytes in memory from the start of the current row on.
    #[inline]
    pub(in crate::source) fn data(&self) -> &[u8] {
        &self.buffer[self.start..self.end]
    }

    /// Looks for a byte from the start of the current row on; reads more as needed. The needle sees every byte once, in
    /// order.
    #[inline]
    pub(in crate::source) fn find(
        &mut self,
        mut needle: impl FnMut(&[u8]) -> Option<usize>,
    ) -> io::Result<Found> {
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

    /// Moves to the next row, which starts `bytes` bytes and `lines` lines further on.
    #[inline]
    pub(in crate::source) fn consume(&mut self, bytes: usize, lines: u64) {
        self.start += bytes;
        self.offset += bytes as u64;
        self.line = self.line.map(|line| line + lines);
    }

    /// Reads more bytes into memory; returns false at the end of the stream.
    #[cold]
    pub(in crate::source) fn more(&mut self) -> io::Result<bool> {
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

    /// Skips a line that is too long, and returns what is kept of it. With [`LastLine::Waits`], returns `None` and does
    /// not move if the line has no end yet.
    #[cold]
    pub(in crate::source) fn skip_long_line(&mut self, last_line: LastLine) -> io::Result<Option<Raw>> {
        let (offset, line) = (self.offset, self.line);
        let mut head = Vec::new();
        let raw = |head: &[u8], end: u64| {
            // As in a row that is not too long, the carriage return belongs to the line's end.
            let whole = end - offset - u64::from(head.len() as u64 == end - offset && head.ends_with(b"\r"));
            Raw::head(&head[..head.len().min(whole as usize)], whole)
        };
        loop {
            let newline = memchr(b'\n', self.data());
            let here = newline.unwrap_or(self.end - self.start);
            let room = MAX_RAW_BYTES - head.len();
            head.extend_from_slice(&self.data()[..here.min(room)]);
            self.consume(here, 0);
            if newline.is_some() {
                let end = self.offset;
                self.consume(1, 1);
                return Ok(Some(raw(&head, end)));
            }
            if !self.more()? {
                if last_line == LastLine::Waits {
                    // The skipped bytes are no longer in memory. That does no harm: the stream is reopened after its
                    // end anyway.
                    (self.offset, self.line) = (offset, line);
                    return Ok(None);
                }
                return Ok(Some(raw(&head, self.offset)));
            }
        }
    }

    /// Makes `offset` the start of the current row, on line `line` if that is known. Returns the inner `Err(end)` if
    /// the stream ends before `offset`.
    pub(in crate::source) fn seek(&mut self, offset: u64, line: Option<u64>) -> io::Result<Result<(), u64>> {
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

/// Sets aside the current row, which has no end within [`MAX_ROW_BYTES`].
#[cold]
pub(in crate::source) fn skip_too_long(
    lines: &mut Lines,
    last_line: LastLine,
    out: &mut RowSink<'_>,
) -> io::Result<Step> {
    let (offset, line) = (lines.offset(), lines.line());
    let Some(raw) = lines.skip_long_line(last_line)? else {
        return Ok(Step::End);
    };
    let detail = format!("the row is longer than {MAX_ROW_BYTES} bytes");
    out.set_aside(Unreadable::new(Offset(offset), line, detail, raw));
    Ok(Step::More)
}
