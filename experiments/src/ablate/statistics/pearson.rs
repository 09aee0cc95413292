//! Pearson's correlation.

use std::ops::{Add, Sub};

use super::{
    Groups, Jackknife, StatisticsError,
    error::finite,
    jackknife::{group_sums, ratio},
    value_matrix::mean,
};

/// Below this share of all spread, what is left after taking a group away has lost too many digits to the
/// subtraction and is computed anew. So large a part of the spread can lie in few groups only.
const LITTLE: f64 = 1e-3;

/// Pearson's correlation of `predictions` and `labels`, both `[examples]`; 0 where one side is constant.
/// The pseudo-values are `[groups]`, each in O(1) from the moments; in O(examples) for the few
/// groups that hold nearly all of the spread.
///
/// # Errors
///
/// If there are no examples, the lengths differ, or a number is not finite.
pub fn pearson(
    predictions: &[f64],
    labels: &[f64],
    groups: &Groups,
) -> Result<Jackknife, StatisticsError> {
    groups.check("predictions", predictions.len())?;
    groups.check("labels", labels.len())?;
    finite("prediction", predictions)?;
    finite("label", labels)?;
    let (mean_x, mean_y) = (mean(predictions), mean(labels));
    let pairs = predictions.iter().zip(labels);
    // About the means of all: raw moments of numbers far from 0 would cancel.
    let examples = pairs.map(|(x, y)| Moments::of(x - mean_x, y - mean_y));
    let sums = group_sums(examples, groups);
    let all = sums
        .iter()
        .fold(Moments::default(), |sum, &group| sum + group);
    let members = groups.members();
    let left_out = members.iter().zip(&sums).map(|(members, &group)| {
        let rest = all - group;
        if rest.spread_x() > LITTLE * all.xx && rest.spread_y() > LITTLE * all.yy {
            return rest.correlation();
        }
        let rest = |values: &[f64]| -> Vec<f64> {
            let mut is_kept = vec![true; values.len()];
            for &member in members {
                is_kept[member] = false;
            }
            let kept = values.iter().zip(is_kept);
            kept.filter_map(|(&value, is_kept)| is_kept.then_some(value))
                .collect()
        };
        correlation(&rest(predictions), &rest(labels))
    });
    Ok(Jackknife::new(correlation(predictions, labels), left_out))
}

/// The correlation of two lists; 0 where one of them is constant.
#[expect(clippy::float_cmp, reason = "constant is what is equal")]
pub(super) fn correlation(x: &[f64], y: &[f64]) -> f64 {
    // The mean of equal numbers may be off by a rounding, which would pass for their spread.
    let is_constant = |values: &[f64]| values.windows(2).all(|pair| pair[0] == pair[1]);
    if is_constant(x) || is_constant(y) {
        return 0.0;
    }
    let (mean_x, mean_y) = (mean(x), mean(y));
    let (mut xy, mut xx, mut yy) = (0.0, 0.0, 0.0);
    for (x, y) in x.iter().zip(y) {
        let (dx, dy) = (x - mean_x, y - mean_y);
        xy += dx * dy;
        xx += dx * dx;
        yy += dy * dy;
    }
    from_spreads(xy, xx, yy)
}

/// The correlation from the sums of products and of squares about the means.
pub(super) fn from_spreads(xy: f64, xx: f64, yy: f64) -> f64 {
    let product = xx * yy;
    let root = if product.is_normal() {
        product.sqrt()
    } else {
        // Too large or too small for a product, not for a correlation.
        xx.sqrt() * yy.sqrt()
    };
    ratio(xy, root).clamp(-1.0, 1.0)
}

/// Sums of examples and of their products.
#[derive(Clone, Copy, Debug, Default)]
struct Moments {
    count: f64,
    x: f64,
    y: f64,
    xy: f64,
    xx: f64,
    yy: f64,
}

impl Moments {
    fn of(x: f64, y: f64) -> Self {
        Self {
            count: 1.0,
            x,
            y,
            xy: x * y,
            xx: x * x,
            yy: y * y,
        }
    }

    fn spread_x(self) -> f64 {
        self.xx - self.x * self.x / self.count
    }

    fn spread_y(self) -> f64 {
        self.yy - self.y * self.y / self.count
    }

    fn correlation(self) -> f64 {
        let products = self.xy - self.x * self.y / self.count;
        from_spreads(products, self.spread_x(), self.spread_y())
    }

    fn zip(self, other: Self, operation: impl Fn(f64, f64) -> f64) -> Self {
        Self {
            count: operation(self.count, other.count),
            x: operation(self.x, other.x),
            y: operation(self.y, other.y),
            xy: operation(self.xy, other.xy),
            xx: operation(self.xx, other.xx),
            yy: operation(self.yy, other.yy),
        }
    }
}

impl Add for Moments {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        self.zip(other, |own, other| own + other)
    }
}

impl Sub for Moments {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        self.zip(other, |own, other| own - other)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{
        super::{
            jackknife::{assert_equal, plainly},
            testing::metric_cases,
        },
        *,
    };

    fn plain(x: &[f64], y: &[f64], groups: &Groups) -> Jackknife {
        plainly(groups, |kept| {
            let of = |values: &[f64]| -> Vec<f64> { kept.iter().map(|&i| values[i]).collect() };
            correlation(&of(x), &of(y))
        })
    }

    #[test]
    fn pearson_agrees_with_the_reference() {
        metric_cases("pearson", |predictions, labels| {
            pearson(predictions, labels, &Groups::single(labels.len())).unwrap()
        });
    }

    /// Without the last example of the first list, nothing varies; a subtraction of moments would leave
    /// roundings and take them for a spread.
    #[test]
    fn a_spread_that_lies_in_one_example_is_gone_without_it() {
        let x = [0.1, 0.1, 0.1, 0.1, 7e5];
        let y = [0.3, 0.2, 0.7, 0.1, 0.4];
        let groups = Groups::single(5);
        let found = pearson(&x, &y, &groups).unwrap();
        assert_equal(&found, &plain(&x, &y, &groups));
        assert!((found.pseudo_values[4] - 5.0 * found.value).abs() < 1e-12);
    }

    #[test]
    fn a_constant_correlates_with_nothing() {
        let groups = Groups::single(3);
        let found = pearson(&[0.1, 0.1, 0.1], &[1.0, 2.0, 3.0], &groups).unwrap();
        assert_eq!(found, Jackknife::new(0.0, [0.0; 3]));
        assert!(pearson(&[f64::NAN], &[1.0], &Groups::single(1)).is_err());
    }

    proptest! {
        #[test]
        fn leaving_out_by_moments_equals_correlating_anew(
            examples in prop::collection::vec((-5_i32..5, -100.0..100.0, 0_u8..9), 1..30),
            offset in -1e4..1e4,
            outlier in 0.0..1e6,
            is_grouped: bool,
        ) {
            let mut x: Vec<_> = examples.iter().map(|example| f64::from(example.0)).collect();
            x[0] += outlier;
            let y: Vec<_> = examples.iter().map(|example| example.1 + offset).collect();
            let keys: Vec<_> = examples.iter().map(|example| example.2).collect();
            let groups = if is_grouped { Groups::from_keys(&keys) } else { Groups::single(keys.len()) };
            let found = pearson(&x, &y, &groups).unwrap();
            prop_assert!((-1.0..=1.0).contains(&found.value));
            assert_equal(&found, &plain(&x, &y, &groups));
        }
    }
}
