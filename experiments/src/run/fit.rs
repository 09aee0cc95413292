//! Trains a model of a run: the settings of a recipe become a stage.

use std::{path::Path, sync::Arc};

use burn::{
    data::dataloader::DataLoader,
    train::{
        MetricEarlyStoppingStrategy, StoppingCondition,
        metric::{
            Metric,
            store::{Aggregate, Direction, Split},
        },
    },
};
use distill::{
    Adam, Batch, Epoch, Fitted, Names, Schedule, Stage, StageConfig, StageError, Trainable,
};

use super::{Progress, RunOptions};
use crate::{
    error::Error,
    interrupt::Stop,
    quiet::unless_quiet,
    recipe::{CheckpointRecipe, KeptEpoch, TrainRecipe},
};

/// One training of a run.
pub(super) struct Training<'a> {
    /// What a person reads, such as `seed 1 teacher`.
    pub label: &'a str,
    /// The folder of checkpoints and metrics.
    pub directory: &'a Path,
    /// The file that tells how far it is.
    pub progress: &'a Path,
    pub recipe: &'a TrainRecipe,
    /// The epoch after which it stops before its end.
    pub stop_after: Option<usize>,
    pub checkpoint: &'a CheckpointRecipe,
    pub seed: u64,
    /// The factor of the task's loss.
    pub task: f64,
    /// What stays as it is.
    pub freeze: &'a Names,
}

impl Training<'_> {
    /// A stage over these data; its methods and metrics are yet to be named.
    pub fn stage<M: Trainable>(
        self,
        options: &RunOptions,
        epoch: Epoch,
        train: Arc<dyn DataLoader<Batch<M>>>,
        dev: Arc<dyn DataLoader<Batch<M>>>,
    ) -> Stage<M> {
        let recipe = self.recipe;
        let mut config = StageConfig::new(self.directory, recipe.epochs, recipe.learning_rate);
        config.stop_after = self.stop_after;
        config.schedule = Schedule::Linear {
            warmup: recipe.warmup,
        };
        config.adam = Adam {
            weight_decay: recipe.weight_decay as f32,
            ..Adam::default()
        };
        config.seed = self.seed;
        config.accumulation = recipe.accumulate;
        config.clip_norm = (recipe.clip_norm > 0.0).then_some(recipe.clip_norm);
        config.task_weight = self.task;
        config.freeze = self.freeze.clone();
        config.checkpoint_every = self.checkpoint.every;
        config.ui = unless_quiet(options.ui);
        config.progress = Some(self.progress.to_owned());
        Stage::new(config, train, dev)
            .epoch(epoch)
            .label(self.label)
            .interrupter(options.stop.interrupter())
            .checkpoint_request(options.stop.checkpoint_request())
    }
}

/// Judges the epochs of a training by a metric of the validation: ends it when that is no longer getting
/// better, and keeps the best model, as the recipe says.
pub(super) fn judge_epochs<M: Trainable, Me: Metric>(
    stage: Stage<M>,
    recipe: &TrainRecipe,
    metric: &Me,
    better: Direction,
) -> Stage<M> {
    let stage = match recipe.keep {
        KeptEpoch::Last => stage,
        KeptEpoch::Best => stage.keep_best(metric, better),
    };
    match recipe.early_stopping {
        None => stage,
        Some(n_epochs) => stage.early_stopping(MetricEarlyStoppingStrategy::new(
            metric,
            Aggregate::Mean,
            better,
            Split::Valid,
            StoppingCondition::NoImprovementSince { n_epochs },
        )),
    }
}

/// Trains a learner, or goes on where a stop left it; returns it in evaluation form with what belongs to it.
pub(super) fn fit<M: Trainable>(
    stage: Stage<M>,
    learner: M,
    label: &str,
    progress: Progress,
    stop: &Stop,
) -> Result<Fitted<M>, Error> {
    match stage.fit(learner) {
        Ok(fitted) => {
            let Fitted { kept, epoch, .. } = &fitted;
            if kept != epoch {
                progress.say(&format!("{label}: kept the best epoch, {kept} of {epoch}"));
            }
            Ok(fitted)
        }
        Err(StageError::Interrupted { .. }) => Err(stop.error()),
        Err(error) => Err(error.into()),
    }
}
