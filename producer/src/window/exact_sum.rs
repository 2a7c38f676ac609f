//! Sums without rounding error, so that a window's aggregate does not depend on the order of its readings.
//!
//! A sum is a few f64 parts that add up to it exactly. An error-free addition adds a number to the first part, its
//! rounding error to the second, and so on. The rounding error of the last part is almost always zero; otherwise it
//! goes to the heap. To round the sum, the parts become an *expansion*, in which no part overlaps another (J. R.
//! Shewchuk, "Adaptive Precision Floating-Point Arithmetic and Fast Robust Geometric Predicates", 1997,
//! GROW-EXPANSION; Python's `math.fsum` does the same).

/// Parts kept in place: 212 bits, while squares of values between 0.001 and 1,000 need 140. The fixed number keeps
/// additions free of branches.
const PARTS: usize = 4;

/// A sum of finite numbers that is exact as long as no partial sum overflows.
#[derive(Clone, Debug)]
pub(super) struct ExactSum {
    parts: [f64; PARTS],
    /// What the last part rounded off: an expansion, by increasing magnitude.
    #[expect(
        clippy::box_collection,
        reason = "it is almost never allocated, and must be small while it is not"
    )]
    spilled: Option<Box<Vec<f64>>>,
}

impl Default for ExactSum {
    fn default() -> Self {
        Self {
            // -0.0 leaves every number that is added to it unchanged; 0.0 would turn a sum of -0.0 into 0.0.
            parts: [-0.0, 0.0, 0.0, 0.0],
            spilled: None,
        }
    }
}

/// Returns `a + b` as the rounded sum and its exact error (Knuth's TWO-SUM).
#[inline(always)]
fn two_sum(a: f64, b: f64) -> (f64, f64) {
    let sum = a + b;
    let b_part = sum - a;
    (sum, (a - (sum - b_part)) + (b - b_part))
}

/// Returns `a * b` as the rounded product and its error, which is exact unless it underflows.
#[inline(always)]
fn two_product(a: f64, b: f64) -> (f64, f64) {
    let product = a * b;
    (product, a.mul_add(b, -product))
}

/// Adds `value` to the expansion in the first `len` of `parts`, and returns its new length. `parts` needs room for one
/// more.
fn grow(parts: &mut [f64], len: usize, value: f64) -> usize {
    let (mut sum, mut kept) = (value, 0);
    for at in 0..len {
        let (high, low) = two_sum(sum, parts[at]);
        if low != 0.0 {
            parts[kept] = low;
            kept += 1;
        }
        sum = high;
    }
    parts[kept] = sum;
    kept + 1
}

impl ExactSum {
    /// Adds `value`.
    #[inline]
    pub(super) fn add(&mut self, value: f64) {
        self.add_from(0, value);
    }

    /// Adds `a * b`.
    #[inline]
    pub(super) fn add_product(&mut self, a: f64, b: f64) {
        let (high, low) = two_product(a, b);
        self.add_from(0, high);
        // Its magnitude is about that of the first part's rounding error.
        self.add_from(1, low);
    }

    /// Adds `value` to the parts from `first` on. Any part keeps the sum exact; one of similar magnitude spills less.
    #[inline(always)]
    fn add_from(&mut self, first: usize, value: f64) {
        let mut rest = value;
        for part in &mut self.parts[first..] {
            (*part, rest) = two_sum(*part, rest);
        }
        if rest != 0.0 {
            self.spill(rest);
        }
    }

    #[cold]
    fn spill(&mut self, value: f64) {
        let spilled = self.spilled.get_or_insert_default();
        let len = spilled.len();
        spilled.push(0.0);
        let len = grow(spilled, len, value);
        spilled.truncate(len);
    }

    /// Adds `factor` times the whole of `other`.
    pub(super) fn add_scaled(&mut self, other: &Self, factor: f64) {
        let spilled = other.spilled.iter().flat_map(|spilled| spilled.iter());
        for part in other.parts.iter().chain(spilled) {
            self.add_product(*part, factor);
        }
    }

    /// Returns the f64 nearest to the exact sum. It does not depend on the order of the additions.
    pub(super) fn rounded(&self) -> f64 {
        match &self.spilled {
            None => self.rounded_in(&mut [0.0; PARTS], 0),
            Some(spilled) => {
                let mut parts = spilled.to_vec();
                parts.resize(spilled.len() + PARTS, 0.0);
                self.rounded_in(&mut parts, spilled.len())
            }
        }
    }

    /// Rounds the sum of the parts and of the expansion in the first `len` of `room`.
    fn rounded_in(&self, room: &mut [f64], mut len: usize) -> f64 {
        for part in self.parts[1..].iter().rev().filter(|part| **part != 0.0) {
            len = grow(room, len, *part);
        }
        len = grow(room, len, self.parts[0]);
        round(&room[..len])
    }
}

/// Returns the f64 nearest to the sum of an expansion.
fn round(expansion: &[f64]) -> f64 {
    let mut components = expansion.iter().rev().copied();
    let Some(mut high) = components.next() else {
        return 0.0;
    };
    let mut low = 0.0;
    for component in components.by_ref() {
        (high, low) = two_sum(high, component);
        if low != 0.0 {
            break;
        }
    }
    // Halfway between two f64, the next component decides the rounding (as in CPython's fsum).
    if let Some(next) = components.next()
        && ((low < 0.0 && next < 0.0) || (low > 0.0 && next > 0.0))
    {
        let twice = low * 2.0;
        let moved = high + twice;
        if twice == moved - high {
            high = moved;
        }
    }
    high
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sum_of(values: &[f64]) -> f64 {
        let mut sum = ExactSum::default();
        values.iter().for_each(|value| sum.add(*value));
        sum.rounded()
    }

    #[test]
    fn what_cancels_leaves_what_is_left() {
        assert_eq!(sum_of(&[1e16, 1.0, -1e16]), 1.0);
        assert_eq!(sum_of(&[1e100, 1.0, -1e100, 1e-100]), 1.0);
        assert_eq!(sum_of(&[0.1; 10]), 1.0);
        assert_eq!(sum_of(&[]), 0.0);
        let tenths = [1e300, 1e200, 1e100, 1.0, 1e-100, 1e-200, -1e300, -1e200];
        assert_eq!(sum_of(&tenths), 1e100);
    }

    #[test]
    fn what_does_not_fit_in_place_is_not_lost() {
        let far_apart = [1e300, 1e200, 1e100, 1.0, 1e-100, 1e-200];
        let mut values = far_apart.to_vec();
        values.extend(far_apart[..5].iter().map(|value| -value));
        assert_eq!(sum_of(&values), 1e-200);
        values.push(-1e-200);
        assert_eq!(sum_of(&values), 0.0);
    }

    #[test]
    fn a_sum_of_negative_zeros_is_one() {
        assert_eq!(sum_of(&[-0.0, -0.0]).to_bits(), (-0.0_f64).to_bits());
        assert_eq!(sum_of(&[-0.0, 0.0]).to_bits(), 0.0_f64.to_bits());
    }

    proptest! {
        #[test]
        fn any_order_gives_the_same_bits(
            mut values in proptest::collection::vec((-1.0_f64..1.0, -60_i32..60), 1..60),
            seed in any::<u64>(),
        ) {
            let scaled = |values: &[(f64, i32)]| values.iter().map(|(m, e)| m * 2_f64.powi(*e)).collect::<Vec<_>>();
            let expected = sum_of(&scaled(&values));
            let mut state = seed;
            for i in (1..values.len()).rev() {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                values.swap(i, (state >> 33) as usize % (i + 1));
            }
            prop_assert_eq!(sum_of(&scaled(&values)).to_bits(), expected.to_bits());
        }
    }
}
