//! Identifies a file by its content, whatever its name.

use std::io::{self, Read, Seek, SeekFrom};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// How many bytes at each end are compared.
const END_BYTES: u64 = 4 << 10;

/// The bytes of a file that were read, in short. A file that grows keeps it; one that is replaced does not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Content {
    /// How many bytes on disk it covers, from the first one on.
    pub bytes: u64,
    /// A hash of the first of these bytes, at most 4 KiB.
    #[serde(with = "hex")]
    head: u64,
    /// A hash of the last of these bytes, at most 4 KiB.
    #[serde(with = "hex")]
    tail: u64,
}

impl Content {
    /// Reads the first `bytes` of `file`, as far as they are compared.
    pub(in crate::source) fn of(file: &mut (impl Read + Seek), bytes: u64) -> io::Result<Self> {
        let length = bytes.min(END_BYTES);
        let mut hash_at = |at| {
            let read = read_at(file, at, length)?;
            // A file that is truncated at this moment must not be identified by fewer bytes.
            match read.len() as u64 == length {
                true => Ok(hash(&read)),
                false => Err(io::Error::from(io::ErrorKind::UnexpectedEof)),
            }
        };
        Ok(Self {
            bytes,
            head: hash_at(0)?,
            tail: hash_at(bytes - length)?,
        })
    }
}

/// A file whose content is compared with several others.
pub(in crate::source) struct Candidate<F> {
    file: F,
    size: u64,
    head: Vec<u8>,
    /// The hash of the whole head.
    hash: u64,
}

impl<F: Read + Seek> Candidate<F> {
    /// Reads the first bytes of `file`, which has `size` bytes.
    pub(in crate::source) fn new(mut file: F, size: u64) -> io::Result<Self> {
        let head = read_at(&mut file, 0, size.min(END_BYTES))?;
        let hash = hash(&head);
        Ok(Self {
            file,
            size,
            head,
            hash,
        })
    }

    /// Returns whether the file begins with `content`.
    pub(in crate::source) fn begins_with(&mut self, content: &Content) -> io::Result<bool> {
        if self.size < content.bytes {
            return Ok(false);
        }
        let length = content.bytes.min(END_BYTES);
        let head = match usize::try_from(length)
            .ok()
            .and_then(|length| self.head.get(..length))
        {
            Some(head) if head.len() == self.head.len() => self.hash,
            Some(head) => hash(head),
            None => return Ok(false),
        };
        if head != content.head {
            return Ok(false);
        }
        Ok(hash(&read_at(&mut self.file, content.bytes - length, length)?) == content.tail)
    }

    /// Returns whether the file is shorter than `content` and may be the beginning of it. The first bytes are compared
    /// only if there are enough of them.
    pub(in crate::source) fn may_grow_into(&self, content: &Content) -> bool {
        self.size < content.bytes && (self.size < END_BYTES || self.hash == content.head)
    }

    /// Returns whether the file is `content` and nothing else.
    pub(in crate::source) fn equals(&mut self, content: &Content) -> io::Result<bool> {
        Ok(self.size == content.bytes && self.begins_with(content)?)
    }
}

fn read_at(file: &mut (impl Read + Seek), at: u64, length: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.seek(SeekFrom::Start(at))?;
    file.by_ref().take(length).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn hash(bytes: &[u8]) -> u64 {
    let digest = Sha256::digest(bytes);
    digest
        .iter()
        .take(8)
        .fold(0, |hash, byte| hash << 8 | u64::from(*byte))
}

/// Hashes as text, because many readers of JSON round large numbers.
mod hex {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(hash: &u64, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{hash:016x}"))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
        let text = String::deserialize(deserializer)?;
        u64::from_str_radix(&text, 16).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    fn candidate(bytes: &[u8]) -> Candidate<Cursor<&[u8]>> {
        Candidate::new(Cursor::new(bytes), bytes.len() as u64).unwrap()
    }

    #[test]
    fn a_file_keeps_its_content_when_it_grows_and_loses_it_when_bytes_change() {
        for size in [1, 20, 4_095, 4_096, 4_097, 100_000] {
            let old: Vec<u8> = (0..size).map(|at| (at % 251) as u8).collect();
            let content = Content::of(&mut Cursor::new(&old), size).unwrap();
            assert!(candidate(&old).equals(&content).unwrap(), "{size}");
            let mut grown = old.clone();
            grown.extend([7; 5_000]);
            assert!(candidate(&grown).begins_with(&content).unwrap(), "{size}");
            assert!(!candidate(&grown).equals(&content).unwrap(), "{size}");
            for at in [0, old.len() - 1] {
                let mut other = grown.clone();
                other[at] ^= 1;
                assert!(!candidate(&other).begins_with(&content).unwrap(), "{size}, {at}");
            }
            let shorter = &old[..old.len() - 1];
            assert!(!candidate(shorter).begins_with(&content).unwrap(), "{size}");
        }
    }

    #[test]
    fn content_is_saved_as_readable_json() {
        let content = Content::of(&mut Cursor::new(b"ts,device"), 9).unwrap();
        let json = serde_json::to_string(&content).unwrap();
        assert_eq!(
            json,
            r#"{"bytes":9,"head":"b6e8186599bf0d26","tail":"b6e8186599bf0d26"}"#
        );
        assert_eq!(serde_json::from_str::<Content>(&json).unwrap(), content);
    }
}
