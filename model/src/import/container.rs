//! Compressed files: joblib writes zlib, gzip and LZ4, and people compress with gzip.

use std::borrow::Cow;
use std::io::Read;

use super::{ImportError, MAX_IMPORT_BYTES};

/// Returns the contents of a file, decompressed if it is compressed.
pub(super) fn contents(file: &[u8]) -> Result<Cow<'_, [u8]>, ImportError> {
    let unpacked = match file {
        [0x1f, 0x8b, ..] => limited(flate2::read::MultiGzDecoder::new(file), "gzip"),
        // A zlib header: deflate with a window of 32 KiB, and a checksum of the two bytes.
        [0x78, flags, ..] if (0x7800 + u16::from(*flags)).is_multiple_of(31) => {
            limited(flate2::read::ZlibDecoder::new(file), "zlib")
        }
        [0x04, 0x22, 0x4d, 0x18, ..] => limited(lz4_flex::frame::FrameDecoder::new(file), "LZ4"),
        [0xfd, b'7', b'z', b'X', b'Z', ..] => Err(ImportError::Compression("xz")),
        [0x5d, 0, 0, ..] => Err(ImportError::Compression("lzma")),
        [b'B', b'Z', b'h', ..] => Err(ImportError::Compression("bz2")),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => Err(ImportError::Compression("zstd")),
        _ => return Ok(Cow::Borrowed(file)),
    };
    unpacked.map(Cow::Owned)
}

/// Reads to the end, but no further than the limit, whatever the file says about its size.
fn limited(reader: impl Read, method: &'static str) -> Result<Vec<u8>, ImportError> {
    let mut contents = Vec::new();
    let limit = MAX_IMPORT_BYTES as u64 + 1;
    reader
        .take(limit)
        .read_to_end(&mut contents)
        .map_err(|error| ImportError::Compressed {
            method,
            problem: error.to_string(),
        })?;
    match contents.len() {
        bytes if bytes > MAX_IMPORT_BYTES => Err(ImportError::Unpacked),
        _ => Ok(contents),
    }
}
