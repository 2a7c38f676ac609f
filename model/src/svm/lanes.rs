//! Eight f64 side by side, and the elementary functions on them.
//!
//! Everything is plain arithmetic on arrays of eight. The compiler turns it into one AVX-512, two AVX or four SSE2
//! instructions, depending on the target features of the surrounding function. Each lane goes through the same IEEE 754
//! operations in the same order every time: Rust never contracts `a * b + c` into a fused multiply-add on its own.

use std::ops::{Add, Mul, Sub};

/// Number of lanes in a [`Lanes`].
pub(crate) const LANES: usize = 8;

/// Eight numbers, as one AVX-512 register holds them.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[repr(C, align(64))]
pub(crate) struct Lanes(pub(crate) [f64; LANES]);

/// The arithmetic that kernels need, on one number or on eight in lanes.
pub(crate) trait Number: Copy + Add<Output = Self> + Sub<Output = Self> + Mul<Output = Self> {
    /// Returns the same number in every lane.
    fn splat(value: f64) -> Self;
    /// Applies `f` to every lane.
    fn map(self, f: impl Fn(f64) -> f64) -> Self;
    /// Applies `f` to every lane and the matching lane of `other`.
    fn zip(self, other: Self, f: impl Fn(f64, f64) -> f64) -> Self;
}

impl Number for f64 {
    #[inline(always)]
    fn splat(value: f64) -> Self {
        value
    }
    #[inline(always)]
    fn map(self, f: impl Fn(f64) -> f64) -> Self {
        f(self)
    }
    #[inline(always)]
    fn zip(self, other: Self, f: impl Fn(f64, f64) -> f64) -> Self {
        f(self, other)
    }
}

impl Number for Lanes {
    #[inline(always)]
    fn splat(value: f64) -> Self {
        Self([value; LANES])
    }
    #[inline(always)]
    fn map(self, f: impl Fn(f64) -> f64) -> Self {
        let mut out = self.0;
        for value in &mut out {
            *value = f(*value);
        }
        Self(out)
    }
    #[inline(always)]
    fn zip(self, other: Self, f: impl Fn(f64, f64) -> f64) -> Self {
        let mut out = self.0;
        for (value, other) in out.iter_mut().zip(other.0) {
            *value = f(*value, other);
        }
        Self(out)
    }
}

macro_rules! lanewise {
    ($trait:ident, $method:ident, $op:tt) => {
        impl $trait for Lanes {
            type Output = Self;
            #[inline(always)]
            fn $method(self, other: Self) -> Self {
                self.zip(other, |a, b| a $op b)
            }
        }
    };
}
lanewise!(Add, add, +);
lanewise!(Sub, sub, -);
lanewise!(Mul, mul, *);

impl Lanes {
    /// Returns the sum of the lanes, always added in the same order.
    #[inline(always)]
    pub(super) fn sum(self) -> f64 {
        let [a, b, c, d, e, f, g, h] = self.0;
        ((a + e) + (c + g)) + ((b + f) + (d + h))
    }
}

/// Smallest argument of exp. Below about −708.7, exp(x) leaves the normal numbers (2e-308) and counts as 0: this
/// argument has the exponent −1,023, whose bits are those of 0.
const SMALLEST: f64 = -709.0;

/// Adding this rounds to a whole number, and leaves that number in the lowest bits, biased by 1,023 like an exponent.
const ROUND: f64 = 6_755_399_441_055_744.0 + 1_023.0;

/// ln 2 in two parts; the first has 32 zero bits at its end, so that its product with an exponent is exact (fdlibm).
const LN_2_HIGH: f64 = 6.931_471_803_691_238e-1;
const LN_2_LOW: f64 = 1.908_214_929_270_587_7e-10;

/// Near-minimax polynomial (Chebyshev nodes, 200-bit arithmetic) for (exp(r) − 1 − r)/r² on |r| ≤ ln(2)/2; with it
/// exp(r) is off by at most 0.15 ulp before rounding.
const Q: [f64; 10] = [
    0.500_000_000_000_000_1,
    0.166_666_666_666_666_69,
    0.041_666_666_666_623_99,
    0.008_333_333_333_330_051,
    0.001_388_888_891_728_179_4,
    0.000_198_412_698_631_059_68,
    2.480_152_119_021_773e-5,
    2.755_726_837_868_419_2e-6,
    2.762_013_871_973_399_4e-7,
    2.510_042_415_700_506_7e-8,
];

/// Returns exp(x) for x ≤ 0 as (scale, p), with exp(x) = scale·(1 + p): scale is a power of two and |p| < 0.42. If x is
/// NaN, so is p.
#[inline(always)]
fn exp_parts<N: Number>(x: N) -> (N, N) {
    let x = x.map(|x| if x < SMALLEST { SMALLEST } else { x });
    let rounded = x * N::splat(std::f64::consts::LOG2_E) + N::splat(ROUND);
    let exponent = rounded - N::splat(ROUND);
    let r = (x - exponent * N::splat(LN_2_HIGH)) - exponent * N::splat(LN_2_LOW);
    let q = |at: usize| N::splat(Q[at]);
    // Pairs, then pairs of pairs (Estrin's scheme): a third of the latency of Horner's scheme.
    let r2 = r * r;
    let r4 = r2 * r2;
    let low = (q(0) + q(1) * r) + (q(2) + q(3) * r) * r2;
    let middle = (q(4) + q(5) * r) + (q(6) + q(7) * r) * r2;
    let high = q(8) + q(9) * r;
    let p = r + r2 * (low + r4 * (middle + r4 * high));
    (rounded.map(|rounded| f64::from_bits(rounded.to_bits() << 52)), p)
}

/// Returns exp(x) for x ≤ 0 (or NaN), to within 1 ulp; 0 below −708.7.
#[inline(always)]
pub(crate) fn exp_of_nonpositive<N: Number>(x: N) -> N {
    let (scale, p) = exp_parts(x);
    scale + scale * p
}

/// A positive number that others are compared with by [`ln_ratio`], in parts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Reference {
    /// Between 1 and 2.
    mantissa: f64,
    /// Its exponent as it is stored, plus what [`EXPONENT`] adds.
    exponent: f64,
    /// Where a mantissa is so far from this one that its neighbour of another exponent is nearer.
    far_below: f64,
    far_above: f64,
}

/// The bits of 2^52: with an exponent's bits in its lowest ones, the number is 2^52 plus that exponent.
const EXPONENT: u64 = 0x4330_0000_0000_0000;
const MANTISSA_BITS: u64 = (1 << 52) - 1;
const MANTISSA_OF_1: u64 = 1.0_f64.to_bits();

impl Reference {
    /// Returns the reference of a number; none of what is not positive and normal.
    pub(crate) fn of(value: f64) -> Option<Self> {
        let usable = value.is_normal() && value > 0.0;
        let mantissa = mantissa(value);
        usable.then(|| Self {
            mantissa,
            exponent: exponent(value),
            far_below: mantissa * std::f64::consts::FRAC_1_SQRT_2,
            far_above: mantissa * std::f64::consts::SQRT_2,
        })
    }
}

#[inline(always)]
fn mantissa(value: f64) -> f64 {
    f64::from_bits(value.to_bits() & MANTISSA_BITS | MANTISSA_OF_1)
}

#[inline(always)]
fn exponent(value: f64) -> f64 {
    f64::from_bits(value.to_bits() >> 52 | EXPONENT)
}

/// fdlibm's polynomial for (ln((1 + z) / (1 − z)) − 2z) / z in z², for |z| ≤ 0.1716, the first coefficient first.
const LG: [f64; 7] = [
    0.666_666_666_666_673_5,
    0.399_999_999_994_094_2,
    0.285_714_287_436_623_9,
    0.222_221_984_321_497_84,
    0.181_835_721_616_180_5,
    0.153_138_376_992_093_73,
    0.147_981_986_051_165_86,
];

/// Returns ln(value / reference) for a positive normal value, to within 2 ulp, with the exact sign: 0 only if they are
/// equal.
///
/// With m and r, the numbers scaled to be within a factor of √2, it is a multiple of ln 2 and 2·atanh((m − r) / (m + r)).
/// The difference is exact (Sterbenz), so nothing cancels near the reference.
#[inline(always)]
pub(crate) fn ln_ratio<N: Number>(value: N, reference: Reference) -> N {
    let Reference {
        far_below, far_above, ..
    } = reference;
    let own = value.map(mantissa);
    let carried = own.map(|m| f64::from(u8::from(m > far_above)) - f64::from(u8::from(m < far_below)));
    let scaled = own.map(|m| {
        let m = if m > far_above { m * 0.5 } else { m };
        if m < far_below { m * 2.0 } else { m }
    });
    let two = value.map(exponent) - N::splat(reference.exponent) + carried;
    let r = N::splat(reference.mantissa);
    let z = (scaled - r).zip(scaled + r, |above, below| above / below);
    let lg = |at: usize| N::splat(LG[at]);
    let z2 = z * z;
    let z4 = z2 * z2;
    let odd = lg(0) + z4 * (lg(2) + z4 * (lg(4) + z4 * lg(6)));
    let even = lg(1) + z4 * (lg(3) + z4 * lg(5));
    let rest = z * (z2 * (odd + z2 * even));
    two * N::splat(LN_2_HIGH) + ((z + z) + (rest + two * N::splat(LN_2_LOW)))
}

/// Returns tanh(x), to within 4 ulp: −expm1(−2|x|) / (expm1(−2|x|) + 2), with the sign of x.
#[inline(always)]
pub(super) fn tanh<N: Number>(x: N) -> N {
    let (scale, p) = exp_parts(x.map(|x| -2.0 * x.abs()));
    // For small x the scale is 1 and the second term exactly 0, so nothing cancels.
    let expm1 = scale * p + (scale - N::splat(1.0));
    let ratio = expm1.zip(expm1 + N::splat(2.0), |above, below| above / below);
    ratio.zip(x, f64::copysign)
}

/// Returns x to a whole power by repeated squaring, multiplying in libsvm's order.
#[inline(always)]
pub(super) fn power<N: Number>(x: N, degree: u32) -> N {
    let (mut square, mut result, mut left) = (x, N::splat(1.0), degree);
    while left > 0 {
        if left % 2 == 1 {
            result = result * square;
        }
        square = square * square;
        left /= 2;
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the distance in units of the last place of `right`.
    fn ulps(got: f64, right: f64) -> f64 {
        let ulp = f64::from_bits(right.abs().to_bits() + 1) - right.abs();
        (got - right).abs() / ulp
    }

    fn points(from: f64, count: u32) -> impl Iterator<Item = f64> {
        (0..count).map(move |i| from * f64::from(i) / f64::from(count) * (1.0 + 1e-9 * f64::from(i % 7)))
    }

    #[test]
    fn exp_is_within_one_and_a_half_ulp_of_the_systems() {
        let worst = points(-708.0, 1_000_000)
            .chain(points(-1.0, 1_000_000))
            .map(|x| ulps(exp_of_nonpositive(x), x.exp()))
            .fold(0.0, f64::max);
        // The system's exp is off by up to half an ulp itself, so the limit is 1 + 0.5.
        assert!(worst <= 1.5, "{worst}");
    }

    #[test]
    fn exp_at_its_borders() {
        assert_eq!(exp_of_nonpositive(0.0), 1.0);
        assert_eq!(exp_of_nonpositive(-0.0), 1.0);
        assert!(exp_of_nonpositive(-708.0) > 0.0);
        for far in [-709.0, -745.2, -1e300, f64::MIN, f64::NEG_INFINITY] {
            assert_eq!(exp_of_nonpositive(far), 0.0, "{far}");
        }
        assert!(exp_of_nonpositive(f64::NAN).is_nan());
    }

    #[test]
    fn a_logarithm_is_within_two_ulp_of_the_systems_and_its_sign_is_exact() {
        let numbers = || {
            points(700.0, 200_000)
                .map(|x| (350.0 - x).exp())
                .chain(points(4.0, 200_000).skip(1))
        };
        let one = Reference::of(1.0).unwrap();
        let worst = numbers()
            .filter(|x| *x != 1.0)
            .map(|x| ulps(ln_ratio(x, one), x.ln()))
            .fold(0.0, f64::max);
        assert!(worst <= 2.0, "{worst}");
        for reference in numbers()
            .step_by(997)
            .chain([f64::MIN_POSITIVE, f64::MAX, 1.0, 2.0, 1.5])
        {
            let of = Reference::of(reference).unwrap();
            assert_eq!(ln_ratio(reference, of), 0.0);
            assert!(
                ln_ratio(reference.next_down().max(f64::MIN_POSITIVE), of) < 0.0
                    || reference == f64::MIN_POSITIVE
            );
            assert!(ln_ratio(reference.next_up().min(f64::MAX), of) > 0.0 || reference == f64::MAX);
            for value in numbers().step_by(4_999) {
                let (got, right) = (ln_ratio(value, of), value.ln() - reference.ln());
                assert!(
                    (got - right).abs() <= 1e-13 * (1.0 + right.abs()),
                    "{value} / {reference}: {got}, {right}"
                );
            }
        }
        for unusable in [0.0, -1.0, f64::NAN, f64::INFINITY, 1e-310] {
            assert_eq!(Reference::of(unusable), None);
        }
    }

    #[test]
    fn tanh_is_within_four_ulp_of_the_systems() {
        let worst = points(30.0, 1_000_000)
            .chain(points(-0.5, 1_000_000))
            .chain(points(1e-8, 1_000))
            .filter(|x| *x != 0.0)
            .map(|x| ulps(tanh(x), x.tanh()))
            .fold(0.0, f64::max);
        assert!(worst <= 4.0, "{worst}");
        assert_eq!(tanh(f64::INFINITY), 1.0);
        assert_eq!(tanh(-800.0), -1.0);
        assert_eq!(tanh(0.0), 0.0);
        assert!(tanh(f64::NAN).is_nan());
    }

    #[test]
    fn a_power_is_repeated_multiplication() {
        assert_eq!(power(3.0, 0), 1.0);
        assert_eq!(power(-2.0, 5), -32.0);
        assert_eq!(power(1.5, 3), 3.375);
    }

    #[test]
    fn eight_lanes_give_the_bits_of_one() {
        for chunk in points(-720.0, 8_000).collect::<Vec<_>>().chunks_exact(LANES) {
            let lanes = Lanes(std::array::from_fn(|lane| chunk[lane]));
            assert_eq!(exp_of_nonpositive(lanes).0, lanes.0.map(exp_of_nonpositive));
            assert_eq!(tanh(lanes).0, lanes.0.map(tanh));
            let positive = lanes.map(|x| 1e-9 - x);
            let reference = Reference::of(33.3).unwrap();
            assert_eq!(
                ln_ratio(positive, reference).0,
                positive.0.map(|x| ln_ratio(x, reference))
            );
        }
    }
}
