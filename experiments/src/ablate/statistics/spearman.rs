//! Spearman's rank correlation.

use super::{
    Groups, Jackknife, StatisticsError,
    error::finite,
    pearson::{correlation, from_spreads},
    quantile::sorted,
};

/// Spearman's correlation of `predictions` and `labels`, both `[examples]`: Pearson's of their ranks, where
/// equal values share the mean of their ranks; 0 where one side is constant.
///
/// The pseudo-values are `[groups]`. Leaving a group out lowers the ranks above it, which costs
/// O(examples) for each example that is left out, so O(examples^2) in all: some 10 ms for 1,500
/// examples.
///
/// # Errors
///
/// If there are no examples, the lengths differ, or a number is not finite.
pub fn spearman(
    predictions: &[f64],
    labels: &[f64],
    groups: &Groups,
) -> Result<Jackknife, StatisticsError> {
    groups.check("predictions", predictions.len())?;
    groups.check("labels", labels.len())?;
    finite("prediction", predictions)?;
    finite("label", labels)?;
    let x = twice_ranks(predictions);
    let y = twice_ranks(labels);
    let members = groups.members();
    let left_out = members.iter().map(|members| without(&x, &y, members));
    Ok(Jackknife::new(correlation(&x, &y), left_out))
}

/// Twice the rank of each value, from 2: whole numbers, so that sums of their products are exact (up to
/// some 100,000 examples) and a constant side has a spread of exactly 0.
fn twice_ranks(values: &[f64]) -> Vec<f64> {
    let order = sorted(values.iter().copied());
    let rank = |&value: &f64| {
        let below = order.partition_point(|&other| other < value);
        let up_to = order.partition_point(|&other| other <= value);
        (below + up_to + 1) as f64
    };
    values.iter().map(rank).collect()
}

/// The correlation of the ranks that the other examples have among themselves.
fn without(x: &[f64], y: &[f64], members: &[usize]) -> f64 {
    // A rank is one more than the number of smaller values and half of the equal ones, so twice a rank
    // falls by 2 for a smaller value that goes and by 1 for an equal one.
    let fall = |rank: f64, gone: f64| f64::from(u8::from(gone < rank) + u8::from(gone <= rank));
    // The mean of twice the ranks from 1 to n is n + 1.
    let center = (x.len() - members.len() + 1) as f64;
    let (mut xy, mut xx, mut yy) = (0.0, 0.0, 0.0);
    let mut gone = members.iter().copied().peekable();
    for (example, (&x_rank, &y_rank)) in x.iter().zip(y).enumerate() {
        if gone.next_if_eq(&example).is_some() {
            continue;
        }
        let (mut dx, mut dy) = (x_rank - center, y_rank - center);
        for &member in members {
            dx -= fall(x_rank, x[member]);
            dy -= fall(y_rank, y[member]);
        }
        xy += dx * dy;
        xx += dx * dx;
        yy += dy * dy;
    }
    from_spreads(xy, xx, yy)
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

    #[test]
    fn spearman_agrees_with_the_reference() {
        metric_cases("spearman", |predictions, labels| {
            spearman(predictions, labels, &Groups::single(labels.len())).unwrap()
        });
    }

    #[test]
    fn equal_values_share_the_mean_of_their_ranks() {
        assert_eq!(
            twice_ranks(&[3.0, 1.0, 3.0, -0.0, 0.0]),
            [9.0, 6.0, 9.0, 3.0, 3.0]
        );
    }

    #[test]
    fn a_constant_correlates_with_nothing() {
        let found = spearman(&[0.1; 3], &[1.0, 2.0, 3.0], &Groups::single(3)).unwrap();
        assert_eq!(found, Jackknife::new(0.0, [0.0; 3]));
        let all_in_one = Groups::from_keys(&["a", "a"]);
        let found = spearman(&[1.0, 2.0], &[1.0, 2.0], &all_in_one).unwrap();
        assert_eq!(found, Jackknife::new(1.0, [0.0]));
    }

    proptest! {
        #[test]
        fn leaving_out_by_ranks_equals_ranking_anew(
            examples in prop::collection::vec((-5_i8..5, -9_i8..9, 0_u8..9), 1..30),
            is_grouped: bool,
        ) {
            let x: Vec<_> = examples.iter().map(|example| f64::from(example.0)).collect();
            let y: Vec<_> = examples.iter().map(|example| f64::from(example.1)).collect();
            let keys: Vec<_> = examples.iter().map(|example| example.2).collect();
            let groups = if is_grouped { Groups::from_keys(&keys) } else { Groups::single(keys.len()) };
            let found = spearman(&x, &y, &groups).unwrap();
            prop_assert!((-1.0..=1.0).contains(&found.value));
            let expected = plainly(&groups, |kept| {
                let ranks = |values: &[f64]| {
                    twice_ranks(&kept.iter().map(|&i| values[i]).collect::<Vec<_>>())
                };
                correlation(&ranks(&x), &ranks(&y))
            });
            assert_equal(&found, &expected);
        }
    }
}
