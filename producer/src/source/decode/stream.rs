//! A file's bytes, decompressed.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};

use flate2::bufread::MultiGzDecoder;

use super::kind::Compression;

/// How many bytes of a compressed file are read at a time.
const DISK_CHUNK_BYTES: usize = 128 * 1024;

/// The decompressed bytes of a file, from its first byte to a given end.
pub(in crate::source) enum Stream {
    Plain(Clipped),
    Gzip(Box<MultiGzDecoder<BufReader<Clipped>>>),
    Zstd(zstd::stream::read::Decoder<'static, BufReader<Clipped>>),
}

/// A file that appears to end at `end`, even when bytes are appended. It keeps a position of its own, because handles of
/// one open file share theirs.
pub(in crate::source) struct Clipped {
    file: File,
    position: u64,
    end: Option<u64>,
}

impl Read for Clipped {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let left = self.end.map_or(u64::MAX, |end| end.saturating_sub(self.position));
        let room = into.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        self.file.seek(SeekFrom::Start(self.position))?;
        let read = self.file.read(&mut into[..room])?;
        self.position += read as u64;
        Ok(read)
    }
}

impl Stream {
    /// Reads `file` from its first byte on, as if it ended at `end`.
    pub(in crate::source) fn of(file: File, compression: Compression, end: Option<u64>) -> io::Result<Self> {
        let file = Clipped {
            file,
            position: 0,
            end,
        };
        let buffered = |file| BufReader::with_capacity(DISK_CHUNK_BYTES, file);
        Ok(match compression {
            Compression::None => Self::Plain(file),
            Compression::Gzip => Self::Gzip(Box::new(MultiGzDecoder::new(buffered(file)))),
            Compression::Zstd => Self::Zstd(zstd::stream::read::Decoder::with_buffer(buffered(file))?),
        })
    }

    /// Returns how many bytes have been read from disk.
    pub(in crate::source) fn disk_position(&self) -> u64 {
        match self {
            Self::Plain(file) => file.position,
            Self::Gzip(decoder) => decoder.get_ref().get_ref().position,
            Self::Zstd(decoder) => decoder.get_ref().get_ref().position,
        }
    }

    /// Moves to `offset` of the decompressed bytes, if that is possible without reading up to it.
    pub(in crate::source) fn try_seek(&mut self, offset: u64) -> io::Result<Seeked> {
        let Self::Plain(file) = self else {
            return Ok(Seeked::CannotSeek);
        };
        let length = file.file.metadata()?.len();
        let end = file.end.map_or(length, |end| end.min(length));
        if offset > end {
            return Ok(Seeked::EndsAt(end));
        }
        file.position = offset;
        Ok(Seeked::There)
    }
}

/// The result of a seek.
pub(in crate::source) enum Seeked {
    /// The next byte read is the requested one.
    There,
    /// The file ends here, before the requested offset.
    EndsAt(u64),
    /// The offset can only be reached by reading.
    CannotSeek,
}

impl Read for Stream {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(file) => file.read(into),
            Self::Gzip(decoder) => decoder.read(into),
            Self::Zstd(decoder) => decoder.read(into),
        }
    }
}
