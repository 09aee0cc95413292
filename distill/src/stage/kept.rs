//! What is kept of a stage that ended.

use std::{path::Path, time::Duration};

use burn::module::Module;

use super::Fitted;
use crate::{
    Checkpoints, StageError, Trainable, Trainee,
    best::{Best, Judge},
    callback::Callbacks,
    checkpoint::Position,
    outcome::Ending,
    session::Methods,
};

/// The ending of a stage that has nothing left to do.
pub(super) fn ended(
    directory: &Path,
    latest: Option<Position>,
    epochs: usize,
) -> Result<Option<Ending>, StageError> {
    let ending = Ending::read(directory)?;
    Ok(ending
        .filter(|ending| Some(Position::after(ending.epoch)) == latest && ending.covers(epochs)))
}

/// What is kept of a stage that ended.
pub(super) struct Kept<M: Trainable> {
    pub epoch: usize,
    trainee: Trainee<M>,
}

impl<M: Trainable> Kept<M> {
    /// The last epoch, or the best one if there is a judge.
    pub fn of(
        last: usize,
        trainee: Trainee<M>,
        judge: Option<&Judge>,
        best: Option<Best>,
        checkpoints: &Checkpoints,
        callbacks: &mut Callbacks<M>,
    ) -> Result<Self, StageError> {
        let Some(judge) = judge else {
            return Ok(Self {
                epoch: last,
                trainee,
            });
        };
        let best = best.ok_or_else(|| StageError::NoBest {
            metric: judge.metric.to_string(),
        })?;
        let trainee = if best.epoch == last {
            trainee
        } else {
            let devices = trainee.devices();
            let trainee = load_best(checkpoints, best, trainee)?;
            if let Some(device) = devices.first() {
                let position = Position::after(best.epoch);
                let state = checkpoints.load_state(position, device)?;
                callbacks.load_states(state.callbacks)?;
            }
            trainee
        };
        Ok(Self {
            epoch: best.epoch,
            trainee,
        })
    }

    /// The model as callbacks have it in evaluation, and what objectives leave.
    pub fn fitted(
        self,
        ending: Ending,
        resumed_from: Option<Position>,
        earlier: Duration,
        methods: &Methods<M>,
    ) -> Result<Fitted<M>, StageError> {
        let Trainee { model, parts } = self.trainee;
        Ok(Fitted {
            left: methods.objectives.left(&parts, &model.shape()),
            model: methods.callbacks.for_evaluation(model)?,
            outcome: ending.outcome,
            epoch: ending.epoch,
            kept: self.epoch,
            resumed_from,
            earlier,
        })
    }
}

/// The model of the best epoch, and the parts of that time.
pub(super) fn load_best<M: Trainable>(
    checkpoints: &Checkpoints,
    Best { epoch, .. }: Best,
    trainee: Trainee<M>,
) -> Result<Trainee<M>, StageError> {
    let lost = |source| StageError::BestLost { epoch, source };
    let position = Position::after(epoch);
    checkpoints.load_trainee(position, trainee).map_err(lost)
}
