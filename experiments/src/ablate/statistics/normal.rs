//! The normal distribution.

use std::f64::consts::SQRT_2;

use statrs::function::erf::{erfc, erfc_inv};

use super::Alpha;

/// `2 (1 - Phi(z))` for `z >= 0`: how likely a standard normal number is at least that far from 0.
pub(super) fn two_sided_p(z: f64) -> f64 {
    erfc(z / SQRT_2)
}

/// The inverse of [`two_sided_p`]: 1.96 for 0.05.
pub(super) fn two_sided_quantile(alpha: Alpha) -> f64 {
    SQRT_2 * erfc_inv(alpha.value())
}

#[cfg(test)]
mod tests {
    use super::super::testing::assert_near;
    use super::*;

    /// `scipy.stats.norm.isf(alpha / 2)`.
    #[test]
    fn quantiles_agree_with_scipy() {
        let expected = [
            (0.5, 0.674_489_750_196_081_7),
            (0.05, 1.959_963_984_540_054),
            (0.01, 2.575_829_303_548_900_4),
            (1e-6, 4.891_638_475_699_27),
        ];
        for (alpha, expected) in expected {
            let z = two_sided_quantile(Alpha::new(alpha).unwrap());
            assert_near(z, expected, "quantile");
            assert_near(two_sided_p(z), alpha, "probability");
        }
    }
}
