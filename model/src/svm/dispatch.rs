//! The choice of a vector loop's compilation for this CPU.

use std::fmt;

/// A compilation of the vector loops for a set of features that this CPU has.
///
/// All paths compute the same numbers bit for bit: they share one source, without fused multiply-adds, with one order
/// of summation and our own exp and ln. So mixed machines agree with each other, and a replay agrees with the first run.
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

/// A loop over [`Lanes`](super::lanes::Lanes) that is compiled for every set of features.
///
/// `run` and everything that it calls must be `#[inline(always)]`, so that they are compiled into the function that has
/// the features.
pub(crate) trait VectorLoop {
    type Output;

    fn run(self) -> Self::Output;
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

    /// Runs a loop as it is compiled for this path.
    #[inline]
    #[allow(unsafe_code)]
    pub(crate) fn run<L: VectorLoop>(self, vector_loop: L) -> L::Output {
        match self.0 {
            CpuFeatures::Baseline => vector_loop.run(),
            // SAFETY: only `available` and `best` create a `CodePath`, and both check the CPU's features.
            #[cfg(target_arch = "x86_64")]
            CpuFeatures::Avx2 => unsafe { run_avx2(vector_loop) },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            CpuFeatures::Avx512 => unsafe { run_avx512(vector_loop) },
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
fn run_avx2<L: VectorLoop>(vector_loop: L) -> L::Output {
    vector_loop.run()
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512vl,avx512dq")]
fn run_avx512<L: VectorLoop>(vector_loop: L) -> L::Output {
    vector_loop.run()
}
