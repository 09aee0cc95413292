//! The quantile of a list of numbers.

/// The quantile of sorted numbers, by linear interpolation between the two nearest (type 7 of Hyndman and
/// Fan 1996, "Sample quantiles in statistical packages"; numpy's default). `share` is cut to the range
/// from 0, the smallest, to 1, the largest.
///
/// None if there are no numbers or the share is NaN.
pub fn quantile(sorted: &[f64], share: f64) -> Option<f64> {
    let last = sorted.len().checked_sub(1)?;
    if share.is_nan() {
        return None;
    }
    let position = share.clamp(0.0, 1.0) * last as f64;
    let below = (position.floor() as usize).min(last);
    let above = (below + 1).min(last);
    let part = position - below as f64;
    let step = sorted[above] - sorted[below];
    // From the nearer neighbour, as numpy does: with that, a quantile never passes a neighbour.
    Some(if part < 0.5 {
        sorted[below] + step * part
    } else {
        sorted[above] - step * (1.0 - part)
    })
}

/// The median of sorted numbers: the middle one, or the mean of both. None if there are no numbers.
pub fn median(sorted: &[f64]) -> Option<f64> {
    let (lower, upper) = (sorted.len().checked_sub(1)? / 2, sorted.len() / 2);
    Some(f64::midpoint(sorted[lower], sorted[upper]))
}

/// The numbers in rising order.
pub(super) fn sorted(values: impl IntoIterator<Item = f64>) -> Vec<f64> {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    values
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// `numpy.quantile` of numpy 2.4.6.
    #[test]
    fn quantiles_agree_with_numpy() {
        let values = [1.0, 2.0, 4.0, 8.0];
        let expected = [(0.0, 1.0), (0.1, 1.3), (0.5, 3.0), (0.9, 6.8), (1.0, 8.0)];
        for (share, expected) in expected {
            let found = quantile(&values, share).unwrap();
            assert!((found - expected).abs() < 1e-15, "{share}: {found}");
        }
        assert_eq!(quantile(&[3.0], 0.975), Some(3.0));
        assert_eq!(median(&values), Some(3.0));
        assert_eq!(median(&values[1..]), Some(4.0));
    }

    #[test]
    fn nothing_has_no_quantile() {
        assert_eq!(quantile(&[], 0.5), None);
        assert_eq!(median(&[]), None);
        assert_eq!(quantile(&[1.0], f64::NAN), None);
        assert_eq!(quantile(&[1.0, 2.0], 7.0), Some(2.0));
    }

    proptest! {
        #[test]
        fn quantiles_rise_with_the_share(
            values in prop::collection::vec(-1e3..1e3, 1..30),
            a in 0.0..=1.0,
            b in 0.0..=1.0,
        ) {
            let values = sorted(values);
            let (low, high) = (f64::min(a, b), f64::max(a, b));
            let (low, high) = (quantile(&values, low).unwrap(), quantile(&values, high).unwrap());
            prop_assert!(low <= high + 1e-9);
            prop_assert!(values[0] <= low && high <= values[values.len() - 1]);
        }
    }
}
