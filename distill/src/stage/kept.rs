//! What is kept of a stage that ended.

use std::path::Path;

use super::Fitted;
use crate::{
    Checkpoints, StageError, Trainable, Trainee,
    best::{Best, Judge},
    checkpoint::Position,
    objective::Objectives,
    outcome::Ending,
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
            load_best(checkpoints, best, trainee)?
        };
        Ok(Self {
            epoch: best.epoch,
            trainee,
        })
    }

    /// The model, and what objectives leave.
    pub fn fitted(
        self,
        ending: Ending,
        resumed_from: Option<Position>,
        objectives: &Objectives,
    ) -> Fitted<M> {
        let Trainee { model, parts } = self.trainee;
        Fitted {
            left: objectives.left(&parts, &model.shape()),
            model,
            outcome: ending.outcome,
            epoch: ending.epoch,
            kept: self.epoch,
            resumed_from,
        }
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
