//! What a run was made with.

use std::{fs, path::Path};

use serde_json::{Map, Value};

use super::{LoadError, Stages, bytes, json};
use crate::report::data::Record;

/// The recipe, the starts and the fingerprints of the data.
pub fn read(run: &Path, stages: &Stages) -> Result<Record, LoadError> {
    let recipe = bytes(&run.join("recipe.toml"))?.unwrap_or_default();
    let mut starts: Vec<Map<String, Value>> =
        json(&run.join("environment.json"))?.unwrap_or_default();
    let folder = fs::read_dir(run.join("starts"))
        .into_iter()
        .flatten()
        .flatten();
    let mut files: Vec<_> = folder.map(|entry| entry.path()).collect();
    files.sort();
    for file in files {
        starts.extend(json::<Map<String, Value>>(&file)?);
    }
    let mut fingerprints = vec![];
    for (key, folder) in stages.all() {
        let Some(done) = json::<Value>(&folder.join("done.json"))? else {
            continue;
        };
        let data = done
            .get("document")
            .and_then(|document| document.get("data")?.as_str());
        let kind = key.rsplit_once('-').map_or(key, |(kind, _)| kind);
        if let Some(data) = data {
            let entry = (kind.to_owned(), data.to_owned());
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
