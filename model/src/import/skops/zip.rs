//! ZIP archives, as far as Python writes them: entries that are stored or deflated.

use std::borrow::Cow;
use std::collections::HashMap;
use std::io::Read;

use super::super::{ImportError, MAX_IMPORT_BYTES};

/// An archive: where each entry is.
pub(super) struct Archive<'a> {
    file: &'a [u8],
    entries: HashMap<&'a [u8], Entry>,
    /// Bytes that may still be unpacked.
    budget: usize,
}

#[derive(Clone, Copy)]
struct Entry {
    deflated: bool,
    checksum: u32,
    packed: usize,
    header: usize,
}

const DAMAGED: ImportError =
    ImportError::Skops("is damaged: its ZIP directory does not fit its contents; copy it again");

/// The record at the end of an archive, without its comment.
const END_BYTES: usize = 22;

impl<'a> Archive<'a> {
    /// Reads the directory, which is at the end of the file.
    pub(super) fn open(file: &'a [u8]) -> Result<Self, ImportError> {
        let tail = file.len().saturating_sub(END_BYTES + usize::from(u16::MAX));
        let ends = (tail..=file.len().saturating_sub(END_BYTES)).rev();
        let end = ends
            .into_iter()
            .find(|at| file[*at..].starts_with(b"PK\x05\x06"))
            .ok_or(DAMAGED)?;
        let count = short(file, end + 10)?;
        let mut at = long(file, end + 16)? as usize;
        let mut entries = HashMap::new();
        for _ in 0..count {
            let record = file
                .get(at..)
                .filter(|record| record.starts_with(b"PK\x01\x02"))
                .ok_or(DAMAGED)?;
            let method = short(record, 10)?;
            let lengths = [28, 30, 32].map(|at| short(record, at).map(usize::from));
            let [name_bytes, extra, comment] = lengths;
            let (name_bytes, extra, comment) = (name_bytes?, extra?, comment?);
            let name = record.get(46..46 + name_bytes).ok_or(DAMAGED)?;
            let entry = Entry {
                deflated: method == 8,
                checksum: long(record, 16)?,
                packed: long(record, 20)? as usize,
                header: long(record, 42)? as usize,
            };
            if !matches!(method, 0 | 8) {
                return Err(ImportError::Skops("is compressed by a method other than deflate"));
            }
            entries.insert(name, entry);
            at += 46 + name_bytes + extra + comment;
        }
        Ok(Self {
            file,
            entries,
            budget: MAX_IMPORT_BYTES,
        })
    }

    /// Returns the contents of an entry of at most `most` bytes, or `None` if there is no such entry.
    pub(super) fn read(&mut self, name: &str, most: usize) -> Result<Option<Cow<'a, [u8]>>, ImportError> {
        let Some(entry) = self.entries.get(name.as_bytes()).copied() else {
            return Ok(None);
        };
        let header = self
            .file
            .get(entry.header..)
            .filter(|header| header.starts_with(b"PK\x03\x04"))
            .ok_or(DAMAGED)?;
        let begin = 30 + usize::from(short(header, 26)?) + usize::from(short(header, 28)?);
        let packed = header
            .get(begin..)
            .and_then(|rest| rest.get(..entry.packed))
            .ok_or(DAMAGED)?;
        let limit = most.min(self.budget);
        let contents = if entry.deflated {
            let mut contents = Vec::new();
            let unpacked = flate2::read::DeflateDecoder::new(packed)
                .take(limit as u64 + 1)
                .read_to_end(&mut contents);
            unpacked.map_err(|_| DAMAGED)?;
            Cow::Owned(contents)
        } else {
            Cow::Borrowed(packed)
        };
        if contents.len() > limit {
            return Err(ImportError::Unpacked);
        }
        self.budget -= contents.len();
        match crc32fast::hash(&contents) == entry.checksum {
            true => Ok(Some(contents)),
            false => Err(DAMAGED),
        }
    }
}

fn short(bytes: &[u8], at: usize) -> Result<u16, ImportError> {
    let bytes = bytes.get(at..).and_then(<[u8]>::first_chunk);
    bytes.map(|bytes| u16::from_le_bytes(*bytes)).ok_or(DAMAGED)
}

fn long(bytes: &[u8], at: usize) -> Result<u32, ImportError> {
    let bytes = bytes.get(at..).and_then(<[u8]>::first_chunk);
    bytes.map(|bytes| u32::from_le_bytes(*bytes)).ok_or(DAMAGED)
}
