//! The native model file.
//!
//! | bytes | what |
//! |---|---|
//! | 4 | `WNDM` |
//! | 2 | format version, little endian |
//! | 4 | CRC-32 of the rest, little endian |
//! | rest | the model's arrays in the codec of [`windrow_common::encode`] |
//!
//! Version 1 holds an SVM, after a scaler if there is one; version 2 holds any steps and detector; version 3 holds a seasonal
//! profile, normal bands and a threshold, too; version 4 holds a model of several tags. Version 5 has the layout of version 3, and
//! detectors that programs before it do not know. The same model always encodes to the same bytes, so a hash of them can name
//! it.

mod first;
mod fourth;
mod second;
mod third;

use serde::Serialize;
use sha2::{Digest, Sha256};
use windrow_common::CodecError;

use crate::{Feature, FeatureError, Features, Kernel, Model, ModelError};

const MAGIC: &[u8; 4] = b"WNDM";
/// Newest version.
const FORMAT: u16 = 5;
const HEADER_BYTES: usize = 10;

/// Largest model file, in bytes: [`MAX_SUPPORT_VECTORS`](crate::MAX_SUPPORT_VECTORS) of ten features, and room for
/// the rest.
pub const MAX_MODEL_BYTES: usize = 89 << 20;

/// An error in a model file.
#[derive(Debug, thiserror::Error)]
pub enum FormatError {
    /// The file is not a model, or ends within its header.
    #[error("this is not a Windrow model: it does not start with `WNDM` and a header")]
    NotAModel,
    /// A newer version of Windrow wrote the model.
    #[error("the model has format version {0}; this program reads versions 1 to {FORMAT}: update Windrow")]
    Version(u16),
    /// The file is larger than any model.
    #[error("the model has {0} bytes; the limit is {MAX_MODEL_BYTES}")]
    TooLarge(usize),
    /// Bytes were changed or lost.
    #[error("the model is damaged: its checksum does not match its contents")]
    Checksum,
    /// The checksum matches, but the contents do not decode to a model.
    #[error("the model cannot be read: {0}")]
    Codec(#[from] CodecError),
    /// The model holds the code of an unknown feature, kernel, metric or season.
    #[error("the model holds the unknown {what} code {code}: update Windrow, or import the model again")]
    Code {
        /// `feature`, `kernel`, `metric` or `season`.
        what: &'static str,
        /// The code.
        code: u8,
    },
    /// The feature list is not valid.
    #[error("the model's feature list is not valid: {0}")]
    Features(#[from] FeatureError),
    /// The model's arrays do not fit together.
    #[error("the model is inconsistent: {0}")]
    Model(#[from] ModelError),
}

impl Model {
    /// Encodes the model as a file.
    pub fn to_bytes(&self) -> Result<Vec<u8>, FormatError> {
        let mut bytes = Vec::with_capacity(HEADER_BYTES + 512 + self.memory_bytes());
        bytes.extend(MAGIC);
        // The oldest version that suffices: a model keeps its version, and older workers can read it.
        if let Some(body) = fourth::Body::of(self) {
            write(4, &body, &mut bytes)?;
        } else if second::is_newest(self.detector()) {
            write(FORMAT, &third::Body::of(self), &mut bytes)?;
        } else if third::Body::is_needed_by(self) {
            write(3, &third::Body::of(self), &mut bytes)?;
        } else if let Some(body) = first::Body::of(self) {
            write(1, &body, &mut bytes)?;
        } else {
            write(2, &second::Body::of(self), &mut bytes)?;
        }
        let checksum = crc32fast::hash(&bytes[HEADER_BYTES..]);
        bytes[6..HEADER_BYTES].copy_from_slice(&checksum.to_le_bytes());
        Ok(bytes)
    }

    /// Reads a model file and checks all of it.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, FormatError> {
        if bytes.len() > MAX_MODEL_BYTES {
            return Err(FormatError::TooLarge(bytes.len()));
        }
        let (header, body) = bytes
            .split_first_chunk::<HEADER_BYTES>()
            .ok_or(FormatError::NotAModel)?;
        let [m0, m1, m2, m3, v0, v1, checksum @ ..] = *header;
        if &[m0, m1, m2, m3] != MAGIC {
            return Err(FormatError::NotAModel);
        }
        let version = u16::from_le_bytes([v0, v1]);
        if !(1..=FORMAT).contains(&version) {
            return Err(FormatError::Version(version));
        }
        if crc32fast::hash(body) != u32::from_le_bytes(checksum) {
            return Err(FormatError::Checksum);
        }
        match version {
            1 => windrow_common::decode::<first::Body, MAX_MODEL_BYTES>(body)?.model(),
            3 | FORMAT => windrow_common::decode::<third::Body, MAX_MODEL_BYTES>(body)?.model(),
            4 => windrow_common::decode::<fourth::Body, MAX_MODEL_BYTES>(body)?.model(),
            _ => windrow_common::decode::<second::Body, MAX_MODEL_BYTES>(body)?.model(),
        }
    }

    /// Returns the model's version: the first 16 hexadecimal digits of the SHA-256 of its bytes.
    ///
    /// Importing or training the same model twice yields the same version.
    pub fn version(&self) -> Result<String, FormatError> {
        Ok(version_of(&self.to_bytes()?))
    }
}

/// Appends the rest of the header, with room for the checksum, and the contents.
fn write(version: u16, body: &impl Serialize, bytes: &mut Vec<u8>) -> Result<(), FormatError> {
    bytes.extend(version.to_le_bytes());
    bytes.extend([0; 4]);
    Ok(windrow_common::encode(body, bytes)?)
}

/// Returns the version of a model with these bytes.
pub fn version_of(bytes: &[u8]) -> String {
    let digest = Sha256::digest(bytes);
    digest[..8].iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Returns the codes of features.
fn feature_codes(features: &Features) -> Vec<u8> {
    let code = |feature: &Feature| Feature::ALL.iter().position(|other| other == feature);
    let codes = features.as_slice().iter().filter_map(code);
    codes.filter_map(|code| u8::try_from(code).ok()).collect()
}

/// Returns the features of codes.
fn features(codes: &[u8]) -> Result<Features, FormatError> {
    let feature = |code: &u8| {
        let known = Feature::ALL.get(usize::from(*code)).copied();
        known.ok_or(FormatError::Code {
            what: "feature",
            code: *code,
        })
    };
    let features: Vec<Feature> = codes.iter().map(feature).collect::<Result<_, _>>()?;
    Ok(Features::new(&features)?)
}

/// Returns a kernel's code, gamma, coef0 and degree.
fn kernel_parts(kernel: Kernel) -> (u8, f64, f64, u32) {
    match kernel {
        Kernel::Linear => (0, 0.0, 0.0, 0),
        Kernel::Rbf { gamma } => (1, gamma, 0.0, 0),
        Kernel::Polynomial { gamma, coef0, degree } => (2, gamma, coef0, degree),
        Kernel::Sigmoid { gamma, coef0 } => (3, gamma, coef0, 0),
    }
}

/// Returns the kernel of these parts.
fn kernel((code, gamma, coef0, degree): (u8, f64, f64, u32)) -> Result<Kernel, FormatError> {
    match code {
        0 => Ok(Kernel::Linear),
        1 => Ok(Kernel::Rbf { gamma }),
        2 => Ok(Kernel::Polynomial { gamma, coef0, degree }),
        3 => Ok(Kernel::Sigmoid { gamma, coef0 }),
        code => Err(FormatError::Code { what: "kernel", code }),
    }
}

#[cfg(test)]
mod tests;
