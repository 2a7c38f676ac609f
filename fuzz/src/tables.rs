//! Parts of the store's Parquet tables.

use bytes::Bytes;
use windrow_common::Prediction;
use windrow_store::testing::{dispatched_of, file_of, incidents_of, predictions_of};
use windrow_store::{DispatchedWindow, Row};

/// A part of `predictions/` or `dispatched/`, or a file of `incidents/`: what is read from it is written and read again.
pub(crate) fn parts(bytes: &[u8]) {
    let bytes = Bytes::copy_from_slice(bytes);
    if let Ok(rows) = predictions_of(bytes.clone()) {
        let back = predictions_of(Prediction::encode(&rows).unwrap()).unwrap();
        // As text, because NaN equals nothing.
        assert_eq!(format!("{rows:?}"), format!("{back:?}"));
    }
    if let Ok(rows) = incidents_of(bytes.clone()) {
        let back = incidents_of(file_of(&rows).unwrap()).unwrap();
        assert_eq!(format!("{rows:?}"), format!("{back:?}"));
    }
    if let Ok(rows) = dispatched_of(bytes) {
        let back = dispatched_of(DispatchedWindow::encode(&rows).unwrap()).unwrap();
        assert_eq!(rows, back);
    }
}
