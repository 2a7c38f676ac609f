//! Sums without rounding error, so that a window's aggregate does not depend on the order its readings came in.
//!
//! A sum of f64 is kept as an *expansion*: a few f64 whose exact sum it is, none overlapping another. Adding a number
//! is a chain of error-free additions (J. R. Shewchuk, "Adaptive Precision Floating-Point Arithmetic and Fast Robust
//! Geometric Predicates", 1997, GROW-EXPANSION; Python's `math.fsum` is the same). Sensor values of like size need
//! two or three components; the rare window that needs more moves to the heap.

/// Components kept in place.
const INLINE: usize = 4;

/// An exact sum of finite numbers, as long as none of its partial sums overflows.
#[derive(Clone, Debug, Default)]
pub(super) struct ExactSum {
    /// Nonoverlapping, by increasing magnitude; the first `len` count, when `spilled` is `None`.
    inline: [f64; INLINE],
    len: u8,
    #[expect(
        clippy::box_collection,
        reason = "it is next to never there, and must be small when it is not"
    )]
    spilled: Option<Box<Vec<f64>>>,
}

/// `a + b` as the rounded sum and its exact error (Knuth's TWO-SUM).
#[inline(always)]
fn two_sum(a: f64, b: f64) -> (f64, f64) {
    let sum = a + b;
    let b_part = sum - a;
    (sum, (a - (sum - b_part)) + (b - b_part))
}

/// `a * b` as the rounded product and its exact error, barring underflow.
#[inline(always)]
fn two_product(a: f64, b: f64) -> (f64, f64) {
    let product = a * b;
    (product, a.mul_add(b, -product))
}

impl ExactSum {
    /// Adds `value`.
    #[inline]
    pub(super) fn add(&mut self, value: f64) {
        if self.spilled.is_none() {
            let mut sum = value;
            let mut kept = 0;
            let mut grown = self.inline;
            for component in &self.inline[..usize::from(self.len)] {
                let (high, low) = two_sum(sum, *component);
                grown[kept] = low;
                kept += usize::from(low != 0.0);
                sum = high;
            }
            if kept < INLINE {
                grown[kept] = sum;
                self.inline = grown;
                self.len = (kept + 1) as u8;
                return;
            }
        }
        self.add_spilled(value);
    }

    #[cold]
    fn add_spilled(&mut self, value: f64) {
        let inline = &self.inline[..usize::from(self.len)];
        let components = self.spilled.get_or_insert_with(|| Box::new(inline.to_vec()));
        let mut sum = value;
        let mut kept = 0;
        for at in 0..components.len() {
            let (high, low) = two_sum(sum, components[at]);
            if low != 0.0 {
                components[kept] = low;
                kept += 1;
            }
            sum = high;
        }
        components.truncate(kept);
        components.push(sum);
    }

    /// Adds `a * b`.
    #[inline]
    pub(super) fn add_product(&mut self, a: f64, b: f64) {
        let (high, low) = two_product(a, b);
        if low != 0.0 {
            self.add(low);
        }
        self.add(high);
    }

    fn components(&self) -> &[f64] {
        match &self.spilled {
            Some(components) => components,
            None => &self.inline[..usize::from(self.len)],
        }
    }

    /// Adds `factor` times the whole of `other`.
    pub(super) fn add_scaled(&mut self, other: &Self, factor: f64) {
        for component in other.components() {
            self.add_product(*component, factor);
        }
    }

    /// The f64 nearest to the exact sum: the same however the sum came about.
    pub(super) fn rounded(&self) -> f64 {
        let mut components = self.components().iter().rev().copied();
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
