//! The binomial distribution of fair coins.

use statrs::function::factorial::ln_binomial;

/// Up to here, `2^-n` is far from the smallest float, and the terms can be built from it without logarithms.
const FEW: u64 = 1000;

/// `P(Bin(n, 1/2) <= k)`: how likely at most `k` of `n` fair coins show heads.
///
/// For up to 1,000 coins each term comes from the one before it: sums of powers of two are exact there
/// as long as they fit, so that p can equal a level. For more, the largest term comes from
/// logarithms, and is right to about 1e-16 of `n ln n`.
pub(super) fn lower_tail(n: u64, k: u64) -> f64 {
    if k >= n {
        return 1.0;
    }
    // Of the two tails, the one whose terms fall away from `k`.
    let other = n - k - 1;
    if k > other {
        return 1.0 - lower_tail(n, other);
    }
    if n <= FEW {
        let mut term = 0.5_f64.powf(n as f64);
        let mut sum = term;
        for heads in 1..=k {
            term = term * (n - heads + 1) as f64 / heads as f64;
            sum += term;
        }
        return sum;
    }
    let mut term = (ln_binomial(n, k) - n as f64 * std::f64::consts::LN_2).exp();
    let mut sum = term;
    for heads in (1..=k).rev() {
        term *= heads as f64 / (n - heads + 1) as f64;
        sum += term;
        if term < sum * 1e-18 {
            break;
        }
    }
    sum
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{super::testing::assert_near, *};

    const MANY_COINS: [(u64, u64, f64); 4] = [
        (231, 101, 0.032_601_680_793_093_32),
        (1001, 450, 0.000_780_569_419_849_601),
        (5000, 2600, 0.997_764_779_518_821_7),
        (20_000, 9900, 0.079_691_717_992_366_89),
    ];

    #[test]
    #[expect(clippy::float_cmp, reason = "these are exact")]
    fn few_coins_are_exact() {
        assert_eq!(lower_tail(0, 0), 1.0);
        assert_eq!(lower_tail(6, 0), 1.0 / 64.0);
        assert_eq!(lower_tail(6, 2), 22.0 / 64.0);
        assert_eq!(lower_tail(6, 3), 42.0 / 64.0);
        assert_eq!(lower_tail(6, 9), 1.0);
    }

    /// Sums of binomial coefficients as Python's fractions.
    #[test]
    fn many_coins_agree_with_exact_fractions() {
        for (n, k, expected) in MANY_COINS {
            assert_near(lower_tail(n, k), expected, &format!("{k} of {n}"));
        }
    }

    proptest! {
        #[test]
        fn the_tails_add_up(n in 1_u64..3000, share in 0.0..1.0) {
            let k = (share * n as f64) as u64;
            let p = lower_tail(n, k);
            prop_assert!((0.0..=1.0).contains(&p));
            if k < n {
                prop_assert!((p + lower_tail(n, n - k - 1) - 1.0).abs() < 1e-12);
            }
            prop_assert!(lower_tail(n, k + 1) >= p);
        }
    }
}
