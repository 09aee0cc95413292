//! Fills the data of a report from a run folder.

mod curves;
mod evaluations;
mod folder;
mod importance;
mod layers;
mod record;
mod texts;

use std::{
    io,
    path::{Path, PathBuf},
};

use moebert_core::file::FileError;
use serde_json::Value;

use crate::{
    json_file,
    record::{METRICS, RESULTS},
    report::data::ReportData,
    results::{Results, SCHEMA, Timings},
};
use folder::Stages;

/// A run folder that cannot be reported.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The folder has no results.
    #[error("{} has no results.json; a report needs the folder of a run that has ended", .0.display())]
    NoRun(PathBuf),
    /// A file is there, but cannot be read, or does not hold what kiln writes.
    #[error(transparent)]
    File(#[from] FileError),
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
    let results = results(run)?;
    let stages = Stages::of(run);
    let mut data = ReportData {
        timings: Timings::read_if_there(run)?,
        curves: curves::read(&run.join(METRICS))?,
        importance: importance::read(&results, &stages),
        layers: layers::read(&results, &stages)?,
        record: record::read(run, &stages)?,
        results,
        ..ReportData::default()
    };
    evaluations::read(&mut data, &stages)?;
    texts::read(&mut data);
    Ok(data)
}

fn results(run: &Path) -> Result<Results, LoadError> {
    let path = run.join(RESULTS);
    let value: Value = match json_file::read(&path) {
        Err(FileError::Read { source, .. }) if is_absent(&source) => {
            return Err(LoadError::NoRun(run.to_owned()));
        }
        value => value?,
    };
    if value["schema"] != SCHEMA {
        return Err(LoadError::Version(path));
    }
    Results::of_file(&path).map_err(|_| LoadError::Version(path))
}

fn is_absent(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
    )
}
