//! The tensors of callbacks' states in a file, each as `CALLBACK/NAME`.

use std::{collections::BTreeMap, path::Path};

use burn::prelude::*;
use masformer_core::tensor_file::{self, TensorFile, Values};

use super::CheckpointError;
use crate::CallbackState;

/// Writes the tensors; no file if there are none.
pub(super) fn save(
    path: &Path,
    states: &BTreeMap<String, CallbackState>,
) -> Result<(), CheckpointError> {
    let mut tensors = vec![];
    for (callback, state) in states {
        for (name, tensor) in &state.tensors {
            #[expect(clippy::disallowed_methods, reason = "reads what a checkpoint holds")]
            let values: Vec<f32> = tensor.to_data().iter().collect();
            let shape = vec![values.len()];
            tensors.push((format!("{callback}/{name}"), shape, Values::F32(values)));
        }
    }
    if tensors.is_empty() {
        return Ok(());
    }
    let written = tensor_file::write(path, &tensors, vec![]);
    written.map_err(|error| CheckpointError::new(path, error))
}

/// Reads the tensors into the states of their callbacks, if there is a file.
pub(super) fn load(
    path: &Path,
    states: &mut BTreeMap<String, CallbackState>,
    device: &Device,
) -> Result<(), CheckpointError> {
    if !path.exists() {
        return Ok(());
    }
    let read = TensorFile::read(path);
    let file = read.map_err(|error| CheckpointError::new(path, error))?;
    for full in file.names() {
        let Some((callback, name)) = full.split_once('/') else {
            continue;
        };
        let tensor = file.f32::<1>(&full);
        let (shape, values) = tensor.map_err(|error| CheckpointError::new(path, error))?;
        let tensor = Tensor::from_data(TensorData::new(values, shape), device);
        let state = states.entry(callback.to_owned()).or_default();
        state.tensors.insert(name.to_owned(), tensor);
    }
    Ok(())
}
