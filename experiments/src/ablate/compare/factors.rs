//! What each factor of an ablation is worth: beside all others, alone, and whether these differ.

use serde::{Deserialize, Serialize};

use super::{CompareError, JudgedArm, Measured, Question};
use crate::ablate::{
    arms::FactorArms,
    statistics::{Alpha, MetricValues, StatisticsError, two_way},
};

/// The worth of a factor. Differences are in the unit of the metric, with the arms that they are between.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FactorWorth {
    /// The factor.
    pub name: String,
    /// The metric.
    pub metric: String,
    /// What is lost without it: all factors on, less all on but this one.
    pub drop: Option<Effect>,
    /// What it gives alone: this one on, less none.
    pub add: Option<Effect>,
    /// How much more it gives beside all others than alone: `drop` less `add`.
    pub interaction: Option<Effect>,
    /// The arms: all factors on, all but this one, this one alone, none.
    pub arms: [Option<String>; 4],
}

/// A difference with its interval, of this one alone.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Effect {
    /// The mean over the seeds.
    pub difference: f64,
    /// The lower end; none if nothing varies.
    pub low: Option<f64>,
    /// The upper end.
    pub high: Option<f64>,
}

impl FactorWorth {
    /// The worth of each factor; what needs an arm that is not there, or that was judged on other seeds or examples, is left
    /// out. `arm` gives an arm by its place in the ablation.
    ///
    /// # Errors
    ///
    /// If no example of an arm has parts of the metric, the seeds of an arm were judged on different examples, or a number is
    /// not finite.
    pub fn of<'a>(
        factors: impl IntoIterator<Item = &'a FactorArms>,
        arm: impl Fn(usize) -> Option<&'a JudgedArm>,
        question: Question<'a>,
    ) -> Result<Vec<Self>, CompareError> {
        let alpha = Alpha::new(question.alpha)?;
        let worth = factors.into_iter().map(|factor| {
            let places = [factor.full, factor.without, factor.with, factor.base];
            let judged = places.map(|place| place.and_then(&arm));
            let measured = judged.map(|arm| {
                let arm = arm.filter(|arm| !arm.seeds.is_empty())?;
                Some(Measured::of(arm, question.metric).map(|measured| (arm, measured)))
            });
            let [full, without, with, base] = measured.map(Option::transpose);
            let (full, without, with, base) = (full?, without?, with?, base?);
            let drop = less(full.as_ref(), without.as_ref())?;
            let add = less(with.as_ref(), base.as_ref())?;
            let are_paired = pairs(full.as_ref(), base.as_ref()).is_some();
            let interaction = match (&drop, &add) {
                (Some(drop), Some(add)) if are_paired => Some(drop.difference(add)?),
                _ => None,
            };
            let effect = |values: Option<MetricValues>| {
                values.map(|values| Effect::of(&values, alpha)).transpose()
            };
            Ok(Self {
                name: factor.name.clone(),
                metric: question.metric.to_owned(),
                drop: effect(drop)?,
                add: effect(add)?,
                interaction: effect(interaction)?,
                arms: judged.map(|arm| arm.map(|arm| arm.name.clone())),
            })
        });
        worth.collect()
    }
}

impl Effect {
    fn of(values: &MetricValues, alpha: Alpha) -> Result<Self, StatisticsError> {
        let result = two_way(values)?;
        let interval = result.interval(alpha);
        Ok(Self {
            difference: result.theta,
            low: interval.map(|interval| interval.low),
            high: interval.map(|interval| interval.high),
        })
    }
}

type Judged<'j, 'm> = Option<&'j (&'m JudgedArm, Measured<'m>)>;

/// Two arms that were judged with the same seeds on the same examples.
fn pairs<'j, 'm>(one: Judged<'j, 'm>, other: Judged<'j, 'm>) -> Option<[&'j Measured<'m>; 2]> {
    let ((one, measured), (other, others)) = (one?, other?);
    let is_paired = one.seeds.keys().eq(other.seeds.keys()) && measured.is_paired(others);
    is_paired.then_some([measured, others])
}

/// An arm less another one, if both are there.
fn less(
    one: Judged<'_, '_>,
    other: Judged<'_, '_>,
) -> Result<Option<MetricValues>, StatisticsError> {
    let pair = pairs(one, other);
    pair.map(|[one, other]| one.values.difference(&other.values))
        .transpose()
}

#[cfg(test)]
mod tests {
    use super::super::testing::{arm, question};
    use super::*;

    #[test]
    fn a_factor_is_worth_what_its_arms_differ_by() {
        let arms = [
            arm("full", 3, |_, example| example < 10),
            arm("-f", 3, |seed, example| example < 20 + seed),
            arm("+f", 3, |_, example| example < 40),
            arm("base", 3, |_, example| example < 60),
        ];
        let factor = FactorArms {
            name: "f".to_owned(),
            full: Some(0),
            without: Some(1),
            base: Some(3),
            with: Some(2),
        };
        let alone = FactorArms {
            base: None,
            ..factor.clone()
        };
        let both = [factor, alone];
        let worth = FactorWorth::of(&both, |place| arms.get(place), question("accuracy")).unwrap();
        let near = |effect: Option<Effect>, expected: f64| {
            let found = effect.unwrap().difference;
            assert!((found - expected).abs() < 1e-12, "{found} {expected}");
        };
        near(worth[0].drop, 11.0 / 200.0);
        near(worth[0].add, 20.0 / 200.0);
        near(worth[0].interaction, -9.0 / 200.0);
        near(worth[1].drop, 11.0 / 200.0);
        assert_eq!((worth[1].add, worth[1].interaction), (None, None));
        assert_eq!(worth[1].arms[3], None);
    }
}
