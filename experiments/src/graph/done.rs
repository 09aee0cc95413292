//! The record of a finished stage.

use std::{collections::BTreeMap, path::Path};

use moebert_core::file::{self, FileError};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{
    digest::Digest,
    error::StoreError,
    key::{Document, Key},
};
use crate::json_file;

/// The file of the record, written last.
pub(super) const FILE: &str = "done.json";

/// The content of `done.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Done {
    /// What determined the result.
    pub document: Document,
    /// The result, in a form that depends on the kind.
    pub result: Value,
    /// The other files in the folder, by relative path with `/` between parts.
    pub files: BTreeMap<String, Written>,
    /// The time it took in seconds, over all resumes.
    pub seconds: f64,
    /// The peak memory in bytes, if known.
    pub peak_memory: Option<u64>,
    /// The machine that finished it.
    pub host: String,
    /// The backend that computed it.
    pub backend: String,
    /// Versions, machine and command line.
    pub environment: Value,
    /// The random id of the claim under which it was published.
    pub claim: String,
}

/// A file at the time of publication.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Written {
    /// Its length in bytes.
    pub length: u64,
    /// Its hash.
    pub sha256: Digest,
}

/// What a watcher reads of a record.
#[derive(Deserialize)]
struct Brief {
    seconds: f64,
}

/// The time of a record in the folder of a stage, without a check of the rest.
///
/// # Errors
///
/// If it exists and cannot be read.
pub(super) fn seconds(folder: &Path) -> Result<Option<f64>, FileError> {
    let bytes = file::read_if_there(&folder.join(FILE))?;
    let brief = bytes.and_then(|bytes| serde_json::from_slice::<Brief>(&bytes).ok());
    Ok(brief.map(|brief| brief.seconds))
}

impl Done {
    /// Reads the record in the folder of a stage.
    ///
    /// # Errors
    ///
    /// If it is missing or damaged, or is the record of another stage.
    pub(super) fn read(folder: &Path, key: &Key) -> Result<Self, StoreError> {
        let path = folder.join(FILE);
        let damaged = |problem: String| StoreError::Damaged {
            path: path.clone(),
            problem,
            delete: folder.to_owned(),
        };
        let Some(bytes) = file::read_if_there(&path)? else {
            return Err(damaged(
                "the file is missing, so the stage is incomplete".into(),
            ));
        };
        let done: Self =
            serde_json::from_slice(&bytes).map_err(|error| damaged(error.to_string()))?;
        let found = done.document.key()?;
        if found != *key {
            return Err(damaged(format!("the file is the record of {found}")));
        }
        Ok(done)
    }

    /// Reads the record in a folder, of whatever stage.
    ///
    /// # Errors
    ///
    /// If it is missing or damaged.
    pub fn of_folder(folder: &Path) -> Result<Self, FileError> {
        json_file::read(&folder.join(FILE))
    }

    /// The record in a folder, of whatever stage; none if it is missing or damaged.
    pub(super) fn glance(folder: &Path) -> Option<Self> {
        Self::of_folder(folder).ok()
    }

    /// Writes the record into the folder of a stage.
    ///
    /// # Errors
    ///
    /// If it cannot be written.
    pub(super) fn write(&self, folder: &Path) -> Result<(), StoreError> {
        let path = folder.join(FILE);
        let json = serde_json::to_vec_pretty(self).map_err(|source| FileError::Json {
            path: path.clone(),
            source,
        })?;
        Ok(file::write(&path, &json)?)
    }

    /// The files, and `result`, in which two runs of the same stage differ. Times and machines do not count.
    pub(super) fn differences(&self, other: &Self) -> Vec<String> {
        let names = self.files.keys().chain(other.files.keys());
        let mut differences: Vec<_> = names
            .filter(|name| self.files.get(*name) != other.files.get(*name))
            .cloned()
            .collect();
        if self.result != other.result {
            differences.push("result".to_owned());
        }
        differences.sort();
        differences.dedup();
        differences
    }
}
