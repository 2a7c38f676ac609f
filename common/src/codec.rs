//! The one place that knows the binary encoding of what crosses the queue or lies in a model file.
//!
//! bincode 2.0.1 with its `legacy()` layout (little endian, fixed-width integers, u64 lengths): unmaintained but
//! simple, and `wincode` writes the same bytes, so replacing it is a change to this file alone.

use serde::Serialize;
use serde::de::DeserializeOwned;

/// Why bytes are not the value they should be.
#[derive(Debug, thiserror::Error)]
pub enum CodecError {
    /// The value cannot be encoded; for the plain structs used here it does not happen.
    #[error("cannot encode: {0}")]
    Encode(#[from] bincode::error::EncodeError),
    /// The bytes end early, name an unknown variant or ask for more than the limit.
    #[error("cannot decode: {0}")]
    Decode(#[from] bincode::error::DecodeError),
    /// The value ended before the bytes did.
    #[error("{0} bytes are left over after the value")]
    LeftOver(usize),
}

/// Encodes `value`, appending to `into`.
pub fn encode<T: Serialize>(value: &T, into: &mut Vec<u8>) -> Result<(), CodecError> {
    bincode::serde::encode_into_std_write(value, into, bincode::config::legacy())?;
    Ok(())
}

/// Decodes a value that takes all of `bytes`. Whatever lengths the bytes claim, no more than `LIMIT` bytes are read or
/// set aside for it.
pub fn decode<T: DeserializeOwned, const LIMIT: usize>(bytes: &[u8]) -> Result<T, CodecError> {
    let config = bincode::config::legacy().with_limit::<LIMIT>();
    let (value, read) = bincode::serde::decode_from_slice(bytes, config)?;
    match bytes.len() - read {
        0 => Ok(value),
        left => Err(CodecError::LeftOver(left)),
    }
}
