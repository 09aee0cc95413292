//! A folder of finished stages by key, shared by any number of processes.

mod check;
mod probe;

use std::{
    fmt, fs,
    path::{Path, PathBuf},
};

use moebert_core::file::{self, FileError};
use serde::{Deserialize, de::DeserializeOwned};

pub use self::check::Finding;
use super::{
    digest::Digest,
    done::{self, Done},
    error::StoreError,
    key::Key,
    walk,
};

/// The folder in a store for everything that is not a finished stage.
const HIDDEN: &str = ".kiln";
const SETTINGS: &str = "store.toml";
/// The folder of notes of runs.
const RUNS: &str = "runs";
/// The format of the store that this code reads and writes.
const FORMAT: u32 = 1;

/// A store on disk. It must be on one file system, because stages are published by renaming their folders.
///
/// ```text
/// STORE/KEY/                whole or absent: done.json and the stage's files
/// STORE/.kiln/store.toml    settings
/// STORE/.kiln/work/KEY.G/   a stage in progress
/// STORE/.kiln/lease/KEY.G   its owner; G is the fencing number
/// STORE/.kiln/failed/       records of failures
/// STORE/.kiln/runs/         the folders of runs
/// STORE/.kiln/trash/        folders that are being deleted
/// ```
#[derive(Clone, Debug)]
pub struct Store {
    root: PathBuf,
    claim: ClaimBy,
}

/// How a lease is created; exactly one process must succeed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum ClaimBy {
    /// By a hard link to a complete file.
    Link,
    /// By creating a file that must not exist; for file systems without hard links.
    Create,
}

impl fmt::Display for ClaimBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Link => "link",
            Self::Create => "create",
        })
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Settings {
    #[serde(rename = "format")]
    _format: u32,
    claim: ClaimBy,
}

/// Whether a folder is a store.
pub fn is_store(folder: &Path) -> bool {
    folder.join(HIDDEN).join(SETTINGS).is_file()
}

impl Store {
    /// Opens a store, or creates one if the folder is empty or does not exist. Opening a store writes nothing.
    ///
    /// # Errors
    ///
    /// If the folder has other content or another format, its file system cannot hold a store, or it cannot be read or
    /// written.
    pub fn open(root: &Path) -> Result<Self, StoreError> {
        let hidden = root.join(HIDDEN);
        let path = hidden.join(SETTINGS);
        let not_a_store = |problem: String| StoreError::NotAStore {
            path: root.to_owned(),
            problem,
        };
        if root.is_file() {
            return Err(not_a_store("is a file".into()));
        }
        if let Some(store) = Self::find(root)? {
            return Ok(store);
        }
        // Without settings, this may be a store that another process is creating now.
        if !hidden.is_dir()
            && let Some(name) = walk::names(root)?.first()
        {
            return Err(not_a_store(format!(
                "holds `{name}` and no {HIDDEN}/{SETTINGS}"
            )));
        }
        walk::make(&hidden)?;
        let claim = probe::probe(&hidden)?;
        // Two processes may write this file at once. Even if their probes disagree, both ways to claim exclude each
        // other.
        let text = format!("format = {FORMAT}\nclaim = \"{claim}\"\n");
        file::write(&path, text.as_bytes())?;
        Ok(Self {
            root: root.to_owned(),
            claim,
        })
    }

    /// Opens a store that exists; none if there is no folder, or an empty one.
    ///
    /// # Errors
    ///
    /// As for [`open`](Self::open).
    pub fn open_existing(root: &Path) -> Result<Option<Self>, StoreError> {
        let is_new =
            !root.join(HIDDEN).is_dir() && !root.is_file() && walk::names(root)?.is_empty();
        if is_new {
            return Ok(None);
        }
        Self::open(root).map(Some)
    }

    /// The store in a folder; `None` if there is none. Nothing is written.
    ///
    /// # Errors
    ///
    /// If it has another format, or its settings cannot be read.
    pub fn find(root: &Path) -> Result<Option<Self>, StoreError> {
        let claim = read_settings(&root.join(HIDDEN).join(SETTINGS))?;
        Ok(claim.map(|claim| Self {
            root: root.to_owned(),
            claim,
        }))
    }

    /// The folder.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The folder of a stage, which exists if and only if the stage is done.
    ///
    /// It must only be created by renaming a whole folder: an empty folder would count as a finished stage.
    pub fn stage(&self, key: &Key) -> PathBuf {
        self.root.join(key.as_str())
    }

    /// Whether a stage is done.
    ///
    /// # Errors
    ///
    /// If the store cannot be read.
    pub fn is_done(&self, key: &Key) -> Result<bool, StoreError> {
        Ok(self.holds(key.as_str())?)
    }

    /// The sorted keys of all finished stages.
    ///
    /// # Errors
    ///
    /// If the store cannot be read.
    pub fn done(&self) -> Result<Vec<Key>, StoreError> {
        let names = walk::names(&self.root)?.into_iter();
        Ok(names.filter_map(|name| name.parse().ok()).collect())
    }

    /// The record of a stage; `None` if the stage is not done.
    ///
    /// # Errors
    ///
    /// If its `done.json` is missing, damaged or that of another stage.
    pub fn read(&self, key: &Key) -> Result<Option<Done>, StoreError> {
        if !self.is_done(key)? {
            return Ok(None);
        }
        Done::read(&self.stage(key), key).map(Some)
    }

    /// The records of all finished stages, without those that are damaged. Whether a record is that of its folder is not
    /// checked.
    ///
    /// # Errors
    ///
    /// If the store cannot be listed.
    pub fn records(&self) -> Result<Vec<(Key, Done)>, StoreError> {
        let keys = self.done()?.into_iter();
        let records = keys.filter_map(|key| {
            let done = Done::glance(&self.stage(&key))?;
            Some((key, done))
        });
        Ok(records.collect())
    }

    /// The time in seconds that a stage took, by its record, which is not checked otherwise; `None` if there is no such record.
    ///
    /// # Errors
    ///
    /// If the record cannot be read.
    pub fn seconds(&self, key: &Key) -> Result<Option<f64>, StoreError> {
        Ok(done::seconds(&self.stage(key))?)
    }

    /// The result of a stage that is done.
    ///
    /// # Errors
    ///
    /// If it is not done, or its `done.json` is damaged or has a result of another form.
    pub fn result<T: DeserializeOwned>(&self, key: &Key) -> Result<T, StoreError> {
        let done = Done::read(&self.stage(key), key)?;
        serde_json::from_value(done.result).map_err(|error| StoreError::Damaged {
            path: self.stage(key).join(done::FILE),
            problem: error.to_string(),
            delete: self.stage(key),
        })
    }

    /// Computes the hashes of all files again and returns the differences from the records, sorted by key.
    ///
    /// # Errors
    ///
    /// If the store cannot be listed. Problems within a stage are findings, not errors.
    pub fn check(&self) -> Result<Vec<Finding>, StoreError> {
        let keys = self.done()?;
        let findings = keys.iter().map(|key| check::stage(&self.stage(key), key));
        Ok(findings.flatten().collect())
    }

    /// Notes the folder of a run, whose stages are kept as long as it is there.
    ///
    /// # Errors
    ///
    /// If the folder does not exist, or the note cannot be written.
    pub fn register(&self, run: &Path) -> Result<(), StoreError> {
        let run = fs::canonicalize(run).map_err(walk::read(run))?;
        let text = run.to_string_lossy();
        let name = &Digest::of(text.as_bytes()).to_string()[..32];
        let runs = self.hidden(RUNS);
        walk::make(&runs)?;
        Ok(file::write(&runs.join(name), text.as_bytes())?)
    }

    /// The folders of all runs that were noted, also of those that are gone.
    ///
    /// # Errors
    ///
    /// If the store cannot be read.
    pub fn runs(&self) -> Result<Vec<PathBuf>, StoreError> {
        let runs = self.hidden(RUNS);
        let names = walk::names(&runs)?.into_iter();
        let read = |name: String| {
            let path = runs.join(name);
            let text = fs::read_to_string(&path).map_err(walk::read(&path))?;
            Ok(PathBuf::from(text))
        };
        names.map(read).collect()
    }

    /// Whether the store has an entry of this name.
    pub(super) fn holds(&self, name: &str) -> Result<bool, FileError> {
        if fs::symlink_metadata(self.root.join(name)).is_ok() {
            return Ok(true);
        }
        // An NFS client may cache for a minute that a name does not exist, but revalidates a folder that it lists.
        Ok(walk::names(&self.root)?.iter().any(|entry| entry == name))
    }

    pub(super) fn claim(&self) -> ClaimBy {
        self.claim
    }

    pub(super) fn work(&self) -> PathBuf {
        self.hidden("work")
    }

    pub(super) fn lease(&self) -> PathBuf {
        self.hidden("lease")
    }

    pub(super) fn failed(&self) -> PathBuf {
        self.hidden("failed")
    }

    pub(super) fn trash(&self) -> PathBuf {
        self.hidden("trash")
    }

    /// The folders of the store's own files.
    pub(super) fn own(&self) -> [PathBuf; 4] {
        [
            self.root.join(HIDDEN),
            self.hidden(RUNS),
            self.lease(),
            self.failed(),
        ]
    }

    pub(super) fn fingerprints(&self) -> PathBuf {
        self.hidden("fingerprints.json")
    }

    fn hidden(&self, name: &str) -> PathBuf {
        self.root.join(HIDDEN).join(name)
    }
}

fn read_settings(path: &Path) -> Result<Option<ClaimBy>, StoreError> {
    let Some(bytes) = file::read_if_there(path)? else {
        return Ok(None);
    };
    let damaged = |problem: String| StoreError::Settings {
        path: path.to_owned(),
        problem,
    };
    let text = String::from_utf8(bytes).map_err(|error| damaged(error.to_string()))?;
    let table: toml::Table =
        toml::from_str(&text).map_err(|error| damaged(error.message().to_owned()))?;
    // Another format may have other keys, so the format is checked first.
    match table.get("format") {
        Some(format) if format.as_integer() == Some(FORMAT.into()) => {}
        Some(format) => {
            return Err(StoreError::Format {
                path: path.to_owned(),
                format: format.to_string(),
            });
        }
        None => return Err(damaged("`format` is missing".into())),
    }
    let settings: Settings =
        toml::from_str(&text).map_err(|error| damaged(error.message().to_owned()))?;
    Ok(Some(settings.claim))
}

#[cfg(test)]
mod tests;
