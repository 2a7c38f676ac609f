//! Model files, and files of models that are imported.

use windrow_common::{Aggregate, EventTime};
use windrow_model::{Feature, Features, ImportOptions, Model, Scratch, import_with};

/// `WNDM` and the version; the checksum of the rest follows.
const BEFORE_CHECKSUM: usize = 6;
const HEADER_BYTES: usize = 10;

/// A model file, as it is and with the checksum that it should have.
pub(crate) fn file(bytes: &[u8]) {
    if let Ok(model) = Model::from_bytes(bytes) {
        is_usable(&model);
    }
    if bytes.len() >= HEADER_BYTES {
        let mut sealed = bytes.to_vec();
        let checksum = crc32fast::hash(&sealed[HEADER_BYTES..]).to_le_bytes();
        sealed[BEFORE_CHECKSUM..HEADER_BYTES].copy_from_slice(&checksum);
        if let Ok(model) = Model::from_bytes(&sealed) {
            is_usable(&model);
        }
    }
}

/// A file to import, fitted on one, two or four features: a pickle, plain or of joblib, and whatever else the bytes
/// begin like.
pub(crate) fn import_file(bytes: &[u8]) {
    for count in [1, 2, 4] {
        let features = Features::new(&Feature::ALL[1..=count]).unwrap();
        let options = ImportOptions {
            features: Some(&features),
            scaler: None,
        };
        if let Ok(imported) = import_with(bytes, &options) {
            is_usable(&imported.model);
        }
        // A scaler's file is as strange to us as a model's.
        let options = ImportOptions {
            features: None,
            scaler: Some(bytes),
        };
        if let Ok(imported) = import_with(bytes, &options) {
            is_usable(&imported.model);
        }
    }
}

/// Checks that the model is stored and loaded as it is, and that it decides something, whatever the numbers.
fn is_usable(model: &Model) {
    let bytes = model.to_bytes().unwrap();
    let back = Model::from_bytes(&bytes).expect("what is written is read");
    assert_eq!(back.to_bytes().unwrap(), bytes, "written twice");
    let aggregate = |value: f64| Aggregate {
        window_start: EventTime::from_millis(0),
        count: 3,
        mean: value,
        std: value.abs(),
        min: value,
        max: value,
        first: value,
        last: value,
    };
    let aggregates = [0.0, -71.5, 1e300].map(aggregate);
    let (mut scratch, mut decisions) = (Scratch::default(), Vec::new());
    if model.decide(&aggregates, &mut scratch, &mut decisions).is_ok() {
        assert_eq!(decisions.len(), aggregates.len());
        assert!(
            decisions.iter().all(|decision| decision.is_finite()),
            "{decisions:?}"
        );
    }
}
