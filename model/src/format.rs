//! The native model file.
//!
//! | bytes | what |
//! |---|---|
//! | 4 | `WNDM` |
//! | 2 | format version, little endian |
//! | 4 | CRC-32 of the rest, little endian |
//! | rest | the model's arrays in the codec of [`windrow_common::encode`] |
//!
//! The same model always encodes to the same bytes, so a hash of them can name it.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use windrow_common::CodecError;

use crate::{Feature, FeatureError, Features, Kernel, Model, ModelError, OneClassSvm, Scaler};

const MAGIC: &[u8; 4] = b"WNDM";
const FORMAT: u16 = 1;
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
    #[error("the model has format version {0}; this program reads version {FORMAT}: update Windrow")]
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
    /// The model holds the code of an unknown feature or kernel.
    #[error("the model holds the unknown {what} code {code}")]
    Code {
        /// `feature` or `kernel`.
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

/// The contents after the header. A change to them must raise [`FORMAT`].
#[derive(Serialize, Deserialize)]
struct Body {
    provenance: String,
    features: Vec<u8>,
    scaler: Option<(Vec<f64>, Vec<f64>)>,
    kernel: u8,
    gamma: f64,
    coef0: f64,
    degree: u32,
    intercept: f64,
    coefficients: Vec<f64>,
    vectors: Vec<f64>,
}

impl Model {
    /// Encodes the model as a file.
    pub fn to_bytes(&self) -> Result<Vec<u8>, FormatError> {
        let svm = self.svm();
        let (kernel, gamma, coef0, degree) = match svm.kernel() {
            Kernel::Linear => (0, 0.0, 0.0, 0),
            Kernel::Rbf { gamma } => (1, gamma, 0.0, 0),
            Kernel::Polynomial { gamma, coef0, degree } => (2, gamma, coef0, degree),
            Kernel::Sigmoid { gamma, coef0 } => (3, gamma, coef0, 0),
        };
        let code = |feature: &Feature| Feature::ALL.iter().position(|other| other == feature);
        let body = Body {
            provenance: self.provenance().to_owned(),
            features: self
                .features()
                .as_slice()
                .iter()
                .filter_map(code)
                .filter_map(|code| u8::try_from(code).ok())
                .collect(),
            scaler: self
                .scaler()
                .map(|scaler| (scaler.mean().to_vec(), scaler.scale().to_vec())),
            kernel,
            gamma,
            coef0,
            degree,
            intercept: svm.intercept(),
            coefficients: svm.coefficients().to_vec(),
            vectors: svm.vectors().to_vec(),
        };
        let mut bytes =
            Vec::with_capacity(HEADER_BYTES + 256 + 8 * (body.coefficients.len() + body.vectors.len()));
        bytes.extend(MAGIC);
        bytes.extend(FORMAT.to_le_bytes());
        bytes.extend([0; 4]);
        windrow_common::encode(&body, &mut bytes)?;
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
        if version != FORMAT {
            return Err(FormatError::Version(version));
        }
        if crc32fast::hash(body) != u32::from_le_bytes(checksum) {
            return Err(FormatError::Checksum);
        }
        let body: Body = windrow_common::decode::<_, MAX_MODEL_BYTES>(body)?;
        let feature = |code: &u8| {
            let known = Feature::ALL.get(usize::from(*code)).copied();
            known.ok_or(FormatError::Code {
                what: "feature",
                code: *code,
            })
        };
        let features: Vec<Feature> = body.features.iter().map(feature).collect::<Result<_, _>>()?;
        let features = Features::new(&features)?;
        let (gamma, coef0, degree) = (body.gamma, body.coef0, body.degree);
        let kernel = match body.kernel {
            0 => Kernel::Linear,
            1 => Kernel::Rbf { gamma },
            2 => Kernel::Polynomial { gamma, coef0, degree },
            3 => Kernel::Sigmoid { gamma, coef0 },
            code => return Err(FormatError::Code { what: "kernel", code }),
        };
        let scaler = body
            .scaler
            .map(|(mean, scale)| Scaler::new(mean, scale))
            .transpose()?;
        let svm = OneClassSvm::new(
            features.len(),
            body.vectors,
            body.coefficients,
            body.intercept,
            kernel,
        )?;
        Ok(Self::new(features, scaler, svm, body.provenance)?)
    }

    /// Returns the model's version: the first 16 hexadecimal digits of the SHA-256 of its bytes.
    ///
    /// Importing or training the same model twice yields the same version.
    pub fn version(&self) -> Result<String, FormatError> {
        Ok(version_of(&self.to_bytes()?))
    }
}

/// Returns the version of a model with these bytes.
pub fn version_of(bytes: &[u8]) -> String {
    let digest = Sha256::digest(bytes);
    digest[..8].iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn finite() -> impl Strategy<Value = f64> {
        any::<f64>().prop_filter("finite", |number| number.is_finite())
    }

    prop_compose! {
        fn model()(dimension in 1_usize..=10, vectors in 1_usize..20)(
            vectors_flat in proptest::collection::vec(finite(), vectors * dimension),
            coefficients in proptest::collection::vec(finite(), vectors),
            mean in proptest::collection::vec(finite(), dimension),
            scale in proptest::collection::vec(finite().prop_filter("not 0", |scale| *scale != 0.0), dimension),
            scaled in any::<bool>(),
            kernel in 0..4,
            gamma in 0.0..1e9_f64,
            coef0 in finite(),
            degree in 0_u32..=64,
            intercept in finite(),
            provenance in ".{0,40}",
            dimension in Just(dimension),
        ) -> Model {
            let kernel = match kernel {
                0 => Kernel::Linear,
                1 => Kernel::Rbf { gamma },
                2 => Kernel::Polynomial { gamma, coef0, degree },
                _ => Kernel::Sigmoid { gamma, coef0 },
            };
            let features = Features::new(&Feature::ALL[10 - dimension..]).unwrap();
            let scaler = scaled.then(|| Scaler::new(mean, scale).unwrap());
            let svm = OneClassSvm::new(dimension, vectors_flat, coefficients, intercept, kernel).unwrap();
            Model::new(features, scaler, svm, provenance).unwrap()
        }
    }

    fn small() -> Model {
        let svm = OneClassSvm::new(1, vec![1.0, 2.0], vec![0.5; 2], -0.25, Kernel::Rbf { gamma: 1.0 });
        Model::new("mean".parse().unwrap(), None, svm.unwrap(), "by hand").unwrap()
    }

    /// Returns a file with this body and a matching checksum.
    fn sealed(body: &[u8]) -> Vec<u8> {
        let mut bytes = [
            &MAGIC[..],
            &FORMAT.to_le_bytes(),
            &crc32fast::hash(body).to_le_bytes(),
        ]
        .concat();
        bytes.extend(body);
        bytes
    }

    proptest! {
        #[test]
        fn a_model_reads_back_bit_for_bit(model in model()) {
            let bytes = model.to_bytes().unwrap();
            let back = Model::from_bytes(&bytes).unwrap();
            prop_assert_eq!(back.to_bytes().unwrap(), bytes);
            prop_assert_eq!(back.version().unwrap(), model.version().unwrap());
            prop_assert_eq!(back, model);
        }

        #[test]
        fn a_truncated_model_is_an_error(model in model(), cut in any::<prop::sample::Index>()) {
            let bytes = model.to_bytes().unwrap();
            prop_assert!(Model::from_bytes(&bytes[..cut.index(bytes.len())]).is_err());
        }

        #[test]
        fn a_flipped_bit_is_an_error(model in model(), at in any::<prop::sample::Index>(), bit in 0..8) {
            let mut bytes = model.to_bytes().unwrap();
            let at = at.index(bytes.len());
            bytes[at] ^= 1_u8 << bit;
            prop_assert!(Model::from_bytes(&bytes).is_err());
        }

        #[test]
        fn damage_behind_a_right_checksum_never_panics(
            model in model(),
            at in any::<prop::sample::Index>(),
            byte in any::<u8>(),
        ) {
            let mut body = model.to_bytes().unwrap().split_off(HEADER_BYTES);
            let at = at.index(body.len());
            body[at] = byte;
            let _ = Model::from_bytes(&sealed(&body));
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Model::from_bytes(&bytes);
            let _ = Model::from_bytes(&sealed(&bytes));
        }
    }

    #[test]
    fn a_length_beyond_the_limit_is_refused_before_memory_is_set_aside() {
        for length in [u64::MAX, 1 << 40, MAX_MODEL_BYTES as u64] {
            let mut body = 0_u64.to_le_bytes().to_vec();
            body.extend(length.to_le_bytes());
            let error = Model::from_bytes(&sealed(&body)).unwrap_err();
            assert!(matches!(error, FormatError::Codec(_)), "{error}");
        }
    }

    #[test]
    fn the_largest_model_fits_the_limit() {
        let numbers = crate::MAX_SUPPORT_VECTORS * (Feature::ALL.len() + 1);
        assert!(numbers * 8 + 4_096 <= MAX_MODEL_BYTES);
    }

    #[test]
    fn the_version_is_a_function_of_the_contents() {
        let (model, bytes) = (small(), small().to_bytes().unwrap());
        assert_eq!(model.version().unwrap(), version_of(&bytes));
        assert_eq!(model.version().unwrap().len(), 16);
        let other = Model::new("mean".parse().unwrap(), None, model.svm().clone(), "by hand too").unwrap();
        assert_ne!(other.version().unwrap(), model.version().unwrap());
    }

    #[test]
    fn the_file_layout_does_not_change_unnoticed() {
        // Stored models must stay readable: a new layout needs a new format version, and this version must still be
        // read.
        assert_eq!(small().version().unwrap(), "401f28cf007fea62");
    }

    #[test]
    fn other_files_and_versions_are_named() {
        let mut bytes = small().to_bytes().unwrap();
        bytes[4] = 9;
        assert!(matches!(Model::from_bytes(&bytes), Err(FormatError::Version(9))));
        assert!(matches!(
            Model::from_bytes(b"PK\x03\x04 and so on"),
            Err(FormatError::NotAModel)
        ));
        assert!(matches!(Model::from_bytes(b"WNDM"), Err(FormatError::NotAModel)));
    }
}
