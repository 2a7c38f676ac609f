//! The choice of the scoring loop's compilation for this CPU.

use std::fmt;

use super::log_score::LogScore;
use super::score::{self, Linear, Polynomial, Rbf, Sigmoid, Similarity};
use super::{Kernel, OneClassSvm};

/// A compilation of the scoring loop for a set of features that this CPU has.
///
/// All paths compute the same decisions bit for bit: they share one source, without fused multiply-adds, with one order
/// of summation and our own exp. So mixed machines agree with each other, and a replay agrees with the first run.
/// Scoring picks the fastest path; only tests and benchmarks name one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CodePath(CpuFeatures);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum CpuFeatures {
    Baseline,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    #[cfg(target_arch = "x86_64")]
    Avx512,
}

impl CodePath {
    /// Returns every path that this CPU can run, the fastest last.
    pub fn available() -> Vec<Self> {
        #[allow(unused_mut)] // Other architectures than x86-64 have only one.
        let mut paths = vec![Self(CpuFeatures::Baseline)];
        #[cfg(target_arch = "x86_64")]
        {
            if has_avx2() {
                paths.push(Self(CpuFeatures::Avx2));
            }
            if has_avx512() {
                paths.push(Self(CpuFeatures::Avx512));
            }
        }
        paths
    }

    /// Returns the fastest path of this CPU.
    #[inline]
    pub fn best() -> Self {
        // The standard library queries the CPU once and caches the answer.
        #[cfg(target_arch = "x86_64")]
        {
            if has_avx512() {
                return Self(CpuFeatures::Avx512);
            }
            if has_avx2() {
                return Self(CpuFeatures::Avx2);
            }
        }
        Self(CpuFeatures::Baseline)
    }

    /// Writes one sum, which is a decision without its intercept, for each row; the lengths must agree.
    pub(super) fn sums(self, svm: &OneClassSvm, rows: &[f64], sums: &mut [f64]) {
        match svm.kernel {
            Kernel::Linear => self.with(Linear, svm, rows, sums),
            Kernel::Rbf { gamma } => self.with(Rbf { minus_gamma: -gamma }, svm, rows, sums),
            Kernel::Polynomial { gamma, coef0, degree } => {
                self.with(Polynomial { gamma, coef0, degree }, svm, rows, sums);
            }
            Kernel::Sigmoid { gamma, coef0 } => self.with(Sigmoid { gamma, coef0 }, svm, rows, sums),
        }
    }

    /// Writes one log score for each row and its sum; the lengths must agree.
    #[allow(unsafe_code)]
    pub(super) fn log_scores(
        self,
        log_score: &LogScore,
        svm: &OneClassSvm,
        rows: &[f64],
        sums: &[f64],
        scores: &mut [f64],
    ) {
        match self.0 {
            CpuFeatures::Baseline => log_score.of(svm, rows, sums, scores),
            // SAFETY: only `available` and `best` create a `CodePath`, and both check the CPU's features.
            #[cfg(target_arch = "x86_64")]
            CpuFeatures::Avx2 => unsafe { log_scores_avx2(log_score, svm, rows, sums, scores) },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            CpuFeatures::Avx512 => unsafe { log_scores_avx512(log_score, svm, rows, sums, scores) },
        }
    }

    fn with<S: Similarity>(self, similarity: S, svm: &OneClassSvm, rows: &[f64], sums: &mut [f64]) {
        match svm.dimension {
            1 => self.sized::<S, 1>(similarity, svm, rows, sums),
            2 => self.sized::<S, 2>(similarity, svm, rows, sums),
            3 => self.sized::<S, 3>(similarity, svm, rows, sums),
            4 => self.sized::<S, 4>(similarity, svm, rows, sums),
            5 => self.sized::<S, 5>(similarity, svm, rows, sums),
            6 => self.sized::<S, 6>(similarity, svm, rows, sums),
            7 => self.sized::<S, 7>(similarity, svm, rows, sums),
            8 => self.sized::<S, 8>(similarity, svm, rows, sums),
            9 => self.sized::<S, 9>(similarity, svm, rows, sums),
            _ => self.sized::<S, 10>(similarity, svm, rows, sums),
        }
    }

    #[allow(unsafe_code)]
    fn sized<S: Similarity, const D: usize>(
        self,
        similarity: S,
        svm: &OneClassSvm,
        rows: &[f64],
        sums: &mut [f64],
    ) {
        match self.0 {
            CpuFeatures::Baseline => score::sums::<S, D>(similarity, svm, rows, sums),
            // SAFETY: only `available` and `best` create a `CodePath`, and both check the CPU's features.
            #[cfg(target_arch = "x86_64")]
            CpuFeatures::Avx2 => unsafe { sums_avx2::<S, D>(similarity, svm, rows, sums) },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            CpuFeatures::Avx512 => unsafe { sums_avx512::<S, D>(similarity, svm, rows, sums) },
        }
    }
}

impl fmt::Display for CodePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            CpuFeatures::Baseline => "baseline",
            #[cfg(target_arch = "x86_64")]
            CpuFeatures::Avx2 => "AVX2",
            #[cfg(target_arch = "x86_64")]
            CpuFeatures::Avx512 => "AVX-512",
        })
    }
}

#[cfg(target_arch = "x86_64")]
fn has_avx2() -> bool {
    is_x86_feature_detected!("avx2")
}

#[cfg(target_arch = "x86_64")]
fn has_avx512() -> bool {
    is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512vl")
        && is_x86_feature_detected!("avx512dq")
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn sums_avx2<S: Similarity, const D: usize>(
    similarity: S,
    svm: &OneClassSvm,
    rows: &[f64],
    sums: &mut [f64],
) {
    score::sums::<S, D>(similarity, svm, rows, sums);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512vl,avx512dq")]
fn sums_avx512<S: Similarity, const D: usize>(
    similarity: S,
    svm: &OneClassSvm,
    rows: &[f64],
    sums: &mut [f64],
) {
    score::sums::<S, D>(similarity, svm, rows, sums);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn log_scores_avx2(log_score: &LogScore, svm: &OneClassSvm, rows: &[f64], sums: &[f64], scores: &mut [f64]) {
    log_score.of(svm, rows, sums, scores);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512vl,avx512dq")]
fn log_scores_avx512(
    log_score: &LogScore,
    svm: &OneClassSvm,
    rows: &[f64],
    sums: &[f64],
    scores: &mut [f64],
) {
    log_score.of(svm, rows, sums, scores);
}
