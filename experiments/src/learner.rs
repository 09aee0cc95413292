//! BERT as a learner: the loss of each task, and what callbacks and metrics see.

pub mod language;

use burn::{
    module::{Module, Param},
    nn::loss::{CrossEntropyLossConfig, MseLoss, Reduction},
    prelude::*,
    tensor::ExecutionError,
    train::{
        ItemLazy,
        metric::{Adaptor, LossInput},
    },
};
use distill::{
    MethodError, Shape, Signals, Step, TaskLoss, Trainable, WithoutAutodiff,
    surgery::PartitionIntoExperts,
};
use masformer_core::{Keep, Mix, SpanAttention, Stack, Trace, linear::outputs};
use moebert_core::{
    adapt::{AdaptError, adapt},
    bert::BertInput,
    half::Half,
    heads::{BertModel, Head, Logits},
    layered::Layered,
    partition::ExpertLayout,
    router::RouterConfig,
};

use serde::{Deserialize, Serialize};

use crate::data::loader::{Targets, TaskBatch};

/// The score of a padded position in span question answering: its probability is zero in `f32`.
const NEVER: f32 = -1e4;

/// A model with the loss of its task.
#[derive(Module, Debug)]
pub struct TaskLearner {
    /// The model.
    pub model: BertModel,
}

/// What one batch gives to the metrics.
#[derive(Clone, Debug)]
pub struct TaskOutput {
    /// The task's loss `[1]`.
    pub loss: Tensor<1>,
    /// `[B, C]`, or start and end scores `[B, T]`.
    pub logits: Vec<Tensor<2>>,
    /// The right answers.
    pub targets: Targets,
}

impl TaskLearner {
    /// Runs the model and shows what callbacks compare.
    pub fn signals(&self, input: &BertInput, keep: Keep) -> Signals {
        let mut trace = Trace::new(keep);
        let output = self.model.forward(input, &mut trace);
        let logits = match output.logits {
            None => vec![],
            Some(Logits::Sequence(logits)) => vec![logits],
            Some(Logits::Span(logits)) => {
                let scores = |side: usize| {
                    let scores = logits.clone().slice_dim(2, side..=side).squeeze_dim::<2>(2);
                    match &input.padding {
                        Some(padding) => scores.mask_fill(padding.clone(), NEVER),
                        None => scores,
                    }
                };
                vec![scores(0), scores(1)]
            }
        };
        Signals {
            trace,
            logits,
            task: None,
            padding: input.padding.clone(),
            losses: input.input_ids.dims()[0],
        }
    }
}

/// The mean loss over the samples: cross entropy; squared error for regression; the mean of start and
/// end for span question answering.
fn loss(logits: &[Tensor<2>], targets: &Targets) -> Tensor<1> {
    let cross_entropy = |logits: &Tensor<2>, classes: &Tensor<1, Int>| {
        CrossEntropyLossConfig::new()
            .init(&logits.device())
            .forward(logits.clone(), classes.clone())
    };
    match targets {
        Targets::Classes(classes) => cross_entropy(&logits[0], classes),
        Targets::Scores(scores) => {
            let prediction = logits[0].clone().squeeze_dim::<1>(1);
            MseLoss::new().forward(prediction, scores.clone(), Reduction::Mean)
        }
        Targets::Spans { start, end } => {
            (cross_entropy(&logits[0], start) + cross_entropy(&logits[1], end)) / 2.0
        }
    }
}

impl Trainable for TaskLearner {
    type Batch = TaskBatch;
    type Output = TaskOutput;

    fn shape(&self) -> Shape {
        shape(&self.model, self.model.head_kind())
    }

    fn forward_step(&self, batch: TaskBatch, keep: Keep) -> Step<TaskOutput> {
        let mut signals = self.signals(&batch.input, keep);
        // A run refuses splits without labels before it trains or validates on them.
        let targets = batch
            .targets
            .expect("training and validation data have labels");
        let answers = targets.clone();
        let task = TaskLoss::new(move |logits| loss(logits, &answers));
        let loss = task.of(&signals.logits);
        signals.task = Some(task);
        Step {
            output: TaskOutput {
                loss: loss.clone(),
                logits: signals.logits.clone(),
                targets,
            },
            loss,
            signals,
        }
    }
}

impl ItemLazy for TaskOutput {
    fn sync(self) -> Result<Self, ExecutionError> {
        self.loss.device().flush()?;
        Ok(Self {
            loss: self.loss.without_autodiff(),
            logits: self
                .logits
                .into_iter()
                .map(Tensor::without_autodiff)
                .collect(),
            targets: self.targets.without_autodiff(),
        })
    }
}

impl Adaptor<LossInput> for TaskOutput {
    fn adapt(&self) -> LossInput {
        LossInput::new(self.loss.clone())
    }
}

impl WithoutAutodiff for Targets {
    fn without_autodiff(&self) -> Self {
        match self.clone() {
            Self::Classes(classes) => Self::Classes(classes.without_autodiff()),
            Self::Scores(scores) => Self::Scores(scores.without_autodiff()),
            Self::Spans { start, end } => Self::Spans {
                start: start.without_autodiff(),
                end: end.without_autodiff(),
            },
        }
    }
}

impl WithoutAutodiff for TaskBatch {
    fn without_autodiff(&self) -> Self {
        let input = self.input.clone();
        Self {
            input: BertInput {
                input_ids: input.input_ids.without_autodiff(),
                token_type_ids: input.token_type_ids.without_autodiff(),
                padding: input.padding.map(Tensor::without_autodiff),
            },
            targets: self.targets.as_ref().map(WithoutAutodiff::without_autodiff),
            indices: self.indices.clone(),
        }
    }
}

/// What objectives must know of a model.
fn shape(model: &impl Layered, head: Head) -> Shape {
    let layers = &model.stack().layers;
    let attention = layers.iter().find_map(|layer| layer.mixer.attention());
    Shape {
        layers: layers.len(),
        hidden: model.width(),
        heads: attention.map_or(0, SpanAttention::heads),
        key_value: attention.map_or(0, |attention| outputs(&attention.key)),
        head,
        is_causal: model.is_causal(),
    }
}

/// How a model is split into experts.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ExpertPlan {
    /// Which neurons each expert owns.
    pub layout: ExpertLayout,
    /// The routers.
    pub router: RouterConfig,
    /// Token counts of the training set, `V` entries; for `hash-balance` alone.
    pub token_counts: Option<Vec<u64>>,
}

impl ExpertPlan {
    /// The model with experts in place of its dense feed-forward halves.
    ///
    /// # Errors
    ///
    /// If the plan does not fit the model.
    pub fn split<M: Layered>(&self, model: M) -> Result<M, AdaptError> {
        let counts = self.token_counts.as_deref();
        adapt(model, &self.layout, &self.router, counts)
    }
}

impl PartitionIntoExperts for TaskLearner {
    type Layout = ExpertPlan;

    fn partition(self, plan: &ExpertPlan) -> Result<Self, MethodError> {
        Ok(plan.split(self)?)
    }
}

impl Layered for TaskLearner {
    fn stack(&self) -> &Stack<Half> {
        self.model.stack()
    }

    fn stack_mut(&mut self) -> &mut Stack<Half> {
        self.model.stack_mut()
    }

    fn embedding(&self) -> &Param<Tensor<2>> {
        self.model.embedding()
    }

    fn width(&self) -> usize {
        self.model.width()
    }

    fn is_causal(&self) -> bool {
        self.model.is_causal()
    }
}

#[cfg(test)]
mod tests {
    use distill::loss::{Padding, hidden::hidden_error};
    use masformer_core::Layers;
    use moebert_core::{
        bert::BertConfig,
        heads::{BertModelConfig, Head},
    };

    use super::*;

    /// How much the embeddings `[V]` of each token learn from hidden states and logits of the ids 2, 5,
    /// 3 and two positions of padding.
    fn learns(head: Head, padded: Padding) -> Vec<f32> {
        let device = Device::flex().autodiff();
        let bert = BertConfig::new()
            .with_vocab_size(7)
            .with_hidden_size(8)
            .with_num_hidden_layers(2)
            .with_num_attention_heads(2)
            .with_intermediate_size(12)
            .with_max_position_embeddings(6)
            .with_hidden_dropout_prob(0.0)
            .with_attention_probs_dropout_prob(0.0)
            .with_initializer_range(0.5);
        let model = BertModelConfig::new(bert, head).init(&device);
        let learner = TaskLearner { model };
        let input_ids = Tensor::<2, Int>::from_data([[2, 5, 3, 0, 0]], &device);
        let padding = Tensor::from_data([[false, false, false, true, true]], &device);
        let input = BertInput {
            token_type_ids: input_ids.zeros_like(),
            input_ids,
            padding: Some(padding),
        };
        let keep = Keep {
            hidden: Layers::All,
            ..Keep::default()
        };
        let signals = learner.signals(&input, keep);
        let targets = Targets::Spans {
            start: Tensor::from_data([1], &device),
            end: Tensor::from_data([2], &device),
        };
        let start = match head {
            Head::SpanQa => loss(&signals.logits, &targets),
            _ => signals.logits[0].clone().square().sum(),
        };
        let states = signals.trace.hidden.into_values();
        let sum = states.fold(start, |sum, state| {
            let teacher = state.zeros_like();
            sum + hidden_error(state, teacher, signals.padding.as_ref(), padded)
        });
        let weight = learner.model.bert.embeddings.word.weight.val();
        let gradient = weight.grad(&sum.backward()).unwrap();
        gradient.abs().sum_dim(1).into_data().iter().collect()
    }

    #[test]
    fn the_embedding_of_padding_learns_only_where_padding_is_distilled() {
        for head in [Head::Classification { classes: 2 }, Head::SpanQa] {
            let without = learns(head, Padding::Exclude);
            assert_eq!(without[0].to_bits(), 0, "{without:?}");
            assert!(without[5] > 0.0, "{without:?}");
            let with = learns(head, Padding::Include);
            assert!(with[0] > 0.0, "{with:?}");
        }
    }
}
