//! What can be wrong with a Hugging Face folder.

use std::path::PathBuf;

use super::report::Mismatch;
use crate::file::{FileError, shorten};

/// Why the store of a weight file failed.
pub(super) type StoreError = Box<dyn std::error::Error + Send + Sync>;

/// A Hugging Face folder that cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    /// A file cannot be read or written, is damaged, or holds a wrong value.
    #[error(transparent)]
    File(#[from] FileError),
    /// The folder has no file of weights.
    #[error(
        "{} holds no weights: expected model.safetensors or pytorch_model.bin, or the index of its \
         parts",
        dir.display()
    )]
    NoWeights {
        /// The folder.
        dir: PathBuf,
    },
    /// A file of weights is truncated or of another format.
    #[error("{} is truncated or not of its format: {source}", path.display())]
    Weights {
        /// The file.
        path: PathBuf,
        /// Why.
        source: StoreError,
    },
    /// A file of weights cannot be written.
    #[error("cannot write {}: {source}", path.display())]
    WriteWeights {
        /// The file.
        path: PathBuf,
        /// Why.
        source: StoreError,
    },
    /// A tensor does not have the shape that the configuration asks for.
    #[error(
        "{}: `{}` has shape {:?}; config.json asks for {:?}",
        path.display(), mismatch.name, mismatch.found, mismatch.expected
    )]
    Shape {
        /// The file of weights.
        path: PathBuf,
        /// The tensor and both shapes.
        mismatch: Mismatch,
    },
    /// A tensor cannot be used as a weight.
    #[error("{}: `{tensor}` cannot be used: {problem}", path.display())]
    Tensor {
        /// The file of weights.
        path: PathBuf,
        /// The name in the file.
        tensor: String,
        /// What is wrong with it.
        problem: String,
    },
    /// Weights that cannot start anew are missing.
    #[error("{} lacks weights of the {part}: {}", dir.display(), shorten(tensors))]
    Missing {
        /// The folder.
        dir: PathBuf,
        /// What the weights belong to.
        part: &'static str,
        /// The missing names.
        tensors: Vec<String>,
    },
}
