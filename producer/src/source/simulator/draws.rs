//! Random numbers by counter: any draw of any stream can be computed without the ones before it.
//!
//! A stream is SplitMix64 (Steele, Lea and Flood, "Fast Splittable Pseudorandom Number Generators", 2014), whose n-th
//! number is a hash of `key + n * GOLDEN`. It is written out here instead of taken from a crate, so that a seed always
//! means the same fleet.

const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

/// SplitMix64's finalizer: every bit of the result depends on every bit of `z`.
pub(super) const fn mix(z: u64) -> u64 {
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Returns a key that is independent of `key` and of the keys of other names.
pub(super) const fn derive(key: u64, name: u64) -> u64 {
    mix(key ^ mix(name.wrapping_add(GOLDEN)))
}

/// Returns the number at place `counter` of the stream `key`.
pub(super) const fn draw(key: u64, counter: i64) -> u64 {
    mix(key.wrapping_add((counter as u64).wrapping_mul(GOLDEN)))
}

/// Returns a value from a bell curve of mean 0 and variance 1, from the upper 48 bits of a draw. The lower 16 bits stay
/// free for another use.
///
/// It is the sum of four uniforms (Irwin-Hall). That is cheap, and bounded by 3.46, as the noise of a clean sensor
/// should be.
pub(super) fn bell(bits: u64) -> f64 {
    const CENTRE: f64 = 4.0 * 4_095.0 / 2.0;
    /// One over the standard deviation of the sum: each part has variance (4096² − 1) / 12.
    const SCALE: f64 = 1.0 / 2_364.825_152_084_7;
    let sum =
        ((bits >> 52) & 0xfff) + ((bits >> 40) & 0xfff) + ((bits >> 28) & 0xfff) + ((bits >> 16) & 0xfff);
    (sum as f64 - CENTRE) * SCALE
}

/// Consecutive draws of one stream, for a caller that needs several of them.
pub(super) struct Draws {
    key: u64,
    drawn: i64,
}

impl Draws {
    pub(super) const fn new(key: u64) -> Self {
        Self { key, drawn: 0 }
    }

    /// Draws uniformly from [0, 1).
    pub(super) fn unit(&mut self) -> f64 {
        self.drawn += 1;
        (draw(self.key, self.drawn) >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Draws uniformly from [low, high).
    pub(super) fn between(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * self.unit()
    }

    /// Draws uniformly from 0 to `count` − 1; returns 0 if `count` is not positive.
    pub(super) fn below(&mut self, count: i64) -> i64 {
        (self.unit() * count.max(0) as f64) as i64
    }

    /// Draws −1 or 1.
    pub(super) fn sign(&mut self) -> f64 {
        if self.unit() < 0.5 { -1.0 } else { 1.0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bell_curve_has_mean_zero_and_variance_one() {
        let n = 200_000;
        let values: Vec<f64> = (0..n).map(|i| bell(draw(derive(7, 1), i))).collect();
        let mean = values.iter().sum::<f64>() / n as f64;
        let variance = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / n as f64;
        assert!(mean.abs() < 0.01, "{mean}");
        assert!((variance - 1.0).abs() < 0.01, "{variance}");
    }

    #[test]
    fn the_stream_is_splitmix64() {
        // First outputs for seed 0, as in the authors' C code: the state is stepped before it is hashed.
        assert_eq!(draw(0, 1), 0xe220_a839_7b1d_cdaf);
        assert_eq!(draw(0, 2), 0x6e78_9e6a_a1b9_65f4);
    }
}
