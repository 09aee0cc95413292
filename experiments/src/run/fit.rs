//! Trains a model of a run: the settings of a recipe become a stage.

use std::{path::Path, sync::Arc};

use burn::{
    data::dataloader::DataLoader,
    train::{
        MetricEarlyStoppingStrategy, StoppingCondition,
        metric::{
            LossMetric, Metric,
            store::{Aggregate, Direction, Split},
        },
    },
};
use distill::{
    Adam, Batch, Epoch, Fitted, Method, Schedule, Stage, StageConfig, StageError, Teacher,
    Trainable,
};

use super::{Progress, RunOptions, prepare::Prepared};
use crate::{
    data::{DataError, loader::GroupedLoader},
    error::Error,
    learner::TaskLearner,
    quality::Quality,
    recipe::{CheckpointRecipe, KeptEpoch, TrainRecipe},
};

/// One training of a run.
pub(super) struct Training<'a, M: Trainable> {
    /// What a person reads, such as `seed 1 teacher`.
    pub label: String,
    /// The folder of checkpoints and metrics.
    pub directory: &'a Path,
    pub recipe: TrainRecipe,
    pub checkpoint: CheckpointRecipe,
    pub seed: u64,
    /// The factor of the task's loss.
    pub task: f64,
    pub methods: Vec<Method<M>>,
}

impl<M: Trainable> Training<'_, M> {
    /// A stage over these data; its metrics are yet to be named.
    pub fn stage(
        self,
        options: &RunOptions,
        epoch: Epoch,
        train: impl DataLoader<Batch<M>> + 'static,
        dev: impl DataLoader<Batch<M>> + 'static,
    ) -> Stage<M> {
        let recipe = &self.recipe;
        let mut config = StageConfig::new(self.directory, recipe.epochs, recipe.learning_rate);
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
        config.checkpoint_every = self.checkpoint.every;
        config.ui = options.ui;
        Stage::new(config, Arc::new(train), Arc::new(dev))
            .epoch(epoch)
            .label(&self.label)
            .interrupter(options.stop.interrupter())
            .methods(self.methods)
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

/// Trains a learner, or goes on where a stop left it; returns it in evaluation form.
pub(super) fn fit<M: Trainable>(
    stage: Stage<M>,
    learner: M,
    label: &str,
    progress: Progress,
) -> Result<M, Error> {
    match stage.fit(learner) {
        Ok(fitted) => {
            let Fitted { kept, epoch, .. } = fitted;
            if kept != epoch {
                progress.say(&format!("{label}: kept the best epoch, {kept} of {epoch}"));
            }
            Ok(fitted.model)
        }
        Err(StageError::Interrupted { .. }) => Err(Error::Stopped),
        Err(error) => Err(error.into()),
    }
}

impl Training<'_, TaskLearner> {
    /// Trains on the task of a recipe of experts.
    pub fn fit(
        self,
        run: &Prepared<'_>,
        learner: TaskLearner,
        teacher: Option<Teacher<TaskLearner>>,
    ) -> Result<TaskLearner, Error> {
        let device = &run.options.device;
        let pad = run.tokenizer.pad_id();
        let epoch = Epoch::default();
        let train = run.train.features.clone();
        let batch_size = self.recipe.batch_size;
        let train =
            GroupedLoader::shuffled(train, batch_size, pad, self.seed, epoch.clone(), device)
                .map_err(DataError::from)?;
        let dev = run.dev[0].0.features.clone();
        let dev = GroupedLoader::sorted(dev, batch_size, pad, device).map_err(DataError::from)?;
        let quality = Quality::new(run.recipe.data.task.progress_metric());
        let (recipe, label) = (self.recipe.clone(), self.label.clone());
        let stage = self
            .stage(run.options, epoch, train, dev)
            .metrics((LossMetric::new(),))
            .valid_metric(quality.clone());
        let stage = match quality.by_batch() {
            Some(quality) => stage.train_metric(quality),
            None => stage,
        };
        let stage = match teacher {
            Some(teacher) => stage.teacher(teacher),
            None => stage,
        };
        let stage = judge_epochs(stage, &recipe, &quality, Direction::Highest);
        fit(stage, learner, &label, run.progress)
    }
}
