//! The files in `tests/fixtures`.

use std::fs;
use std::path::PathBuf;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use windrow_model::{Features, Model, Scratch};

/// The versions of scikit-learn that wrote the pickles.
pub(crate) const VERSIONS: [&str; 2] = ["1.1.3", "1.9.1"];

/// A pickled model and scikit-learn's decisions with it.
#[derive(Deserialize)]
pub(crate) struct Case {
    pub(crate) name: String,
    pub(crate) protocols: Vec<u8>,
    features: String,
    pub(crate) rows: Vec<f64>,
    pub(crate) decisions: Vec<f64>,
}

/// A data set and the models that scikit-learn fitted to it.
#[derive(Deserialize)]
pub(crate) struct DataSet {
    pub(crate) name: String,
    features: String,
    pub(crate) rows: Vec<f64>,
    pub(crate) held_out: Vec<f64>,
    pub(crate) fits: Vec<Fit>,
}

#[derive(Deserialize)]
pub(crate) struct Fit {
    pub(crate) options: serde_json::Value,
    pub(crate) standardise: bool,
    /// Labels with a tolerance of 1e-3.
    pub(crate) usual_labels: String,
    /// Labels with a tolerance of 1e-8.
    pub(crate) labels: String,
    pub(crate) decisions_of_every_third: Vec<f64>,
}

impl Case {
    pub(crate) fn features(&self) -> Features {
        self.features.parse().unwrap()
    }

    pub(crate) fn pickle(&self, version: &str, protocol: u8) -> Vec<u8> {
        fs::read(path(&format!("pickles/{version}/{}.p{protocol}.pkl", self.name))).unwrap()
    }
}

impl DataSet {
    pub(crate) fn features(&self) -> Features {
        self.features.parse().unwrap()
    }
}

pub(crate) fn cases(version: &str) -> Vec<Case> {
    read(&format!("pickles/{version}/cases.json"))
}

/// Returns a case of the newer scikit-learn.
pub(crate) fn case(name: &str) -> Case {
    let case = cases(VERSIONS[1]).into_iter().find(|case| case.name == name);
    case.unwrap()
}

pub(crate) fn data_sets() -> Vec<DataSet> {
    read("training.json")
}

pub(crate) fn decide(model: &Model, rows: &[f64]) -> Vec<f64> {
    let mut decisions = Vec::new();
    model
        .decide_rows(rows, &mut Scratch::default(), &mut decisions)
        .unwrap();
    decisions
}

fn path(name: &str) -> PathBuf {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    folder.join("../tests/fixtures").join(name)
}

fn read<T: DeserializeOwned>(name: &str) -> T {
    serde_json::from_slice(&fs::read(path(name)).unwrap()).unwrap()
}
