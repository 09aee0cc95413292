//! Scores how much the loss depends on each feed-forward neuron.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use burn::{data::dataloader::DataLoader, tensor::Gradients};
use masformer_core::{Keep, Layers};
use moebert_core::importance::Importance;
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

impl NeuronImportance for Importance {
    fn add(&mut self, signals: &Signals, gradients: &Gradients) -> Result<(), CallbackError> {
        Ok(self.add_batch(&signals.trace, gradients)?)
    }
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
    let model = model.valid().train().freeze();
    let device = model.devices().into_iter().next().unwrap_or_default();
    let loader = loader.to_device(&device.autodiff());
    let samples = loader.num_items();
    let keep = Keep {
        probes: Layers::All,
        ..Keep::default()
    };
    let mut batches = loader.iter();
    while let Some(batch) = batches.next() {
        let step = model.forward_step(batch.map_err(|error| error.to_string())?, keep.clone());
        if !step.loss.is_tracked() {
            return Err("the loss depends on no probe; does the model keep them?".into());
        }
        // The scores take the absolute value for each sample, so the batch must not be averaged.
        let sum = step.loss.mul_scalar(step.signals.losses as f64);
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

#[cfg(test)]
mod tests {
    use burn::prelude::*;

    use super::*;
    use crate::{
        Stage, StageConfig, Ui,
        toy::{Toy, ToyLoader, serial},
    };

    /// The definition: a backward pass for each sample, through the weights themselves.
    fn by_definition(model: &Toy, loader: &ToyLoader, samples: usize) -> Vec<Vec<f64>> {
        let mut scores = vec![Vec::new(); model.layers.len()];
        for sample in 0..samples {
            let step = model.forward_step(loader.batch(&[sample]), Keep::default());
            let gradients = step.loss.backward();
            for (layer, row) in model.layers.iter().zip(&mut scores) {
                let product = |weight: Tensor<2>, dim| {
                    let gradient = weight.grad(&gradients).unwrap();
                    (weight.inner() * gradient).sum_dim(dim).into_data()
                };
                let inner = product(layer.inner.weight.val(), 0);
                let outer = product(layer.outer.weight.val(), 1);
                let neurons = inner.iter::<f64>().zip(outer.iter::<f64>());
                row.resize(inner.num_elements(), 0.0);
                for (sum, (inner, outer)) in row.iter_mut().zip(neurons) {
                    *sum += (inner + outer).abs();
                }
            }
        }
        scores
    }

    #[test]
    fn scores_follow_the_definition_with_dropout_off() {
        let _turn = serial();
        let loader = ToyLoader::new(5, 2);
        let mut scores = Importance::new(2, 6);
        let mut seen = Vec::new();
        let progress = |done, all| seen.push((done, all));
        score(&Toy::new(2, 6, 0.5), &loader, &mut scores, progress).unwrap();
        assert_eq!(seen, [(2, 5), (4, 5), (5, 5)]);
        let expected = by_definition(&Toy::new(2, 6, 0.0), &loader, 5);
        let found = (0..2).flat_map(|layer| scores.scores(layer));
        for (found, expected) in found.map(f64::from).zip(expected.iter().flatten()) {
            assert!(
                (found - expected).abs() < 1e-5 * (1.0 + expected),
                "{found} {expected}"
            );
        }
        assert_eq!(scores.samples(), 5);
    }

    #[test]
    fn a_stage_scores_once() {
        let _turn = serial();
        let directory = tempfile::tempdir().unwrap();
        let scored = |epochs| {
            let config = StageConfig {
                ui: Ui::None,
                ..StageConfig::new(directory.path(), epochs, 0.01)
            };
            let loader = || ToyLoader::new(4, 2).shared();
            let importance = ImportanceScores::new(loader(), Importance::new(2, 3));
            let scores = importance.scores();
            let stage = Stage::new(config, loader(), loader()).callback(importance);
            stage.fit(Toy::new(2, 3, 0.1)).unwrap();
            scores.lock().samples()
        };
        assert_eq!(scored(1), 4);
        assert_eq!(scored(2), 0);
    }
}
