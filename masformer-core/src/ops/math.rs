//! Functions of one number that the compiler turns into vector instructions.
//!
//! The standard library's are calls, one for each number. These have no branches and call nothing, so
//! that a plain loop over a slice inside [`vectorize`] runs as wide as the processor allows. AVX2 and
//! AVX-512 give the same bits.

use std::f32::consts::{FRAC_1_SQRT_2, LN_2, LOG2_E};

use macerator::{AutoArch, Simd, WithSimd};

/// `1 / sqrt(2 pi)`.
const NORMAL_PEAK: f32 = 0.398_942_3;
/// `2 sqrt(2 / pi)`, the slope of twice the argument of the hyperbolic tangent in gelu's other form.
const TANH_SLOPE: f32 = 1.595_769;
/// The factor of the cube in there.
const TANH_CUBE: f32 = 0.044_715;
/// The factor of the argument in gelu's roughest form.
const QUICK: f32 = 1.702;
/// The 24th bit of a mantissa counts ones from here on: adding this number rounds to an integer, which
/// is then the low bits of the sum.
const ROUNDER: f32 = 12_582_912.0;
/// The exponent of a float that is zero.
const BIAS: u32 = 127;

/// Numbers that are summed side by side: enough vectors that an addition need not wait for the last.
pub(super) const LANES: usize = 32;

/// How this processor multiplies and adds: in one instruction, if it has one.
#[derive(Clone, Copy, Debug)]
pub(super) struct Mac {
    fused: bool,
}

impl Mac {
    /// `a * b + c`.
    #[inline(always)]
    fn of(self, a: f32, b: f32, c: f32) -> f32 {
        if self.fused {
            a.mul_add(b, c)
        } else {
            a * b + c
        }
    }
}

/// Runs a kernel with the widest vectors of this processor.
///
/// What the kernel calls must be `#[inline(always)]`, and so must the kernel.
pub(super) fn vectorize<T>(kernel: impl FnOnce(Mac) -> T) -> T {
    struct Kernel<K>(K);

    impl<T, K: FnOnce(Mac) -> T> WithSimd for Kernel<K> {
        type Output = T;

        #[inline(always)]
        fn with_simd<S: Simd>(self) -> T {
            // On x86, vectors of eight came with (AVX2, in practice) the fused instruction.
            let fused = cfg!(target_arch = "aarch64") || S::lanes32() >= 8;
            (self.0)(Mac { fused })
        }
    }

    AutoArch::new().dispatch(Kernel(kernel))
}

/// The sum of `term(x)`, in an order that does not depend on the instructions.
#[inline(always)]
pub(super) fn sum_of(values: &[f32], term: impl Fn(f32) -> f32) -> f32 {
    let [sum] = sums_of([values], |[x]| [term(x)]);
    sum
}

/// Sums over slices of the same length in one pass, as [`sum_of`].
#[inline(always)]
pub(super) fn sums_of<const SLICES: usize, const SUMS: usize>(
    slices: [&[f32]; SLICES],
    terms: impl Fn([f32; SLICES]) -> [f32; SUMS],
) -> [f32; SUMS] {
    let length = slices[0].len();
    let blocks = slices.map(|slice| slice.as_chunks::<LANES>().0);
    let mut lanes = [[0.0; LANES]; SUMS];
    for place in 0..length / LANES {
        let blocks = blocks.map(|blocks| &blocks[place]);
        for lane in 0..LANES {
            let terms = terms(blocks.map(|block| block[lane]));
            for (lanes, term) in lanes.iter_mut().zip(terms) {
                lanes[lane] += term;
            }
        }
    }
    let mut sums = lanes.map(|lanes| fold(lanes, |x, y| x + y));
    for place in length / LANES * LANES..length {
        let terms = terms(slices.map(|slice| slice[place]));
        for (sum, term) in sums.iter_mut().zip(terms) {
            *sum += term;
        }
    }
    sums
}

/// Turns each `x` into `function(x)`, and sums these as [`sum_of`].
#[inline(always)]
pub(super) fn map_and_sum(values: &mut [f32], function: impl Fn(f32) -> f32) -> f32 {
    let (blocks, rest) = values.as_chunks_mut::<LANES>();
    let mut lanes = [0.0; LANES];
    for block in blocks {
        for (lane, x) in lanes.iter_mut().zip(block) {
            *x = function(*x);
            *lane += *x;
        }
    }
    for x in rest.iter_mut() {
        *x = function(*x);
    }
    fold(lanes, |x, y| x + y) + rest.iter().sum::<f32>()
}

/// The largest number, leaving out what is none.
#[inline(always)]
pub(super) fn max_of(values: &[f32]) -> f32 {
    let larger = |x: f32, y: f32| if y > x { y } else { x };
    let (blocks, rest) = values.as_chunks::<LANES>();
    let mut lanes = [f32::NEG_INFINITY; LANES];
    for block in blocks {
        for (lane, x) in lanes.iter_mut().zip(block) {
            *lane = larger(*lane, *x);
        }
    }
    rest.iter().copied().fold(fold(lanes, larger), larger)
}

/// All lanes in one, by halves: one after the other, they would take longer than a short row.
#[inline(always)]
fn fold(mut lanes: [f32; LANES], both: impl Fn(f32, f32) -> f32) -> f32 {
    let mut count = LANES;
    while count > 1 {
        count /= 2;
        let (left, right) = lanes.split_at_mut(count);
        for (x, y) in left.iter_mut().zip(right) {
            *x = both(*x, *y);
        }
    }
    lanes[0]
}

/// `e^x` for `x` up to 88, within 4e-7 of its value; 0 below -87.7.
#[inline(always)]
pub(super) fn exp(mac: Mac, x: f32) -> f32 {
    exp2(mac, x * LOG2_E)
}

/// `2^x` for `x` up to 127; 0 below -126.5.
#[inline(always)]
fn exp2(mac: Mac, x: f32) -> f32 {
    // Written so that what is not a number stays so.
    let least = -(BIAS as f32);
    let x = if x < least { least } else { x };
    let shifted = x + ROUNDER;
    let rest = x - (shifted - ROUNDER);
    // The polynomial of degree 5 with the least relative error on [-1/2, 1/2] among those with this
    // value and slope at 0, found by Lawson's algorithm: 1.1e-7 before rounding.
    let sum = mac.of(1.330_026_4e-3, rest, 9.669_708e-3);
    let sum = mac.of(sum, rest, 5.550_56e-2);
    let sum = mac.of(sum, rest, 0.240_222_81);
    let sum = mac.of(sum, rest, LN_2);
    let sum = mac.of(sum, rest, 1.0);
    let power = (shifted.to_bits() << 23).wrapping_add(BIAS << 23);
    sum * f32::from_bits(power)
}

/// The standard normal distribution and its density, within 2e-7.
///
/// The distribution is that of Abramowitz and Stegun, formula 7.1.26, whose exponential is the
/// density.
#[inline(always)]
fn normal(mac: Mac, x: f32) -> (f32, f32) {
    let t = 1.0 / mac.of(x.abs(), 0.327_591_1 * FRAC_1_SQRT_2, 1.0);
    let exponential = exp2(mac, x * x * (-0.5 * LOG2_E));
    // Half the coefficients: the tail is half of what erf leaves to 1.
    let sum = mac.of(0.530_702_7, t, -0.726_576);
    let sum = mac.of(sum, t, 0.710_706_9);
    let sum = mac.of(sum, t, -0.142_248_37);
    let sum = mac.of(sum, t, 0.127_414_8);
    let tail = sum * (t * exponential);
    let distribution = if x < 0.0 { tail } else { 1.0 - tail };
    (distribution, NORMAL_PEAK * exponential)
}

/// `x / 2 (1 + erf(x / sqrt(2)))`.
#[inline(always)]
pub(super) fn gelu(mac: Mac, x: f32) -> f32 {
    x * normal(mac, x).0
}

/// [`gelu`] and its slope.
#[inline(always)]
pub(super) fn gelu_and_slope(mac: Mac, x: f32) -> (f32, f32) {
    let (distribution, density) = normal(mac, x);
    (x * distribution, mac.of(x, density, distribution))
}

/// `1 / (1 + e^-x)`, and what is left to 1, divided by it.
#[inline(always)]
fn sigmoid(mac: Mac, x: f32) -> (f32, f32) {
    // From here on it is zero as good as any.
    let x = if x < -80.0 { -80.0 } else { x };
    let rest = exp(mac, -x);
    (1.0 / (1.0 + rest), rest)
}

/// `(1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))) / 2`, and what is left to 1, divided by it.
#[inline(always)]
fn gate(mac: Mac, x: f32) -> (f32, f32) {
    sigmoid(mac, x * mac.of(x * x, TANH_SLOPE * TANH_CUBE, TANH_SLOPE))
}

/// `x / 2 (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3)))`.
#[inline(always)]
pub(super) fn gelu_tanh(mac: Mac, x: f32) -> f32 {
    x * gate(mac, x).0
}

/// [`gelu_tanh`] and its slope.
#[inline(always)]
pub(super) fn gelu_tanh_and_slope(mac: Mac, x: f32) -> (f32, f32) {
    let (gate, rest) = gate(mac, x);
    let slope = mac.of(x * x, 3.0 * TANH_SLOPE * TANH_CUBE, TANH_SLOPE);
    (x * gate, mac.of(x * slope, gate * gate * rest, gate))
}

/// `max(x, 0)`.
#[inline(always)]
pub(super) fn relu(_: Mac, x: f32) -> f32 {
    // Written so that what is not a number stays so.
    if x < 0.0 { 0.0 } else { x }
}

/// [`relu`] and its slope.
#[inline(always)]
pub(super) fn relu_and_slope(mac: Mac, x: f32) -> (f32, f32) {
    let slope = if x > 0.0 { 1.0 } else { 0.0 };
    (relu(mac, x), slope)
}

/// `x / (1 + e^-x)`.
#[inline(always)]
pub(super) fn silu(mac: Mac, x: f32) -> f32 {
    x * sigmoid(mac, x).0
}

/// [`silu`] and its slope.
#[inline(always)]
pub(super) fn silu_and_slope(mac: Mac, x: f32) -> (f32, f32) {
    let (gate, rest) = sigmoid(mac, x);
    (x * gate, mac.of(x, gate * gate * rest, gate))
}

/// `x / (1 + e^(-1.702 x))`.
#[inline(always)]
pub(super) fn quick_gelu(mac: Mac, x: f32) -> f32 {
    x * sigmoid(mac, QUICK * x).0
}

/// [`quick_gelu`] and its slope.
#[inline(always)]
pub(super) fn quick_gelu_and_slope(mac: Mac, x: f32) -> (f32, f32) {
    let (gate, rest) = sigmoid(mac, QUICK * x);
    (x * gate, mac.of(QUICK * x, gate * gate * rest, gate))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Thousandths, and what else there is, up to the largest argument of exponentials.
    fn numbers() -> Vec<f32> {
        let steps = (-100_000..=88_000).map(|step| step as f32 * 1e-3);
        let others = [0.0, -0.0, 1e-30, -1e-30, -1e9];
        steps.chain(others).collect()
    }

    /// A function of each of them, which is the same with and without fused instructions.
    fn run(function: impl Fn(Mac, f32) -> f32 + Copy) -> Vec<(f64, f64)> {
        let numbers = numbers();
        let mut values = numbers.clone();
        vectorize(|mac| values.iter_mut().for_each(|x| *x = function(mac, *x)));
        let plain = Mac { fused: false };
        for (&x, &value) in numbers.iter().zip(&values) {
            let unfused = function(plain, x);
            let difference = (unfused - value).abs();
            let close = difference <= 1e-5 * value.abs().max(0.1);
            assert!(close, "{x}: {value} and {unfused}");
        }
        let pairs = numbers.into_iter().zip(values);
        pairs.map(|(x, y)| (f64::from(x), f64::from(y))).collect()
    }

    /// By the series whose terms are all positive.
    fn erf(x: f64) -> f64 {
        if x.abs() > 6.0 {
            return x.signum();
        }
        let (mut term, mut sum) = (x, 0.0);
        for n in 1..200 {
            sum += term;
            term *= 2.0 * x * x / (2.0 * f64::from(n) + 1.0);
        }
        sum * std::f64::consts::FRAC_2_SQRT_PI * (-x * x).exp()
    }

    fn exact_gelu(x: f64) -> f64 {
        x * 0.5 * (1.0 + erf(x * std::f64::consts::FRAC_1_SQRT_2))
    }

    fn exact_gelu_tanh(x: f64) -> f64 {
        let argument = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044_715 * x.powi(3));
        x * 0.5 * (1.0 + argument.tanh())
    }

    fn exact_relu(x: f64) -> f64 {
        x.max(0.0)
    }

    fn exact_silu(x: f64) -> f64 {
        x / (1.0 + (-x).exp())
    }

    fn exact_quick_gelu(x: f64) -> f64 {
        x / (1.0 + (-1.702 * x).exp())
    }

    fn assert_near(name: &str, pairs: &[(f64, f64)], exact: impl Fn(f64) -> f64) {
        for &(x, y) in pairs {
            let exact = exact(x);
            let error = (y - exact).abs() / exact.abs().max(1.0);
            assert!(error < 1e-6, "{name}({x}) = {exact}, not {y}");
        }
    }

    #[test]
    fn exponentials_are_exact_to_a_few_parts_in_ten_millions() {
        for (x, y) in run(exp) {
            if x < -88.0 {
                assert!(y == 0.0, "exp({x}) = {y}");
            } else if (-87.0..=88.0).contains(&x) {
                let error = (y / x.exp() - 1.0).abs();
                // The argument is rounded, too.
                assert!(error < 4e-7 + 1e-7 * x.abs(), "exp({x}) = {y}");
            }
        }
        assert!((exp(Mac { fused: false }, 0.0) - 1.0).abs() < f32::MIN_POSITIVE);
    }

    #[test]
    fn activations_are_exact_to_a_millionth() {
        assert_near("gelu", &run(gelu), exact_gelu);
        assert_near("gelu_tanh", &run(gelu_tanh), exact_gelu_tanh);
        assert_near("relu", &run(relu), exact_relu);
        assert_near("silu", &run(silu), exact_silu);
        assert_near("quick_gelu", &run(quick_gelu), exact_quick_gelu);
        let value = |function: fn(Mac, f32) -> (f32, f32)| run(move |mac, x| function(mac, x).0);
        assert_near("gelu", &value(gelu_and_slope), exact_gelu);
        assert_near("gelu_tanh", &value(gelu_tanh_and_slope), exact_gelu_tanh);
        assert_near("relu", &value(relu_and_slope), exact_relu);
        assert_near("silu", &value(silu_and_slope), exact_silu);
        assert_near("quick_gelu", &value(quick_gelu_and_slope), exact_quick_gelu);
    }

    #[test]
    fn slopes_are_those_of_the_exact_functions() {
        let slope = |exact: fn(f64) -> f64| {
            move |x: f64| {
                let x = x.clamp(-50.0, 50.0);
                (exact(x + 1e-5) - exact(x - 1e-5)) / 2e-5
            }
        };
        let found = |function: fn(Mac, f32) -> (f32, f32)| run(move |mac, x| function(mac, x).1);
        assert_near("gelu'", &found(gelu_and_slope), slope(exact_gelu));
        assert_near(
            "gelu_tanh'",
            &found(gelu_tanh_and_slope),
            slope(exact_gelu_tanh),
        );
        assert_near("silu'", &found(silu_and_slope), slope(exact_silu));
        assert_near(
            "quick_gelu'",
            &found(quick_gelu_and_slope),
            slope(exact_quick_gelu),
        );
        assert_near("relu'", &found(relu_and_slope), |x| f64::from(x > 0.0));
    }

    #[test]
    fn what_is_not_a_number_stays_so() {
        let functions: [fn(Mac, f32) -> f32; 6] = [exp, gelu, gelu_tanh, relu, silu, quick_gelu];
        for function in functions {
            assert!(vectorize(|mac| function(mac, f32::NAN)).is_nan());
        }
    }
}
