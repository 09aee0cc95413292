//! How a stage trains.

use std::path::PathBuf;

use crate::{Adam, CheckpointEvery, Names, Schedule, StageError, Ui};

/// How a stage trains and where it writes.
#[derive(Clone, Debug)]
pub struct StageConfig {
    /// Checkpoints, metrics and the log go here; the stage owns the folder.
    pub directory: PathBuf,
    /// Passes over the training data.
    pub epochs: usize,
    /// The epoch, from 1 to `epochs`, after which the training stops before its end; none: it goes on to the end. Learning
    /// rate and methods follow the training of all epochs, and a stage in the same folder that stops later goes on with it:
    /// the result is that of a training that never stopped.
    pub stop_after: Option<usize>,
    /// The highest learning rate.
    pub learning_rate: f64,
    /// How the learning rate changes.
    pub schedule: Schedule,
    /// The optimiser.
    pub adam: Adam,
    /// What dropout and other draws of each batch follow from.
    pub seed: u64,
    /// Batches whose gradients are averaged for one optimiser step.
    pub accumulation: usize,
    /// The norm that the gradient of all parameters together is clipped to.
    pub clip_norm: Option<f64>,
    /// When checkpoints are written besides those at the ends of epochs. Results do not depend on it.
    pub checkpoint_every: CheckpointEvery,
    /// The factor of the task's own loss; 0 leaves it out.
    pub task_weight: f64,
    /// Parts of the model that are not trained.
    pub freeze: Names,
    /// What a person sees.
    pub ui: Ui,
    /// The file that tells how far the training is ([`Progress`](crate::Progress)), replaced every two seconds at most.
    pub progress: Option<PathBuf>,
    /// Optimiser steps between two lines of a training metric in `metrics.jsonl`.
    pub log_every: usize,
}

impl StageConfig {
    /// A stage with a linear decay of the learning rate, Adam without weight decay, clipping at 1
    /// and a checkpoint every ten minutes.
    pub fn new(directory: impl Into<PathBuf>, epochs: usize, learning_rate: f64) -> Self {
        Self {
            directory: directory.into(),
            epochs,
            stop_after: None,
            learning_rate,
            schedule: Schedule::default(),
            adam: Adam::default(),
            seed: 42,
            accumulation: 1,
            clip_norm: Some(1.0),
            task_weight: 1.0,
            freeze: Names::default(),
            checkpoint_every: CheckpointEvery::default(),
            ui: Ui::default(),
            progress: None,
            log_every: 10,
        }
    }

    /// The last epoch that is run, unless early stopping ends the training before.
    pub(crate) fn last_epoch(&self) -> usize {
        self.stop_after.unwrap_or(self.epochs)
    }

    /// Refuses settings that cannot work.
    ///
    /// # Errors
    ///
    /// [`StageError::Config`] for the first of them.
    pub fn validate(&self) -> Result<(), StageError> {
        let positive = "a positive number";
        let counts = [
            ("epochs", self.epochs),
            ("accumulation", self.accumulation),
            ("log_every", self.log_every),
        ];
        for (key, value) in counts {
            check(key, value, value > 0, "at least 1")?;
        }
        if let Some(last) = self.stop_after {
            let is_within = (1..=self.epochs).contains(&last);
            check("stop_after", last, is_within, "from 1 to `epochs`")?;
        }
        let rate = self.learning_rate;
        check(
            "learning_rate",
            rate,
            rate > 0.0 && rate.is_finite(),
            positive,
        )?;
        if let Some(norm) = self.clip_norm {
            check("clip_norm", norm, norm > 0.0, positive)?;
        }
        let task = self.task_weight;
        let rule = "0 or more";
        check("task_weight", task, task >= 0.0 && task.is_finite(), rule)?;
        if let Schedule::Linear { warmup } = self.schedule {
            check(
                "warmup",
                warmup,
                (0.0..1.0).contains(&warmup),
                "from 0 to below 1",
            )?;
        }
        let Adam {
            beta_1,
            beta_2,
            epsilon,
            weight_decay,
        } = self.adam;
        let share = "from 0 to below 1";
        check("beta_1", beta_1, (0.0..1.0).contains(&beta_1), share)?;
        check("beta_2", beta_2, (0.0..1.0).contains(&beta_2), share)?;
        check("epsilon", epsilon, epsilon > 0.0, positive)?;
        check("weight_decay", weight_decay, weight_decay >= 0.0, rule)
    }
}

pub(super) fn check(
    key: &'static str,
    value: impl ToString,
    right: bool,
    rule: &'static str,
) -> Result<(), StageError> {
    if right {
        return Ok(());
    }
    let value = value.to_string();
    Err(StageError::Config { key, value, rule })
}
