//! From logits to answers: the best span over all windows of a passage, and how it compares with the
//! score of "no answer", as in Transformers' `postprocess_qa_predictions`.

use std::ops::Range;

use super::windows::SquadFeature;
use super::{SquadExample, SquadVersion};

/// How answers are searched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpanSearch {
    /// How many of the best start positions are tried with how many of the best end positions.
    pub n_best: usize,
    /// The most tokens of an answer.
    pub max_answer_length: usize,
}

impl Default for SpanSearch {
    /// The settings of Transformers: 20 and 30.
    fn default() -> Self {
        Self {
            n_best: 20,
            max_answer_length: 30,
        }
    }
}

/// A model's scores for one input.
#[derive(Clone, Debug, PartialEq)]
pub struct SpanLogits {
    /// For each token, how likely the answer starts there. `[T]`, or longer if padded on the right.
    pub start: Vec<f32>,
    /// For each token, how likely the answer ends there. `[T]`, or longer if padded on the right.
    pub end: Vec<f32>,
}

/// What a model answers to one question.
#[derive(Clone, Debug, PartialEq)]
pub struct SpanPrediction {
    /// The question's identifier.
    pub id: String,
    /// The best piece of the passage, however unlikely; empty only if no span could be formed.
    pub answer: String,
    /// The score of "no answer", the lowest over the windows, minus the score of `answer`.
    pub null_margin: f32,
}

impl SpanPrediction {
    /// The final answer: in version 2.0 the empty text where `null_margin` exceeds `null_threshold`,
    /// which version 1.1 does not look at.
    pub fn text(&self, version: SquadVersion, null_threshold: f32) -> &str {
        if version == SquadVersion::V2 && self.null_margin > null_threshold {
            ""
        } else {
            &self.answer
        }
    }
}

/// Why logits could not be turned into answers.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum SpanSearchError {
    /// There are more or fewer logits than inputs.
    #[error("{logits} logits were given for {features} inputs")]
    Count {
        /// The number of logits.
        logits: usize,
        /// The number of inputs.
        features: usize,
    },
    /// An input has more tokens than logits.
    #[error("input {feature} has {tokens} tokens but only {start} start and {end} end logits")]
    Short {
        /// The index of the input.
        feature: usize,
        /// Its number of tokens.
        tokens: usize,
        /// Its number of start logits.
        start: usize,
        /// Its number of end logits.
        end: usize,
    },
    /// An input belongs to a question that is not there, so it was made from other examples.
    #[error(
        "input {feature} belongs to question {example}, but there are only {examples} questions"
    )]
    Example {
        /// The index of the input.
        feature: usize,
        /// The index of its question.
        example: usize,
        /// The number of questions.
        examples: usize,
    },
    /// A question has no input.
    #[error("question {id:?} has no input")]
    NoWindow {
        /// The question.
        id: String,
    },
}

/// The best of a question's windows so far.
#[derive(Clone, Default)]
struct Best {
    null_score: Option<f32>,
    span: Option<(f32, Range<usize>)>,
}

impl SpanSearch {
    /// Finds the best answer of every example; `logits` belong to `features` one by one.
    ///
    /// A span's score is its start logit plus its end logit, and 0 where no span could be formed. Equal
    /// scores go to the earlier window and start.
    ///
    /// # Errors
    ///
    /// If examples, features and logits do not belong together.
    pub fn predictions(
        &self,
        examples: &[SquadExample],
        features: &[SquadFeature],
        logits: &[SpanLogits],
    ) -> Result<Vec<SpanPrediction>, SpanSearchError> {
        if logits.len() != features.len() {
            return Err(SpanSearchError::Count {
                logits: logits.len(),
                features: features.len(),
            });
        }
        let mut best = vec![Best::default(); examples.len()];
        for (index, (feature, logits)) in features.iter().zip(logits).enumerate() {
            let tokens = feature.input_ids.len();
            let (Some(start), Some(end)) = (logits.start.get(..tokens), logits.end.get(..tokens))
            else {
                return Err(SpanSearchError::Short {
                    feature: index,
                    tokens,
                    start: logits.start.len(),
                    end: logits.end.len(),
                });
            };
            let (Some(example), Some(best)) =
                (examples.get(feature.example), best.get_mut(feature.example))
            else {
                return Err(SpanSearchError::Example {
                    feature: index,
                    example: feature.example,
                    examples: examples.len(),
                });
            };
            self.search(feature, &example.context, start, end, best);
        }
        examples
            .iter()
            .zip(best)
            .map(|(example, best)| best.prediction(example))
            .collect()
    }

    fn search(
        &self,
        feature: &SquadFeature,
        context: &str,
        start_logits: &[f32],
        end_logits: &[f32],
        best: &mut Best,
    ) {
        if let (Some(start), Some(end)) = (start_logits.first(), end_logits.first()) {
            let score = start + end;
            best.null_score = Some(best.null_score.map_or(score, |lowest| lowest.min(score)));
        }
        let ends = highest(end_logits, self.n_best);
        for start in highest(start_logits, self.n_best) {
            for &end in &ends {
                let Some(span) = feature.span(start, end) else {
                    continue;
                };
                let empty = context.get(span.clone()).is_none_or(str::is_empty);
                if empty || end - start >= self.max_answer_length {
                    continue;
                }
                let score = start_logits[start] + end_logits[end];
                if best.span.as_ref().is_none_or(|(top, _)| score > *top) {
                    best.span = Some((score, span));
                }
            }
        }
    }
}

impl Best {
    fn prediction(self, example: &SquadExample) -> Result<SpanPrediction, SpanSearchError> {
        let null_score = self.null_score.ok_or_else(|| SpanSearchError::NoWindow {
            id: example.id.clone(),
        })?;
        let (score, span) = self.span.unwrap_or((0.0, 0..0));
        Ok(SpanPrediction {
            id: example.id.clone(),
            answer: example.context[span].to_owned(),
            null_margin: null_score - score,
        })
    }
}

/// The positions of the `count` highest values, falling; equal values in their order.
fn highest(values: &[f32], count: usize) -> Vec<usize> {
    let mut positions: Vec<usize> = (0..values.len()).collect();
    positions.sort_by(|&a, &b| values[b].total_cmp(&values[a]));
    positions.truncate(count);
    positions
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One question about "a b c d"; a window has a class token, a question token and the given
    /// letters of the passage.
    fn feature(letters: Range<usize>) -> SquadFeature {
        let offsets: Vec<_> = letters.map(|i| (2 * i as u32, 2 * i as u32 + 1)).collect();
        SquadFeature {
            input_ids: vec![1; 2 + offsets.len()],
            type_ids: vec![0; 2 + offsets.len()],
            start: 0,
            end: 0,
            example: 0,
            context: 2..2 + offsets.len(),
            offsets,
        }
    }

    fn example() -> SquadExample {
        SquadExample {
            id: "q".into(),
            question: "?".into(),
            context: "a b c d".into(),
            answers: Vec::new(),
        }
    }

    fn logits(start: &[f32], end: &[f32]) -> SpanLogits {
        SpanLogits {
            start: start.to_vec(),
            end: end.to_vec(),
        }
    }

    fn predict(
        search: SpanSearch,
        features: &[SquadFeature],
        logits: &[SpanLogits],
    ) -> SpanPrediction {
        let mut found = search.predictions(&[example()], features, logits).unwrap();
        found.remove(0)
    }

    #[test]
    fn takes_the_best_span_over_windows_and_the_lowest_null_score() {
        let features = [feature(0..2), feature(1..4)];
        let scores = [
            logits(&[1.0, 9.0, 3.0, 0.0], &[2.0, 9.0, 0.0, 2.0]),
            logits(&[4.0, 9.0, 0.0, 5.0, 0.0], &[5.0, 9.0, 7.0, 1.0, 1.5]),
        ];
        let found = predict(SpanSearch::default(), &features, &scores);
        // Window 1: "b" 0 + 7 beats "c d" 5 + 1.5; the end 7 before the start 5 is no span.
        assert_eq!(found.answer, "b");
        assert!((found.null_margin - (3.0 - 7.0)).abs() < 1e-6);
    }

    #[test]
    fn looks_at_no_padding_and_no_question() {
        let scores = [logits(
            &[0.0, 50.0, 1.0, 0.0, 99.0],
            &[0.0, 50.0, 0.0, 1.0, 99.0],
        )];
        let found = predict(SpanSearch::default(), &[feature(2..4)], &scores);
        assert_eq!(found.answer, "c d");
    }

    #[test]
    fn keeps_answers_short() {
        let scores = [logits(
            &[0.0, 0.0, 9.0, 0.0, 0.0, 1.0],
            &[0.0, 0.0, 1.0, 2.0, 3.0, 9.0],
        )];
        for (max_answer_length, answer) in [(4, "a b c d"), (3, "a b c"), (1, "a")] {
            let search = SpanSearch {
                max_answer_length,
                ..SpanSearch::default()
            };
            assert_eq!(predict(search, &[feature(0..4)], &scores).answer, answer);
        }
    }

    #[test]
    fn tries_the_best_positions_only() {
        let scores = [logits(&[8.0, 0.0, 5.0, 4.0], &[0.0, 1.0, 3.0, 6.0])];
        let search = |n_best| SpanSearch {
            n_best,
            ..SpanSearch::default()
        };
        assert_eq!(predict(search(2), &[feature(0..2)], &scores).answer, "a b");
        // The class token is the best start: no span is left, and its score counts as 0.
        let none = predict(search(1), &[feature(0..2)], &scores);
        assert_eq!((none.answer.as_str(), none.null_margin), ("", 8.0));
    }

    #[test]
    fn the_threshold_decides_in_version_2_only() {
        let found = SpanPrediction {
            id: "q".into(),
            answer: "a".into(),
            null_margin: 1.0,
        };
        assert_eq!(found.text(SquadVersion::V2, 0.5), "");
        assert_eq!(found.text(SquadVersion::V2, 1.0), "a");
        assert_eq!(found.text(SquadVersion::V1, 0.5), "a");
    }

    #[test]
    fn not_a_number_is_no_answer() {
        let scores = [logits(&[f32::NAN; 4], &[f32::NAN; 4])];
        predict(SpanSearch::default(), &[feature(0..2)], &scores);
    }

    #[test]
    fn refuses_what_does_not_belong_together() {
        let search = SpanSearch::default();
        let good = logits(&[0.0; 4], &[0.0; 4]);
        let short = logits(&[0.0; 4], &[0.0; 3]);
        let features = [feature(0..2)];
        let error = |examples: &[SquadExample], logits: &[SpanLogits]| {
            search
                .predictions(examples, &features, logits)
                .unwrap_err()
                .to_string()
        };
        assert_eq!(error(&[example()], &[]), "0 logits were given for 1 inputs");
        assert_eq!(
            error(&[example()], &[short]),
            "input 0 has 4 tokens but only 4 start and 3 end logits"
        );
        assert!(error(&[], std::slice::from_ref(&good)).contains("belongs to question 0"));
        assert_eq!(
            error(&[example(), example()], &[good]),
            "question \"q\" has no input"
        );
    }
}
