//! Models of LIBSVM's `svm-train -s 2`, which are text.
//!
//! ```text
//! svm_type one_class
//! kernel_type rbf
//! gamma 0.25
//! nr_class 2
//! total_sv 2
//! rho 0.75
//! SV
//! 0.5 1:0.25 2:-1
//! 0.5 1:-0.5
//! ```
//!
//! The decision is Σ coefficient · K − rho. A number that is 0 is left out of its vector.

use super::parts::Parts;
use super::{ImportError, shown};
use crate::{Feature, Kernel, MAX_DEGREE, OneClassSvm};

/// How a model begins.
pub(super) const START: &[u8] = b"svm_type";

/// The lines before the vectors.
#[derive(Default)]
struct Header<'a> {
    kernel: &'a str,
    gamma: f64,
    coef0: f64,
    degree: u32,
    rho: f64,
}

/// Adds the model; `width` is its number of features, if it is known.
pub(super) fn add(parts: &mut Parts, contents: &[u8], width: Option<usize>) -> Result<(), ImportError> {
    let text = str::from_utf8(contents).map_err(|_| wrong(1, "is not text"))?;
    let mut lines = text.lines().enumerate().map(|(at, line)| (at + 1, line.trim()));
    let header = header(&mut lines)?;
    let kernel = match header.kernel {
        "linear" => Kernel::Linear,
        "rbf" => Kernel::Rbf { gamma: header.gamma },
        "polynomial" => Kernel::Polynomial {
            gamma: header.gamma,
            coef0: header.coef0,
            degree: header.degree,
        },
        "sigmoid" => Kernel::Sigmoid {
            gamma: header.gamma,
            coef0: header.coef0,
        },
        other => return Err(ImportError::Kernel(shown(other))),
    };
    let (mut coefficients, mut sparse, mut largest) = (Vec::new(), Vec::new(), 0);
    for (line, text) in lines.filter(|(_, line)| !line.is_empty()) {
        let mut words = text.split_ascii_whitespace();
        let coefficient = words.next().and_then(|word| word.parse::<f64>().ok());
        coefficients.push(coefficient.ok_or_else(|| wrong(line, "does not begin with a coefficient"))?);
        let mut vector = Vec::new();
        for word in words {
            let pair = word.split_once(':').and_then(|(at, value)| {
                let at = at.parse::<usize>().ok().filter(|at| *at > 0)?;
                Some((at, value.parse::<f64>().ok()?))
            });
            let (at, value) = pair.ok_or_else(|| wrong(line, "holds something else than index:value"))?;
            if at > Feature::ALL.len() {
                return Err(wrong(line, "has more features than a sensor has"));
            }
            largest = largest.max(at);
            vector.push((at - 1, value));
        }
        sparse.push(vector);
    }
    // Zeros at the end of every vector are not in the file.
    let width = parts
        .width()
        .or(width)
        .unwrap_or(largest)
        .max(largest)
        .min(Feature::ALL.len());
    let mut vectors = vec![0.0; width * sparse.len()];
    for (vector, pairs) in vectors.chunks_exact_mut(width.max(1)).zip(&sparse) {
        for (at, value) in pairs {
            vector[*at] = *value;
        }
    }
    parts.detector = Some(OneClassSvm::new(width, vectors, coefficients, -header.rho, kernel)?.into());
    "LIBSVM".clone_into(&mut parts.provenance);
    Ok(())
}

fn header<'a>(lines: &mut impl Iterator<Item = (usize, &'a str)>) -> Result<Header<'a>, ImportError> {
    let mut header = Header {
        degree: 3,
        ..Header::default()
    };
    let (mut has_rho, mut last) = (false, 1);
    for (line, text) in lines {
        last = line;
        let (name, value) = text.split_once(' ').unwrap_or((text, ""));
        let value = value.trim();
        let number = || {
            value
                .parse::<f64>()
                .map_err(|_| wrong(line, "does not hold a number"))
        };
        match name {
            "SV" if !has_rho => return Err(wrong(line, "comes before rho")),
            "SV" => return Ok(header),
            "svm_type" if value != "one_class" => {
                let problem = format!(
                    "holds a model of the type {}: only one_class can be imported",
                    shown(value)
                );
                return Err(ImportError::Libsvm { line, problem });
            }
            "kernel_type" => header.kernel = value,
            "gamma" => header.gamma = number()?,
            "coef0" => header.coef0 = number()?,
            "degree" => {
                let degree = value.parse().ok().filter(|degree| *degree <= MAX_DEGREE);
                header.degree = degree.ok_or_else(|| wrong(line, "holds a degree that is out of range"))?;
            }
            "rho" => {
                header.rho = number()?;
                has_rho = true;
            }
            "svm_type" | "nr_class" | "total_sv" | "nr_sv" | "label" => {}
            _ => return Err(wrong(line, "is not one that svm-train writes")),
        }
    }
    Err(wrong(last, "is the last, before any vector: copy the file again"))
}

fn wrong(line: usize, problem: &str) -> ImportError {
    let problem = problem.to_owned();
    ImportError::Libsvm { line, problem }
}
