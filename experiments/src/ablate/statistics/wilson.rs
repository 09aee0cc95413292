//! Wilson's interval of a share.

use super::{Alpha, Interval, StatisticsError, normal};

/// The interval of the share of `successes` in `trials`, which keeps a width where all or none succeed:
/// `(k + z^2/2)/(n + z^2) -/+ z/(n + z^2) sqrt(k (n - k)/n + z^2/4)` (Wilson 1927, "Probable
/// inference"). `successes` may be a sum of shares, whose spread is at most that of as many successes.
///
/// # Errors
///
/// If there are no trials, or the successes are not from 0 to their number.
pub fn wilson(successes: f64, trials: usize, alpha: Alpha) -> Result<Interval, StatisticsError> {
    let n = trials as f64;
    if trials == 0 || !(0.0..=n).contains(&successes) {
        return Err(StatisticsError::Successes { successes, trials });
    }
    let z = normal::two_sided_quantile(alpha);
    let center = (successes + z * z / 2.0) / (n + z * z);
    let spread = successes * (n - successes) / n + z * z / 4.0;
    let half_width = z / (n + z * z) * spread.sqrt();
    // Of 0 and of n successes, one end is 0 or 1 but for a rounding.
    Ok(Interval::around(center, half_width).clamp(Interval {
        low: 0.0,
        high: 1.0,
    }))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde::Deserialize;

    use super::{
        super::testing::{assert_near, cases},
        *,
    };

    #[derive(Deserialize)]
    struct Case {
        successes: f64,
        n: usize,
        alpha: Alpha,
        low: f64,
        high: f64,
    }

    #[test]
    fn wilson_agrees_with_the_reference() {
        for Case {
            successes,
            n,
            alpha,
            low,
            high,
        } in cases("wilson")
        {
            let found = wilson(successes, n, alpha).unwrap();
            assert_near(found.low, low, &format!("low end of {successes} of {n}"));
            assert_near(found.high, high, &format!("high end of {successes} of {n}"));
        }
    }

    #[test]
    fn impossible_counts_are_an_error() {
        let error = |successes, trials| {
            wilson(successes, trials, Alpha::default())
                .unwrap_err()
                .to_string()
        };
        assert_eq!(error(0.0, 0), "0 successes in 0 trials");
        assert_eq!(error(3.0, 2), "3 successes in 2 trials");
        assert_eq!(error(f64::NAN, 2), "NaN successes in 2 trials");
    }

    proptest! {
        #[test]
        fn the_interval_contains_the_share(trials in 1_usize..5000, share in 0.0..=1.0) {
            let successes = share * trials as f64;
            let interval = wilson(successes, trials, Alpha::default()).unwrap();
            prop_assert!(interval.low >= 0.0 && interval.high <= 1.0);
            prop_assert!(interval.low <= share + 1e-12 && share <= interval.high + 1e-12);
        }
    }
}
