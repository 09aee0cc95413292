//! How many seeds a decision needs.

use serde::{Deserialize, Serialize};

use super::{Alpha, MeanSquares, TwoWay, normal, student_t, two_way::standard_error};

/// The most seeds that are worth naming.
const MOST: usize = 100;

/// What it would take to decide a difference.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Needs {
    /// The fewest seeds whose sign flips can reach the level at all.
    pub seeds_at_least: usize,
    /// The fewest seeds with which the interval of a difference of this size would exclude 0; none up to 100:
    /// more examples are needed. None also if one seed was run, which says nothing of the spread of
    /// seeds.
    pub seeds: Option<usize>,
    /// What no number of seeds removes: half the width of the interval that the choice of examples alone
    /// leaves, in the unit of the metric. None if one seed was run.
    pub examples_alone: Option<f64>,
}

/// The fewest seeds with `2 / 2^seeds <= alpha`, the smallest p of [`sign_flip`](super::sign_flip):
/// `ceil(1 + log2(1 / alpha))`, 6 for 0.05.
pub fn seeds_at_least(alpha: Alpha) -> usize {
    let mut seeds = 1;
    let mut p = 1.0;
    while p > alpha.value() {
        seeds += 1;
        p /= 2.0;
    }
    seeds
}

impl Needs {
    /// From the analysis of a difference, for sign flips at `alpha` and intervals at `interval_alpha`. They are
    /// equal for one comparison; among several, the intervals have the level of
    /// [`MaxT`](super::MaxT), while flips keep theirs.
    pub fn of(result: &TwoWay, alpha: Alpha, interval_alpha: Alpha) -> Self {
        let at_least = seeds_at_least(alpha);
        let components = result
            .mean_squares
            .map(|squares| Components::of(&squares, result.seeds, result.examples));
        Self {
            seeds_at_least: at_least,
            seeds: components.as_ref().and_then(|components| {
                (at_least..=MOST).find(|&seeds| {
                    components.half_width(seeds, interval_alpha) < result.theta.abs()
                })
            }),
            examples_alone: components.map(|components| {
                normal::two_sided_quantile(interval_alpha)
                    * (components.examples / components.number_of_examples).sqrt()
            }),
        }
    }
}

/// The variances of a difference by their source (Henderson's method: mean squares equated to their
/// expectations, negative estimates taken as 0).
struct Components {
    number_of_examples: f64,
    seeds: f64,
    examples: f64,
    residual: f64,
}

impl Components {
    fn of(squares: &MeanSquares, seeds: usize, examples: usize) -> Self {
        Self {
            number_of_examples: examples as f64,
            seeds: (squares.seeds - squares.residual).max(0.0) / examples as f64,
            examples: (squares.examples - squares.residual).max(0.0) / seeds as f64,
            residual: squares.residual,
        }
    }

    /// Half the width of the interval that is expected with another number of seeds, at least 2.
    fn half_width(&self, seeds: usize, alpha: Alpha) -> f64 {
        let expected = MeanSquares {
            seeds: self.number_of_examples * self.seeds + self.residual,
            examples: seeds as f64 * self.examples + self.residual,
            residual: self.residual,
        };
        let (se, df) = standard_error(&expected, seeds as f64, self.number_of_examples);
        student_t::two_sided_quantile(alpha, df) * se
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::{
        super::testing::{assert_near, assert_option_near, cases},
        *,
    };

    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Case {
        Difference {
            seeds: usize,
            examples: usize,
            msa: f64,
            msb: f64,
            mse: f64,
            theta: f64,
            expected: Expected,
        },
        Level {
            alpha: Alpha,
            seeds_at_least: usize,
        },
    }

    #[derive(Deserialize)]
    struct Expected {
        half_width: BTreeMap<String, f64>,
        #[serde(flatten)]
        needs: Needs,
    }

    fn result(theta: f64, squares: [f64; 3], seeds: usize, examples: usize) -> TwoWay {
        let [a, b, e] = squares;
        TwoWay {
            seeds,
            examples,
            theta,
            mean_squares: Some(MeanSquares {
                seeds: a,
                examples: b,
                residual: e,
            }),
            se: 0.0,
            df: None,
        }
    }

    fn needs(result: &TwoWay, alpha: Alpha) -> Needs {
        Needs::of(result, alpha, alpha)
    }

    #[test]
    fn needs_agree_with_the_reference() {
        for case in cases("seeds_needed") {
            match case {
                Case::Level {
                    alpha,
                    seeds_at_least: expected,
                } => {
                    assert_eq!(seeds_at_least(alpha), expected);
                }
                Case::Difference {
                    seeds,
                    examples,
                    msa,
                    msb,
                    mse,
                    theta,
                    expected,
                } => {
                    let alpha = Alpha::default();
                    let result = result(theta, [msa, msb, mse], seeds, examples);
                    let found = needs(&result, alpha);
                    assert_eq!(found.seeds_at_least, expected.needs.seeds_at_least);
                    assert_eq!(found.seeds, expected.needs.seeds);
                    assert_option_near(
                        found.examples_alone,
                        expected.needs.examples_alone,
                        "examples alone",
                    );
                    let squares = result.mean_squares.unwrap();
                    let components = Components::of(&squares, seeds, examples);
                    for (seeds, expected) in expected.half_width {
                        let found = components.half_width(seeds.parse().unwrap(), alpha);
                        assert_near(found, expected, &format!("{seeds} seeds"));
                    }
                }
            }
        }
    }

    #[test]
    fn a_single_seed_says_nothing_of_the_spread_of_seeds() {
        let mut single = result(0.1, [0.0; 3], 1, 100);
        single.mean_squares = None;
        let found = needs(&single, Alpha::default());
        assert_eq!(
            found,
            Needs {
                seeds_at_least: 6,
                seeds: None,
                examples_alone: None
            }
        );
    }

    proptest! {
        #[test]
        fn a_larger_difference_needs_no_more_seeds(
            squares in [0.0..2.0, 0.0..2.0, 0.0..2.0],
            small in 0.0..0.1,
            factor in 1.0..10.0,
            seeds in 2_usize..12,
        ) {
            let of = |theta: f64| needs(&result(theta, squares, seeds, 500), Alpha::default());
            let (small, large) = (of(small), of(-small * factor));
            if let Some(seeds) = small.seeds {
                prop_assert!(large.seeds.unwrap() <= seeds);
                prop_assert!(small.seeds_at_least <= seeds);
            }
            prop_assert_eq!(small.examples_alone, large.examples_alone);
        }

        #[test]
        fn a_stricter_level_needs_no_fewer_seeds(
            squares in [0.0..2.0, 0.0..2.0, 0.0..2.0],
            theta in 0.0..0.3,
            levels in [1e-4..0.5, 1e-4..0.5],
        ) {
            let mut levels = levels.map(|level| Alpha::new(level).unwrap());
            levels.sort_by(|a, b| a.value().total_cmp(&b.value()));
            let result = result(theta, squares, 6, 500);
            let [strict, loose] = levels.map(|level| needs(&result, level));
            prop_assert!(loose.seeds_at_least <= strict.seeds_at_least);
            prop_assert!(loose.seeds.unwrap_or(usize::MAX) <= strict.seeds.unwrap_or(usize::MAX));
        }
    }
}
