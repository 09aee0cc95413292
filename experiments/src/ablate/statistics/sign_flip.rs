//! Exact tests of differences over seeds, by flipping the signs of seeds.

use super::{SplitMix64, StatisticsError, error::finite};

/// Up to so many seeds, all sign vectors are tried.
const ENUMERATED: usize = 16;

/// For more, so many are drawn.
const DRAWN: u32 = 100_000;

/// Statistics that differ by less are equal: their sums were taken in another order.
const TOLERANCE: f64 = 1e-9;

/// The p of several arms that share a reference and seeds, `[arms]` both.
#[derive(Clone, Debug, PartialEq)]
pub struct StepDown {
    /// Of each arm alone.
    pub raw: Vec<f64>,
    /// Of each arm among all: at most `alpha` for a wrong arm with probability `alpha` for the whole family.
    pub adjusted: Vec<f64>,
}

/// The smallest p that a number of seeds can give: `2 / 2^seeds`, and `1 / 100,001` for more than 16.
pub fn smallest_p(seeds: usize) -> f64 {
    if seeds <= ENUMERATED {
        (2.0 * 0.5_f64.powf(seeds as f64)).min(1.0)
    } else {
        1.0 / f64::from(DRAWN + 1)
    }
}

/// The two-sided p of one arm, from its differences by seed, `[seeds]`.
///
/// # Errors
///
/// As [`step_down`].
pub fn sign_flip(differences: &[f64]) -> Result<f64, StatisticsError> {
    Ok(step_down(&[differences])?.raw[0])
}

/// Tests several arms on the same seeds, from their differences to the reference, `[arms, seeds]`.
///
/// If an arm is as good as its reference, each of its differences is as likely with the other sign (Fisher
/// 1935, "The design of experiments"). The statistic of an arm with the signs `e` is
/// `|sum_s e_s r_s| / sqrt(sum_s r_s^2)`, which rises with `|t|`. A seed that flips does so in all arms, so
/// that the dependence between them is kept, and p is adjusted by the step-down maximum (Westfall
/// and Young 1993, "Resampling-based multiple testing", algorithm 4.1).
///
/// All `2^seeds` sign vectors are tried for up to 16 seeds. For more, 100,000 are drawn by [`SplitMix64`], the
/// sign of seed `s` from bit `s` (of a further output for each 64 seeds), and
/// `p = (hits + 1) / (100,000 + 1)`.
///
/// # Errors
///
/// If there are no arms or no seeds, if an arm has another number of seeds, or if a difference is not finite.
pub fn step_down<R: AsRef<[f64]>>(differences: &[R]) -> Result<StepDown, StatisticsError> {
    let seeds = differences
        .first()
        .ok_or(StatisticsError::NoArms)?
        .as_ref()
        .len();
    if seeds == 0 {
        return Err(StatisticsError::NoSeeds);
    }
    let mut arms = Vec::with_capacity(differences.len());
    for row in differences {
        super::error::lengths("differences", row.as_ref().len(), seeds)?;
        finite("difference", row.as_ref())?;
        arms.push(scaled(row.as_ref()));
    }
    let observed: Vec<f64> = arms
        .iter()
        .map(|arm| arm.iter().sum::<f64>().abs())
        .collect();
    let mut order: Vec<usize> = (0..arms.len()).collect();
    order.sort_by(|&a, &b| observed[b].total_cmp(&observed[a]));

    let mut hits = Hits::of(arms.len());
    if seeds <= ENUMERATED {
        // A vector and its opposite give the same statistics, so the last sign stays.
        let vectors = 1_u64 << (seeds - 1);
        for signs in 0..vectors {
            hits.count(&[signs], &arms, &observed, &order);
        }
        Ok(hits.shares(&order, |hits| f64::from(hits) / vectors as f64))
    } else {
        let mut generator = SplitMix64::default();
        let mut signs = vec![0; seeds.div_ceil(64)];
        for _ in 0..DRAWN {
            signs.fill_with(|| generator.next_u64());
            hits.count(&signs, &arms, &observed, &order);
        }
        Ok(hits.shares(&order, |hits| f64::from(hits + 1) / f64::from(DRAWN + 1)))
    }
}

/// The differences over the root of their squares, so that a statistic is the absolute value of a sum; 0
/// where all are.
fn scaled(differences: &[f64]) -> Vec<f64> {
    // First to the size of 1: the squares of small numbers would be 0.
    let largest = differences.iter().fold(0.0, |a: f64, b| a.max(b.abs()));
    if largest == 0.0 {
        return differences.to_vec();
    }
    let differences = differences.iter().map(|difference| difference / largest);
    let root = differences.clone().map(|x| x * x).sum::<f64>().sqrt();
    differences.map(|difference| difference / root).collect()
}

/// How many sign vectors are at least as extreme as what was observed.
struct Hits {
    raw: Vec<u32>,
    /// The largest statistic of this arm and of those after it against that of this arm.
    stepped: Vec<u32>,
}

impl Hits {
    fn of(arms: usize) -> Self {
        Self {
            raw: vec![0; arms],
            stepped: vec![0; arms],
        }
    }

    fn count(&mut self, signs: &[u64], arms: &[Vec<f64>], observed: &[f64], order: &[usize]) {
        let mut largest = 0.0_f64;
        for &arm in order.iter().rev() {
            let flipped = arms[arm].iter().enumerate().map(|(seed, &difference)| {
                let is_flipped = signs[seed / 64] >> (seed % 64) & 1 == 1;
                if is_flipped { -difference } else { difference }
            });
            let statistic = flipped.sum::<f64>().abs();
            largest = largest.max(statistic);
            let threshold = observed[arm] - TOLERANCE;
            self.raw[arm] += u32::from(statistic >= threshold);
            self.stepped[arm] += u32::from(largest >= threshold);
        }
    }

    fn shares(self, order: &[usize], share: impl Fn(u32) -> f64) -> StepDown {
        let mut adjusted = vec![0.0; order.len()];
        let mut least = 0.0_f64;
        for &arm in order {
            least = least.max(share(self.stepped[arm]));
            adjusted[arm] = least;
        }
        StepDown {
            raw: self.raw.into_iter().map(share).collect(),
            adjusted,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde::Deserialize;

    use super::{
        super::{
            holm,
            testing::{assert_all_near, assert_near, cases},
        },
        *,
    };

    #[derive(Deserialize)]
    struct Case {
        name: String,
        differences: Vec<f64>,
        p: f64,
        smallest_p: f64,
    }

    #[derive(Deserialize)]
    struct FamilyCase {
        name: String,
        differences: Vec<Vec<f64>>,
        raw: Vec<f64>,
        adjusted: Vec<f64>,
    }

    #[test]
    fn one_arm_agrees_with_the_reference() {
        for Case {
            name,
            differences,
            p,
            smallest_p: smallest,
        } in cases("sign_flip")
        {
            assert_near(sign_flip(&differences).unwrap(), p, &name);
            assert_near(smallest_p(differences.len()), smallest, &name);
        }
    }

    #[test]
    fn families_agree_with_the_reference() {
        for case in cases::<FamilyCase>("step_down") {
            let found = step_down(&case.differences).unwrap();
            assert_all_near(&found.raw, &case.raw, &case.name);
            assert_all_near(&found.adjusted, &case.adjusted, &case.name);
        }
    }

    #[test]
    fn what_cannot_be_tested_is_an_error() {
        let error = |rows: &[&[f64]]| step_down(rows).unwrap_err().to_string();
        assert_eq!(error(&[]), "there are no arms to compare");
        assert_eq!(error(&[&[]]), "there are no seeds to compare");
        assert_eq!(
            error(&[&[1.0], &[1.0, 2.0]]),
            "2 differences do not match 1"
        );
        assert!(sign_flip(&[f64::NAN]).is_err());
    }

    #[test]
    fn seventeen_seeds_of_one_sign_give_the_smallest_drawn_p() {
        let p = sign_flip(&[0.01; 17]).unwrap();
        // The opposite vectors are drawn once in 65,536 times.
        assert!((smallest_p(17)..1e-4).contains(&p), "{p}");
        assert!(sign_flip(&[1.0; 130]).unwrap() <= 1e-4);
        assert!(sign_flip(&[0.0; 100]).unwrap() >= 1.0);
    }

    /// Two seeds whose signs come from the same bit of two outputs: they differ half of the time.
    #[test]
    fn seeds_after_the_64th_have_signs_of_their_own() {
        let mut differences = [0.0; 65];
        differences[0] = 1.0;
        differences[64] = 1.0;
        let p = sign_flip(&differences).unwrap();
        assert!((p - 0.5).abs() < 0.01, "{p}");
    }

    /// 2^17 sign vectors, all tried here: 4 standard errors of 100,000 draws.
    #[test]
    fn drawn_signs_come_near_to_all_signs() {
        let differences: Vec<f64> = (0..17)
            .map(|seed| f64::from(seed * seed % 11) - 2.5)
            .collect();
        let vectors = 1_u64 << 17;
        let arm = scaled(&differences);
        let observed = [arm.iter().sum::<f64>().abs()];
        let mut hits = Hits::of(1);
        for signs in 0..vectors {
            hits.count(&[signs], std::slice::from_ref(&arm), &observed, &[0]);
        }
        let exact = f64::from(hits.raw[0]) / vectors as f64;
        let drawn = sign_flip(&differences).unwrap();
        let error = (exact * (1.0 - exact) / f64::from(DRAWN)).sqrt();
        assert!((drawn - exact).abs() < 4.0 * error, "{drawn} and {exact}");
    }

    fn families() -> impl Strategy<Value = Vec<Vec<f64>>> {
        (1_usize..6, 1_usize..8).prop_flat_map(|(arms, seeds)| {
            // Whole numbers: ties are frequent.
            let row = prop::collection::vec((-4_i8..5).prop_map(f64::from), seeds);
            prop::collection::vec(row, arms)
        })
    }

    proptest! {
        #[test]
        fn adjusted_p_is_at_least_raw_p_and_keeps_its_order(differences in families()) {
            let StepDown { raw, adjusted } = step_down(&differences).unwrap();
            let least = smallest_p(differences[0].len());
            for (&raw, &adjusted) in raw.iter().zip(&adjusted) {
                prop_assert!(least <= raw && raw <= adjusted && adjusted <= 1.0);
            }
            // Arms further from 0 (in the statistic) are not less sure.
            let statistic: Vec<f64> =
                differences.iter().map(|row| scaled(row).iter().sum::<f64>().abs()).collect();
            for a in 0..raw.len() {
                for b in 0..raw.len() {
                    if statistic[a] > statistic[b] + TOLERANCE {
                        prop_assert!(adjusted[a] <= adjusted[b]);
                    }
                }
            }
        }

        /// The dependence between arms can only help: Holm's method knows nothing of it.
        #[test]
        fn one_arm_needs_no_adjustment_and_equal_arms_do_not_either(
            differences in prop::collection::vec(-1.0..1.0, 1..8),
        ) {
            let alone = sign_flip(&differences).unwrap();
            let family = vec![differences; 4];
            let StepDown { raw, adjusted } = step_down(&family).unwrap();
            prop_assert_eq!(&raw, &vec![alone; 4]);
            prop_assert_eq!(&adjusted, &raw);
            prop_assert!(holm(&raw).unwrap()[0] >= adjusted[0]);
        }

        #[test]
        fn the_order_of_arms_and_the_scale_change_nothing(
            differences in families(),
            turn in 0_usize..6,
            exponent in -200_i32..200,
        ) {
            let arms = differences.len();
            let turn = turn % arms;
            let plain = step_down(&differences).unwrap();
            let mut turned = differences.clone();
            turned.rotate_left(turn);
            let scale = 2_f64.powi(exponent);
            turned.iter_mut().flatten().for_each(|difference| *difference *= scale);
            let mut expected = plain;
            expected.raw.rotate_left(turn);
            expected.adjusted.rotate_left(turn);
            prop_assert_eq!(step_down(&turned).unwrap(), expected);
        }

        #[test]
        #[expect(clippy::float_cmp, reason = "the same sums with the other sign")]
        fn the_sign_of_all_differences_changes_nothing(
            differences in prop::collection::vec(-1.0..1.0, 1..8),
        ) {
            let opposite: Vec<f64> = differences.iter().map(|difference| -difference).collect();
            prop_assert_eq!(sign_flip(&differences).unwrap(), sign_flip(&opposite).unwrap());
        }
    }
}
