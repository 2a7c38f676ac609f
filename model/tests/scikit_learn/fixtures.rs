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

pub(crate) fn read<T: DeserializeOwned>(name: &str) -> T {
    serde_json::from_slice(&fs::read(path(name)).unwrap()).unwrap()
}

/// A file of any kind, and what scikit-learn decides with its model about the rows of [`held_out`].
#[derive(Deserialize)]
pub(crate) struct Kind {
    pub(crate) name: String,
    pub(crate) file: String,
    pub(crate) scaler: Option<String>,
    features: String,
    /// The features that the model reads, in order.
    pub(crate) reads: String,
    labels: String,
    /// The decisions about every hundredth row.
    pub(crate) decisions: Vec<f64>,
    /// How far from them Windrow's may be, in shares of them; formats with 32-bit numbers say so.
    #[serde(default = "double_precision")]
    pub(crate) close: f64,
}

fn double_precision() -> f64 {
    1e-12
}

impl Kind {
    pub(crate) fn features(&self) -> Features {
        self.features.parse().unwrap()
    }

    /// Returns whether each row is an anomaly.
    pub(crate) fn anomalies(&self) -> Vec<bool> {
        let digits = self.labels.chars().map(|digit| digit.to_digit(16).unwrap());
        digits
            .flat_map(|digit| (0..4).rev().map(move |bit| digit >> bit & 1 == 1))
            .collect()
    }
}

pub(crate) fn kinds(version: &str) -> Vec<Kind> {
    read(&format!("models/{version}/cases.json"))
}

pub(crate) fn kind_file(version: &str, name: &str) -> Vec<u8> {
    fs::read(path(&format!("models/{version}/{name}"))).unwrap()
}

/// Draws the rows that `make_detectors.py` draws: half as the models' history, half spread twice as far.
pub(crate) fn held_out(features: &Features) -> Vec<f64> {
    let mut numbers = Numbers(2);
    let mut rows = Vec::new();
    for spread in [1.0, 2.0] {
        for _ in 0..5_000 {
            let [mean, std, low, high] = match features.len() {
                1 => [numbers.mean(spread), 0.0, 0.0, 0.0],
                _ => numbers.row(spread),
            };
            let value = |name: &str| match name {
                "mean" => mean,
                "std" => std,
                "min" => low,
                "max" => high,
                other => panic!("{other}"),
            };
            rows.extend(
                features
                    .as_slice()
                    .iter()
                    .map(|feature| value(&feature.to_string())),
            );
        }
    }
    rows
}

/// The generator of the scripts beside the fixtures.
pub(crate) struct Numbers(pub(crate) u64);

impl Numbers {
    fn uniform(&mut self) -> f64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 11) as f64 / (1_u64 << 53) as f64
    }

    pub(crate) fn normal(&mut self) -> f64 {
        let mut total = 0.0;
        for _ in 0..6 {
            total += self.uniform();
        }
        total - 3.0
    }

    fn mean(&mut self, spread: f64) -> f64 {
        34.7 + 2.0 * spread * self.normal()
    }

    fn row(&mut self, spread: f64) -> [f64; 4] {
        let mean = self.mean(spread);
        let std = (1.5 + 0.4 * spread * self.normal()).abs();
        let low = mean - (2.0 + 0.5 * spread * self.normal()).abs() * std;
        let high = mean + (2.0 + 0.5 * spread * self.normal()).abs() * std;
        [mean, std, low, high]
    }
}
