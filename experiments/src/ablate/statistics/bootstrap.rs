//! The crossed bootstrap: seeds and examples drawn again, the same for all arms.

use super::{ResampledMeans, SplitMix64, StatisticsError, ValueMatrix};

/// Resamples of a table.
pub const RESAMPLES: usize = 10_000;

/// Resamples that are summed together, so that an example's values are loaded once for all of them.
const BLOCK: usize = 8;

/// How often each seed and each example is in a resample.
#[derive(Clone)]
struct Resample {
    /// `[seeds]`.
    seeds: Vec<u32>,
    /// `[examples]`.
    examples: Vec<u32>,
}

/// The crossed bootstrap of differences to one reference, `[arms]` of `[seeds, examples]`: the means over
/// drawn seeds and drawn examples (Owen 2007, "The pigeonhole bootstrap"). One draw serves all arms, so
/// that the means keep their dependence; the draws start at [`SplitMix64::START`].
///
/// # Errors
///
/// If there are no arms or no resamples, or if the arms differ in shape.
pub fn crossed_bootstrap(
    differences: &[&ValueMatrix],
    resamples: usize,
) -> Result<ResampledMeans, StatisticsError> {
    let mut generator = SplitMix64::default();
    let mut left = resamples;
    resampled_means(differences, |seeds, examples| {
        if left == 0 {
            return false;
        }
        left -= 1;
        draw(seeds, &mut generator);
        draw(examples, &mut generator);
        true
    })
}

/// Draws as many as there are counts.
fn draw(counts: &mut [u32], generator: &mut SplitMix64) {
    counts.fill(0);
    for _ in 0..counts.len() {
        counts[generator.draw(counts.len())] += 1;
    }
}

/// The same over resamples of the caller's. `next` gets how often each seed, `[seeds]`, and each example,
/// `[examples]`, is in the resample, to be overwritten, and says whether there was one more.
///
/// # Errors
///
/// As [`crossed_bootstrap`].
pub fn resampled_means(
    differences: &[&ValueMatrix],
    mut next: impl FnMut(&mut [u32], &mut [u32]) -> bool,
) -> Result<ResampledMeans, StatisticsError> {
    let [seeds, examples] = differences.first().ok_or(StatisticsError::NoArms)?.shape();
    if let Some(other) = differences
        .iter()
        .find(|other| other.shape() != [seeds, examples])
    {
        return Err(StatisticsError::Shapes {
            found: other.shape(),
            expected: [seeds, examples],
        });
    }
    // An example's values lie together: what is drawn 0 times is skipped, and sums take no values in turns.
    let width = differences.len() * seeds;
    let mut by_example = vec![0.0; examples * width];
    let rows = differences.iter().flat_map(|difference| difference.rows());
    for (column, row) in rows.enumerate() {
        for (example, &value) in row.iter().enumerate() {
            by_example[example * width + column] = value;
        }
    }
    let empty = Resample {
        seeds: vec![0; seeds],
        examples: vec![0; examples],
    };
    let mut block = vec![empty; BLOCK];
    let mut sums = vec![0.0; BLOCK * width];
    let mut values = Vec::new();
    loop {
        let mut filled = 0;
        for Resample { seeds, examples } in &mut block {
            if !next(seeds, examples) {
                break;
            }
            filled += 1;
        }
        sums.fill(0.0);
        for (example, values) in by_example.chunks_exact(width).enumerate() {
            for (resample, sums) in block[..filled].iter().zip(sums.chunks_exact_mut(width)) {
                let count = resample.examples[example];
                if count > 0 {
                    let count = f64::from(count);
                    for (sum, value) in sums.iter_mut().zip(values) {
                        *sum += count * value;
                    }
                }
            }
        }
        for (resample, sums) in block[..filled].iter().zip(sums.chunks_exact(width)) {
            values.extend(sums.chunks_exact(seeds).map(|sums| {
                let counts = resample.seeds.iter();
                let sum: f64 = counts
                    .zip(sums)
                    .map(|(&count, sum)| f64::from(count) * sum)
                    .sum();
                sum / (seeds * examples) as f64
            }));
        }
        if filled < BLOCK {
            break;
        }
    }
    if values.is_empty() {
        return Err(StatisticsError::NoResamples);
    }
    Ok(ResampledMeans::of(differences.len(), values))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde::Deserialize;

    use super::{
        super::{
            Alpha, MaxT, MetricValues,
            testing::{assert_near, assert_option_near, cases, is_near},
            two_way,
        },
        *,
    };

    #[derive(Deserialize)]
    struct Case {
        name: String,
        resamples: usize,
        differences: Vec<Vec<Vec<f64>>>,
        expected: Expected,
        first_arm_distribution: Option<Distribution>,
        first_values: Option<Vec<Vec<f64>>>,
    }

    #[derive(Deserialize)]
    struct Expected {
        mean: Vec<f64>,
        sd: Vec<f64>,
        percentile_low: Vec<f64>,
        percentile_high: Vec<f64>,
        c: f64,
        alpha_star: f64,
        simultaneous: Vec<Ends>,
    }

    #[derive(Deserialize)]
    struct Ends {
        low: Option<f64>,
        high: Option<f64>,
    }

    /// To 12 decimals.
    #[derive(Deserialize)]
    struct Distribution {
        values: Vec<f64>,
        counts: Vec<usize>,
    }

    impl Case {
        fn matrices(&self) -> Vec<ValueMatrix> {
            let arms = self.differences.iter();
            arms.map(|rows| ValueMatrix::from_rows(rows).unwrap())
                .collect()
        }

        fn check(&self, found: &ResampledMeans) {
            let Self { name, expected, .. } = self;
            let alpha = Alpha::default();
            assert_eq!(found.resamples().len(), self.resamples, "{name}");
            let max_t = MaxT::of(found, alpha);
            assert_near(max_t.c, expected.c, name);
            assert_near(max_t.alpha_star.value(), expected.alpha_star, name);
            for (arm, matrix) in self.matrices().into_iter().enumerate() {
                let (mean, sd) = found.mean_and_sd(arm);
                assert_near(mean, expected.mean[arm], name);
                assert_near(sd, expected.sd[arm], name);
                let percentile = found.percentile(arm, alpha).unwrap();
                assert_near(percentile.low, expected.percentile_low[arm], name);
                assert_near(percentile.high, expected.percentile_high[arm], name);
                let result = two_way(&MetricValues::of_means(matrix)).unwrap();
                let interval = result.interval(max_t.alpha_star);
                let Ends { low, high } = expected.simultaneous[arm];
                assert_option_near(interval.map(|interval| interval.low), low, name);
                assert_option_near(interval.map(|interval| interval.high), high, name);
            }
        }
    }

    /// All ways to draw `size` of `size`, as counts; each way as often as there are orders of it.
    fn all_counts(size: usize) -> Vec<Vec<u32>> {
        let ways = (0..size.pow(size as u32)).map(|mut way| {
            let mut counts = vec![0; size];
            for _ in 0..size {
                counts[way % size] += 1;
                way /= size;
            }
            counts
        });
        ways.collect()
    }

    fn enumerated(differences: &[&ValueMatrix]) -> ResampledMeans {
        let [seeds, examples] = differences[0].shape();
        let mut all = Vec::new();
        for seeds in all_counts(seeds) {
            for examples in all_counts(examples) {
                all.push((seeds.clone(), examples));
            }
        }
        let mut all = all.into_iter();
        let next = |seeds: &mut [u32], examples: &mut [u32]| {
            let next = all.next();
            if let Some((next_seeds, next_examples)) = &next {
                seeds.copy_from_slice(next_seeds);
                examples.copy_from_slice(next_examples);
            }
            next.is_some()
        };
        resampled_means(differences, next).unwrap()
    }

    #[test]
    fn all_resamples_agree_with_the_reference() {
        for case in cases::<Case>("bootstrap_exact") {
            let matrices = case.matrices();
            let found = enumerated(&matrices.iter().collect::<Vec<_>>());
            case.check(&found);
            let Distribution { values, counts } = case.first_arm_distribution.as_ref().unwrap();
            for (value, &count) in values.iter().zip(counts) {
                let near = found
                    .of_arm(0)
                    .filter(|found| (found - value).abs() < 1e-11);
                assert_eq!(near.count(), count, "{}: {value}", case.name);
            }
            assert_eq!(counts.iter().sum::<usize>(), case.resamples);
        }
    }

    #[test]
    fn drawn_resamples_agree_with_the_reference() {
        for case in cases::<Case>("bootstrap_drawn") {
            let matrices = case.matrices();
            let found =
                crossed_bootstrap(&matrices.iter().collect::<Vec<_>>(), case.resamples).unwrap();
            for (found, expected) in found.resamples().zip(case.first_values.as_ref().unwrap()) {
                super::super::testing::assert_all_near(found, expected, &case.name);
            }
            case.check(&found);
        }
    }

    #[test]
    fn what_cannot_be_drawn_from_is_an_error() {
        let one = ValueMatrix::from_rows(&[[1.0, 2.0]]).unwrap();
        let other = ValueMatrix::from_rows(&[[1.0], [2.0]]).unwrap();
        assert_eq!(crossed_bootstrap(&[], 10), Err(StatisticsError::NoArms));
        assert_eq!(
            crossed_bootstrap(&[&one], 0),
            Err(StatisticsError::NoResamples)
        );
        assert!(matches!(
            crossed_bootstrap(&[&one, &other], 10),
            Err(StatisticsError::Shapes { .. })
        ));
    }

    /// A number whose multiples are not exact.
    #[test]
    fn a_constant_difference_has_no_spread() {
        let constant = ValueMatrix::from_rows(&[[0.1; 7], [0.1; 7], [0.1; 7]]).unwrap();
        let found = crossed_bootstrap(&[&constant], 500).unwrap();
        let (mean, sd) = found.mean_and_sd(0);
        assert_near(mean, 0.1, "mean");
        assert!(sd == 0.0, "{sd}");
        assert!(MaxT::of(&found, Alpha::default()).c == 0.0);
    }

    proptest! {
        /// The definition: the mean over drawn seeds and drawn examples.
        #[test]
        fn counting_equals_averaging_what_was_drawn(
            arms in prop::collection::vec(prop::collection::vec(-1.0..1.0, 12), 1..4),
            resamples in 1_usize..20,
        ) {
            let matrices: Vec<_> = arms
                .iter()
                .map(|arm| ValueMatrix::from_rows(&arm.chunks(4).collect::<Vec<_>>()).unwrap())
                .collect();
            let found = crossed_bootstrap(&matrices.iter().collect::<Vec<_>>(), resamples).unwrap();
            let mut generator = SplitMix64::default();
            for means in found.resamples() {
                let seeds: Vec<_> = (0..3).map(|_| generator.draw(3)).collect();
                let examples: Vec<_> = (0..4).map(|_| generator.draw(4)).collect();
                for (mean, arm) in means.iter().zip(&arms) {
                    let drawn = seeds.iter().flat_map(|seed| examples.iter().map(move |i| arm[seed * 4 + i]));
                    prop_assert!(is_near(*mean, drawn.sum::<f64>() / 12.0));
                }
            }
        }

        #[test]
        fn an_arm_does_not_depend_on_the_others(
            arms in prop::collection::vec(prop::collection::vec(-1.0..1.0, 6), 2..5),
        ) {
            let matrices: Vec<_> = arms
                .iter()
                .map(|arm| ValueMatrix::from_rows(&arm.chunks(3).collect::<Vec<_>>()).unwrap())
                .collect();
            let all = crossed_bootstrap(&matrices.iter().collect::<Vec<_>>(), 30).unwrap();
            for (arm, matrix) in matrices.iter().enumerate() {
                let alone = crossed_bootstrap(&[matrix], 30).unwrap();
                prop_assert!(all.of_arm(arm).eq(alone.of_arm(0)));
            }
            let reversed = crossed_bootstrap(&matrices.iter().rev().collect::<Vec<_>>(), 30).unwrap();
            let alpha = Alpha::default();
            prop_assert_eq!(MaxT::of(&all, alpha), MaxT::of(&reversed, alpha));
        }
    }
}
