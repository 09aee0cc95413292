//! Several arms compared with one reference.

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::{
    Alpha, Interval, MaxT, MetricValues, Needs, StatisticsError, TwoWay, ValueMatrix,
    crossed_bootstrap, holm, step_down, two_way,
};

/// The numbers of one comparison of a family, named as in `results.json`. `None` is null there.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ComparisonStatistics {
    /// The mean difference to the reference, in the unit of the metric.
    pub difference: f64,
    /// Its standard error.
    pub se: f64,
    /// Its degrees of freedom.
    pub df: Option<f64>,
    /// The lower end of the interval of this comparison alone.
    pub low: Option<f64>,
    /// The upper end of the interval of this comparison alone.
    pub high: Option<f64>,
    /// The interval that holds together with those of the other arms.
    pub simultaneous: SimultaneousInterval,
    /// The percentile interval of the crossed bootstrap, of this comparison alone.
    pub percentile: Option<Interval>,
    /// The p of this comparison alone, by sign flips of seeds.
    pub p_sign_flip: f64,
    /// The p of this comparison among all, by the step-down maximum of sign flips.
    pub p_adjusted: f64,
    /// The p of this comparison among all, with seeds and examples both random: that of [`two_way`], adjusted by [`holm`].
    pub p_crossed: f64,
    /// What it would take to decide.
    pub needs: Needs,
}

/// An interval that holds at once with those of the other arms, and the level of it alone.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct SimultaneousInterval {
    /// The lower end; none if nothing varies.
    pub low: Option<f64>,
    /// The upper end; none if nothing varies.
    pub high: Option<f64>,
    /// The level.
    pub alpha_star: Alpha,
}

impl ComparisonStatistics {
    /// The p that a verdict needs: the larger one of both.
    ///
    /// Sign flips take the examples as fixed, and the level of [`MaxT`] comes from a bootstrap that knows few seeds: with ten
    /// seeds, each alone calls one of ten equal arms better or worse in up to 6 % of sweeps.
    pub fn p(&self) -> f64 {
        self.p_adjusted.max(self.p_crossed)
    }
}

impl SimultaneousInterval {
    /// Both ends, if there are any.
    pub fn interval(&self) -> Option<Interval> {
        self.low
            .zip(self.high)
            .map(|(low, high)| Interval { low, high })
    }
}

/// Compares arms with one reference, from their differences to it, `[arms]`, all on the same seeds and
/// examples: intervals by [`two_way`], together at the level of [`MaxT`] over so many resamples
/// ([`RESAMPLES`](super::RESAMPLES) in a table), and p by [`step_down`].
///
/// # Errors
///
/// If there are no arms or no resamples, if the arms differ in shape, or as [`two_way`].
pub fn compare_family(
    differences: &[MetricValues],
    alpha: Alpha,
    resamples: usize,
) -> Result<Vec<ComparisonStatistics>, StatisticsError> {
    let matrices: Vec<&ValueMatrix> = differences.iter().map(MetricValues::by_example).collect();
    let by_seed: Vec<&[f64]> = differences.iter().map(MetricValues::by_seed).collect();
    let means = crossed_bootstrap(&matrices, resamples)?;
    let alpha_star = MaxT::of(&means, alpha).alpha_star;
    let p = step_down(&by_seed)?;
    let results = differences.iter().map(two_way);
    let results: Vec<TwoWay> = results.collect::<Result<_, _>>()?;
    let crossed: Vec<f64> = results
        .iter()
        .map(|result| result.p().unwrap_or(1.0))
        .collect();
    let crossed = holm(&crossed)?;
    let compare = |(arm, result): (usize, &TwoWay)| {
        let alone = result.interval(alpha);
        let simultaneous = result.interval(alpha_star);
        ComparisonStatistics {
            difference: result.theta,
            se: result.se,
            df: result.df,
            low: alone.map(|interval| interval.low),
            high: alone.map(|interval| interval.high),
            simultaneous: SimultaneousInterval {
                low: simultaneous.map(|interval| interval.low),
                high: simultaneous.map(|interval| interval.high),
                alpha_star,
            },
            percentile: means.percentile(arm, alpha),
            p_sign_flip: p.raw[arm],
            p_adjusted: p.adjusted[arm],
            p_crossed: crossed[arm],
            needs: Needs::of(result, alpha, alpha_star),
        }
    };
    // Each percentile interval sorts all resamples.
    Ok(results.par_iter().enumerate().map(compare).collect())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{super::SplitMix64, *};

    fn values(arms: &[Vec<f64>], seeds: usize) -> Vec<MetricValues> {
        let matrix = |arm: &Vec<f64>| {
            let rows: Vec<_> = arm.chunks(arm.len() / seeds).collect();
            MetricValues::of_means(ValueMatrix::from_rows(&rows).unwrap())
        };
        arms.iter().map(matrix).collect()
    }

    #[test]
    fn families_without_arms_and_of_two_shapes_are_errors() {
        let alpha = Alpha::default();
        assert_eq!(compare_family(&[], alpha, 10), Err(StatisticsError::NoArms));
        let mut arms = values(&[vec![1.0, 2.0, 3.0, 4.0]], 2);
        arms.extend(values(&[vec![1.0, 2.0, 3.0, 4.0]], 1));
        assert!(compare_family(&arms, alpha, 10).is_err());
        assert_eq!(
            compare_family(&arms[..1], alpha, 0),
            Err(StatisticsError::NoResamples)
        );
    }

    #[test]
    fn a_comparison_is_written_with_the_names_of_the_record() {
        let arms = values(&[vec![0.0; 4]], 2);
        let found = compare_family(&arms, Alpha::default(), 10).unwrap();
        assert_eq!(
            serde_json::to_string(&found).unwrap(),
            r#"[{"difference":0.0,"se":0.0,"df":null,"low":null,"high":null,"#.to_owned()
                + r#""simultaneous":{"low":null,"high":null,"alpha_star":0.05},"#
                + r#""percentile":{"low":0.0,"high":0.0},"p_sign_flip":1.0,"p_adjusted":1.0,"p_crossed":1.0,"#
                + r#""needs":{"seeds_at_least":6,"seeds":null,"examples_alone":0.0}}]"#
        );
    }

    /// Sign flips keep the level of one comparison, intervals have that of all.
    #[test]
    fn needs_are_those_of_simultaneous_intervals() {
        let mut generator = SplitMix64::new(1);
        let arms: Vec<Vec<f64>> = (0..10)
            .map(|_| {
                let examples: Vec<f64> = (0..40).map(|_| generator.draw(100) as f64).collect();
                (0..240)
                    .map(|cell| examples[cell % 40] + generator.draw(50) as f64)
                    .collect()
            })
            .collect();
        let differences = values(&arms, 6);
        let alpha = Alpha::default();
        let found = compare_family(&differences, alpha, 200).unwrap();
        for (comparison, difference) in found.iter().zip(&differences) {
            let result = two_way(difference).unwrap();
            let alpha_star = comparison.simultaneous.alpha_star;
            assert_eq!(comparison.needs, Needs::of(&result, alpha, alpha_star));
            assert_eq!(comparison.needs.seeds_at_least, 6);
            let alone = Needs::of(&result, alpha, alpha);
            assert!(comparison.needs.examples_alone > alone.examples_alone);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn the_order_of_arms_does_not_change_a_table(
            arms in prop::collection::vec(prop::collection::vec(-1.0..1.0, 18), 2..6),
            turn in 1_usize..5,
        ) {
            let compare = |arms: &[Vec<f64>]| {
                compare_family(&values(arms, 3), Alpha::default(), 50).unwrap()
            };
            let mut expected = compare(&arms);
            let mut turned = arms;
            let turn = turn % turned.len();
            turned.rotate_left(turn);
            expected.rotate_left(turn);
            prop_assert_eq!(compare(&turned), expected);
        }

        #[test]
        fn comparing_more_arms_never_narrows_an_interval(
            arms in prop::collection::vec(prop::collection::vec(-1.0..1.0, 18), 2..6),
        ) {
            for comparison in compare_family(&values(&arms, 3), Alpha::default(), 50).unwrap() {
                let all = comparison.simultaneous;
                prop_assert!((0.05 / arms.len() as f64..=0.05).contains(&all.alpha_star.value()));
                prop_assert!(all.low <= comparison.low && comparison.high <= all.high);
                prop_assert!(comparison.p_sign_flip <= comparison.p_adjusted);
                prop_assert!(all.interval().unwrap().contains(comparison.difference));
            }
        }
    }
}
