//! The binary encoding of queue messages and model files.
//!
//! This is bincode 2.0.1 with its `legacy()` layout (little endian, fixed-width integers, u64 lengths). bincode is
//! unmaintained but simple. `wincode` writes the same bytes, so replacing bincode changes this file alone.

use serde::Serialize;
use serde::de::DeserializeOwned;

/// Why a value cannot be encoded or decoded.
#[derive(Debug, thiserror::Error)]
pub enum CodecError {
    /// The value cannot be encoded. This does not happen for the plain structs used here.
    #[error("cannot encode: {0}")]
    Encode(#[from] bincode::error::EncodeError),
    /// The bytes end early, name an unknown variant or ask for more than the limit.
    #[error("cannot decode: {0}")]
    Decode(#[from] bincode::error::DecodeError),
    /// The value ends before the bytes do.
    #[error("{0} bytes are left over after the value")]
    LeftOver(usize),
}

/// Encodes `value`, appending to `into`.
pub fn encode<T: Serialize>(value: &T, into: &mut Vec<u8>) -> Result<(), CodecError> {
    bincode::serde::encode_into_std_write(value, into, bincode::config::legacy())?;
    Ok(())
}

/// Decodes a value that takes up all of `bytes`. Reads and allocates at most `LIMIT` bytes, whatever lengths the bytes
/// claim.
pub fn decode<T: DeserializeOwned, const LIMIT: usize>(bytes: &[u8]) -> Result<T, CodecError> {
    let config = bincode::config::legacy().with_limit::<LIMIT>();
    let (value, read) = bincode::serde::decode_from_slice(bytes, config)?;
    match bytes.len() - read {
        0 => Ok(value),
        left => Err(CodecError::LeftOver(left)),
    }
}
