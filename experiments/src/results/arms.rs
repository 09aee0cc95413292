//! `arms.json`: what a run consists of, written when it starts.

use std::{collections::BTreeMap, path::Path};

use moebert_core::file::FileError;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{graph::Key, json_file, record::ARMS};

/// The content of `arms.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ArmsFile {
    /// [`SCHEMA`](super::SCHEMA).
    pub schema: u32,
    /// The run's name.
    pub run: String,
    /// The metric that decides, where arms are compared.
    pub metric: Option<String>,
    /// The level of tests and intervals.
    pub alpha: f64,
    /// The arm that the others are compared with.
    pub reference: Option<String>,
    /// The seeds.
    pub seeds: Vec<u64>,
    /// The models in the order of the table.
    pub arms: Vec<ArmStages>,
    /// All stages, each after those that it reads.
    pub stages: Vec<StageLine>,
}

/// A model with its stages.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ArmStages {
    /// Its name.
    pub name: String,
    /// The keys that it changes, with their values; empty where it is no arm.
    pub set: Map<String, Value>,
    /// Whether it is an arm.
    pub is_arm: bool,
    /// By seed.
    pub seeds: Vec<SeedStages>,
}

/// The stages of a model with one seed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SeedStages {
    /// The seed.
    pub seed: u64,
    /// The keys, by what they are in the model's folder.
    pub stages: BTreeMap<String, Key>,
}

/// A stage of a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StageLine {
    /// The key.
    pub key: Key,
    /// What it does, for people.
    pub title: String,
    /// Its seed.
    pub seed: u64,
    /// The keys of the stages that it reads.
    pub inputs: Vec<Key>,
}

impl ArmsFile {
    /// Reads that of a run folder; none where there is none.
    ///
    /// # Errors
    ///
    /// If the file cannot be read, or is none of a run.
    pub fn read(run: &Path) -> Result<Option<Self>, FileError> {
        json_file::read_if_there(&run.join(ARMS))
    }
}
