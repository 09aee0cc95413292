//! Places in a training, by which checkpoints are named.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::PREFIX;

const BATCH: &str = "-batch-";

/// A place between two batches of a training, in the order of the training.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Position {
    /// The epoch of the next batch, from 1.
    pub epoch: usize,
    /// Batches of that epoch that are done.
    pub batch: usize,
}

impl Position {
    /// The place before the first batch.
    pub const START: Self = Self { epoch: 1, batch: 0 };

    /// The place after an epoch and its validation.
    pub fn after(epoch: usize) -> Self {
        Self {
            epoch: epoch + 1,
            batch: 0,
        }
    }

    /// The number of epochs that are over.
    pub fn epochs(self) -> usize {
        self.epoch - 1
    }
}

/// The name of a checkpoint at this place: `epoch-N` after an epoch, `epoch-N-batch-K` within one.
impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.batch {
            0 => write!(f, "{PREFIX}{}", self.epochs()),
            batch => write!(f, "{PREFIX}{}{BATCH}{batch}", self.epoch),
        }
    }
}

impl Position {
    /// The place of the checkpoint of this name.
    pub(super) fn of_name(name: &str) -> Option<Self> {
        let name = name.strip_prefix(PREFIX)?;
        match name.split_once(BATCH) {
            Some((epoch, batch)) => Some(Self {
                epoch: epoch.parse().ok()?,
                batch: batch.parse().ok()?,
            }),
            None => Some(Self::after(name.parse().ok()?)),
        }
    }
}
