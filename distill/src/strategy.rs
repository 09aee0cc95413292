//! The burn-train strategy that fires the callbacks.

use std::{
    path::PathBuf,
    sync::{Mutex, MutexGuard, PoisonError},
};

use burn::{
    prelude::*,
    train::{
        Learner, SupervisedLearningStrategy, SupervisedTrainingEventProcessor, TrainLoader,
        TrainingComponents, ValidLoader,
    },
};

use self::session::Session;
use crate::{
    CallbackModel, Checkpoints, Epoch, Gauge, StageError,
    best::{Best, Judge},
    callbacks::Callbacks,
    metric_log::LogFailure,
    outcome::Ending,
    schedule::Done,
};

mod session;

/// What a stage settles before the training starts.
pub(crate) struct Settings {
    pub device: Device,
    pub seed: u64,
    pub accumulation: usize,
    pub clip_norm: Option<f64>,
    pub epoch: Epoch,
    pub done: Done,
    pub checkpoints: Checkpoints,
    pub gradient_norm: Gauge,
    pub gauges: Vec<Gauge>,
    /// Shows the loss with what callbacks add to it, where they do.
    pub total_loss: Option<Gauge>,
    /// Which epoch's model is kept, if not the last.
    pub judge: Option<Judge>,
    pub log_failure: LogFailure,
    pub metrics_path: PathBuf,
}

/// Trains on one device and fires the callbacks.
pub(crate) struct CallbackStrategy<M: CallbackModel> {
    settings: Settings,
    run: Mutex<Run<M>>,
}

/// What the training changes.
pub(crate) struct Run<M: CallbackModel> {
    /// The callbacks with their state.
    pub callbacks: Callbacks<M>,
    /// Optimiser steps taken.
    pub step: usize,
    /// The best epoch so far, where it is kept.
    pub best: Option<Best>,
    /// How the training ended; interrupted until it ends otherwise.
    pub ending: Result<Ending, StageError>,
}

impl<M: CallbackModel> CallbackStrategy<M> {
    /// A strategy that goes on after `step` optimiser steps, with the best epoch of before.
    pub fn new(
        settings: Settings,
        callbacks: Callbacks<M>,
        step: usize,
        best: Option<Best>,
    ) -> Self {
        let run = Run::new(callbacks, step, best);
        Self {
            settings,
            run: Mutex::new(run),
        }
    }

    /// Hands out what the training left behind.
    pub fn take(&self) -> Run<M> {
        std::mem::replace(&mut self.lock(), Run::new(Callbacks::default(), 0, None))
    }

    fn lock(&self) -> MutexGuard<'_, Run<M>> {
        self.run.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<M: CallbackModel> Run<M> {
    fn new(callbacks: Callbacks<M>, step: usize, best: Option<Best>) -> Self {
        let ending = Err(StageError::Interrupted {
            epoch: 0,
            reason: None,
        });
        Self {
            callbacks,
            step,
            best,
            ending,
        }
    }
}

impl<M: CallbackModel> SupervisedLearningStrategy<M> for CallbackStrategy<M> {
    fn fit(
        &self,
        components: TrainingComponents<M>,
        mut learner: Learner<M>,
        train: TrainLoader<M>,
        valid: ValidLoader<M>,
        starting_epoch: usize,
    ) -> (M, SupervisedTrainingEventProcessor<M>) {
        let device = &self.settings.device;
        learner.fork(device);
        let mut run = self.lock();
        let mut early_stopping = components.early_stopping;
        let mut session = Session {
            settings: &self.settings,
            keep: run.callbacks.keep(),
            run: &mut run,
            learner,
            processor: components.event_processor,
            interrupter: &components.interrupter,
            store: &components.event_store,
            epochs: components.num_epochs,
            epoch: starting_epoch,
            iteration: 0,
        };
        let ending = session.fit(
            &train.to_device(device),
            &valid.to_device(&device.clone().inner()),
            |epoch, store| match &mut early_stopping {
                Some(strategy) => strategy.should_stop(epoch, store),
                None => false,
            },
        );
        let (learner, processor) = (session.learner, session.processor);
        run.ending = ending;
        (learner.model(), processor)
    }
}

#[cfg(test)]
mod failure_tests;
#[cfg(test)]
mod tests;
