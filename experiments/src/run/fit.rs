//! Trains a model of a run: the settings of a recipe become a stage.

use std::{path::Path, sync::Arc};

use burn::train::{
    MetricEarlyStoppingStrategy, StoppingCondition,
    metric::{
        LossMetric,
        store::{Aggregate, Direction, Split},
    },
};
use distill::{Adam, Callback, Epoch, Gauge, Schedule, Stage, StageConfig, StageError};

use super::prepare::Prepared;
use crate::{
    data::{DataError, loader::GroupedLoader},
    error::Error,
    learner::TaskLearner,
    quality::Quality,
    recipe::TrainRecipe,
};

/// One training of a run.
pub(super) struct Training<'a> {
    /// What a person reads, such as `seed 1 teacher`.
    pub label: String,
    /// The folder of checkpoints and metrics.
    pub directory: &'a Path,
    pub recipe: TrainRecipe,
    pub seed: u64,
    pub callbacks: Vec<Box<dyn Callback<TaskLearner>>>,
    pub gauges: Vec<Gauge>,
}

impl Training<'_> {
    /// Trains a learner, or goes on where a stop left it; returns it in evaluation form.
    pub fn fit(self, run: &Prepared<'_>, learner: TaskLearner) -> Result<TaskLearner, Error> {
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
        config.ui = run.options.ui;

        let device = &run.options.device;
        let pad = run.tokenizer.pad_id();
        let epoch = Epoch::default();
        let train = run.train.features.clone();
        let batch_size = recipe.batch_size;
        let train =
            GroupedLoader::shuffled(train, batch_size, pad, self.seed, epoch.clone(), device);
        let dev = run.dev[0].0.features.clone();
        let dev = GroupedLoader::sorted(dev, batch_size, pad, device);
        let quality = Quality::new(run.recipe.data.task.progress_metric());
        let mut stage = Stage::<TaskLearner>::new(
            config,
            Arc::new(train.map_err(DataError::from)?),
            Arc::new(dev.map_err(DataError::from)?),
        )
        .epoch(epoch)
        .label(&self.label)
        .metrics((LossMetric::new(), quality.clone()))
        .interrupter(run.options.stop.interrupter())
        .callbacks(self.callbacks);
        for gauge in self.gauges {
            stage = stage.gauge(gauge);
        }
        if let Some(n_epochs) = recipe.early_stopping {
            stage = stage.early_stopping(MetricEarlyStoppingStrategy::new(
                &quality,
                Aggregate::Mean,
                Direction::Highest,
                Split::Valid,
                StoppingCondition::NoImprovementSince { n_epochs },
            ));
        }
        match stage.fit(learner) {
            Ok(fitted) => Ok(fitted.model),
            Err(StageError::Interrupted { .. }) => Err(Error::Stopped),
            Err(error) => Err(error.into()),
        }
    }
}
