//! What can be wrong with a Hugging Face folder.

use std::path::PathBuf;

use super::report::Mismatch;
use crate::{
    file::{FileError, shorten},
    finite::NotFinite,
    mixer::MixerError,
    position::PositionError,
};

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
    /// A weight in a file is not finite.
    #[error(
        "{}: `{tensor}` holds {value}; the model diverged in training, or the file is damaged",
        path.display()
    )]
    NotFinite {
        /// The file of weights.
        path: PathBuf,
        /// The name in the file.
        tensor: String,
        /// What it holds.
        value: NotFinite,
    },
    /// A weight that would be saved is not finite.
    #[error("cannot write {}: `{tensor}` would hold {value}; the model has diverged", path.display())]
    Diverged {
        /// The file of weights.
        path: PathBuf,
        /// The name in the file.
        tensor: String,
        /// What it would hold.
        value: NotFinite,
    },
    /// Weights that cannot be newly initialised are missing.
    #[error("{} lacks weights of the {part}: {}", dir.display(), shorten(tensors))]
    Missing {
        /// The folder.
        dir: PathBuf,
        /// What the weights belong to.
        part: &'static str,
        /// The missing names.
        tensors: Vec<String>,
    },
    /// No architecture has this name.
    #[error("unknown model type \"{found}\": expected {known}")]
    UnknownModelType {
        /// The name.
        found: String,
        /// The names that there are.
        known: String,
    },
    /// An architecture has not what a configuration asks for.
    #[error("a `{model_type}` cannot have the `{field}` of this model: expected {needed}")]
    Foreign {
        /// The architecture.
        model_type: &'static str,
        /// The field of the configuration.
        field: String,
        /// What it would have to be.
        needed: String,
    },
    /// The model cannot have as many positions as are asked for.
    #[error("{}: {source}", dir.display())]
    Positions {
        /// The folder.
        dir: PathBuf,
        /// Why.
        source: PositionError,
    },
    /// There is not one span or mixer for each layer.
    #[error("{} has {layers} layers, and {given} {what} were given: expected one for each", dir.display())]
    Layers {
        /// The folder.
        dir: PathBuf,
        /// Its layers.
        layers: usize,
        /// What was given.
        what: &'static str,
        /// How many.
        given: usize,
    },
    /// The model cannot have a mixer.
    #[error("{}: {source}", dir.display())]
    Mixer {
        /// The folder.
        dir: PathBuf,
        /// Why.
        source: MixerError,
    },
    /// A model that was made here cannot have one of its mixers.
    #[error(transparent)]
    Misfit(#[from] MixerError),
    /// The folder has no weights for the mixers that it is loaded with.
    #[error(
        "{} lacks weights of the mixers: {}; train a model with them first, by a recipe's `mixers`",
        dir.display(), shorten(tensors)
    )]
    UntrainedMixers {
        /// The folder.
        dir: PathBuf,
        /// The missing names.
        tensors: Vec<String>,
    },
}
