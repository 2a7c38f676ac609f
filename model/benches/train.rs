//! Compares training with that of linfa-svm and scikit-learn, in milliseconds a fit.
//!
//! Run it with `cargo bench -p windrow-model --bench train -- [PYTHON]`; the Python is one with scikit-learn. The
//! contenders take turns, and each figure is the median of several fits.

use std::hint::black_box;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Instant;

use linfa::DatasetBase;
use linfa::dataset::Pr;
use linfa::traits::Fit;
use linfa_svm::Svm;
use ndarray::{Array1, Array2};
use windrow_model::{Feature, Features, Gamma, TrainOptions, train};

type Error = Box<dyn std::error::Error>;

/// The sizes: rows, features, nu.
const SIZES: [(usize, usize, f64); 5] = [
    (3_000, 1, 0.005),
    (3_000, 2, 0.005),
    (3_000, 4, 0.005),
    (3_000, 4, 0.05),
    (20_000, 4, 0.005),
];
/// The dense solver of linfa takes minutes beyond.
const MOST_FOR_LINFA: usize = 3_000;
const FITS: usize = 5;

/// Draws roughly normal numbers, fits them as often as it is asked to, and answers with seconds.
const PYTHON: &str = "
import sys, time
import numpy as np
from sklearn.svm import OneClassSVM
for line in sys.stdin:
    rows, features, nu, gamma, tolerance = line.split()
    data = np.random.default_rng(7).normal(size=(int(rows), int(features)))
    svm = OneClassSVM(nu=float(nu), gamma=float(gamma), tol=float(tolerance))
    start = time.perf_counter()
    svm.fit(data)
    print(time.perf_counter() - start, flush=True)
";

/// A linear congruential generator that returns the same, roughly normal numbers in every run.
fn rows(count: usize) -> Vec<f64> {
    let mut state = 7_u64;
    let mut uniform = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 11) as f64 / (1_u64 << 53) as f64
    };
    (0..count)
        .map(|_| (0..12).map(|_| uniform()).sum::<f64>() - 6.0)
        .collect()
}

struct ScikitLearn {
    _child: Child,
    ask: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl ScikitLearn {
    fn start(python: &str) -> Result<Self, Error> {
        let mut child = Command::new(python)
            .args(["-c", PYTHON])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let ask = child.stdin.take().ok_or("no standard input")?;
        let answers = BufReader::new(child.stdout.take().ok_or("no standard output")?);
        Ok(Self {
            _child: child,
            ask,
            answers,
        })
    }

    fn fit(&mut self, count: usize, dimension: usize, nu: f64, tolerance: f64) -> Result<f64, Error> {
        let gamma = 3.0 / dimension as f64;
        writeln!(self.ask, "{count} {dimension} {nu} {gamma} {tolerance}")?;
        let mut line = String::new();
        self.answers.read_line(&mut line)?;
        Ok(line.trim().parse::<f64>()? * 1e3)
    }
}

fn ours(rows: &[f64], dimension: usize, nu: f64, tolerance: f64) -> Result<f64, Error> {
    let options = TrainOptions {
        nu,
        gamma: Gamma::PerFeature(3.0),
        max_rows: 20_000,
        tolerance,
        ..TrainOptions::default()
    };
    let features = Features::new(&Feature::ALL[..dimension])?;
    let start = Instant::now();
    black_box(train(black_box(rows), features, &options)?);
    Ok(start.elapsed().as_secs_f64() * 1e3)
}

fn linfas(rows: &[f64], dimension: usize, nu: f64) -> Result<f64, Error> {
    let count = rows.len() / dimension;
    let records = Array2::from_shape_vec((count, dimension), rows.to_vec())?;
    let dataset = DatasetBase::new(records, Array1::from_elem(count, ()));
    let start = Instant::now();
    let fitted: Svm<f64, bool> = Svm::<f64, Pr>::params()
        .eps(1e-3)
        .shrinking(false)
        .gaussian_kernel(dimension as f64 / 3.0)
        .nu_weight(nu)
        .fit(&dataset)?;
    black_box(fitted);
    Ok(start.elapsed().as_secs_f64() * 1e3)
}

fn median(times: &mut [f64]) -> f64 {
    times.sort_by(f64::total_cmp);
    times.get(times.len() / 2).copied().unwrap_or(f64::NAN)
}

fn main() -> Result<(), Error> {
    let python = std::env::args()
        .skip(1)
        .find(|argument| !argument.starts_with('-'));
    let mut scikit_learn = python.as_deref().map(ScikitLearn::start).transpose()?;
    println!(
        "milliseconds a fit, gamma 3/d; at each tolerance: of Windrow relative to rho, of the others absolute"
    );
    println!(
        "{:>7}  {:>8}  {:>6}  {:>12}  {:>12}  {:>17}  {:>17}  {:>14}",
        "rows",
        "features",
        "nu",
        "windrow 1e-4",
        "windrow 1e-3",
        "scikit-learn 1e-3",
        "scikit-learn 1e-4",
        "linfa-svm 1e-3"
    );
    for (count, dimension, nu) in SIZES {
        let rows = rows(count * dimension);
        let mut times = [const { Vec::new() }; 5];
        for _ in 0..FITS {
            times[0].push(ours(&rows, dimension, nu, 1e-4)?);
            times[1].push(ours(&rows, dimension, nu, 1e-3)?);
            if let Some(scikit_learn) = &mut scikit_learn {
                times[2].push(scikit_learn.fit(count, dimension, nu, 1e-3)?);
                times[3].push(scikit_learn.fit(count, dimension, nu, 1e-4)?);
            }
            if count <= MOST_FOR_LINFA {
                times[4].push(linfas(&rows, dimension, nu)?);
            }
        }
        let [ours, ours_loose, theirs, theirs_exact, linfas] = times.map(|mut times| median(&mut times));
        println!(
            "{count:>7}  {dimension:>8}  {nu:>6}  {ours:>12.2}  {ours_loose:>12.2}  {theirs:>17.2}  {theirs_exact:>17.2}  {linfas:>14.1}"
        );
    }
    Ok(())
}
