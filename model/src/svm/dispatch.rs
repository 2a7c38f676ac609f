//! The same loop for the CPU at hand.

use std::fmt;

use super::score::{self, Linear, Polynomial, Rbf, Sigmoid, Similarity};
use super::{Kernel, OneClassSvm};

/// One compilation of the scoring loop, for a set of CPU features this CPU has.
///
/// All of them give the same decisions bit for bit: they are the same source, without fused multiply-adds, summing in
/// the same order, with our own exp. A fleet of mixed machines therefore agrees with itself, and a replay with the
/// first run. The fastest is chosen by itself; naming one is for tests and measurements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CodePath(Features);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Features {
    Baseline,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    #[cfg(target_arch = "x86_64")]
    Avx512,
}

impl CodePath {
    /// Every path this CPU can take, the fastest last.
    pub fn available() -> Vec<Self> {
        #[allow(unused_mut)] // Elsewhere than on x86-64 there is only one.
        let mut paths = vec![Self(Features::Baseline)];
        #[cfg(target_arch = "x86_64")]
        {
            if has_avx2() {
                paths.push(Self(Features::Avx2));
            }
            if has_avx512() {
                paths.push(Self(Features::Avx512));
            }
        }
        paths
    }

    /// The fastest path of this CPU.
    #[inline]
    pub fn best() -> Self {
        // The standard library asks the CPU once and remembers.
        #[cfg(target_arch = "x86_64")]
        {
            if has_avx512() {
                return Self(Features::Avx512);
            }
            if has_avx2() {
                return Self(Features::Avx2);
            }
        }
        Self(Features::Baseline)
    }

    /// One decision for each row; the lengths agree.
    pub(super) fn run(self, svm: &OneClassSvm, rows: &[f64], decisions: &mut [f64]) {
        match svm.kernel {
            Kernel::Linear => self.with(Linear, svm, rows, decisions),
            Kernel::Rbf { gamma } => self.with(Rbf { minus_gamma: -gamma }, svm, rows, decisions),
            Kernel::Polynomial { gamma, coef0, degree } => {
                self.with(Polynomial { gamma, coef0, degree }, svm, rows, decisions);
            }
            Kernel::Sigmoid { gamma, coef0 } => self.with(Sigmoid { gamma, coef0 }, svm, rows, decisions),
        }
    }

    fn with<S: Similarity>(self, similarity: S, svm: &OneClassSvm, rows: &[f64], decisions: &mut [f64]) {
        match svm.dimension {
            1 => self.sized::<S, 1>(similarity, svm, rows, decisions),
            2 => self.sized::<S, 2>(similarity, svm, rows, decisions),
            3 => self.sized::<S, 3>(similarity, svm, rows, decisions),
            4 => self.sized::<S, 4>(similarity, svm, rows, decisions),
            5 => self.sized::<S, 5>(similarity, svm, rows, decisions),
            6 => self.sized::<S, 6>(similarity, svm, rows, decisions),
            _ => self.sized::<S, 7>(similarity, svm, rows, decisions),
        }
    }

    #[allow(unsafe_code)]
    fn sized<S: Similarity, const D: usize>(
        self,
        similarity: S,
        svm: &OneClassSvm,
        rows: &[f64],
        decisions: &mut [f64],
    ) {
        match self.0 {
            Features::Baseline => score::decide::<S, D>(similarity, svm, rows, decisions),
            // SAFETY: a `CodePath` is only ever made by `available` and `best`, which have seen the CPU's features.
            #[cfg(target_arch = "x86_64")]
            Features::Avx2 => unsafe { decide_avx2::<S, D>(similarity, svm, rows, decisions) },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            Features::Avx512 => unsafe { decide_avx512::<S, D>(similarity, svm, rows, decisions) },
        }
    }
}

impl fmt::Display for CodePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Features::Baseline => "baseline",
            #[cfg(target_arch = "x86_64")]
            Features::Avx2 => "AVX2",
            #[cfg(target_arch = "x86_64")]
            Features::Avx512 => "AVX-512",
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
fn decide_avx2<S: Similarity, const D: usize>(
    similarity: S,
    svm: &OneClassSvm,
    rows: &[f64],
    decisions: &mut [f64],
) {
    score::decide::<S, D>(similarity, svm, rows, decisions);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512vl,avx512dq")]
fn decide_avx512<S: Similarity, const D: usize>(
    similarity: S,
    svm: &OneClassSvm,
    rows: &[f64],
    decisions: &mut [f64],
) {
    score::decide::<S, D>(similarity, svm, rows, decisions);
}
