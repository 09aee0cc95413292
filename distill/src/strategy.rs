//! The burn-train strategy that runs a session.

use std::sync::{Mutex, PoisonError};

use burn::train::{
    Learner, SupervisedLearningStrategy, SupervisedTrainingEventProcessor, TrainLoader,
    TrainingComponents, ValidLoader,
};

use crate::{
    StageError, StandIn, Trainable,
    outcome::Ending,
    session::{Session, Show},
};

/// Runs a session under burn-train's metrics, early stopping and dashboard.
pub(crate) struct SessionStrategy<M: Trainable> {
    run: Mutex<Option<Run<M>>>,
}

/// A session and how it ended.
pub(crate) struct Run<M: Trainable> {
    pub session: Session<M>,
    /// `None` until it ended.
    pub ending: Option<Result<Ending, StageError>>,
}

impl<M: Trainable> SessionStrategy<M> {
    /// A strategy for this session.
    pub fn new(session: Session<M>) -> Self {
        let run = Run {
            session,
            ending: None,
        };
        Self {
            run: Mutex::new(Some(run)),
        }
    }

    /// Hands out what the training left behind.
    pub fn take(&self) -> Option<Run<M>> {
        self.run
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
    }
}

impl<M: Trainable> SupervisedLearningStrategy<StandIn<M>> for SessionStrategy<M> {
    fn fit(
        &self,
        components: TrainingComponents<StandIn<M>>,
        learner: Learner<StandIn<M>>,
        _: TrainLoader<StandIn<M>>,
        _: ValidLoader<StandIn<M>>,
        _: usize,
    ) -> (StandIn<M>, SupervisedTrainingEventProcessor<StandIn<M>>) {
        let mut early_stopping = components.early_stopping;
        let mut show = Show {
            processor: components.event_processor,
            interrupter: &components.interrupter,
            store: &components.event_store,
        };
        let mut run = self.run.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(run) = run.as_mut() {
            let ending = run
                .session
                .fit(&mut show, |epoch, store| match &mut early_stopping {
                    Some(strategy) => strategy.should_stop(epoch, store),
                    None => false,
                });
            run.ending = Some(ending);
        }
        (learner.model(), show.processor)
    }
}

#[cfg(test)]
mod failure_tests;
#[cfg(test)]
mod tests;
