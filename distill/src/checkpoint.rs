//! Checkpoints that are either whole or not there.
//!
//! A checkpoint is a folder with the model, the weights of its objectives, the optimiser's state and what else the
//! training changes: its place in the data, the callbacks' states, the metrics of an epoch that is not over. It is
//! written under a temporary name and renamed when everything is on disk, so a full disk or a kill leaves the one
//! before it untouched. The newest stays, and that of the best epoch if a stage returns its model. The learning rate
//! follows from the place in the data, and teachers do not change; neither is saved.

mod callbacks;
mod every;
mod position;
mod request;

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use burn::{
    module::Module,
    optim::OptimizerRecord,
    prelude::*,
    store::{ModuleRecord, RecordError},
};
use serde::{Deserialize, Serialize};

pub use self::{
    every::{CheckpointEvery, CheckpointEveryError},
    position::Position,
    request::CheckpointRequest,
};

use crate::{
    CallbackState, Trainable, Trainee, best::Best, layer_log::LayerLogState, metric_log::Sums,
    outcome::write_json, trainee::Learner,
};

const MODEL: &str = "model.bpk";
const PARTS: &str = "parts.bpk";
const OPTIMIZER: &str = "optimizer.bpk";
const STATE: &str = "state.json";
const CALLBACKS: &str = "callbacks.safetensors";
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
}

/// What a checkpoint knows besides the parameters and the optimiser's state.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct State {
    /// Optimiser steps taken.
    pub step: usize,
    /// The learning rate of the latest.
    pub rate: f64,
    /// The time that they took in seconds, over all resumes.
    #[serde(default)]
    pub seconds: f64,
    /// The callbacks' states by name; their tensors are in a file of their own.
    pub callbacks: BTreeMap<String, CallbackState>,
    /// The best epoch up to the checkpoint, where it is kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub best: Option<Best>,
    /// The metrics of an epoch that is not over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sums: Option<Sums>,
    /// The log of values by layer.
    #[serde(default)]
    pub layers: LayerLogState,
}

impl State {
    /// The time before the checkpoint, over all resumes.
    pub fn earlier(&self) -> Duration {
        Duration::try_from_secs_f64(self.seconds).unwrap_or_default()
    }
}

impl Checkpoints {
    /// The checkpoints in a directory.
    pub fn new(directory: impl Into<PathBuf>) -> Self {
        Self {
            directory: directory.into(),
        }
    }

    /// The newest place with a whole checkpoint.
    ///
    /// # Errors
    ///
    /// If the directory is there but cannot be read.
    pub fn latest(&self) -> Result<Option<Position>, CheckpointError> {
        let names = self.names()?;
        let positions = names.iter().filter_map(|name| Position::of_name(name));
        Ok(positions.filter(|position| self.is_whole(*position)).max())
    }

    /// The folder of the checkpoint at a place.
    pub fn path(&self, position: Position) -> PathBuf {
        self.directory.join(position.to_string())
    }

    fn is_whole(&self, position: Position) -> bool {
        let folder = self.path(position);
        [MODEL, OPTIMIZER, STATE]
            .iter()
            .all(|part| folder.join(part).is_file())
    }

    /// The names of all checkpoints, whole or not.
    fn names(&self) -> Result<Vec<String>, CheckpointError> {
        let at = |error| CheckpointError::new(&self.directory, error);
        let entries = match fs::read_dir(&self.directory) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(at(error)),
        };
        let mut names = Vec::new();
        for entry in entries {
            names.extend(entry.map_err(at)?.file_name().into_string());
        }
        names.retain(|name| name.starts_with(PREFIX));
        Ok(names)
    }

    /// Writes the checkpoint at a place, then deletes all others but that of the best epoch.
    pub(crate) fn save<M: Trainable>(
        &self,
        position: Position,
        learner: &Learner<M>,
        state: &State,
    ) -> Result<(), CheckpointError> {
        let folder = self.path(position);
        let partial = self.directory.join(format!("{position}{PARTIAL}"));
        let written = write_files(&partial, learner, state).and_then(|()| {
            // A checkpoint at this place can only be a broken one: whole ones are resumed from.
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
        self.prune(position, state.best)
    }

    fn prune(&self, newest: Position, best: Option<Best>) -> Result<(), CheckpointError> {
        let best = best.map(|best| Position::after(best.epoch).to_string());
        let newest = newest.to_string();
        for name in self.names()? {
            if name != newest && best.as_ref() != Some(&name) {
                remove(&self.directory.join(name))?;
            }
        }
        Ok(())
    }

    /// Reads the state of a checkpoint; tensors come to a device.
    pub(crate) fn load_state(
        &self,
        position: Position,
        device: &Device,
    ) -> Result<State, CheckpointError> {
        let folder = self.path(position);
        let path = folder.join(STATE);
        let text = fs::read(&path).map_err(|error| CheckpointError::new(&path, error))?;
        let state = serde_json::from_slice(&text);
        let mut state: State = state.map_err(|error| CheckpointError::new(&path, error))?;
        callbacks::load(&folder.join(CALLBACKS), &mut state.callbacks, device)?;
        Ok(state)
    }

    /// Reads the parameters of a checkpoint into a model and parts of the same structure.
    pub(crate) fn load_trainee<M: Module>(
        &self,
        position: Position,
        trainee: Trainee<M>,
    ) -> Result<Trainee<M>, CheckpointError> {
        let folder = self.path(position);
        let model = self.load(&folder.join(MODEL), trainee.model)?;
        let parts = if trainee.parts.iter().all(Vec::is_empty) {
            trainee.parts
        } else {
            self.load(&folder.join(PARTS), trainee.parts)?
        };
        Ok(Trainee { model, parts })
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

    /// Reads the optimiser's state of a checkpoint.
    pub(crate) fn load_optimizer(
        &self,
        position: Position,
    ) -> Result<OptimizerRecord, CheckpointError> {
        let path = self.path(position).join(OPTIMIZER);
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
    callbacks::save(&folder.join(CALLBACKS), &state.callbacks)?;
    let path = folder.join(STATE);
    write_json(&path, state).map_err(|error| CheckpointError::new(&path, error))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn touch(checkpoints: &Checkpoints, name: &str, parts: &[&str]) {
        let folder = checkpoints.directory.join(name);
        fs::create_dir_all(&folder).unwrap();
        for part in parts {
            fs::write(folder.join(part), "").unwrap();
        }
    }

    #[test]
    fn the_latest_is_the_newest_whole_one() {
        let directory = tempfile::tempdir().unwrap();
        let checkpoints = Checkpoints::new(directory.path().join("checkpoints"));
        assert_eq!(checkpoints.latest().unwrap(), None);
        let latest = |name: &str, parts: &[&str]| {
            touch(&checkpoints, name, parts);
            checkpoints.latest().unwrap().unwrap().to_string()
        };
        let whole = [MODEL, OPTIMIZER, STATE];
        assert_eq!(latest("epoch-1-batch-30", &whole), "epoch-1-batch-30");
        assert_eq!(latest("epoch-9", &whole), "epoch-9");
        assert_eq!(latest("epoch-9-batch-99", &whole), "epoch-9");
        assert_eq!(latest("epoch-10-batch-3", &whole), "epoch-10-batch-3");
        assert_eq!(latest("epoch-10", &[MODEL, STATE]), "epoch-10-batch-3");
        assert_eq!(latest("epoch-10.partial", &whole), "epoch-10-batch-3");
        assert_eq!(latest("epoch-10", &whole), "epoch-10");
    }

    #[test]
    fn the_newest_and_the_best_are_kept() {
        let directory = tempfile::tempdir().unwrap();
        let checkpoints = Checkpoints::new(directory.path());
        for name in [
            "epoch-1",
            "epoch-2",
            "epoch-3-batch-5",
            "epoch-3-batch-4.partial",
        ] {
            touch(&checkpoints, name, &[MODEL, OPTIMIZER, STATE]);
        }
        let left = |best| {
            checkpoints
                .prune(Position { epoch: 3, batch: 5 }, best)
                .unwrap();
            let mut names = checkpoints.names().unwrap();
            names.sort_unstable();
            names
        };
        let best = Best {
            epoch: 1,
            value: 0.5,
        };
        assert_eq!(left(Some(best)), ["epoch-1", "epoch-3-batch-5"]);
        assert_eq!(left(None), ["epoch-3-batch-5"]);
    }
}
