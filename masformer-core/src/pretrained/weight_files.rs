//! The files that hold a checkpoint's weights.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    path::{Path, PathBuf},
};

use burn::{
    store::{ModuleStore, PytorchStore, SafetensorsStore, burn_pack},
    tensor::{Bytes, DType},
};
use safetensors::{Dtype, tensor::TensorView};
use serde::Deserialize;

use super::error::{FolderError, StoreError};
use crate::file::{self, FileError};

/// The name of the weights that we write.
pub(super) const SAFETENSORS: &str = "model.safetensors";
const PYTORCH: &str = "pytorch_model.bin";

/// The tensors of a folder.
pub(super) struct StoredTensors {
    pub(super) tensors: Vec<StoredTensor>,
    /// What wrappers of `PyTorch` modules put into the names, which is left out of [`StoredTensor::name`].
    pub(super) wrappers: Vec<&'static str>,
}

/// A tensor in a file; its values are read when it is used.
pub(super) struct StoredTensor {
    pub(super) path: PathBuf,
    /// Its name without wrappers; that of the tensor is the file's.
    pub(super) name: String,
    pub(super) tensor: burn_pack::Tensor,
}

/// What `DataParallel` and `DistributedDataParallel` put before each name.
const PARALLEL: &str = "module.";
/// What `torch.compile` puts into the names of the module that it compiled, and of those inside.
const COMPILED: &str = "_orig_mod.";

/// The index of a checkpoint in several parts.
#[derive(Deserialize)]
struct Index {
    /// The part that holds each tensor.
    weight_map: BTreeMap<String, String>,
}

/// Finds the weights of a folder and lists their tensors; safetensors go before pickled files.
pub(super) fn read(dir: &Path) -> Result<StoredTensors, FolderError> {
    let mut tensors = read_all(dir)?;
    let wrappers = unwrap(&mut tensors);
    Ok(StoredTensors { tensors, wrappers })
}

fn read_all(dir: &Path) -> Result<Vec<StoredTensor>, FolderError> {
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
    // The stores' errors would not say that a file cannot be opened.
    file::check_readable(path)?;
    let path = path.to_owned();
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
                name: tensor.name.clone(),
                tensor,
            })
            .collect()),
        Err(source) => Err(FolderError::Weights { path, source }),
    }
}

/// Takes wrappers out of the names, and says which there were.
fn unwrap(tensors: &mut [StoredTensor]) -> Vec<&'static str> {
    let mut wrappers = vec![];
    for tensor in tensors.iter_mut() {
        let parts = tensor.name.split_inclusive('.');
        let name: String = parts.filter(|part| *part != COMPILED).collect();
        if name != tensor.name {
            wrappers = vec![COMPILED];
            tensor.name = name;
        }
    }
    // A model may have a part of this name, but not one that has all of its weights.
    while let Some(names) = without_prefix(tensors, PARALLEL) {
        wrappers.push(PARALLEL);
        for (tensor, name) in tensors.iter_mut().zip(names) {
            tensor.name = name;
        }
    }
    wrappers.dedup();
    wrappers
}

/// The names without a prefix, if there are any and all have it.
fn without_prefix(tensors: &[StoredTensor], prefix: &str) -> Option<Vec<String>> {
    let names = tensors
        .iter()
        .map(|tensor| tensor.name.strip_prefix(prefix));
    let names: Option<Vec<String>> = names.map(|name| name.map(str::to_owned)).collect();
    names.filter(|names| !names.is_empty())
}

/// Writes tensors as a safetensors file.
pub(super) fn write(path: &Path, tensors: Vec<burn_pack::Tensor>) -> Result<(), FolderError> {
    let error = |source: StoreError| FolderError::WriteWeights {
        path: path.to_owned(),
        source,
    };
    let tensors = tensors
        .into_iter()
        .map(burn_pack::Tensor::into_parts)
        .map(|parts| {
            let (name, dtype, shape, _, bytes) = parts?;
            let (dtype, bytes) = stored(dtype, bytes);
            Ok((name, dtype, shape, bytes))
        })
        .collect::<Result<Vec<_>, StoreError>>()
        .map_err(error)?;
    let views = tensors
        .iter()
        .map(|(name, dtype, shape, bytes)| {
            TensorView::new(*dtype, shape.to_vec(), bytes).map(|view| (name, view))
        })
        .collect::<Result<Vec<_>, _>>();
    // Transformers asks for this key.
    let metadata = HashMap::from([("format".to_owned(), "pt".to_owned())]);
    let bytes = views
        .and_then(|views| safetensors::serialize(views, Some(metadata)))
        .map_err(|source| error(source.into()))?;
    Ok(file::write(path, &bytes)?)
}

/// The type and the bytes of numbers in a file. Whole numbers are int32, which every device has.
fn stored(dtype: DType, bytes: Bytes) -> (Dtype, Bytes) {
    let dtype = match dtype {
        DType::F16 => Dtype::F16,
        DType::BF16 => Dtype::BF16,
        DType::F64 => Dtype::F64,
        DType::I32 => Dtype::I32,
        DType::I64 => {
            let (numbers, _) = bytes.as_chunks();
            let numbers = numbers
                .iter()
                .map(|number| i64::from_le_bytes(*number) as i32);
            let numbers = numbers.flat_map(i32::to_le_bytes).collect();
            return (Dtype::I32, Bytes::from_bytes_vec(numbers));
        }
        _ => Dtype::F32,
    };
    (dtype, bytes)
}
