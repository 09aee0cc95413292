//! How a stage ended, on disk: what tells a finished stage from an interrupted one.

use std::{fs, io, path::Path};

use moebert_core::file::write_whole;
use serde::{Deserialize, Serialize};

use crate::StageError;

const FILE: &str = "outcome.json";

/// How a stage came to its end; a stage without an outcome was interrupted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// All epochs were run.
    Finished,
    /// The metric that early stopping watches no longer improved.
    EarlyStopped,
}

/// The outcome of a stage, its last epoch and the one whose model it returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Ending {
    pub outcome: Outcome,
    pub epoch: usize,
    /// `None` for the last, as stages that knew no other wrote it.
    #[serde(default)]
    pub kept: Option<usize>,
}

impl Ending {
    /// An ending for which the epoch of the returned model is yet to be chosen.
    pub fn new(outcome: Outcome, epoch: usize) -> Self {
        Self {
            outcome,
            epoch,
            kept: None,
        }
    }

    /// Reads the ending in a stage's directory, if it ended.
    pub fn read(directory: &Path) -> Result<Option<Self>, StageError> {
        let path = directory.join(FILE);
        let at = |source| StageError::File {
            path: path.clone(),
            source,
        };
        match fs::read(&path) {
            Ok(text) => serde_json::from_slice(&text)
                .map(Some)
                .map_err(|error| at(error.into())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(at(error)),
        }
    }

    /// Writes the ending into a stage's directory.
    pub fn write(self, directory: &Path) -> Result<(), StageError> {
        let path = directory.join(FILE);
        write_json(&path, &self).map_err(|source| StageError::File { path, source })
    }

    /// Whether a training of so many epochs has nothing left to do.
    pub fn covers(self, epochs: usize) -> bool {
        self.outcome == Outcome::EarlyStopped || self.epoch >= epochs
    }
}

/// Writes a value as a whole JSON file.
pub(crate) fn write_json<T: Serialize>(path: &Path, value: &T) -> io::Result<()> {
    let mut text = serde_json::to_vec_pretty(value)?;
    text.push(b'\n');
    write_whole(path, &text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ending_is_read_back() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(Ending::read(directory.path()).unwrap(), None);
        let ending = Ending {
            outcome: Outcome::EarlyStopped,
            epoch: 3,
            kept: Some(2),
        };
        ending.write(directory.path()).unwrap();
        assert_eq!(Ending::read(directory.path()).unwrap(), Some(ending));
        let before = r#"{"outcome": "finished", "epoch": 3}"#;
        fs::write(directory.path().join(FILE), before).unwrap();
        let before = Ending::read(directory.path()).unwrap().unwrap();
        assert_eq!((before.epoch, before.kept), (3, None));
        fs::write(directory.path().join(FILE), "{").unwrap();
        let error = Ending::read(directory.path()).unwrap_err().to_string();
        assert!(error.contains("outcome.json"), "{error}");
    }
}
