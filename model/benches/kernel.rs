//! Compares the scoring loop with linfa-svm's own predict, in rows per second, and deciding alone with scores as well; and then
//! the detectors that can be trained, each on 5,000 rows at its defaults.
//!
//! Run it with `cargo bench -p windrow-model --bench kernel`. Each figure is the median of several repeats. The contenders take turns,
//! so that a slow moment of the machine affects all of them.

use std::hint::black_box;
use std::time::{Duration, Instant};

use linfa::DatasetBase;
use linfa::dataset::Pr;
use linfa::traits::{Fit, PredictInplace};
use linfa_svm::Svm;
use ndarray::{Array1, Array2, ArrayView2, Axis};
use windrow_model::{
    CodePath, Features, Gamma, Kernel, Model, OneClassSvm, Scores, Scratch, TrainDetector, TrainOptions,
    train,
};

const DIMENSION: usize = 4;
const REPEATS: usize = 9;
/// Length of a repeat: long enough for the clock, short enough for the whole benchmark to take seconds.
const REPEAT: Duration = Duration::from_millis(60);

type Error = Box<dyn std::error::Error>;

/// A linear congruential generator that returns the same, roughly normal numbers in every run.
struct Numbers(u64);

impl Numbers {
    fn uniform(&mut self) -> f64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 11) as f64 / (1_u64 << 53) as f64
    }

    fn rows(&mut self, count: usize) -> Vec<f64> {
        let normal = |_| (0..12).map(|_| self.uniform()).sum::<f64>() - 6.0;
        (0..count * DIMENSION).map(normal).collect()
    }
}

/// Scores some rows once, for a tool that counts instructions: `KERNEL_COUNT=decide` or `score`.
#[inline(never)]
fn counted(model: &Model, rows: &[f64], with_scores: bool) -> Result<(), Error> {
    let (mut scratch, mut decisions, mut scores) = (Scratch::default(), Vec::new(), Scores::default());
    for _ in 0..20 {
        match with_scores {
            true => model.score_rows_on(CodePath::best(), black_box(rows), &mut scratch, &mut scores)?,
            false => model.decide_rows(black_box(rows), &mut scratch, &mut decisions)?,
        }
        black_box((&decisions, &scores));
    }
    Ok(())
}

type Run<'a> = dyn FnMut(&[f64], usize) + 'a;

/// A contender that scores all rows, `call` rows per call.
struct Contender<'a> {
    name: String,
    run: Box<Run<'a>>,
    rates: Vec<f64>,
}

/// Trains a model with linfa on `wanted` rows, and converts it to one of ours.
///
/// The nu makes nearly all rows support vectors.
fn models(wanted: usize) -> Result<(Svm<f64, bool>, Model), Error> {
    let gamma = 0.25;
    let rows = Numbers(7).rows(wanted);
    let records = Array2::from_shape_vec((wanted, DIMENSION), rows.clone())?;
    let dataset = DatasetBase::new(records, Array1::from_elem(wanted, ()));
    let fitted: Svm<f64, bool> = Svm::<f64, Pr>::params()
        .gaussian_kernel(1.0 / gamma)
        .nu_weight(0.99)
        .fit(&dataset)?;
    let (mut vectors, mut coefficients) = (Vec::new(), Vec::new());
    for (row, alpha) in rows.chunks_exact(DIMENSION).zip(&fitted.alpha) {
        if alpha.abs() > 100.0 * f64::EPSILON {
            vectors.extend_from_slice(row);
            coefficients.push(*alpha);
        }
    }
    let kernel = Kernel::Rbf { gamma };
    let svm = OneClassSvm::new(DIMENSION, vectors, coefficients, -fitted.rho, kernel)?;
    let features: Features = "mean,std,min,max".parse()?;
    Ok((fitted, Model::new(features, None, svm, "bench")?))
}

fn measure(contender: &mut Contender<'_>, rows: &[f64], call: usize) {
    let (mut scored, start) = (0, Instant::now());
    while start.elapsed() < REPEAT {
        (contender.run)(black_box(rows), call);
        scored += rows.len() / DIMENSION;
    }
    contender
        .rates
        .push(scored as f64 / start.elapsed().as_secs_f64());
}

/// Prints the rates of scores by each detector that can be trained.
fn trained() -> Result<(), Error> {
    let (history, features) = (Numbers(7).rows(5_000), "mean,std,min,max".parse::<Features>()?);
    let near = Numbers(99).rows(1_000);
    let far: Vec<f64> = near.iter().map(|value| value * 3.0).collect();
    println!(
        "\n{:<12} {:>14} {:>14}",
        "detector", "ns/row, usual", "ns/row, far"
    );
    for detector in TrainDetector::ALL {
        let options = TrainOptions {
            detector,
            gamma: Gamma::for_features(&features),
            ..TrainOptions::default()
        };
        let model = train(&history, features.clone(), &options)?;
        let mut line = format!("{:<12}", detector.name());
        for rows in [&near, &far] {
            let (mut scratch, mut scores) = (Scratch::default(), Scores::default());
            let mut contender = Contender {
                name: String::new(),
                run: Box::new(|rows, _| {
                    let scored = model.score_rows_on(CodePath::best(), rows, &mut scratch, &mut scores);
                    let _ = black_box((scored, &scores));
                }),
                rates: Vec::new(),
            };
            for _ in 0..REPEATS {
                measure(&mut contender, rows, rows.len());
            }
            contender.rates.sort_by(f64::total_cmp);
            line += &format!(" {:>14.0}", 1e9 / contender.rates[REPEATS / 2]);
        }
        println!("{line}");
    }
    Ok(())
}

fn main() -> Result<(), Error> {
    if let Ok(what) = std::env::var("KERNEL_COUNT") {
        return counted(&models(100)?.1, &Numbers(99).rows(1_000), what == "score");
    }
    println!(
        "{:>7}  {:>8}  {:<26} {:>9}  {:>8}",
        "vectors", "rows/call", "who", "M rows/s", "x linfa"
    );
    for wanted in [2, 100, 500] {
        let (fitted, model) = models(wanted)?;
        let rows = Numbers(99).rows(1_000);
        for call in [1, 1_000] {
            let fitted = &fitted;
            let model = &model;
            let mut contenders = vec![Contender {
                name: "linfa-svm predict".into(),
                run: Box::new(move |rows, call| {
                    let mut labels = Array1::from_elem(call, false);
                    for rows in rows.chunks_exact(call * DIMENSION) {
                        let Ok(view) = ArrayView2::from_shape((call, DIMENSION), rows) else {
                            continue;
                        };
                        debug_assert_eq!(view.len_of(Axis(0)), call);
                        fitted.predict_inplace(&view, &mut labels);
                        black_box(&labels);
                    }
                }),
                rates: Vec::new(),
            }];
            for path in CodePath::available() {
                let (mut scratch, mut decisions) = (Scratch::default(), Vec::new());
                contenders.push(Contender {
                    name: format!("windrow {path}"),
                    run: Box::new(move |rows, call| {
                        for rows in rows.chunks_exact(call * DIMENSION) {
                            let decided = model.decide_rows_on(path, rows, &mut scratch, &mut decisions);
                            let _ = black_box((decided, &decisions));
                        }
                    }),
                    rates: Vec::new(),
                });
            }
            let far: Vec<f64> = rows.iter().map(|value| value * 1e3 + 1e5).collect();
            for (name, far) in [("with scores", None), ("the same, far rows", Some(far))] {
                let (mut scratch, mut scores) = (Scratch::default(), Scores::default());
                contenders.push(Contender {
                    name: format!("windrow {name}"),
                    run: Box::new(move |rows, call| {
                        for rows in far.as_deref().unwrap_or(rows).chunks_exact(call * DIMENSION) {
                            let path = CodePath::best();
                            let scored = model.score_rows_on(path, rows, &mut scratch, &mut scores);
                            let _ = black_box((scored, &scores));
                        }
                    }),
                    rates: Vec::new(),
                });
            }
            for _ in 0..REPEATS {
                for contender in &mut contenders {
                    measure(contender, &rows, call);
                }
            }
            let median = |rates: &mut Vec<f64>| {
                rates.sort_by(f64::total_cmp);
                rates[rates.len() / 2]
            };
            let medians: Vec<f64> = contenders.iter_mut().map(|one| median(&mut one.rates)).collect();
            for (contender, rate) in contenders.iter().zip(&medians) {
                println!(
                    "{:>7}  {:>8}  {:<26} {:>9.3}  {:>8.2}",
                    model.svm().map_or(0, |svm| svm.coefficients().len()),
                    call,
                    contender.name,
                    rate / 1e6,
                    rate / medians[0]
                );
            }
        }
    }
    trained()
}
