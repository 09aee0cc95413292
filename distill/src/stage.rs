//! The one entry point: a stage fits a model, writes checkpoints and goes on from them.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use burn::{
    data::dataloader::DataLoader,
    train::{
        InferenceStep, Interrupter, Learner, MetricEarlyStoppingStrategy, MetricRegistration,
        SupervisedTraining, TrainingStrategy,
        metric::{Metric, store::Direction},
    },
};

use crate::{
    Adam, Batch, Callback, CallbackModel, Checkpoints, Epoch, Gauge, Outcome, Schedule, StageError,
    Ui,
    best::{Best, Judge},
    callbacks::Callbacks,
    checkpoint::State,
    metric_log::{LogFailure, MetricLog, Pace},
    outcome::Ending,
    schedule::{Done, Scheduler},
    strategy::{CallbackStrategy, Settings},
};

/// How a stage trains and where it writes.
#[derive(Clone, Debug)]
pub struct StageConfig {
    /// Checkpoints, metrics and the log go here; the stage owns the folder.
    pub directory: PathBuf,
    /// Passes over the training data.
    pub epochs: usize,
    /// The highest learning rate.
    pub learning_rate: f64,
    /// How the learning rate changes.
    pub schedule: Schedule,
    /// The optimiser.
    pub adam: Adam,
    /// What dropout and other draws of each epoch follow from.
    pub seed: u64,
    /// Batches whose gradients are averaged for one optimiser step.
    pub accumulation: usize,
    /// The norm that the gradient of all parameters together is clipped to.
    pub clip_norm: Option<f64>,
    /// How many checkpoints stay.
    pub keep_checkpoints: usize,
    /// What a person sees.
    pub ui: Ui,
    /// Optimiser steps between two lines of a training metric in `metrics.jsonl`.
    pub log_every: usize,
}

impl StageConfig {
    /// A stage with a linear decay of the learning rate, Adam without weight decay, clipping at 1
    /// and one checkpoint.
    pub fn new(directory: impl Into<PathBuf>, epochs: usize, learning_rate: f64) -> Self {
        Self {
            directory: directory.into(),
            epochs,
            learning_rate,
            schedule: Schedule::default(),
            adam: Adam::default(),
            seed: 42,
            accumulation: 1,
            clip_norm: Some(1.0),
            keep_checkpoints: 1,
            ui: Ui::default(),
            log_every: 10,
        }
    }

    /// How metrics are written from the epoch and step of a checkpoint on.
    fn pace(&self, epoch: Option<usize>, step: usize) -> Pace {
        Pace {
            every: self.log_every,
            accumulation: self.accumulation,
            epoch: epoch.unwrap_or(0),
            step,
        }
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
            ("keep_checkpoints", self.keep_checkpoints),
            ("log_every", self.log_every),
        ];
        for (key, value) in counts {
            check(key, value, value > 0, "at least 1")?;
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
        check(
            "weight_decay",
            weight_decay,
            weight_decay >= 0.0,
            "0 or more",
        )
    }
}

fn check(
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

/// One training of one model, which can be stopped anywhere and run again.
///
/// The folder holds `checkpoints/epoch-N/`, `metrics.jsonl`, `experiment.log` and, once the stage
/// ended, `outcome.json`.
pub struct Stage<M: CallbackModel> {
    config: StageConfig,
    training: SupervisedTraining<M>,
    epoch: Epoch,
    interrupter: Interrupter,
    callbacks: Vec<Box<dyn Callback<M>>>,
    gauges: Vec<Gauge>,
    judge: Option<Judge>,
}

/// A model at the end of its stage.
#[derive(Debug)]
pub struct Fitted<M> {
    /// The model in evaluation form, without autodiff; `Module::train` brings it back.
    pub model: M,
    /// How the stage ended.
    pub outcome: Outcome,
    /// The last epoch that was run.
    pub epoch: usize,
    /// The epoch that the model is of: the last one, or the best.
    pub kept: usize,
    /// The epoch whose checkpoint this run went on from.
    pub resumed_from: Option<usize>,
}

impl<M: CallbackModel> Stage<M> {
    /// A stage over these data, which need not be on the model's device.
    pub fn new(
        config: StageConfig,
        train: Arc<dyn DataLoader<Batch<M>>>,
        valid: Arc<dyn DataLoader<<M as InferenceStep>::Input>>,
    ) -> Self {
        Self {
            training: SupervisedTraining::new(&config.directory, train, valid),
            config,
            epoch: Epoch::default(),
            interrupter: Interrupter::new(),
            callbacks: Vec::new(),
            gauges: Vec::new(),
            judge: None,
        }
    }

    /// The handle that the training loader reads the epoch from.
    pub fn epoch(mut self, epoch: Epoch) -> Self {
        self.epoch = epoch;
        self
    }

    /// The handle that stops the training from outside.
    pub fn interrupter(mut self, interrupter: Interrupter) -> Self {
        self.interrupter = interrupter;
        self
    }

    /// The name before the lines of progress.
    pub fn label(mut self, label: &str) -> Self {
        self.training = self.training.label(label);
        self
    }

    /// Metrics of training and validation, a tuple of up to six.
    pub fn metrics<Me: MetricRegistration<M>>(mut self, metrics: Me) -> Self {
        self.training = self.training.metrics(metrics);
        self
    }

    /// A number that callbacks show during the training.
    pub fn gauge(mut self, gauge: Gauge) -> Self {
        gauge.show();
        self.training = self.training.metric_train_numeric(gauge.clone());
        self.gauges.push(gauge);
        self
    }

    /// Ends the training when a metric no longer improves, also across a stop.
    pub fn early_stopping(mut self, strategy: MetricEarlyStoppingStrategy) -> Self {
        self.training = self.training.early_stopping(strategy);
        self
    }

    /// Returns the model of the epoch with the best value of a metric of the validation, also across a
    /// stop, and not that of the last epoch. Of equal epochs it is the earlier; one whose value is not
    /// finite is never the best.
    ///
    /// The metric must be among [`metrics`](Self::metrics). Epochs that were trained before this was
    /// asked for do not count: their models are gone.
    pub fn keep_best<Me: Metric>(mut self, metric: &Me, better: Direction) -> Self {
        self.judge = Some(Judge {
            metric: metric.name(),
            better,
        });
        self
    }

    /// Adds a callback.
    pub fn callback(mut self, callback: impl Callback<M> + 'static) -> Self {
        self.callbacks.push(Box::new(callback));
        self
    }

    /// Adds callbacks that are made elsewhere.
    pub fn callbacks(mut self, callbacks: impl IntoIterator<Item = Box<dyn Callback<M>>>) -> Self {
        self.callbacks.extend(callbacks);
        self
    }

    /// Trains the model from the newest whole checkpoint on, or from the start if there is none.
    ///
    /// A stage that ended returns its model at once.
    ///
    /// # Errors
    ///
    /// If a setting cannot work, a callback fails, a number stops being finite, a file cannot be
    /// written, the best epoch is asked for and there is none or its checkpoint is lost, or the training
    /// is interrupted. The checkpoints before that stay.
    pub fn fit(self, model: M) -> Result<Fitted<M>, StageError> {
        let Self {
            config,
            mut training,
            epoch,
            interrupter,
            callbacks,
            gauges,
            judge,
        } = self;
        config.validate()?;
        let directory = config.directory.as_path();
        create(directory)?;
        let checkpoints = Checkpoints::new(directory.join("checkpoints"), config.keep_checkpoints);
        let mut callbacks = Callbacks::new(callbacks)?;
        let resumed_from = checkpoints.latest()?;
        let mut state = match resumed_from {
            Some(epoch) => checkpoints.load_state(epoch)?,
            None => State::default(),
        };
        callbacks.load_states(std::mem::take(&mut state.callbacks))?;

        let Some(device) = model.devices().into_iter().next() else {
            return Err(StageError::Untrainable);
        };
        let device = device.autodiff();
        epoch.set(0);
        masformer_core::seed::seed(&device, epoch.seed(config.seed));
        let mut model = callbacks.fold(model, |callback, model| callback.before_fit(model))?;
        if let Some(epoch) = resumed_from {
            model = checkpoints.load_model(epoch, model)?;
        }

        let best = state.best.filter(|_| judge.is_some());
        if let Some(ending) = ended(directory, resumed_from, config.epochs)? {
            let last = fitted(model.valid(), ending, resumed_from);
            return finish(
                callbacks,
                or_best(last, judge.as_ref(), best, &checkpoints)?,
            );
        }
        if let Some(best) = best
            && Some(best.epoch) != resumed_from
        {
            // Not hours later, when it is needed.
            load_best(&checkpoints, best, model.clone())?;
        }

        // Surgery may leave parameters that are results of operations; optimisers need leaves.
        let model = model.valid().train();
        let mut optimizer = config.adam.init(&model);
        if let Some(epoch) = resumed_from {
            optimizer = optimizer.load_record(checkpoints.load_optimizer(epoch)?);
        }
        let done = Done::default();
        let scheduler = Scheduler {
            schedule: config.schedule,
            learning_rate: config.learning_rate,
            done: done.clone(),
        };
        let metrics_path = directory.join("metrics.jsonl");
        let log_failure = LogFailure::default();
        let pace = config.pace(resumed_from, state.step);
        let log = MetricLog::open(&metrics_path, pace, log_failure.clone())?;
        let gradient_norm = Gauge::new("Gradient norm");
        let total_loss = callbacks.add_to_loss().then(|| Gauge::new("Total loss"));
        let settings = Settings {
            device,
            seed: config.seed,
            accumulation: config.accumulation,
            clip_norm: config.clip_norm,
            epoch,
            done,
            checkpoints: checkpoints.clone(),
            gradient_norm: gradient_norm.clone(),
            gauges,
            total_loss: total_loss.clone(),
            judge: judge.clone(),
            log_failure,
            metrics_path,
        };
        let strategy = Arc::new(CallbackStrategy::new(settings, callbacks, state.step, best));
        if let Some(total_loss) = total_loss {
            training = training.metric_train_numeric(total_loss);
        }
        training = training
            .num_epochs(config.epochs)
            .metric_train_numeric(gradient_norm)
            .with_metric_logger(log)
            .renderer(config.ui.renderer(&interrupter, resumed_from))
            .with_interrupter(interrupter)
            .with_training_strategy(TrainingStrategy::Custom(strategy.clone()));
        if let Some(epoch) = resumed_from {
            // Only the number of the first epoch follows from this: no checkpointer is registered,
            // because burn-train's would panic where a checkpoint does not fit.
            training = training.checkpoint(epoch);
        }
        let result = training.launch(Learner::new(model, optimizer, scheduler));

        let run = strategy.take();
        let ending = run.ending?;
        if let Some(error) = result.error {
            return Err(StageError::Training(error));
        }
        let last = fitted(result.model, ending, resumed_from);
        let fitted = or_best(last, judge.as_ref(), run.best, &checkpoints)?;
        let kept = Some(fitted.kept);
        Ending { kept, ..ending }.write(directory)?;
        finish(run.callbacks, fitted)
    }
}

fn create(directory: &Path) -> Result<(), StageError> {
    fs::create_dir_all(directory).map_err(|source| StageError::File {
        path: directory.to_owned(),
        source,
    })
}

/// The ending of a stage that has nothing left to do.
fn ended(
    directory: &Path,
    latest: Option<usize>,
    epochs: usize,
) -> Result<Option<Ending>, StageError> {
    let ending = Ending::read(directory)?;
    Ok(ending.filter(|ending| Some(ending.epoch) == latest && ending.covers(epochs)))
}

/// The model of the last epoch.
fn fitted<M>(model: M, ending: Ending, resumed_from: Option<usize>) -> Fitted<M> {
    Fitted {
        model,
        outcome: ending.outcome,
        epoch: ending.epoch,
        kept: ending.epoch,
        resumed_from,
    }
}

/// The model of the best epoch in place of the last one's, if there is a judge.
fn or_best<M: CallbackModel>(
    last: Fitted<M>,
    judge: Option<&Judge>,
    best: Option<Best>,
    checkpoints: &Checkpoints,
) -> Result<Fitted<M>, StageError> {
    let Some(judge) = judge else {
        return Ok(last);
    };
    let best = best.ok_or_else(|| StageError::NoBest {
        metric: judge.metric.to_string(),
    })?;
    if best.epoch == last.epoch {
        return Ok(last);
    }
    Ok(Fitted {
        model: load_best(checkpoints, best, last.model)?,
        kept: best.epoch,
        ..last
    })
}

fn load_best<M: CallbackModel>(
    checkpoints: &Checkpoints,
    Best { epoch, .. }: Best,
    model: M,
) -> Result<M, StageError> {
    checkpoints
        .load_model(epoch, model)
        .map_err(|source| StageError::BestLost { epoch, source })
}

fn finish<M: CallbackModel>(
    mut callbacks: Callbacks<M>,
    fitted: Fitted<M>,
) -> Result<Fitted<M>, StageError> {
    let model = callbacks.fold(fitted.model, |callback, model| callback.after_fit(model))?;
    Ok(Fitted { model, ..fitted })
}

#[cfg(test)]
mod tests;
