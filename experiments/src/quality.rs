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

/// While an epoch runs, the metric is shown over so many latest answers.
const WINDOW: usize = 2048;

/// A metric of the answers of an epoch. For question answering it counts both ends of an answer.
#[derive(Clone)]
pub struct Quality {
    name: MetricName,
    metric: Metric,
    answers: Vec<Label>,
    references: Vec<Label>,
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
            state: NumericMetricState::new(),
        }
    }

    /// The metric over the answers from `start` on; 0 where it has no value.
    fn score(&self, start: usize) -> f64 {
        self.metric
            .score(&self.answers[start..], &self.references[start..])
            .unwrap_or_default()
    }

    /// Shows a value, unweighted: it is the metric of many answers already.
    fn show(&mut self, value: f64) {
        self.state.reset();
        self.state.update(value, 1);
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
        _: &MetricMetadata,
    ) -> Result<SerializedEntry, TensorReadError> {
        self.answers.extend(&batch.answers);
        self.references.extend(&batch.references);
        self.show(self.score(self.answers.len().saturating_sub(WINDOW)));
        Ok(self.state.compute_update(self.format()))
    }

    fn compute(&mut self) -> Result<SerializedEntry, TensorReadError> {
        self.show(self.score(0));
        Ok(self.state.compute_final(self.format()))
    }

    fn clear(&mut self) {
        self.answers.clear();
        self.references.clear();
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
        NumericEntry::Final(self.score(0))
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
                rows.map(|(row, like)| answer(row, *like))
                    .collect::<Vec<_>>()
            });
        Answered {
            answers: answers.collect(),
            references: references.concat(),
        }
    }
}
