//! Synchronous successive halving: which arms go on is a function of their scores alone, whoever computes them.

use super::{
    error::{AblationError, Refusal},
    fields::Fields,
    seeds,
};

/// The default of `eta`.
const ETA: u64 = 3;

/// How an arm of a rung ended.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum TrialScore {
    /// How good it is: the greater, the better. One that is not finite counts as failed.
    Value(f64),
    /// It failed in some seed.
    Failed,
}

/// The settings of a halving, but for its points.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HalvingPlan {
    /// The dotted key whose value is the budget, such as `train.epochs`.
    pub over: String,
    /// The budget of the first rung, in the unit of `over`.
    pub min: u64,
    /// The budget whose schedule all rungs follow, and no rung exceeds.
    pub max: u64,
    /// The budget grows by this factor from rung to rung, and the number of arms falls by it. At least 2; default 3.
    pub eta: u64,
    /// The seeds that the last survivors and the reference run in the end; only these enter verdicts.
    pub final_seeds: Vec<u64>,
}

/// A rung of a halving.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rung {
    /// The budget after which its arms stop.
    pub budget: u64,
    /// Its arms, in arm order.
    pub arms: Vec<usize>,
}

/// What a halving has come to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replay {
    /// The rungs that have begun. All but the last one are decided; the last one is, if there are survivors.
    pub rungs: Vec<Rung>,
    /// Once the last rung is decided, the arms that go on to the final seeds, in arm order; empty if all arms failed.
    pub survivors: Option<Vec<usize>>,
}

impl HalvingPlan {
    /// Its keys in a table.
    pub(super) const KEYS: [&str; 5] = ["over", "min", "max", "eta", "final_seeds"];

    pub(super) fn read(fields: &Fields<'_, '_>) -> Result<Self, AblationError> {
        let over = fields.needed(
            "over",
            "the key whose value is the budget, as in \"train.epochs\"",
        )?;
        let path = over.text()?;
        if path.split('.').any(str::is_empty) {
            return Err(Refusal::NoKey(path.to_owned()).at(&over.place()));
        }
        let min = fields
            .needed("min", "the budget of the first rung")?
            .integer(1)?;
        let max = fields.needed("max", "the largest budget")?;
        let final_seeds = fields.needed(
            "final_seeds",
            "the seeds that survivors run, which no rung has seen",
        )?;
        let plan = Self {
            over: path.to_owned(),
            min,
            max: max.integer(1)?,
            eta: fields.get("eta").map_or(Ok(ETA), |eta| eta.integer(2))?,
            final_seeds: final_seeds.integers()?,
        };
        if plan.max < plan.min {
            return Err(max.refused(&format!("it is at least `min`, {min}")));
        }
        seeds::check(&plan.final_seeds, &final_seeds.path, &final_seeds.place())?;
        Ok(plan)
    }

    /// The budgets of the rungs: `min` times the powers of `eta` up to `max`.
    pub fn budgets(&self) -> Vec<u64> {
        let next = |budget: &u64| budget.checked_mul(self.eta.max(2));
        let budgets = std::iter::successors(Some(self.min.max(1)), next);
        budgets.take_while(|budget| *budget <= self.max).collect()
    }

    /// The arms of a decided rung that go on: the best n / eta of its n arms, rounded down but at least one. Failed arms
    /// are last and never go on. Equal scores are in arm order. The result is in arm order, too.
    fn decide(&self, scores: &[(usize, TrialScore)]) -> Vec<usize> {
        let keep = (scores.len() as u64 / self.eta.max(2)).max(1) as usize;
        let finite = scores.iter().filter_map(|(arm, score)| match score {
            TrialScore::Value(value) if value.is_finite() => Some((*arm, *value)),
            _ => None,
        });
        let mut ranked: Vec<(usize, f64)> = finite.collect();
        ranked.sort_by(|(a, x), (b, y)| {
            // Zeros of both signs are equal.
            let by_score = (y + 0.0).total_cmp(&(x + 0.0));
            by_score.then(a.cmp(b))
        });
        let mut arms: Vec<usize> = ranked.into_iter().take(keep).map(|(arm, _)| arm).collect();
        arms.sort_unstable();
        arms
    }

    /// Replays the halving of `arms`: a rung is decided when all its arms have a score. `score` has the score of an arm in
    /// a rung (from 0), none while it is not known; it is asked for arms of rungs that have begun alone.
    pub fn replay(
        &self,
        arms: &[usize],
        score: impl Fn(usize, usize) -> Option<TrialScore>,
    ) -> Replay {
        let mut arms = arms.to_vec();
        arms.sort_unstable();
        arms.dedup();
        let mut rungs = vec![];
        for (index, budget) in self.budgets().into_iter().enumerate() {
            if arms.is_empty() {
                break;
            }
            rungs.push(Rung {
                budget,
                arms: arms.clone(),
            });
            let scores: Option<Vec<_>> = arms
                .iter()
                .map(|arm| Some((*arm, score(index, *arm)?)))
                .collect();
            let Some(scores) = scores else {
                return Replay {
                    rungs,
                    survivors: None,
                };
            };
            arms = self.decide(&scores);
        }
        Replay {
            rungs,
            survivors: Some(arms),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn plan(min: u64, max: u64, eta: u64) -> HalvingPlan {
        HalvingPlan {
            over: "train.epochs".to_owned(),
            min,
            max,
            eta,
            final_seeds: vec![11],
        }
    }

    #[test]
    fn budgets_grow_by_eta_up_to_max() {
        assert_eq!(plan(1, 27, 3).budgets(), [1, 3, 9, 27]);
        assert_eq!(plan(2, 17, 2).budgets(), [2, 4, 8, 16]);
        assert_eq!(plan(5, 5, 3).budgets(), [5]);
        assert_eq!(plan(1, u64::MAX, u64::MAX).budgets(), [1, u64::MAX]);
    }

    #[test]
    fn failed_arms_are_last_and_ties_are_in_arm_order() {
        use TrialScore::{Failed, Value};
        let higher = |scores: &[(usize, TrialScore)]| plan(1, 9, 2).decide(scores);
        assert_eq!(
            higher(&[
                (0, Failed),
                (1, Value(0.5)),
                (2, Value(0.5)),
                (3, Value(0.9))
            ]),
            [1, 3]
        );
        assert_eq!(higher(&[(5, Value(0.5)), (2, Value(0.5))]), [2]);
        assert_eq!(
            higher(&[
                (0, Failed),
                (1, Value(f64::NAN)),
                (2, Failed),
                (3, Value(0.1))
            ]),
            [3]
        );
        assert_eq!(higher(&[(0, Failed), (1, Failed)]), Vec::<usize>::new());
        assert_eq!(higher(&[(7, Value(-0.0)), (3, Value(0.0))]), [3]);
    }

    #[test]
    fn a_rung_waits_for_all_its_arms() {
        let plan = plan(1, 9, 3);
        let arms: Vec<usize> = (10..19).collect();
        let score = |_, arm: usize| Some(TrialScore::Value(arm as f64));
        let missing = plan.replay(&arms, |rung, arm| score(rung, arm).filter(|_| arm != 12));
        assert_eq!(missing.rungs.len(), 1);
        assert_eq!(missing.survivors, None);
        let all = plan.replay(&arms, score);
        let rungs: Vec<_> = all
            .rungs
            .iter()
            .map(|rung| (rung.budget, rung.arms.clone()))
            .collect();
        assert_eq!(rungs, [(1, arms), (3, vec![16, 17, 18]), (9, vec![18])]);
        assert_eq!(all.survivors, Some(vec![18]));
        let failed = plan.replay(&[1, 2], |_, _| Some(TrialScore::Failed));
        assert_eq!((failed.rungs.len(), failed.survivors), (1, Some(vec![])));
    }

    proptest! {
        #[test]
        fn decisions_do_not_depend_on_the_order_of_arrival(
            scores in proptest::collection::vec(0u8..4, 1..30), known in proptest::collection::vec(any::<bool>(), 30), eta in 2u64..5,
        ) {
            let plan = plan(1, 64, eta);
            let arms: Vec<usize> = (0..scores.len()).collect();
            let score = |_, arm: usize| Some(match scores[arm] {
                0 => TrialScore::Failed,
                value => TrialScore::Value(f64::from(value)),
            });
            let full = plan.replay(&arms, score);
            let backwards: Vec<usize> = arms.iter().rev().copied().collect();
            prop_assert_eq!(&plan.replay(&backwards, score), &full);
            // What is known of some arms is a beginning of the whole.
            let part = plan.replay(&arms, |rung, arm| score(rung, arm).filter(|_| known[arm]));
            prop_assert_eq!(&part.rungs[..], &full.rungs[..part.rungs.len()]);
            for pair in full.rungs.windows(2) {
                prop_assert!(pair[1].arms.len() <= (pair[0].arms.len() / eta as usize).max(1));
                prop_assert!(pair[1].arms.iter().all(|arm| pair[0].arms.contains(arm) && scores[*arm] != 0));
            }
        }
    }
}
