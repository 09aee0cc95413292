//! A stage's session runs under burn-train, which has metrics, dashboard and early stopping.

use std::{sync::Arc, time::Instant};

use burn::{prelude::*, train::TrainingStrategy};

use super::{GRADIENT_NORM, Stage, TOTAL_LOSS};
use crate::{
    Checkpoints, Gauge, StageError, StandIn, Trainable,
    checkpoint::{Position, State},
    layer_log::LayerLog,
    metric_log::{LogFailure, MetricLog, Pace, SharedSums},
    progress::ProgressFile,
    session::{Saved, Session, Settings},
    strategy::{Run, SessionStrategy},
    trainee::Learner,
};

impl<M: Trainable> Stage<M> {
    /// Runs the session under burn-train.
    pub(super) fn launch(
        self,
        device: &Device,
        learner: Learner<M>,
        checkpoints: &Checkpoints,
        resumed_from: Option<Position>,
        mut state: State,
    ) -> Result<Run<M>, StageError> {
        let Self {
            config,
            mut training,
            epoch,
            interrupter,
            methods,
            judge,
            ..
        } = self;
        let position = resumed_from.unwrap_or(Position::START);
        let metrics_path = config.directory.join("metrics.jsonl");
        let (log_failure, sums) = (LogFailure::default(), SharedSums::default());
        let pace = Pace {
            every: config.log_every,
            accumulation: config.accumulation,
            position,
            step: state.step,
            sums: state.sums.take(),
        };
        let log = MetricLog::open(&metrics_path, pace, log_failure.clone(), sums.clone())?;
        let layers = std::mem::take(&mut state.layers);
        let layers_path = config.directory.join("layers.jsonl");
        let layers = LayerLog::open(layers_path, config.log_every, layers)?;
        let gradient_norm = Gauge::new(GRADIENT_NORM);
        let adds = methods.objectives.add_to_loss();
        let total_loss = adds.then(|| Gauge::new(TOTAL_LOSS));
        let mut gauges = methods.callbacks.gauges();
        gauges.extend(methods.objectives.gauges().cloned());
        for gauge in gauges.iter().chain(&total_loss) {
            training = training.metric_train_numeric(gauge.clone());
        }
        let session = Session {
            settings: Settings {
                device: device.clone(),
                epochs: config.epochs,
                last_epoch: config.last_epoch(),
                seed: config.seed,
                learning_rate: config.learning_rate,
                schedule: config.schedule,
                accumulation: config.accumulation,
                clip_norm: config.clip_norm,
                task_weight: config.task_weight,
                epoch,
                checkpoints: checkpoints.clone(),
                every: config.checkpoint_every,
                request: self.request,
                gradient_norm: gradient_norm.clone(),
                gauges,
                total_loss,
                judge,
                log_failure,
                sums,
                metrics_path,
            },
            keep: methods.objectives.keep(),
            states: methods.callbacks.states(),
            methods,
            learner,
            train: self.train.to_device(device),
            valid: self.valid.to_device(&device.clone().inner()),
            position,
            saved: Saved {
                position,
                step: state.step,
                at: Instant::now(),
            },
            step: state.step,
            best: state.best,
            epoch: position.epoch,
            iteration: 0,
            done: 0.0,
            rate: state.rate,
            layers,
            progress: config.progress.map(ProgressFile::new),
            began: Instant::now(),
            earlier: state.earlier(),
        };
        let strategy = Arc::new(SessionStrategy::new(session));
        // The number of an epoch, or none: burn-train counts from the one after it.
        let epochs = Some(position.epochs()).filter(|epochs| *epochs > 0);
        training = training
            .num_epochs(config.epochs)
            .metric_train_numeric(gradient_norm)
            .with_metric_logger(log)
            .renderer(config.ui.renderer(&interrupter, epochs))
            .with_interrupter(interrupter)
            .with_training_strategy(TrainingStrategy::Custom(strategy.clone()));
        if let Some(epochs) = epochs {
            // Only the number of the first epoch follows from this: no checkpointer is registered.
            training = training.checkpoint(epochs);
        }
        let result = training.launch(StandIn::learner(device));
        let run = strategy.take();
        let is_good = matches!(&run, Some(run) if matches!(run.ending, Some(Ok(_))));
        if let (true, Some(error)) = (is_good, result.error) {
            return Err(StageError::Training(error));
        }
        run.ok_or(StageError::Interrupted {
            epoch: 0,
            reason: None,
        })
    }
}
