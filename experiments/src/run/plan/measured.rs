//! Times of stages that were measured for a plan, on a sample of their data.

use std::{collections::HashMap, path::PathBuf};

use super::{
    signature::{Signature, Signatures},
    work::Work,
};

/// Stages that are like none that this machine has done.
pub(in crate::run) struct Request<'a> {
    /// One of each likeness, each after those that it reads.
    pub wanted: Vec<Wanted>,
    /// What takes time in each stage.
    pub likenesses: &'a Signatures,
    /// The folder of a finished stage of each likeness; a model in it has the shape of all models of the likeness.
    pub folders: HashMap<Signature, PathBuf>,
}

/// A stage that is to be measured.
pub(in crate::run) struct Wanted {
    /// The place of its base.
    pub base: usize,
    /// Its place among the stages of the base.
    pub node: usize,
    /// What takes time in it.
    pub likeness: Signature,
    /// How much there is to compute, if known.
    pub work: Option<Work>,
}

/// How long a stage takes, by a few steps of it. Sizes are in bytes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(in crate::run) struct EpochTime {
    /// Seconds whatever the epochs.
    pub fixed: f64,
    /// Seconds of each epoch; stages without epochs have one.
    pub epoch: f64,
    /// The peak memory.
    pub memory: u64,
    /// The files that it leaves.
    pub disk: u64,
}

impl EpochTime {
    /// Seconds of so many epochs.
    pub fn seconds(&self, epochs: f64) -> f64 {
        self.fixed + epochs * self.epoch
    }
}

/// What was measured, by likeness, with the kind and the work of the stage that it was measured on.
pub(in crate::run) type Measured = HashMap<Signature, MeasuredStage>;

/// A stage that was measured.
pub(in crate::run) struct MeasuredStage {
    /// Its kind.
    pub kind: String,
    /// How much there is to compute in it, if known.
    pub work: Option<Work>,
    /// How long it takes.
    pub time: EpochTime,
}
