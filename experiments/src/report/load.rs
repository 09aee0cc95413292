//! Fills the data of a report from a run folder.

mod curves;
mod evaluations;
mod folder;
mod importance;
mod record;
mod tensors;
mod texts;

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use serde::de::DeserializeOwned;

use crate::report::data::ReportData;
use folder::Stages;

/// A run folder that cannot be reported.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The folder has no results.
    #[error("{} has no results.json; a report needs the folder of a run that has ended", .0.display())]
    NoRun(PathBuf),
    /// A file is there, but cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file does not hold what kiln writes.
    #[error("{} is not what kiln writes: {source}", path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// The results are of a version that kiln no longer writes.
    #[error("{} was written by another version of kiln; run the same command again", .0.display())]
    Version(PathBuf),
}

/// Reads a run folder. What is not there is left empty, but for the results.
///
/// # Errors
///
/// If the folder has no results, or a file cannot be read or is damaged.
pub fn load(run: &Path) -> Result<ReportData, LoadError> {
    let path = run.join("results.json");
    let results: Option<serde_json::Value> = json(&path)?;
    let results = results.ok_or_else(|| LoadError::NoRun(run.to_owned()))?;
    if results.get("schema").and_then(serde_json::Value::as_u64) != Some(1) {
        return Err(LoadError::Version(path));
    }
    let results = serde_json::from_value(results);
    let results = results.map_err(|source| LoadError::Json { path, source })?;
    let stages = Stages::of(run);
    let mut data = ReportData {
        timings: json(&run.join("timings.json"))?,
        curves: curves::read(&run.join("metrics.jsonl"))?,
        importance: importance::read(&results, &stages),
        record: record::read(run, &stages)?,
        results,
        ..ReportData::default()
    };
    evaluations::read(&mut data, &stages)?;
    texts::read(&mut data);
    Ok(data)
}

/// The bytes of a file; none where it is not there.
fn bytes(path: &Path) -> Result<Option<Vec<u8>>, LoadError> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if is_absent(&error) => Ok(None),
        Err(source) => Err(LoadError::Io {
            path: path.to_owned(),
            source,
        }),
    }
}

fn is_absent(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
    )
}

/// The value of a JSON file; none where it is not there.
fn json<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, LoadError> {
    let Some(bytes) = bytes(path)? else {
        return Ok(None);
    };
    let value = serde_json::from_slice(&bytes);
    value.map(Some).map_err(|source| LoadError::Json {
        path: path.to_owned(),
        source,
    })
}

/// The values of a file of JSON lines; none where it is not there.
fn lines<T: DeserializeOwned>(path: &Path) -> Result<Vec<T>, LoadError> {
    let Some(bytes) = bytes(path)? else {
        return Ok(vec![]);
    };
    let lines = bytes.split(|byte| *byte == b'\n');
    let lines = lines.filter(|line| !line.is_empty());
    let values = lines.map(|line| serde_json::from_slice(line));
    let values: Result<Vec<T>, _> = values.collect();
    values.map_err(|source| LoadError::Json {
        path: path.to_owned(),
        source,
    })
}
