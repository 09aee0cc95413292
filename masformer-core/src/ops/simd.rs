//! Vector code for CPUs, in the widest instructions that the machine has.

mod product;

use std::f32::consts::LN_2;

use pulp::{Arch, Simd, WithSimd};

pub(super) use product::{PANEL, Rows, VECTORS, accumulate, accumulate_transposed, multiply};

/// Runs an operation in the widest instructions that the machine has.
pub(super) fn dispatch<Op: WithSimd>(operation: Op) -> Op::Output {
    Arch::new().dispatch(operation)
}

/// Numbers of a vector of the instructions that [`dispatch`] takes.
pub(super) fn lanes() -> usize {
    struct Lanes;

    impl WithSimd for Lanes {
        type Output = usize;

        #[inline(always)]
        fn with_simd<S: Simd>(self, _simd: S) -> usize {
            S::F32_LANES
        }
    }

    dispatch(Lanes)
}

/// `2^x` with a relative error below 2e-7, for `x` up to 127; zero below -127.
#[inline(always)]
pub(super) fn exp2<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
    // Adding 1.5 * 2^23 rounds to an integer, which then stands in the lowest bits.
    let magic = simd.splat_f32s(12_582_912.0);
    // The order of the two keeps NaN where the instruction takes the second then, as on x86.
    let x = simd.max_f32s(simd.splat_f32s(-127.0), x);
    let rounded = simd.add_f32s(x, magic);
    let rest = simd.sub_f32s(x, simd.sub_f32s(rounded, magic));
    // The first two terms of the series, then minimax on [-1/2, 1/2].
    let coefficients = [
        0.001_330_06,
        0.009_669_69,
        0.055_505_58,
        0.240_222_82,
        LN_2,
        1.0,
    ];
    let mut power = simd.splat_f32s(coefficients[0]);
    for coefficient in &coefficients[1..] {
        power = simd.mul_add_e_f32s(power, rest, simd.splat_f32s(*coefficient));
    }
    let exponent =
        simd.wrapping_dyn_shl_u32s(simd.transmute_u32s_f32s(rounded), simd.splat_u32s(23));
    let bits = simd.add_u32s(simd.transmute_u32s_f32s(power), exponent);
    simd.transmute_f32s_u32s(bits)
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Powers<'a>(&'a mut [f32]);

    impl WithSimd for Powers<'_> {
        type Output = ();

        #[inline(always)]
        fn with_simd<S: Simd>(self, simd: S) {
            let (vectors, rest) = S::as_mut_simd_f32s(self.0);
            assert!(rest.is_empty());
            for vector in vectors {
                *vector = exp2(simd, *vector);
            }
        }
    }

    fn powers(mut exponents: Vec<f32>) -> Vec<f32> {
        dispatch(Powers(&mut exponents));
        exponents
    }

    #[test]
    fn powers_are_close_over_the_whole_range() {
        let exponents: Vec<f32> = (-125 * 512..127 * 512).map(|x| x as f32 / 512.3).collect();
        for (power, exponent) in powers(exponents.clone()).into_iter().zip(exponents) {
            let expected = f64::from(exponent).exp2();
            let error = (f64::from(power) / expected - 1.0).abs();
            assert!(error < 2e-7, "2^{exponent}: {error}");
        }
    }

    #[test]
    fn powers_of_extremes() {
        let exponents = [
            0.0,
            1.0,
            -127.0,
            -1e30,
            f32::NEG_INFINITY,
            -200.0,
            -128.0,
            10.0,
        ];
        let found = powers(exponents.repeat(2));
        assert_eq!(found[..8], [1.0, 2.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1024.0]);
        assert!(powers(vec![f32::NAN; 16]).into_iter().all(f32::is_nan));
    }
}
