//! A model in training: what a stage asks of it, and what its forward pass shows.

use burn::{
    module::{Module, ModuleDisplay},
    prelude::*,
    train::ItemLazy,
};
use masformer_core::{Keep, Trace};

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

/// Sizes of a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Layers `L`.
    pub layers: usize,
    /// Width `D` of the hidden states.
    pub hidden: usize,
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
    /// question answering, none without a head.
    pub logits: Vec<Tensor<2>>,
    /// Padding `[B, T]`, true where a position is padding; `None` where there is none.
    pub padding: Option<Tensor<2, Bool>>,
    /// How many losses the loss of the step is the mean of: one for each sample, and of a language model one for each
    /// token.
    pub losses: usize,
}
