//! Whether a run agrees with an earlier one of the same recipe.

use serde::Serialize;

use crate::results::{ArmResults, Estimate, Results};

/// A metric of a model in two runs.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Repeated {
    /// The model.
    pub arm: String,
    /// The metric.
    pub metric: String,
    /// What it was.
    pub then: Estimate,
    /// What it is; none where no seed is done.
    pub now: Option<Estimate>,
    /// How both stand to each other.
    pub agreement: Agreement,
}

/// How two estimates of one number stand to each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Agreement {
    /// The scores of all seeds that both have are the same, to the last bit.
    Identical,
    /// They differ by no more than their intervals explain.
    Within,
    /// They differ by more.
    Outside,
    /// The earlier one has no interval.
    Unknown,
}

/// The metrics of all models of the earlier run, in their order.
pub fn compare(then: &Results, now: &Results) -> Vec<Repeated> {
    let arms = then.arms.iter().flat_map(|arm| {
        let again = now.arm(&arm.name);
        let metrics = then.metrics.iter().filter_map(move |metric| {
            let earlier = arm.metrics.get(metric)?;
            let later = again.and_then(|again| again.metrics.get(metric));
            let is_same = again.is_some_and(|again| is_identical(arm, again, metric));
            Some(Repeated {
                arm: arm.name.clone(),
                metric: metric.clone(),
                then: *earlier,
                now: later.copied(),
                agreement: match later {
                    Some(_) if is_same => Agreement::Identical,
                    Some(later) => agreement(earlier, later),
                    None => Agreement::Outside,
                },
            })
        });
        metrics.collect::<Vec<_>>()
    });
    arms.collect()
}

/// Whether the scores of the seeds that both have are the same; there is one at least.
fn is_identical(then: &ArmResults, now: &ArmResults, metric: &str) -> bool {
    let mut pairs = then.seeds.iter().filter_map(|earlier| {
        let later = now.seeds.iter().find(|later| later.seed == earlier.seed)?;
        let bits = |score: Option<&f64>| score.map(|score| score.to_bits());
        let earlier = bits(earlier.metrics.get(metric))?;
        Some(bits(later.metrics.get(metric)) == Some(earlier))
    });
    pairs.next() == Some(true) && pairs.all(|is_same| is_same)
}

/// Whether the difference of two means is explained by their intervals: whether 0 lies in the interval of the difference, which
/// has the squares of what both reach towards each other (Newcombe 1998, "Interval estimation for the difference between
/// independent proportions", method 10). A later estimate without an interval has one of no width.
fn agreement(then: &Estimate, now: &Estimate) -> Agreement {
    let (Some(mean), Some(low), Some(high)) = (then.mean, then.low, then.high) else {
        return Agreement::Unknown;
    };
    let Some(again) = now.mean else {
        return Agreement::Outside;
    };
    let difference = again - mean;
    let reach = if difference > 0.0 {
        [high - mean, again - now.low.unwrap_or(again)]
    } else {
        [mean - low, now.high.unwrap_or(again) - again]
    };
    let [own, other] = reach.map(|reach| reach.max(0.0));
    if difference.abs() <= own.hypot(other) {
        Agreement::Within
    } else {
        Agreement::Outside
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    /// Results of one model with these scores by seed.
    fn results(scores: &[(u64, f64)], interval: Option<(f64, f64)>) -> Results {
        let mean = scores.iter().map(|(_, score)| score).sum::<f64>() / scores.len() as f64;
        let (low, high) = interval.unzip();
        let seed = |(seed, score): &(u64, f64)| json!({ "seed": seed, "stages": {}, "status": "done", "metrics": { "accuracy": score } });
        let seeds: Vec<Value> = scores.iter().map(seed).collect();
        let results = json!({
            "schema": 1, "run": "r", "metric": null, "metrics": ["accuracy"], "directions": {}, "alpha": 0.05,
            "margin": null, "reference": null, "seeds": [1], "comparisons": [], "factors": [], "notes": [],
            "arms": [{
                "name": "student", "set": {}, "is_arm": false, "layers": null, "spans": [], "experts": null,
                "seeds": seeds, "cost": null,
                "metrics": { "accuracy": { "mean": mean, "sd": null, "low": low, "high": high } },
            }],
        });
        serde_json::from_value(results).unwrap()
    }

    fn found(then: &Results, now: &Results) -> Agreement {
        let found = compare(then, now);
        assert_eq!(found.len(), 1);
        found[0].agreement
    }

    #[test]
    fn the_same_scores_are_identical_and_near_ones_agree() {
        let then = results(&[(1, 0.9), (2, 0.8)], Some((0.82, 0.88)));
        assert_eq!(found(&then, &then), Agreement::Identical);
        let one = results(&[(2, 0.8)], Some((0.7, 0.85)));
        assert_eq!(found(&then, &one), Agreement::Identical);
        let near = results(&[(1, 0.9), (2, 0.83)], Some((0.83, 0.9)));
        assert_eq!(found(&then, &near), Agreement::Within);
        let far = results(&[(1, 0.6), (2, 0.5)], Some((0.5, 0.6)));
        assert_eq!(found(&then, &far), Agreement::Outside);
        assert_eq!(found(&far, &then), Agreement::Outside);
    }

    #[test]
    fn a_mean_outside_the_earlier_interval_may_agree_by_its_own() {
        let then = results(&[(1, 0.8)], Some((0.77, 0.83)));
        let exact = results(&[(1, 0.84)], None);
        assert_eq!(found(&then, &exact), Agreement::Outside);
        let vague = results(&[(1, 0.84)], Some((0.81, 0.87)));
        assert_eq!(found(&then, &vague), Agreement::Within);
    }

    #[test]
    fn what_has_no_interval_and_what_is_missing_do_not_agree() {
        let then = results(&[(1, 0.8)], None);
        let other = results(&[(1, 0.81)], Some((0.7, 0.9)));
        assert_eq!(found(&then, &other), Agreement::Unknown);
        let mut none = other.clone();
        none.arms.clear();
        assert_eq!(found(&other, &none), Agreement::Outside);
    }

    proptest! {
        #[test]
        fn agreement_is_mutual(means in [0.0..1.0_f64, 0.0..1.0_f64], halves in [0.0..0.3_f64, 0.0..0.3_f64]) {
            let estimate = |place: usize| Estimate {
                mean: Some(means[place]),
                sd: None,
                low: Some(means[place] - halves[place]),
                high: Some(means[place] + halves[place]),
            };
            let one = agreement(&estimate(0), &estimate(1));
            prop_assert_eq!(one, agreement(&estimate(1), &estimate(0)));
        }
    }
}
