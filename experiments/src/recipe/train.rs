//! `[train]` and `[checkpoint]`: how models are trained.

use distill::CheckpointEvery;
use serde::{Deserialize, Serialize};

/// `[train]`: optimisation by Adam with decoupled weight decay.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TrainRecipe {
    /// Passes over the training data; with 0, a model is judged as it is. Default 3.
    pub epochs: usize,
    /// Examples a step and device batch. Default 32.
    pub batch_size: usize,
    /// Peak learning rate; it falls linearly to zero. Default 2e-5.
    pub learning_rate: f64,
    /// Weight decay. Default 0.
    pub weight_decay: f64,
    /// Share of all steps in which the learning rate rises linearly from zero, 0 to below 1.
    /// Default 0.
    pub warmup: f64,
    /// Largest global norm of the gradients; 0 leaves them as they are. Default 1.
    pub clip_norm: f64,
    /// Batches whose gradients are averaged before a step. Default 1.
    pub accumulate: usize,
    /// Stop after this many epochs without a better score. Absent: train all epochs.
    pub early_stopping: Option<usize>,
    /// Which epoch's model is kept: the `last` (default), or the `best` by the score that
    /// `early_stopping` follows.
    pub keep: KeptEpoch,
}

/// The epoch whose model a training leaves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum KeptEpoch {
    /// The last one.
    #[default]
    Last,
    /// The one with the best score on the development data; of equal ones the earlier.
    Best,
}

impl Default for TrainRecipe {
    fn default() -> Self {
        Self {
            epochs: 3,
            batch_size: 32,
            learning_rate: 2e-5,
            weight_decay: 0.0,
            warmup: 0.0,
            clip_norm: 1.0,
            accumulate: 1,
            early_stopping: None,
            keep: KeptEpoch::default(),
        }
    }
}

impl TrainRecipe {
    /// These settings with `overrides` on top.
    pub fn with(&self, overrides: &TrainOverrides) -> Self {
        Self {
            epochs: overrides.epochs.unwrap_or(self.epochs),
            batch_size: overrides.batch_size.unwrap_or(self.batch_size),
            learning_rate: overrides.learning_rate.unwrap_or(self.learning_rate),
            weight_decay: overrides.weight_decay.unwrap_or(self.weight_decay),
            warmup: overrides.warmup.unwrap_or(self.warmup),
            clip_norm: overrides.clip_norm.unwrap_or(self.clip_norm),
            accumulate: overrides.accumulate.unwrap_or(self.accumulate),
            early_stopping: overrides.early_stopping.or(self.early_stopping),
            keep: overrides.keep.unwrap_or(self.keep),
        }
    }
}

/// `[checkpoint]`: when a training writes a checkpoint besides those at the ends of epochs and where it is stopped.
/// Results do not depend on it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CheckpointRecipe {
    /// A time or a number of optimiser steps, such as `30s`, `10min`, `2h` or `500 steps`. Default `10min`.
    pub every: CheckpointEvery,
}

/// A program that a training is written for while it goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Tracking {
    /// TensorBoard: event files below `RUN/tensorboard`.
    Tensorboard,
}

/// `train` of a stage: any keys of `[train]`, for that stage only.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TrainOverrides {
    /// See [`TrainRecipe::epochs`].
    pub epochs: Option<usize>,
    /// See [`TrainRecipe::batch_size`].
    pub batch_size: Option<usize>,
    /// See [`TrainRecipe::learning_rate`].
    pub learning_rate: Option<f64>,
    /// See [`TrainRecipe::weight_decay`].
    pub weight_decay: Option<f64>,
    /// See [`TrainRecipe::warmup`].
    pub warmup: Option<f64>,
    /// See [`TrainRecipe::clip_norm`].
    pub clip_norm: Option<f64>,
    /// See [`TrainRecipe::accumulate`].
    pub accumulate: Option<usize>,
    /// See [`TrainRecipe::early_stopping`].
    pub early_stopping: Option<usize>,
    /// See [`TrainRecipe::keep`].
    pub keep: Option<KeptEpoch>,
}
