//! Scores how much the loss depends on each feed-forward neuron.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use burn::{data::dataloader::DataLoader, tensor::Gradients};
use masformer_core::Keep;
use serde_json::Value;

use crate::{Batch, Callback, CallbackError, CallbackModel, Signals};

/// What sums up the scores of neurons over batches.
pub trait NeuronImportance: Send {
    /// Adds a batch, from its probes and the gradients of the *summed* loss of its samples.
    ///
    /// # Errors
    ///
    /// If the batch does not fit the scores.
    fn add(&mut self, signals: &Signals, gradients: &Gradients) -> Result<(), CallbackError>;
}

/// Scores a model over all batches of a loader: dropout off, one backward pass a batch.
///
/// The model must be on an autodiff device, or is brought there; its parameters take no part in the
/// backward passes, only the probes do. `progress` is told how many of how many samples are done.
///
/// # Errors
///
/// If a batch cannot be read, the loss depends on no probe, or the scores refuse a batch.
pub fn score<M: CallbackModel>(
    model: &M,
    loader: &dyn DataLoader<Batch<M>>,
    scores: &mut dyn NeuronImportance,
    mut progress: impl FnMut(usize, usize),
) -> Result<(), CallbackError> {
    // Autodiff for the probes' sake; freezing turns dropout off and leaves the probes alone.
    let model = model.clone().train().freeze();
    let device = model.devices().into_iter().next().unwrap_or_default();
    let loader = loader.to_device(&device.autodiff());
    let samples = loader.num_items();
    let keep = Keep {
        probes: true,
        ..Keep::default()
    };
    let mut batches = loader.iter();
    while let Some(batch) = batches.next() {
        let step = model.forward_step(batch.map_err(|error| error.to_string())?, keep);
        if !step.loss.is_tracked() {
            return Err("the loss depends on no probe; does the model keep them?".into());
        }
        // The scores take the absolute value for each sample, so the batch must not be averaged.
        let sum = step.loss.mul_scalar(step.signals.samples as f64);
        scores.add(&step.signals, &sum.backward())?;
        progress(batches.progress().items_processed, samples);
    }
    Ok(())
}

/// Scores the model's neurons before the training.
///
/// A stage that goes on from a checkpoint does not score again: what was made of the scores is part
/// of the checkpoint. The scores are then as they were given.
pub struct ImportanceScores<M: CallbackModel, I> {
    loader: Arc<dyn DataLoader<Batch<M>>>,
    scores: Scores<I>,
    scored: bool,
}

/// Scores shared between the callback that computes them and those that use them.
pub struct Scores<I>(Arc<Mutex<I>>);

impl<I> Clone for Scores<I> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<I> Scores<I> {
    /// Locks the scores.
    pub fn lock(&self) -> MutexGuard<'_, I> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<M: CallbackModel, I: NeuronImportance> ImportanceScores<M, I> {
    /// Adds the scores over all batches of a loader to `scores`.
    pub fn new(loader: Arc<dyn DataLoader<Batch<M>>>, scores: I) -> Self {
        Self {
            loader,
            scores: Scores(Arc::new(Mutex::new(scores))),
            scored: false,
        }
    }

    /// A handle on the scores.
    pub fn scores(&self) -> Scores<I> {
        self.scores.clone()
    }
}

impl<M: CallbackModel, I: NeuronImportance> Callback<M> for ImportanceScores<M, I> {
    fn name(&self) -> &'static str {
        "importance-scores"
    }

    /// Before the callbacks that use the scores.
    fn order(&self) -> i32 {
        -20
    }

    fn before_fit(&mut self, model: M) -> Result<M, CallbackError> {
        if !self.scored {
            score(&model, &*self.loader, &mut *self.scores.lock(), |_, _| {})?;
            self.scored = true;
        }
        Ok(model)
    }

    fn state(&self) -> Value {
        Value::Bool(self.scored)
    }

    fn load_state(&mut self, state: Value) -> Result<(), CallbackError> {
        self.scored = serde_json::from_value(state)?;
        Ok(())
    }
}
