//! Files that can be read only once they are whole: compressed files, Parquet and Avro.

use std::fs::{File, Metadata};
use std::io::{self, Read, Seek, SeekFrom};
use std::time::{Duration, SystemTime};

use crate::source::Until;
use crate::source::decode::{self, AVRO_MARK, Compression, InputFile, Kind, Stream};

use super::partition::is_damage;

/// How long a file that is not whole must not have changed to be read as it is.
pub(super) const SETTLED_AFTER: Duration = Duration::from_secs(60);

/// What files of these kinds begin with.
const PARQUET_MARK: &[u8] = b"PAR1";
const GZIP_MARK: &[u8] = &[0x1f, 0x8b];
const ZSTD_MARK: &[u8] = &[0x28, 0xb5, 0x2f, 0xfd];

/// Returns whether the file can be read: it is whole, may grow, or nobody has written to it for `settled_after`.
pub(super) fn is_settled(file: &InputFile, until: Until, settled_after: Duration) -> io::Result<bool> {
    if file.can_grow() {
        return Ok(true);
    }
    let metadata = std::fs::metadata(&file.path)?;
    if metadata.len() == 0 {
        return Ok(until == Until::CaughtUp);
    }
    Ok(age(&metadata) >= settled_after || is_whole(file)?)
}

/// Returns the time since the last write; zero if that is in the future.
fn age(metadata: &Metadata) -> Duration {
    let modified = metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH);
    SystemTime::now().duration_since(modified).unwrap_or_default()
}

/// Returns whether the end of the file is there, or its start is not that of a file of its kind. To find the end of a
/// compressed file, all of it is decompressed.
pub(super) fn is_whole(file: &InputFile) -> io::Result<bool> {
    let mut opened = file.open()?;
    let mark = match file.compression {
        Compression::Gzip => GZIP_MARK,
        Compression::Zstd => ZSTD_MARK,
        Compression::None if file.kind == Kind::Avro => AVRO_MARK,
        Compression::None => PARQUET_MARK,
    };
    let mut start = Vec::new();
    opened.rewind()?;
    opened.by_ref().take(mark.len() as u64).read_to_end(&mut start)?;
    // Appended bytes cannot turn it into a file of this kind.
    if !mark.starts_with(&start) {
        return Ok(true);
    }
    if file.kind == Kind::Avro {
        return decode::is_whole_avro(opened);
    }
    if file.has_footer() {
        return has_parquet_footer(&mut opened);
    }
    let unpacked = Stream::of(opened, file.compression, None)
        .and_then(|mut stream| io::copy(&mut stream, &mut io::sink()));
    match unpacked {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) if is_damage(&error) => Ok(true),
        Err(error) => Err(error),
    }
}

/// A Parquet file ends with its metadata, their length and the mark.
fn has_parquet_footer(file: &mut File) -> io::Result<bool> {
    let size = file.seek(SeekFrom::End(0))?;
    if size < 12 {
        return Ok(false);
    }
    let mut end = [0; 8];
    file.seek(SeekFrom::End(-8))?;
    file.read_exact(&mut end)?;
    let [a, b, c, d, mark @ ..] = end;
    let metadata = u64::from(u32::from_le_bytes([a, b, c, d]));
    Ok(mark == PARQUET_MARK && metadata + 12 <= size)
}
