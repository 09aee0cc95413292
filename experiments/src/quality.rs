//! The task's own metric on the dashboard.

use std::sync::Arc;

use burn::{
    prelude::*,
    tensor::TensorReadError,
    train::metric::{
        Adaptor, Metric as BurnMetric, MetricAttributes, MetricMetadata, MetricName, Numeric,
        NumericAttributes, NumericEntry, SerializedEntry,
        state::{FormatOptions, NumericMetricState},
    },
};

use crate::{
    data::{example::Label, loader::Targets},
    learner::TaskOutput,
    metric::Metric,
    problem::answer,
};

/// A metric of the answers of an epoch. For question answering it counts both ends of an answer.
///
/// burn-train averages what a metric reports for each batch, by the batch's weight, and takes that for
/// the epoch's value. F1 or a correlation is no mean over batches, so a batch reports what makes the mean
/// so far the metric so far: `n m(n) - n' m(n')` over `n - n'` answers, after `n'` answers before.
#[derive(Clone)]
pub struct Quality {
    name: MetricName,
    metric: Metric,
    answers: Vec<Label>,
    references: Vec<Label>,
    /// The metric of the answers before the latest batch, times their number.
    sum: f64,
    /// Whether each batch is judged by itself.
    by_batch: bool,
    state: NumericMetricState,
}

/// The answers to one batch and the right ones.
pub struct Answered {
    answers: Vec<Label>,
    references: Vec<Label>,
}

impl Quality {
    /// Follows a metric.
    pub fn new(metric: Metric) -> Self {
        let name = metric.name();
        let (first, rest) = name.split_at(1);
        Self {
            name: Arc::new(first.to_uppercase() + rest),
            metric,
            answers: vec![],
            references: vec![],
            sum: 0.0,
            by_batch: false,
            state: NumericMetricState::new(),
        }
    }

    /// Its name on the dashboard and in the log.
    pub fn title(&self) -> String {
        self.name.to_string()
    }

    /// Judges each batch by itself, so that a training that goes on in the middle of an epoch shows the same values;
    /// `None` for a metric that is no mean over examples.
    pub fn by_batch(&self) -> Option<Self> {
        (self.metric == Metric::Accuracy).then(|| Self {
            by_batch: true,
            ..self.clone()
        })
    }

    /// The metric over all answers so far; NaN where it has no value.
    fn score(&self) -> f64 {
        let score = self.metric.score(&self.answers, &self.references);
        score.unwrap_or(f64::NAN)
    }

    fn clear_answers(&mut self) {
        self.answers.clear();
        self.references.clear();
        self.sum = 0.0;
    }

    fn format(&self) -> FormatOptions {
        FormatOptions::new(self.name()).precision(4)
    }
}

impl BurnMetric for Quality {
    type Input = Answered;

    fn name(&self) -> MetricName {
        self.name.clone()
    }

    fn attributes(&self) -> MetricAttributes {
        NumericAttributes {
            unit: None,
            higher_is_better: true,
        }
        .into()
    }

    fn update(
        &mut self,
        batch: &Answered,
        metadata: &MetricMetadata,
    ) -> Result<SerializedEntry, TensorReadError> {
        if self.by_batch {
            self.clear_answers();
        }
        self.answers.extend(&batch.answers);
        self.references.extend(&batch.references);
        let count = batch.answers.len();
        let progress = &metadata.progress;
        let is_last = progress.items_processed >= progress.items_total;
        let mut score = self.score();
        // The first batches may have no value, and their NaN would stay in the mean to the end.
        if score.is_nan() && !is_last {
            score = 0.0;
        }
        let sum = score * self.answers.len() as f64;
        self.state.update((sum - self.sum) / count as f64, count);
        self.sum = sum;
        Ok(self.state.compute_update(self.format()))
    }

    fn compute(&mut self) -> Result<SerializedEntry, TensorReadError> {
        Ok(self.state.compute_final(self.format()))
    }

    fn clear(&mut self) {
        self.clear_answers();
        self.state.reset();
    }
}

impl Numeric for Quality {
    fn value(&self) -> Option<NumericEntry> {
        Some(self.state.current_value())
    }

    fn running_value(&self) -> Option<NumericEntry> {
        Some(self.state.running_value())
    }

    fn final_value(&self) -> NumericEntry {
        if self.by_batch {
            return self.state.final_value();
        }
        NumericEntry::Final(self.score())
    }
}

impl Adaptor<Answered> for TaskOutput {
    fn adapt(&self) -> Answered {
        let classes = |targets: &Tensor<1, Int>| -> Vec<Label> {
            let classes = targets.to_data();
            classes
                .iter::<i64>()
                .map(|class| Label::Class(class as usize))
                .collect()
        };
        let references = match &self.targets {
            Targets::Classes(targets) => vec![classes(targets)],
            Targets::Scores(targets) => {
                vec![targets.to_data().iter::<f32>().map(Label::Score).collect()]
            }
            Targets::Spans { start, end } => vec![classes(start), classes(end)],
        };
        let answers = self
            .logits
            .iter()
            .zip(&references)
            .flat_map(|(logits, references)| {
                let [_, width] = logits.dims();
                let scores: Vec<f32> = logits.to_data().iter::<f32>().collect();
                let rows = scores.chunks(width).zip(references);
                rows.map(|(row, like)| {
                    if row.iter().all(|score| score.is_finite()) {
                        answer(row, *like)
                    } else {
                        // The class of the highest would pass for an answer.
                        Label::Score(f32::NAN)
                    }
                })
                .collect::<Vec<_>>()
            });
        Answered {
            answers: answers.collect(),
            references: references.concat(),
        }
    }
}

#[cfg(test)]
mod tests {
    use burn::data::dataloader::Progress;

    use super::*;

    #[test]
    fn the_mean_over_batches_is_the_metric_of_the_epoch() {
        let labels =
            |classes: &[usize]| classes.iter().map(|c| Label::Class(*c)).collect::<Vec<_>>();
        let answers = labels(&[1, 0, 1, 1, 0, 1, 0]);
        let references = labels(&[1, 1, 0, 1, 0, 1, 1]);
        let mut quality = Quality::new(Metric::F1);
        let metadata = MetricMetadata {
            progress: Progress::new(0, 7, None),
            iteration: None,
            lr: None,
        };
        let (mut mean, mut total) = (0.0, 0.0);
        for range in [0..3, 3..4, 4..7] {
            let count = range.len();
            let batch = Answered {
                answers: answers[range.clone()].to_vec(),
                references: references[range].to_vec(),
            };
            quality.update(&batch, &metadata).unwrap();
            let NumericEntry::Aggregated {
                aggregated_value, ..
            } = quality.value().unwrap()
            else {
                panic!("a batch reports its weight");
            };
            mean += aggregated_value * count as f64;
            total += count as f64;
        }
        let whole = Metric::F1.score(&answers, &references).unwrap();
        assert!((mean / total - whole).abs() < 1e-12);
        let NumericEntry::Final(last) = quality.final_value() else {
            panic!("the epoch ends with one value");
        };
        assert!((last - whole).abs() < 1e-12);
    }

    #[test]
    fn a_batch_by_itself_does_not_depend_on_those_before_it() {
        let labels = |classes: &[usize]| classes.iter().map(|c| Label::Class(*c)).collect();
        let batches: [[&[usize]; 2]; 2] = [[&[1, 0, 1], &[1, 1, 1]], [&[0, 0], &[0, 1]]];
        let values = |batches: &[[&[usize]; 2]]| {
            let mut quality = Quality::new(Metric::Accuracy).by_batch().unwrap();
            let value = batches.iter().map(|[answers, references]| {
                let metadata = MetricMetadata {
                    progress: Progress::new(0, 5, None),
                    iteration: None,
                    lr: None,
                };
                let batch = Answered {
                    answers: labels(answers),
                    references: labels(references),
                };
                quality.update(&batch, &metadata).unwrap();
                quality.value().unwrap().current().to_bits()
            });
            let values: Vec<u64> = value.collect();
            (values, quality.final_value().current())
        };
        let (both, mean) = values(&batches);
        assert_eq!(values(&batches[1..]).0, both[1..]);
        assert!((mean - 0.6).abs() < 1e-12);
        assert!(Quality::new(Metric::F1).by_batch().is_none());
    }

    #[test]
    fn an_epoch_without_a_value_has_none_in_the_end() {
        let scores = |values: &[f32]| values.iter().copied().map(Label::Score).collect();
        let last = |answers: [[f32; 2]; 2]| {
            let mut quality = Quality::new(Metric::Pearson);
            for (answers, batch) in answers.iter().zip(1..) {
                let metadata = MetricMetadata {
                    progress: Progress::new(2 * batch, 4, None),
                    iteration: None,
                    lr: None,
                };
                let batch = Answered {
                    answers: scores(answers),
                    references: scores(&[batch as f32, 2.5]),
                };
                quality.update(&batch, &metadata).unwrap();
            }
            let running = quality.running_value().unwrap().current();
            (running, quality.final_value().current())
        };
        // The first batch alone has none either.
        let (mean, value) = last([[1.0, 1.0], [1.0, 2.0]]);
        assert!(
            mean.is_finite() && (mean - value).abs() < 1e-12,
            "{mean} {value}"
        );
        for answers in [[[1.0, 1.0], [1.0, 1.0]], [[1.0, 2.0], [f32::NAN, 1.0]]] {
            let (mean, value) = last(answers);
            assert!(mean.is_nan() && value.is_nan(), "{mean} {value}");
        }
    }
}
