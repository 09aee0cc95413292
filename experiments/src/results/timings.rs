//! `timings.json`: what a run took, which is not part of its results.

use std::path::Path;

use moebert_core::file::FileError;
use serde::{Deserialize, Serialize};

use crate::{graph::Key, json_file, record::TIMINGS};

/// The content of `timings.json`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Timings {
    /// [`SCHEMA`](super::SCHEMA).
    pub schema: u32,
    /// The stages that are done.
    pub stages: Vec<StageTime>,
    /// How long passes of the models took.
    pub latencies: Vec<Latencies>,
}

/// What a stage took.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StageTime {
    /// The key.
    pub key: Key,
    /// What it does, for people.
    pub title: String,
    /// Its seed.
    pub seed: u64,
    /// The time in seconds, over all resumes.
    pub seconds: f64,
    /// The peak memory in bytes, if known.
    pub peak_memory: Option<u64>,
    /// The machine that finished it.
    pub host: String,
    /// When it was finished, in seconds since 1970-01-01 UTC, by its file.
    pub finished: Option<u64>,
}

/// The passes of a model with one seed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Latencies {
    /// The model.
    pub arm: String,
    /// The seed.
    pub seed: u64,
    /// The time of each pass in milliseconds, in their order: the models of a seed took turns.
    pub ms: Vec<f64>,
}

impl Timings {
    /// Reads those of a run folder.
    ///
    /// # Errors
    ///
    /// If the file cannot be read, or is none of a run.
    pub fn read(run: &Path) -> Result<Self, FileError> {
        json_file::read(&run.join(TIMINGS))
    }

    /// Reads those of a run folder; none where there are none.
    ///
    /// # Errors
    ///
    /// If the file cannot be read, or is none of a run.
    pub fn read_if_there(run: &Path) -> Result<Option<Self>, FileError> {
        json_file::read_if_there(&run.join(TIMINGS))
    }
}
