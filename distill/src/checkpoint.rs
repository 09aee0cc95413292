//! Checkpoints that are either whole or not there.
//!
//! A checkpoint is a folder `epoch-N` with the model, the weights of its objectives, the optimiser's state and the
//! callbacks' states. It is written under a temporary name and renamed when everything is on disk, so a full disk or a
//! kill leaves the one before it untouched. That of the best epoch stays if a stage returns its model. The learning
//! rate follows from the epoch, and teachers do not change; neither is saved.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

use burn::{
    module::Module,
    nn::Linear,
    optim::OptimizerRecord,
    store::{ModuleRecord, RecordError},
};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{Trainable, Trainee, best::Best, outcome::write_json, trainee::Learner};

const MODEL: &str = "model.bpk";
const PARTS: &str = "parts.bpk";
const OPTIMIZER: &str = "optimizer.bpk";
const STATE: &str = "state.json";
const PREFIX: &str = "epoch-";
const PARTIAL: &str = ".partial";

/// A checkpoint that cannot be written or read.
#[derive(Debug, thiserror::Error)]
#[error("checkpoint {}: {message}", path.display())]
pub struct CheckpointError {
    path: PathBuf,
    message: String,
}

impl CheckpointError {
    pub(crate) fn new(path: &Path, error: impl ToString) -> Self {
        Self {
            path: path.to_owned(),
            message: error.to_string(),
        }
    }
}

/// The checkpoints of one stage.
#[derive(Clone, Debug)]
pub struct Checkpoints {
    directory: PathBuf,
    keep: usize,
}

/// What a checkpoint knows besides the parameters and the optimiser's state.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct State {
    /// Optimiser steps taken.
    pub step: usize,
    /// The callbacks' states by name.
    pub callbacks: BTreeMap<String, Value>,
    /// The best epoch up to the checkpoint's, where it is kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub best: Option<Best>,
}

impl Checkpoints {
    /// The checkpoints in a directory, of which the last `keep` stay.
    pub fn new(directory: impl Into<PathBuf>, keep: usize) -> Self {
        Self {
            directory: directory.into(),
            keep,
        }
    }

    /// The newest epoch with a whole checkpoint.
    ///
    /// # Errors
    ///
    /// If the directory is there but cannot be read.
    pub fn latest(&self) -> Result<Option<usize>, CheckpointError> {
        Ok(self
            .epochs()?
            .into_iter()
            .filter(|epoch| self.is_whole(*epoch))
            .max())
    }

    /// The folder of an epoch's checkpoint.
    pub fn path(&self, epoch: usize) -> PathBuf {
        self.directory.join(format!("{PREFIX}{epoch}"))
    }

    fn is_whole(&self, epoch: usize) -> bool {
        let folder = self.path(epoch);
        [MODEL, OPTIMIZER, STATE]
            .iter()
            .all(|part| folder.join(part).is_file())
    }

    fn epochs(&self) -> Result<Vec<usize>, CheckpointError> {
        let at = |error| CheckpointError::new(&self.directory, error);
        let entries = match fs::read_dir(&self.directory) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(at(error)),
        };
        let mut epochs = Vec::new();
        for entry in entries {
            let name = entry.map_err(at)?.file_name();
            let number = name.to_str().and_then(|name| name.strip_prefix(PREFIX));
            epochs.extend(number.and_then(|number| number.parse::<usize>().ok()));
        }
        Ok(epochs)
    }

    /// Writes an epoch's checkpoint, then deletes those that are no longer kept: all but the last ones
    /// and that of the best epoch.
    pub(crate) fn save<M: Trainable>(
        &self,
        epoch: usize,
        learner: &Learner<M>,
        state: &State,
    ) -> Result<(), CheckpointError> {
        let folder = self.path(epoch);
        let partial = self.directory.join(format!("{PREFIX}{epoch}{PARTIAL}"));
        let written = write_files(&partial, learner, state).and_then(|()| {
            // A checkpoint of this epoch can only be a broken one: whole ones are resumed from.
            remove(&folder)?;
            fs::rename(&partial, &folder).map_err(|error| CheckpointError::new(&folder, error))
        });
        if let Err(error) = written {
            // What was written so far only takes up the space that may have run out.
            if let Err(left) = remove(&partial) {
                log::warn!("{left}");
            }
            return Err(error);
        }
        self.prune(epoch, state.best)
    }

    fn prune(&self, newest: usize, best: Option<Best>) -> Result<(), CheckpointError> {
        for epoch in self.epochs()? {
            let is_best = best.is_some_and(|best| best.epoch == epoch);
            if epoch + self.keep <= newest && !is_best {
                remove(&self.path(epoch))?;
            }
        }
        Ok(())
    }

    /// Reads the state of an epoch's checkpoint.
    pub(crate) fn load_state(&self, epoch: usize) -> Result<State, CheckpointError> {
        let path = self.path(epoch).join(STATE);
        let text = fs::read(&path).map_err(|error| CheckpointError::new(&path, error))?;
        serde_json::from_slice(&text).map_err(|error| CheckpointError::new(&path, error))
    }

    /// Reads the parameters of an epoch's checkpoint into a model of the same structure.
    pub(crate) fn load_model<M: Module>(
        &self,
        epoch: usize,
        model: M,
    ) -> Result<M, CheckpointError> {
        self.load(&self.path(epoch).join(MODEL), model)
    }

    /// Reads the weights of the objectives of an epoch's checkpoint, if the objectives have any.
    pub(crate) fn load_parts(
        &self,
        epoch: usize,
        parts: Vec<Vec<Linear>>,
    ) -> Result<Vec<Vec<Linear>>, CheckpointError> {
        if parts.iter().all(Vec::is_empty) {
            return Ok(parts);
        }
        self.load(&self.path(epoch).join(PARTS), parts)
    }

    fn load<M: Module>(&self, path: &Path, module: M) -> Result<M, CheckpointError> {
        let record = ModuleRecord::load(path).map_err(|error| CheckpointError::new(path, error))?;
        module.try_load_record(record).map_err(|error| match error {
            // Burn lists every parameter of the model.
            RecordError::Validation(_) => CheckpointError::new(
                path,
                format!(
                    "its parameters are not those of this model; it is of another model or another \
                     version of this program. To start the stage again, delete {}",
                    self.directory.display()
                ),
            ),
            error @ RecordError::Io(_) => CheckpointError::new(path, error),
        })
    }

    /// Reads the optimiser's state of an epoch's checkpoint.
    pub(crate) fn load_optimizer(&self, epoch: usize) -> Result<OptimizerRecord, CheckpointError> {
        let path = self.path(epoch).join(OPTIMIZER);
        OptimizerRecord::load(&path).map_err(|error| CheckpointError::new(&path, error))
    }
}

fn remove(folder: &Path) -> Result<(), CheckpointError> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(CheckpointError::new(folder, error))
        }
        _ => Ok(()),
    }
}

fn write_files<M: Trainable>(
    folder: &Path,
    learner: &Learner<M>,
    state: &State,
) -> Result<(), CheckpointError> {
    remove(folder)?;
    fs::create_dir_all(folder).map_err(|error| CheckpointError::new(folder, error))?;
    // Cloning copies no number.
    let Trainee { model, parts } = learner.trainee().clone();
    let path = folder.join(MODEL);
    let saved = model.into_record().save(path.clone());
    saved.map_err(|error| CheckpointError::new(&path, error))?;
    if parts.iter().any(|parts| !parts.is_empty()) {
        let path = folder.join(PARTS);
        let saved = parts.into_record().save(path.clone());
        saved.map_err(|error| CheckpointError::new(&path, error))?;
    }
    let path = folder.join(OPTIMIZER);
    let saved = learner.optimizer().to_record().save(path.clone());
    saved.map_err(|error| CheckpointError::new(&path, error))?;
    let path = folder.join(STATE);
    write_json(&path, state).map_err(|error| CheckpointError::new(&path, error))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn touch(checkpoints: &Checkpoints, epoch: usize, parts: &[&str]) {
        let folder = checkpoints.path(epoch);
        fs::create_dir_all(&folder).unwrap();
        for part in parts {
            fs::write(folder.join(part), "").unwrap();
        }
    }

    #[test]
    fn the_latest_is_the_newest_whole_one() {
        let directory = tempfile::tempdir().unwrap();
        let checkpoints = Checkpoints::new(directory.path().join("checkpoints"), 1);
        assert_eq!(checkpoints.latest().unwrap(), None);
        touch(&checkpoints, 9, &[MODEL, OPTIMIZER, STATE]);
        touch(&checkpoints, 10, &[MODEL, OPTIMIZER, STATE]);
        touch(&checkpoints, 11, &[MODEL, STATE]);
        let partial = directory.path().join("checkpoints/epoch-12.partial");
        fs::create_dir_all(&partial).unwrap();
        for part in [MODEL, OPTIMIZER, STATE] {
            fs::write(partial.join(part), "").unwrap();
        }
        assert_eq!(checkpoints.latest().unwrap(), Some(10));
    }

    #[test]
    fn the_last_ones_are_kept() {
        let directory = tempfile::tempdir().unwrap();
        let checkpoints = Checkpoints::new(directory.path(), 2);
        for epoch in 1..=4 {
            touch(&checkpoints, epoch, &[MODEL, OPTIMIZER, STATE]);
        }
        let left = |best| {
            checkpoints.prune(4, best).unwrap();
            let mut epochs = checkpoints.epochs().unwrap();
            epochs.sort_unstable();
            epochs
        };
        let best = Best {
            epoch: 1,
            value: 0.5,
        };
        assert_eq!(left(Some(best)), [1, 3, 4]);
        assert_eq!(left(None), [3, 4]);
    }
}
