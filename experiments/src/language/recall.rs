//! Associative recall: the share of queries that are answered with the right value.

use std::{path::Path, sync::Arc};

use burn::data::dataset::Dataset;
use masformer_core::{Decoder, Trace};
use moebert_core::half::Half;
use serde_json::json;

use super::{LanguageProblem, Watch};
use crate::{
    data::{
        DataError,
        language::{LanguageBatch, Sequence},
        recall::{Recall, RecallError, RecallExample, RecallSplit},
    },
    error::Error,
    examples::{self, Examples, Parts},
    learner::language::LanguageLearner,
    metric::{MetricError, Scores},
    predictions::Judgement,
    recipe::RecallData,
    run::Shares,
};

/// The task with its number of sequences.
#[derive(Clone, Debug)]
pub struct RecallProblem {
    recall: Recall,
    data: RecallData,
}

impl RecallProblem {
    /// The task with sequences of `length` tokens.
    ///
    /// # Errors
    ///
    /// If it cannot be made.
    pub fn new(data: &RecallData, length: usize) -> Result<Self, RecallError> {
        Ok(Self {
            recall: data.config(length).init()?,
            data: data.clone(),
        })
    }
}

impl RecallProblem {
    /// The task with `judged` sequences at most to validate on and to judge by, and their shares.
    pub(crate) fn sampled(self, judged: usize) -> (Self, Shares) {
        let all = &self.data;
        let data = RecallData {
            dev: all.dev.min(judged),
            test: all.test.min(judged),
            ..all.clone()
        };
        let share = |kept: usize, all: usize| kept as f64 / all.max(1) as f64;
        let shares = Shares {
            train: 1.0,
            valid: share(data.dev, all.dev),
            judged: share(data.test, all.test),
        };
        (Self { data, ..self }, shares)
    }
}

/// Answers by whether the pair lies beyond the window.
#[derive(Clone, Copy, Debug, Default)]
struct Share {
    right: usize,
    asked: usize,
}

impl Share {
    fn add(&mut self, is_right: bool) {
        self.right += usize::from(is_right);
        self.asked += 1;
    }

    fn value(self) -> Option<f64> {
        (self.asked > 0).then(|| self.right as f64 / self.asked as f64)
    }
}

impl LanguageProblem for RecallProblem {
    fn vocabulary(&self) -> usize {
        self.recall.config().vocabulary()
    }

    fn tokenizer_dir(&self) -> Option<&Path> {
        None
    }

    fn pad_id(&self) -> u32 {
        0
    }

    fn train(&self) -> Arc<dyn Dataset<Sequence>> {
        Arc::new(self.recall.examples(RecallSplit::Train, self.data.train))
    }

    fn dev(&self) -> Arc<dyn Dataset<Sequence>> {
        Arc::new(self.recall.examples(RecallSplit::Dev, self.data.dev))
    }

    fn has_answers(&self) -> bool {
        true
    }

    /// `recall`, of all queries, and `recall_beyond` and `recall_within`, of those whose pair lies
    /// beyond the window and within it.
    fn judge(&self, model: &Decoder<Half>, watch: &Watch) -> Result<Judgement, Error> {
        let learner = LanguageLearner::to_judge(model);
        let device = model.token.weight.device();
        let bar = watch.progress.bar("evaluate", self.data.test);
        let (mut predictions, mut ids, mut right) = (vec![], vec![], vec![]);
        let mut parts = [(); 3].map(|()| vec![]);
        let (mut beyond, mut within) = (Share::default(), Share::default());
        for start in (0..self.data.test).step_by(watch.batch_size) {
            watch.stop.check()?;
            let end = self.data.test.min(start + watch.batch_size);
            let examples: Vec<RecallExample> = (start..end)
                .map(|index| self.recall.example(RecallSplit::Test, index))
                .collect();
            let sequences: Vec<Sequence> = examples.iter().map(RecallExample::sequence).collect();
            let batch = LanguageBatch::collate(&sequences, self.pad_id(), &device);
            let hidden = learner.asked(&batch, &mut Trace::nothing());
            let logits = learner.logits(hidden);
            let is_finite = logits.clone().is_finite().all().try_into_data()?;
            if is_finite.iter::<bool>().any(|is_finite| !is_finite) {
                return Err(DataError::from(MetricError::Logits).into());
            }
            let answers = logits.argmax(1).try_into_data()?;
            let queries = (start..end).zip(&examples).flat_map(|(index, example)| {
                let queries = example.queries.iter();
                queries.map(move |query| (index, query))
            });
            for ((index, query), answer) in queries.zip(answers.iter::<i64>()) {
                predictions.push(json!({
                    "sequence": index,
                    "position": query.position,
                    "answer": answer,
                    "right": query.target,
                }));
                let (is_right, is_beyond) = (
                    answer == i64::from(query.target),
                    query.is_beyond(self.data.window),
                );
                let share = if is_beyond { &mut beyond } else { &mut within };
                share.add(is_right);
                ids.push((index, query.position));
                right.push(query.target.to_le_bytes());
                let counts = [true, is_beyond, !is_beyond];
                for (parts, counts) in parts.iter_mut().zip(counts) {
                    parts.push(counts.then(|| examples::share(is_right)));
                }
            }
            bar.set_position(end as u64);
        }
        bar.finish_and_clear();
        let all = Share {
            right: beyond.right + within.right,
            asked: beyond.asked + within.asked,
        };
        let scores = [
            ("recall", all),
            ("recall_beyond", beyond),
            ("recall_within", within),
        ];
        let scores: Scores = scores
            .into_iter()
            .filter_map(|(name, share)| Some((name.to_owned(), share.value()?)))
            .collect();
        if scores.is_empty() {
            return Err(DataError::from(MetricError::Empty).into());
        }
        let names = ["recall", "recall_beyond", "recall_within"];
        let parts = names.into_iter().zip(parts.map(Parts::Mean));
        let metrics = parts.filter(|(name, _)| scores.contains_key(*name));
        let examples = Examples {
            ids: ids
                .iter()
                .map(|(index, position)| format!("{index}:{position}"))
                .collect(),
            content: examples::content(&right),
            groups: ids.iter().map(|(index, _)| index.to_string()).collect(),
            metrics: metrics
                .map(|(name, parts)| (name.to_owned(), parts))
                .collect(),
        };
        Ok(Judgement {
            scores,
            predictions,
            examples: vec![examples],
        })
    }

    fn columns(&self) -> &'static [&'static str] {
        &["recall_beyond", "recall_within"]
    }
}
