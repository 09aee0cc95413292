//! What a run was made with.

use std::{fs, path::Path};

use moebert_core::file::{self, FileError};
use serde_json::{Map, Value};

use super::Stages;
use crate::{
    json_file,
    record::{ENVIRONMENT, RECIPE},
    report::data::Record,
};

/// The recipe, the starts and the fingerprints of the data.
pub fn read(run: &Path, stages: &Stages) -> Result<Record, FileError> {
    let recipe = file::read_if_there(&run.join(RECIPE))?.unwrap_or_default();
    let mut starts: Vec<Map<String, Value>> =
        json_file::read_if_there(&run.join(ENVIRONMENT))?.unwrap_or_default();
    let folder = fs::read_dir(run.join("starts"))
        .into_iter()
        .flatten()
        .flatten();
    let mut files: Vec<_> = folder.map(|entry| entry.path()).collect();
    files.sort();
    for start in files {
        starts.extend(json_file::read_if_there::<Map<String, Value>>(&start)?);
    }
    let mut fingerprints = vec![];
    for (key, folder) in stages.all() {
        let Some(done) = json_file::read_if_there::<Value>(&folder.join("done.json"))? else {
            continue;
        };
        let data = done
            .get("document")
            .and_then(|document| document.get("data")?.as_str());
        if let Some(data) = data {
            let entry = (key.kind().to_owned(), data.to_owned());
            if !fingerprints.contains(&entry) {
                fingerprints.push(entry);
            }
        }
    }
    fingerprints.sort();
    Ok(Record {
        recipe: String::from_utf8_lossy(&recipe).into_owned(),
        starts,
        fingerprints,
    })
}
