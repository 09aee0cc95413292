//! The crossed bootstrap: seeds and examples drawn again, the same for all arms.

use rayon::prelude::*;

use super::{ResampledMeans, SplitMix64, StatisticsError, ValueMatrix};

/// Resamples of a table.
pub const RESAMPLES: usize = 10_000;

/// Resamples that are summed together, in so many registers.
const LANES: usize = 16;

/// The values of one seed of an arm that are not 0, with the places of their examples. Adding 0 changes no sum, and arms
/// that are much alike differ in few examples.
struct Column {
    examples: Vec<usize>,
    values: Vec<f64>,
}

impl Column {
    fn of(row: &[f64]) -> Self {
        let differ = || row.iter().enumerate().filter(|(_, value)| **value != 0.0);
        Self {
            examples: differ().map(|(example, _)| example).collect(),
            values: differ().map(|(_, value)| *value).collect(),
        }
    }

    /// The sum over the examples of each resample; `counts` says how often each example is in each of them.
    fn sums(&self, counts: &[[f64; LANES]]) -> [f64; LANES] {
        let mut sums = [0.0; LANES];
        for (example, value) in self.examples.iter().zip(&self.values) {
            for (sum, count) in sums.iter_mut().zip(&counts[*example]) {
                *sum += count * value;
            }
        }
        sums
    }
}

/// How often seeds and examples are in some resamples.
struct Block {
    /// `[resamples, seeds]`.
    seeds: Vec<Vec<u32>>,
    /// `[examples, resamples]`.
    examples: Vec<[f64; LANES]>,
    /// The examples of one of them.
    drawn: Vec<u32>,
    filled: usize,
}

impl Block {
    fn new(seeds: usize, examples: usize) -> Self {
        Self {
            seeds: vec![vec![0; seeds]; LANES],
            examples: vec![[0.0; LANES]; examples],
            drawn: vec![0; examples],
            filled: 0,
        }
    }

    /// Takes the next resamples, as many as there are and fit.
    fn fill(&mut self, next: &mut impl FnMut(&mut [u32], &mut [u32]) -> bool) {
        self.filled = 0;
        for (lane, seeds) in self.seeds.iter_mut().enumerate() {
            if !next(seeds, &mut self.drawn) {
                break;
            }
            for (counts, count) in self.examples.iter_mut().zip(&self.drawn) {
                counts[lane] = f64::from(*count);
            }
            self.filled += 1;
        }
    }

    /// The means of an arm over the resamples; its seeds are `columns`.
    fn means(&self, columns: &[Column]) -> Vec<f64> {
        let sums = columns.iter().map(|column| column.sums(&self.examples));
        let sums: Vec<[f64; LANES]> = sums.collect();
        let cells = (columns.len() * self.examples.len()) as f64;
        let resamples = self.seeds[..self.filled].iter().enumerate();
        let means = resamples.map(|(lane, seeds)| {
            let sum: f64 = seeds
                .iter()
                .zip(&sums)
                .map(|(&count, sums)| f64::from(count) * sums[lane])
                .sum();
            sum / cells
        });
        means.collect()
    }
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
    let arms = differences.iter();
    let arms: Vec<Vec<Column>> = arms
        .map(|arm| arm.rows().map(Column::of).collect())
        .collect();
    let mut block = Block::new(seeds, examples);
    let mut values = vec![vec![]; arms.len()];
    loop {
        block.fill(&mut next);
        // Arms do not depend on each other, so the order in which they are done does not matter.
        let means = arms.par_iter().map(|columns| block.means(columns));
        let values = values.par_iter_mut().zip(means);
        values.for_each(|(values, means): (&mut Vec<f64>, _)| values.extend(means));
        if block.filled < LANES {
            break;
        }
    }
    if values[0].is_empty() {
        return Err(StatisticsError::NoResamples);
    }
    Ok(ResampledMeans::of(values))
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
            assert_eq!(found.of_arm(0).count(), self.resamples, "{name}");
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
            for (resample, expected) in case.first_values.iter().flatten().enumerate() {
                let means = (0..found.arms()).filter_map(|arm| found.of_arm(arm).nth(resample));
                let means: Vec<f64> = means.collect();
                super::super::testing::assert_all_near(&means, expected, &case.name);
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
            for resample in 0..resamples {
                let seeds: Vec<_> = (0..3).map(|_| generator.draw(3)).collect();
                let examples: Vec<_> = (0..4).map(|_| generator.draw(4)).collect();
                for (place, arm) in arms.iter().enumerate() {
                    let mean = found.of_arm(place).nth(resample).unwrap();
                    let drawn = seeds.iter().flat_map(|seed| examples.iter().map(move |i| arm[seed * 4 + i]));
                    prop_assert!(is_near(mean, drawn.sum::<f64>() / 12.0));
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
