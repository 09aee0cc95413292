//! The files that hold a checkpoint's weights.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fs::File,
    path::{Path, PathBuf},
};

use burn::{
    store::{ModuleStore, PytorchStore, SafetensorsStore, burn_pack},
    tensor::DType,
};
use safetensors::{Dtype, tensor::TensorView};
use serde::Deserialize;

use super::error::{FolderError, StoreError};
use crate::file::{self, FileError};

/// The name of the weights that we write.
pub(super) const SAFETENSORS: &str = "model.safetensors";
const PYTORCH: &str = "pytorch_model.bin";

/// A tensor in a file; its values are read when it is used.
pub(super) struct StoredTensor {
    pub(super) path: PathBuf,
    pub(super) tensor: burn_pack::Tensor,
}

/// The index of a checkpoint in several parts.
#[derive(Deserialize)]
struct Index {
    /// The part that holds each tensor.
    weight_map: BTreeMap<String, String>,
}

/// Finds the weights of a folder and lists their tensors; safetensors go before pickled files.
pub(super) fn read(dir: &Path) -> Result<Vec<StoredTensor>, FolderError> {
    for name in [SAFETENSORS, PYTORCH] {
        let path = dir.join(name);
        if path.exists() {
            return read_file(&path);
        }
        let index = dir.join(format!("{name}.index.json"));
        if index.exists() {
            return read_parts(dir, &index);
        }
    }
    Err(FolderError::NoWeights {
        dir: dir.to_owned(),
    })
}

fn read_parts(dir: &Path, index: &Path) -> Result<Vec<StoredTensor>, FolderError> {
    let Index { weight_map } =
        serde_json::from_slice(&file::read(index)?).map_err(|source| FileError::Json {
            path: index.to_owned(),
            source,
        })?;
    let parts: BTreeSet<_> = weight_map.into_values().collect();
    let mut tensors = vec![];
    for part in parts {
        tensors.extend(read_file(&dir.join(part))?);
    }
    Ok(tensors)
}

fn read_file(path: &Path) -> Result<Vec<StoredTensor>, FolderError> {
    let path = path.to_owned();
    // The stores' errors would not say that a file cannot be opened.
    if let Err(source) = File::open(&path) {
        return Err(FileError::Read { path, source }.into());
    }
    let is_pickled = path.extension().is_some_and(|extension| extension == "bin");
    let tensors = if is_pickled {
        // Numbers in names are layers, not places in a list with gaps to close.
        let mut store = PytorchStore::from_file(&path).map_indices_contiguous(false);
        let tensors = store.get_all_tensors().cloned();
        tensors.map_err(StoreError::from)
    } else {
        let mut store = SafetensorsStore::from_file(&path);
        let tensors = store.get_all_tensors().cloned();
        tensors.map_err(StoreError::from)
    };
    match tensors {
        Ok(tensors) => Ok(tensors
            .into_values()
            .map(|tensor| StoredTensor {
                path: path.clone(),
                tensor,
            })
            .collect()),
        Err(source) => Err(FolderError::Weights { path, source }),
    }
}

/// Writes tensors of floats as a safetensors file.
pub(super) fn write(path: &Path, tensors: Vec<burn_pack::Tensor>) -> Result<(), FolderError> {
    let error = |source: StoreError| FolderError::WriteWeights {
        path: path.to_owned(),
        source,
    };
    let tensors = tensors
        .into_iter()
        .map(burn_pack::Tensor::into_parts)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|source| error(source.into()))?;
    let views = tensors
        .iter()
        .map(|(name, dtype, shape, _, bytes)| {
            TensorView::new(float(*dtype), shape.to_vec(), bytes).map(|view| (name, view))
        })
        .collect::<Result<Vec<_>, _>>();
    // Transformers asks for this key.
    let metadata = HashMap::from([("format".to_owned(), "pt".to_owned())]);
    let bytes = views
        .and_then(|views| safetensors::serialize(views, Some(metadata)))
        .map_err(|source| error(source.into()))?;
    Ok(file::write(path, &bytes)?)
}

fn float(dtype: DType) -> Dtype {
    match dtype {
        DType::F16 => Dtype::F16,
        DType::BF16 => Dtype::BF16,
        DType::F64 => Dtype::F64,
        _ => Dtype::F32,
    }
}
