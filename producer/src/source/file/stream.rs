//! A file's bytes, decompressed.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::path::Path;

use flate2::bufread::MultiGzDecoder;

use super::kind::Compression;

/// How much of a compressed file is read at a time.
const DISK_CHUNK_BYTES: usize = 128 * 1024;

/// The decompressed bytes of a file, from its first to wherever it is to end.
pub(super) enum Stream {
    Plain(Clipped),
    Gzip(Box<MultiGzDecoder<BufReader<Clipped>>>),
    Zstd(zstd::stream::read::Decoder<'static, BufReader<Clipped>>),
}

/// A file that seems to end at `end`, whatever is appended meanwhile.
pub(super) struct Clipped {
    file: File,
    position: u64,
    end: Option<u64>,
}

impl Read for Clipped {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let left = self.end.map_or(u64::MAX, |end| end.saturating_sub(self.position));
        let room = into.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        let read = self.file.read(&mut into[..room])?;
        self.position += read as u64;
        Ok(read)
    }
}

impl Stream {
    /// Opens the file at `path` as if it ended at `end`.
    pub(super) fn open(path: &Path, compression: Compression, end: Option<u64>) -> io::Result<Self> {
        let file = Clipped {
            file: File::open(path)?,
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

    /// How many bytes have been read from the disk.
    pub(super) fn disk_position(&self) -> u64 {
        match self {
            Self::Plain(file) => file.position,
            Self::Gzip(decoder) => decoder.get_ref().get_ref().position,
            Self::Zstd(decoder) => decoder.get_ref().get_ref().position,
        }
    }

    /// Moves to `offset` of the decompressed bytes, if that can be done without reading there.
    pub(super) fn try_seek(&mut self, offset: u64) -> io::Result<Seeked> {
        let Self::Plain(file) = self else {
            return Ok(Seeked::CannotSeek);
        };
        let length = file.file.metadata()?.len();
        let end = file.end.map_or(length, |end| end.min(length));
        if offset > end {
            return Ok(Seeked::EndsAt(end));
        }
        file.position = file.file.seek(SeekFrom::Start(offset))?;
        Ok(Seeked::There)
    }
}

/// What became of a seek.
pub(super) enum Seeked {
    /// The next byte read is the one asked for.
    There,
    /// The file ends here, before the offset asked for.
    EndsAt(u64),
    /// Only reading leads there.
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
