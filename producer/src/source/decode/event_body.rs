//! What the bodies of events have in common, whether they come from a hub or from a file.

use std::fmt;
use std::io::Read;

use flate2::read::MultiGzDecoder;
use serde::de::{DeserializeSeed, Deserializer, SeqAccess, Visitor};
use serde_json::value::RawValue;

/// Largest body after decompression.
const MAX_UNPACKED_BYTES: u64 = 16 << 20;
/// With what a gzip file begins.
pub const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];

/// Passes on the elements of a JSON array one by one, up to the first error.
pub struct Elements<F>(pub F);

impl<'de, F: FnMut(&'de RawValue)> DeserializeSeed<'de> for Elements<F> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<(), D::Error> {
        json.deserialize_seq(self)
    }
}

impl<'de, F: FnMut(&'de RawValue)> Visitor<'de> for Elements<F> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array")
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut array: A) -> Result<(), A::Error> {
        while let Some(element) = array.next_element()? {
            (self.0)(element);
        }
        Ok(())
    }
}

/// Unpacks a body. Unpacks what comes before an error, too.
pub fn unpack(packed: &[u8], into: &mut Vec<u8>) -> Result<(), String> {
    into.clear();
    let mut reader = MultiGzDecoder::new(packed).take(MAX_UNPACKED_BYTES + 1);
    match reader.read_to_end(into) {
        Ok(bytes) if bytes as u64 > MAX_UNPACKED_BYTES => Err(format!(
            "the body unpacks to more than {MAX_UNPACKED_BYTES} bytes"
        )),
        Ok(_) => Ok(()),
        Err(error) => Err(format!("the body is not valid gzip: {error}")),
    }
}
