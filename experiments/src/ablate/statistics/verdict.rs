//! What a comparison decides, in one sentence.

use serde::{Deserialize, Serialize};

use super::{Alpha, Interval, Refusal, seeds_at_least, verdict_sentence};

/// The kind of a verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum VerdictKind {
    /// The comparison is unfair or impossible.
    Refused,
    /// The arms never differ.
    Identical,
    /// The arm is better than the reference.
    Better,
    /// The arm is worse than the reference.
    Worse,
    /// The difference is smaller than the margin.
    Equivalent,
    /// The arm is at most by the margin worse than the reference.
    #[serde(rename = "not worse")]
    NotWorse,
    /// Nothing of that is shown.
    Undecided,
}

/// In what a metric is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Unit {
    /// A fraction, told in points: hundredths.
    Points,
    /// The number itself.
    Plain,
}

/// Which values of a metric are better.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Direction {
    /// Accuracy, F1.
    HigherIsBetter,
    /// Bits per byte, nats per token.
    LowerIsBetter,
}

/// A comparison to be decided. Numbers are in the unit of the metric: fractions, not points.
#[derive(Clone, Debug, PartialEq)]
pub struct VerdictInput<'a> {
    /// The name of the arm.
    pub arm: &'a str,
    /// The name of the reference.
    pub reference: &'a str,
    /// The name of the metric.
    pub metric: &'a str,
    /// How the metric is told.
    pub unit: Unit,
    /// Which values are better.
    pub direction: Direction,
    /// The number of seeds that both arms have.
    pub seeds: usize,
    /// The number of examples.
    pub examples: usize,
    /// The level.
    pub alpha: Alpha,
    /// The smallest difference that matters, above 0.
    pub margin: Option<f64>,
    /// The difference, arm less reference.
    pub difference: f64,
    /// The simultaneous interval; none if nothing varies.
    pub interval: Option<Interval>,
    /// The adjusted p.
    pub p: f64,
    /// Whether the arms are equal with every seed on every example.
    pub identical: bool,
    /// How many seeds a difference of this size needs, if any number is enough.
    pub needs: Option<usize>,
    /// Why there must be no verdict.
    pub refusal: Option<Refusal>,
}

/// What a comparison decides.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    /// The kind.
    pub kind: VerdictKind,
    /// The sentence of it.
    pub sentence: String,
}

/// Decides a comparison. The first rule that applies decides:
///
/// - refused: for the reason given, with fewer than 2 examples, or if a number is not finite;
/// - identical;
/// - undecided: sign flips of so few seeds cannot reach the level;
/// - better, worse: the interval excludes 0 **and** p is at most `alpha`. Both, because flips take the
///   examples as fixed and the interval assumes seeds that are nearly normal;
/// - equivalent: the interval lies inside the margin;
/// - not worse: the bad end of the interval does;
/// - undecided, with what it would take. That is at least one seed more, also where the spread alone
///   would ask for fewer than there are.
pub fn verdict(input: &VerdictInput) -> Verdict {
    let outcome = input.kind();
    let sentence = verdict_sentence::of(input, &outcome);
    Verdict {
        kind: outcome.unwrap_or(VerdictKind::Refused),
        sentence,
    }
}

impl VerdictInput<'_> {
    fn kind(&self) -> Result<VerdictKind, Refusal> {
        if let Some(refusal) = self.refusal() {
            return Err(refusal);
        }
        if self.identical {
            return Ok(VerdictKind::Identical);
        }
        if self.has_too_few_seeds() {
            return Ok(VerdictKind::Undecided);
        }
        // As if higher were better.
        let Some((low, high)) = self
            .interval
            .map(|Interval { low, high }| match self.direction {
                Direction::HigherIsBetter => (low, high),
                Direction::LowerIsBetter => (-high, -low),
            })
        else {
            return Ok(VerdictKind::Undecided);
        };
        let is_significant = self.p <= self.alpha.value();
        let margin = self.margin.filter(|&margin| margin > 0.0);
        Ok(match margin {
            _ if is_significant && low > 0.0 => VerdictKind::Better,
            _ if is_significant && high < 0.0 => VerdictKind::Worse,
            Some(margin) if low > -margin && high < margin => VerdictKind::Equivalent,
            Some(margin) if low > -margin => VerdictKind::NotWorse,
            _ => VerdictKind::Undecided,
        })
    }

    fn refusal(&self) -> Option<Refusal> {
        let ends = self
            .interval
            .map_or([0.0; 2], |interval| [interval.low, interval.high]);
        let is_finite = [self.difference, self.p]
            .iter()
            .chain(&ends)
            .all(|number| number.is_finite());
        if self.refusal.is_some() {
            self.refusal.clone()
        } else if self.examples < 2 {
            Some(Refusal::FewExamples)
        } else if !is_finite {
            let metric = self.metric.to_owned();
            Some(Refusal::NotFinite { metric })
        } else {
            None
        }
    }

    /// Whether sign flips of so few seeds cannot reach the level.
    pub(super) fn has_too_few_seeds(&self) -> bool {
        self.seeds < seeds_at_least(self.alpha)
    }
}

impl Unit {
    /// By what a number is multiplied to be told.
    pub fn scale(self) -> f64 {
        match self {
            Self::Points => 100.0,
            Self::Plain => 1.0,
        }
    }

    /// What follows the number.
    pub(super) fn suffix(self) -> &'static str {
        match self {
            Self::Points => " points",
            Self::Plain => "",
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{
        super::testing::{cases, input},
        *,
    };

    #[derive(Deserialize)]
    struct Case {
        arm: String,
        reference: String,
        metric: String,
        fraction: bool,
        higher_is_better: bool,
        seeds: usize,
        examples: usize,
        alpha: Alpha,
        margin: Option<f64>,
        difference: Option<f64>,
        low: Option<f64>,
        high: Option<f64>,
        p: Option<f64>,
        #[serde(default)]
        identical: bool,
        needs: Option<usize>,
        refuse: Option<String>,
        expected: Verdict,
    }

    impl Case {
        fn input(&self) -> VerdictInput<'_> {
            let reasons = [
                Refusal::DifferentExamples,
                Refusal::FailedSeeds {
                    arm: self.arm.clone(),
                    failed: 2,
                    seeds: self.seeds,
                },
            ];
            let refusal = |reason: &String| {
                let mut reasons = reasons.into_iter();
                reasons
                    .find(|refusal| refusal.to_string() == *reason)
                    .unwrap()
            };
            VerdictInput {
                arm: &self.arm,
                reference: &self.reference,
                metric: &self.metric,
                unit: if self.fraction {
                    Unit::Points
                } else {
                    Unit::Plain
                },
                direction: if self.higher_is_better {
                    Direction::HigherIsBetter
                } else {
                    Direction::LowerIsBetter
                },
                seeds: self.seeds,
                examples: self.examples,
                alpha: self.alpha,
                margin: self.margin,
                difference: self.difference.unwrap_or(0.0),
                interval: self
                    .low
                    .zip(self.high)
                    .map(|(low, high)| Interval { low, high }),
                p: self.p.unwrap_or(1.0),
                identical: self.identical,
                needs: self.needs,
                refusal: self.refuse.as_ref().map(refusal),
            }
        }
    }

    #[test]
    fn kinds_and_sentences_agree_with_the_reference() {
        for case in cases::<Case>("verdicts") {
            assert_eq!(verdict(&case.input()), case.expected);
        }
    }

    #[test]
    fn a_margin_that_is_not_above_0_is_none() {
        for margin in [0.0, -0.5, f64::NAN] {
            let mut input = input();
            input.margin = Some(margin);
            assert_eq!(verdict(&input).kind, VerdictKind::Undecided);
        }
    }

    proptest! {
        #[test]
        fn a_verdict_needs_both_the_interval_and_p(
            difference in -1.0..1.0,
            half_width in 0.0..1.0,
            p in 0.0..=1.0,
            seeds in 1_usize..20,
            lower_is_better: bool,
            margin in prop::option::of(0.0..0.5),
        ) {
            let direction = if lower_is_better { Direction::LowerIsBetter } else { Direction::HigherIsBetter };
            let interval = Interval::around(difference, half_width);
            let input = VerdictInput {
                direction, seeds, margin, p, difference, interval: Some(interval), ..input()
            };
            let kind = verdict(&input).kind;
            let is_decided = matches!(kind, VerdictKind::Better | VerdictKind::Worse);
            prop_assert_eq!(is_decided, seeds >= 6 && p <= 0.05 && !interval.contains(0.0));
            if is_decided {
                prop_assert_eq!(kind == VerdictKind::Better, (difference > 0.0) != lower_is_better);
            }
            // The same comparison from the other side.
            let other = verdict(&VerdictInput {
                difference: -difference,
                interval: Some(Interval::around(-difference, half_width)),
                ..input
            });
            let expected = match kind {
                VerdictKind::Better => Some(VerdictKind::Worse),
                VerdictKind::Worse => Some(VerdictKind::Better),
                VerdictKind::Equivalent => Some(VerdictKind::Equivalent),
                _ => None,
            };
            prop_assert!(expected.is_none_or(|expected| other.kind == expected));
        }

        #[test]
        fn no_input_breaks_a_sentence(
            difference: f64,
            ends in prop::option::of((any::<f64>(), any::<f64>())),
            p: f64,
            seeds: u16,
            examples: usize,
            margin: Option<f64>,
            needs: Option<usize>,
        ) {
            let interval = ends.map(|(low, high)| Interval { low, high });
            let needs = needs.map(|needs| needs / 2);
            let found = verdict(&VerdictInput {
                difference, interval, p, seeds: seeds.into(), examples, margin, needs, ..input()
            });
            prop_assert!(found.sentence.starts_with("A "));
        }
    }
}
