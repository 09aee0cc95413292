//! Student's t distribution.

use statrs::{
    distribution::{Continuous, StudentsT},
    function::beta::checked_beta_reg,
};

use super::{Alpha, normal};

/// Degrees of freedom from which the expansion is nearer to the truth than the continued fraction of the
/// incomplete beta function, which stops after a fixed number of terms: up to `t = 8`, the expansion
/// is then right to 1e-11 of the probability.
const MANY: f64 = 200.0;

/// The probability of a number at least as far from 0 as `t >= 0`, with `df > 0` degrees of freedom.
/// NaN if `t` or `df` is.
pub(super) fn two_sided_p(t: f64, df: f64) -> f64 {
    if df < MANY {
        // Of t with df degrees of freedom, this is I_x(df/2, 1/2) (Abramowitz and Stegun, 26.7.1).
        checked_beta_reg(df / 2.0, 0.5, df / (df + t * t)).unwrap_or(f64::NAN)
    } else {
        normal::two_sided_p(normal_deviate(t, df))
    }
}

/// The normal number that is as probable as `t` (Hill 1970, Algorithm 395, CACM 13(10)).
fn normal_deviate(t: f64, df: f64) -> f64 {
    let a = df - 0.5;
    let b = 48.0 * a * a;
    let y = a * (t * t / df).ln_1p();
    let inner = (((-0.4 * y - 3.3) * y - 24.0) * y - 85.5) / (0.8 * y * y + 100.0 + b);
    ((inner + y + 3.0) / b + 1.0) * y.sqrt()
}

/// The inverse of [`two_sided_p`]: the `1 - alpha / 2` quantile of the distribution.
///
/// Newton's method on `ln p` as a function of `ln t`. That function is concave (power tails for few
/// degrees of freedom, the normal's for many), so the first step from the normal quantile, which is
/// never too large, ends at or above the root, and every later one comes down to it.
pub(super) fn two_sided_quantile(alpha: Alpha, df: f64) -> f64 {
    let start = normal::two_sided_quantile(alpha);
    let Ok(distribution) = StudentsT::new(0.0, 1.0, df) else {
        return f64::NAN;
    };
    let mut t = start;
    for _ in 0..100 {
        let p = two_sided_p(t, df);
        let slope = 2.0 * t * distribution.pdf(t) / p;
        let step = (p / alpha.value()).ln() / slope;
        // No tail to divide by: `t` is as large as float64 can tell.
        if !step.is_finite() {
            break;
        }
        t *= step.exp();
        if step.abs() < 1e-15 {
            break;
        }
    }
    t
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{super::testing::assert_near, *};

    const PROBABILITIES: [(f64, f64, f64); 12] = [
        (0.1, 1.0, 0.936_548_965_138_892_9),
        (2.0, 1.0, 0.295_167_235_300_866_5),
        (50.0, 2.0, 0.000_399_760_159_888_080_57),
        (2.5, 2.0, 0.129_611_720_221_510_8),
        (1.2, 3.7, 0.301_292_378_151_879_3),
        (4.0, 15.756_735_165_636_814, 0.001_060_694_375_891_871_3),
        (2.0, 120.5, 0.047_749_122_324_443_616),
        (5.0, 199.9, 1.250_649_615_297_937_5e-6),
        (5.0, 200.0, 1.250_198_127_771_539_4e-6),
        (2.2, 1500.0, 0.027_958_928_324_386_83),
        (1.96, 98_901.0, 0.049_998_594_007_201_067),
        (3.0, 1_000_000.0, 0.002_699_862_541_421_797),
    ];
    const QUANTILES: [(f64, f64, f64); 12] = [
        (0.05, 1.0, 12.706_204_736_174_705),
        (0.05, 2.0, 4.302_652_729_749_464),
        (0.005, 2.0, 14.089_047_275_555_295),
        (1e-6, 1.0, 636_619.772_367_057_7),
        (0.05, 3.126_388_083_596_955_5, 3.110_887_467_426_875),
        (0.01, 5.0, 4.032_142_983_555_228),
        (0.05, 18.691_764_812_031_746, 2.095_362_569_518_243),
        (0.0005, 60.0, 3.680_708_228_991_401_5),
        (0.05, 199.9, 1.971_902_228_375_926_7),
        (0.05, 200.0, 1.971_896_223_633_909_3),
        (0.05, 98_901.0, 1.959_987_971_150_595_9),
        (0.001, 1_000_000.0, 3.290_536_461_248_691),
    ];

    /// mpmath 1.3 with 40 digits: the regularised incomplete beta function.
    #[test]
    fn probabilities_agree_with_forty_digits() {
        for (t, df, expected) in PROBABILITIES {
            assert_near(two_sided_p(t, df), expected, &format!("t {t}, df {df}"));
        }
    }

    /// mpmath 1.3 with 40 digits: the root of the same function.
    #[test]
    fn quantiles_agree_with_forty_digits() {
        for (alpha, df, expected) in QUANTILES {
            let found = two_sided_quantile(Alpha::new(alpha).unwrap(), df);
            assert_near(found, expected, &format!("alpha {alpha}, df {df}"));
        }
    }

    #[test]
    fn nonsense_is_not_a_number() {
        assert!(two_sided_p(f64::NAN, 3.0).is_nan());
        assert!(two_sided_p(f64::NAN, 300.0).is_nan());
        assert!(two_sided_quantile(Alpha::default(), f64::NAN).is_nan());
        assert!(two_sided_p(f64::INFINITY, 3.0) == 0.0);
    }

    proptest! {
        #[test]
        fn a_quantile_has_its_probability(alpha in 1e-9_f64..0.999, ln_df in 0.0_f64..14.0) {
            let df = ln_df.exp();
            let t = two_sided_quantile(Alpha::new(alpha).unwrap(), df);
            let p = two_sided_p(t, df);
            prop_assert!((p / alpha - 1.0).abs() < 1e-11, "{} for {}", p, alpha);
        }
    }
}
