//! The seam through which methods take part in training: callbacks and the models that offer it.

use burn::{
    optim::GradientsParams,
    prelude::*,
    tensor::Gradients,
    train::{Interrupter, LearnerModel, TrainStep, metric::store::EventStoreClient},
};
use masformer_core::{Keep, Trace};
use serde_json::Value;

/// The batch type of a model.
pub type Batch<M> = <M as TrainStep>::Input;
/// What a model hands to the metrics.
pub type Output<M> = <M as TrainStep>::Output;
/// Any error of a callback; the stage adds the callback's name.
pub type CallbackError = Box<dyn std::error::Error + Send + Sync>;

/// A model whose training step is split: it computes the loss, the stage goes back through it.
///
/// `TrainStep::step` is `let step = self.forward_step(batch, Keep::default());
/// TrainOutput::new(self, step.loss.backward(), step.output)`; a stage never calls it.
pub trait CallbackModel: LearnerModel + TrainStep<Input: Clone> {
    /// Runs the forward pass and the loss of one batch.
    fn forward_step(&self, batch: Batch<Self>, keep: Keep) -> Step<Output<Self>>;
}

/// The forward half of one training step.
#[derive(Debug)]
pub struct Step<O> {
    /// The loss `[1]`, the mean over the samples. Callbacks add their terms to it.
    pub loss: Tensor<1>,
    /// What the metrics see; it shows the model's own loss, without the callbacks' terms.
    pub output: O,
    /// What callbacks and teachers look at.
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

/// Where a student's targets come from: a teacher, or stored signals.
pub trait SignalSource<B>: Send {
    /// The signals for a batch; they carry no gradients.
    fn signals(&self, batch: &B, keep: Keep) -> Signals;
}

/// Where in the training a callback is called.
#[derive(Clone, Copy)]
pub struct Context<'a> {
    /// The epoch, from 1.
    pub epoch: usize,
    /// How many epochs there will be.
    pub epochs: usize,
    /// Batches of this epoch that were begun.
    pub iteration: usize,
    /// Optimiser steps taken in the whole training.
    pub step: usize,
    /// The share of the training that is done, from 0 to 1, by the samples of those steps.
    pub done: f64,
    /// The learning rate of the latest optimiser step.
    pub learning_rate: f64,
    /// Stops the training when asked to.
    pub interrupter: &'a Interrupter,
    /// The metrics so far; those of an epoch are there in `on_validation_end`.
    pub store: &'a EventStoreClient,
}

/// A method that takes part in training.
///
/// Callbacks run in rising [`order`](Self::order); those of one order as they were given. An error
/// of any of them stops the training and comes back from `Stage::fit`.
#[allow(unused_variables)]
pub trait Callback<M: CallbackModel>: Send {
    /// A name that is unique in a stage; the saved state goes by it.
    fn name(&self) -> &str;

    /// Its place among the callbacks: lower runs first.
    fn order(&self) -> i32 {
        0
    }

    /// Before the learner is made: may return a model of another structure.
    ///
    /// After a stop this runs again, with the state already restored, and must lead to the same
    /// structure; the saved parameters are loaded afterwards.
    ///
    /// # Errors
    ///
    /// Whatever keeps the method from starting.
    fn before_fit(&mut self, model: M) -> Result<M, CallbackError> {
        Ok(model)
    }

    /// Which intermediates the forward passes should keep.
    fn keep(&self) -> Keep {
        Keep::default()
    }

    /// Before the first batch of an epoch.
    ///
    /// # Errors
    ///
    /// Stops the training.
    fn on_epoch_start(&mut self, context: &Context, model: &M) -> Result<(), CallbackError> {
        Ok(())
    }

    /// Before the forward pass: may change the batch.
    ///
    /// # Errors
    ///
    /// Stops the training.
    fn before_forward(
        &mut self,
        context: &Context,
        model: &M,
        batch: &mut Batch<M>,
    ) -> Result<(), CallbackError> {
        Ok(())
    }

    /// Whether [`after_forward`](Self::after_forward) adds to the loss. If any callback does, the
    /// stage shows the sum as `Total loss`, beside the loss of the model alone.
    fn adds_to_loss(&self) -> bool {
        false
    }

    /// After the forward pass: may add to the loss.
    ///
    /// # Errors
    ///
    /// Stops the training.
    fn after_forward(
        &mut self,
        context: &Context,
        model: &M,
        batch: &Batch<M>,
        step: &mut Step<Output<M>>,
    ) -> Result<(), CallbackError> {
        Ok(())
    }

    /// After the backward pass of one batch: may change the gradients of parameters and activations.
    ///
    /// # Errors
    ///
    /// Stops the training.
    fn after_backward(
        &mut self,
        context: &Context,
        model: &M,
        gradients: &mut Gradients,
    ) -> Result<(), CallbackError> {
        Ok(())
    }

    /// Before the optimiser's step: may change the parameters' gradients, which are averaged over
    /// the accumulated batches and not clipped yet.
    ///
    /// # Errors
    ///
    /// Stops the training.
    fn before_optimizer(
        &mut self,
        context: &Context,
        model: &M,
        gradients: &mut GradientsParams,
    ) -> Result<(), CallbackError> {
        Ok(())
    }

    /// After the optimiser's step: may return a model of the same structure to go on with.
    ///
    /// The optimiser's state goes by parameter ids, so parameters should keep theirs.
    ///
    /// # Errors
    ///
    /// Stops the training.
    fn after_optimizer(
        &mut self,
        context: &Context,
        model: &M,
    ) -> Result<Option<M>, CallbackError> {
        Ok(None)
    }

    /// After the last batch of an epoch, before validation.
    ///
    /// # Errors
    ///
    /// Stops the training.
    fn on_epoch_end(&mut self, context: &Context, model: &M) -> Result<(), CallbackError> {
        Ok(())
    }

    /// After validation and before the checkpoint: `context.store` knows the epoch's metrics. The
    /// model is in evaluation form.
    ///
    /// # Errors
    ///
    /// Stops the training.
    fn on_validation_end(&mut self, context: &Context, model: &M) -> Result<(), CallbackError> {
        Ok(())
    }

    /// After the training, on the model in evaluation form: may change it in any way.
    ///
    /// # Errors
    ///
    /// Comes back from `Stage::fit`.
    fn after_fit(&mut self, model: M) -> Result<M, CallbackError> {
        Ok(model)
    }

    /// What a checkpoint must remember of this callback; `Null` for nothing.
    fn state(&self) -> Value {
        Value::Null
    }

    /// Takes back what [`state`](Self::state) gave; called before [`before_fit`](Self::before_fit).
    ///
    /// # Errors
    ///
    /// If the state does not fit this callback.
    fn load_state(&mut self, state: Value) -> Result<(), CallbackError> {
        Ok(())
    }
}
