//! The files in a model's folder that determine what it computes.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use moebert_core::{
    expert_files::{SETTINGS_FILE, TENSORS_FILE},
    file,
    pretrained::{CONFIG_FILE, TOKENIZER_FILES},
};
use serde::Deserialize;

use super::FingerprintError;
use crate::{json_file, task_settings::TASK_FILE};

/// In order of preference; each is one file, or an index that names the files of its parts.
const WEIGHTS: [&str; 2] = ["model.safetensors", "pytorch_model.bin"];
/// Optional, besides the tokenizer: experts and task.
const OTHERS: [&str; 3] = [SETTINGS_FILE, TENSORS_FILE, TASK_FILE];

/// The index of weights in several files.
#[derive(Deserialize)]
struct Index {
    /// The file that holds each tensor.
    weight_map: BTreeMap<String, String>,
}

/// The files of a model that a stage may read.
pub(super) fn files(folder: &Path) -> Result<Vec<PathBuf>, FingerprintError> {
    let config = folder.join(CONFIG_FILE);
    file::check_readable(&config)?;
    let mut files = vec![config];
    files.extend(weights(folder)?);
    let others = TOKENIZER_FILES.iter().chain(&OTHERS);
    let others = others.map(|name| folder.join(name));
    files.extend(others.filter(|path| path.exists()));
    Ok(files)
}

fn weights(folder: &Path) -> Result<Vec<PathBuf>, FingerprintError> {
    for name in WEIGHTS {
        let whole = folder.join(name);
        if whole.exists() {
            return Ok(vec![whole]);
        }
        let path = folder.join(format!("{name}.index.json"));
        if let Some(index) = json_file::read_if_there::<Index>(&path)? {
            let parts: BTreeSet<_> = index.weight_map.into_values().collect();
            let parts = parts.into_iter().map(|part| folder.join(part));
            return Ok([path].into_iter().chain(parts).collect());
        }
    }
    Err(FingerprintError::NoWeights {
        folder: folder.to_owned(),
    })
}
