//! What keeps a continuation from repeating itself.

use std::{borrow::Cow, collections::BTreeSet};

/// The penalties of one prompt's continuation, as the logits processors of Transformers apply them.
///
/// Both look at the tokens of the prompt and of the continuation; padding is not among them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Repeats<'a> {
    pub(super) prompt: &'a [u32],
    /// Divides the positive scores of tokens that have occurred, and multiplies the negative ones.
    pub(super) penalty: f64,
    /// The length of the n-grams that may occur only once.
    pub(super) ngram: Option<usize>,
}

impl Repeats<'_> {
    /// The logits `[V]` of the token after new tokens; `None` where no token may follow.
    pub(super) fn scores<'l>(&self, tokens: &[u32], logits: &'l [f32]) -> Option<Cow<'l, [f32]>> {
        if self.is_off() {
            return Some(Cow::Borrowed(logits));
        }
        let mut scores = logits.to_vec();
        self.apply(tokens, |id, change| {
            let score = &mut scores[id as usize];
            *score = change(f64::from(*score)) as f32;
        });
        let is_possible = scores.iter().any(|score| *score > f32::NEG_INFINITY);
        is_possible.then_some(Cow::Owned(scores))
    }

    /// Gives `change` each id whose score is not what the model says, and what its score becomes: first
    /// the penalty, then negative infinity for what would complete an n-gram again.
    pub(super) fn apply(&self, tokens: &[u32], mut change: impl FnMut(u32, &dyn Fn(f64) -> f64)) {
        if self.is_off() {
            return;
        }
        let ids = [self.prompt, tokens].concat();
        if !is_one(self.penalty) {
            for id in BTreeSet::from_iter(&ids) {
                change(*id, &|score| self.penalised(score));
            }
        }
        for id in self
            .ngram
            .into_iter()
            .flat_map(|size| completions(&ids, size))
        {
            change(id, &|_| f64::NEG_INFINITY);
        }
    }

    fn is_off(&self) -> bool {
        is_one(self.penalty) && self.ngram.is_none()
    }

    /// A score after the penalty, which stays within the numbers of a logit.
    fn penalised(&self, score: f64) -> f64 {
        let score = if score < 0.0 {
            score * self.penalty
        } else {
            score / self.penalty
        };
        score.clamp(f32::MIN.into(), f32::MAX.into())
    }
}

/// The penalty that changes nothing.
#[allow(clippy::float_cmp, reason = "any other number changes scores")]
fn is_one(penalty: f64) -> bool {
    penalty == 1.0
}

/// The tokens that would complete an n-gram that is there already.
fn completions(ids: &[u32], size: usize) -> BTreeSet<u32> {
    let Some(start) = (ids.len() + 1).checked_sub(size) else {
        return BTreeSet::new();
    };
    let beginning = &ids[start..];
    ids.windows(size)
        .filter_map(|ngram| ngram.strip_prefix(beginning))
        .filter_map(|rest| rest.first().copied())
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::generate::SampleConfig;

    const LOGITS: [f32; 6] = [2.0, -1.0, 0.0, 3.0, -0.5, 1.5];

    fn repeats(prompt: &[u32], penalty: f64, ngram: Option<usize>) -> Repeats<'_> {
        Repeats {
            prompt,
            penalty,
            ngram,
        }
    }

    /// The values are those of `RepetitionPenaltyLogitsProcessor`, `NoRepeatNGramLogitsProcessor`,
    /// `TemperatureLogitsWarper(0.7)`, `TopKLogitsWarper(3)` and a softmax, one after the other.
    #[test]
    fn scores_and_probabilities_are_those_of_transformers() {
        let repeats = repeats(&[3, 1, 4, 1], 1.3, Some(2));
        let scores = repeats.scores(&[2, 1], &LOGITS).unwrap();
        let banned = f32::NEG_INFINITY;
        let expected = [2.0, -1.3, banned, 2.307_692_3, banned, 1.5];
        assert_eq!(scores[..], expected);
        let sampling = SampleConfig::new()
            .with_temperature(0.7)
            .with_top_k(Some(3));
        let expected = [0.328_777_97, 0.0, 0.0, 0.510_271_55, 0.0, 0.160_950_48];
        for (found, expected) in sampling.probabilities(&scores).into_iter().zip(expected) {
            assert!((found - expected).abs() < 1e-6, "{found} {expected}");
        }
    }

    #[test]
    fn nothing_that_is_off_costs_a_copy() {
        let off = repeats(&[3, 1], 1.0, None);
        assert!(matches!(off.scores(&[1], &LOGITS), Some(Cow::Borrowed(_))));
    }

    #[test]
    fn where_every_token_would_repeat_none_is_left() {
        let once = repeats(&[0, 1, 2], 1.0, Some(1));
        assert_eq!(once.scores(&[3, 4, 5], &LOGITS), None);
        let left = once.scores(&[3, 5], &LOGITS).unwrap();
        assert_eq!(left.iter().filter(|score| score.is_finite()).count(), 1);
    }

    #[test]
    fn a_penalty_of_any_size_leaves_numbers() {
        for penalty in [f64::MIN_POSITIVE, 1e-30, 1e300] {
            let scores = repeats(&[0, 1, 2], penalty, None);
            let scores = scores.scores(&[], &LOGITS).unwrap();
            assert!(scores.iter().all(|score| score.is_finite()), "{scores:?}");
        }
    }

    proptest! {
        #[test]
        fn completions_are_those_of_the_definition(
            ids in prop::collection::vec(0..4_u32, 1..20),
            size in 1..5_usize,
        ) {
            let is_new = |id: u32| {
                let longer = [&ids[..], &[id]].concat();
                let last = longer.len().checked_sub(size).map(|start| &longer[start..]);
                last.is_none_or(|last| !ids.windows(size).any(|ngram| ngram == last))
            };
            let expected: BTreeSet<u32> = (0..4).filter(|id| !is_new(*id)).collect();
            prop_assert_eq!(completions(&ids, size), expected);
        }
    }
}
