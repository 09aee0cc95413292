//! A model in training: what a stage asks of it, and what its forward pass shows.

use std::{fmt, sync::Arc};

use burn::{
    module::{Module, ModuleDisplay},
    prelude::*,
    train::ItemLazy,
};
use masformer_core::{Keep, Trace};
use moebert_core::heads::Head;

use crate::MethodError;

/// The batch type of a model.
pub type Batch<M> = <M as Trainable>::Batch;
/// What a model hands to the metrics.
pub type Output<M> = <M as Trainable>::Output;

/// A model that knows the loss of its task.
pub trait Trainable: Module + ModuleDisplay + 'static {
    /// A batch of samples with their targets.
    type Batch: Clone + Send + 'static;
    /// What metrics see of a batch, in training and in validation.
    type Output: ItemLazy + 'static;

    /// Runs the forward pass and the loss of one batch. The stage runs the backward pass.
    fn forward_step(&self, batch: Self::Batch, keep: Keep) -> Step<Self::Output>;

    /// The sizes that objectives make their own weights by.
    fn shape(&self) -> Shape;
}

/// What objectives must know of a model before its first batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Layers `L`.
    pub layers: usize,
    /// Width `D` of the hidden states.
    pub hidden: usize,
    /// Attention heads `H`.
    pub heads: usize,
    /// Width `G d` of keys and values: `D`, or less where heads share them.
    pub key_value: usize,
    /// What it predicts.
    pub head: Head,
    /// Whether a token sees those before it alone.
    pub is_causal: bool,
}

impl Shape {
    /// Refuses a teacher of another width, for objectives that compare hidden states as they are.
    ///
    /// # Errors
    ///
    /// If the widths differ.
    pub fn check_width(&self, teacher: &Self) -> Result<(), MethodError> {
        let (own, other) = (self.hidden, teacher.hidden);
        if own == other {
            return Ok(());
        }
        Err(format!("hidden states of the student are {own} wide and those of the teacher {other}; they must be equal").into())
    }
}

/// The loss of a batch's task as a function of logits, for objectives that make predictions of their own.
#[derive(Clone)]
pub struct TaskLoss(Arc<Loss>);

type Loss = dyn Fn(&[Tensor<2>]) -> Tensor<1> + Send + Sync;

impl TaskLoss {
    /// The loss `[1]`, the mean over the samples, of logits in the form of [`Signals::logits`].
    pub fn new(loss: impl Fn(&[Tensor<2>]) -> Tensor<1> + Send + Sync + 'static) -> Self {
        Self(Arc::new(loss))
    }

    /// The loss `[1]` of these logits.
    pub fn of(&self, logits: &[Tensor<2>]) -> Tensor<1> {
        (self.0)(logits)
    }
}

impl fmt::Debug for TaskLoss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TaskLoss")
    }
}

/// The forward half of one training step.
#[derive(Debug)]
pub struct Step<O> {
    /// The loss of the task `[1]`, the mean over the samples.
    pub loss: Tensor<1>,
    /// What the metrics see: the loss of the task, without the terms of objectives.
    pub output: O,
    /// What objectives compare.
    pub signals: Signals,
}

/// What a forward pass shows to those that compare or score it.
#[derive(Clone, Debug)]
pub struct Signals {
    /// The intermediates that were asked for.
    pub trace: Trace,
    /// One `[B, C]` for classification and regression (`C = 1`), two `[B, T]` (start, end) for span
    /// question answering, none without a head; of a language model one `[N, V]` at the positions that have a target,
    /// where [`Keep::logits`] asks for it.
    pub logits: Vec<Tensor<2>>,
    /// The loss of the task; `None` where its loss is no function of logits.
    pub task: Option<TaskLoss>,
    /// Padding `[B, T]`, true where a position is padding; `None` where there is none.
    pub padding: Option<Tensor<2, Bool>>,
    /// How many losses the loss of the step is the mean of: one for each sample, and of a language model one for each
    /// token.
    pub losses: usize,
}
