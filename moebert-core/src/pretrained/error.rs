//! What can be wrong with a folder of a BERT.

use std::path::PathBuf;

use masformer_core::pretrained::FolderError;

use crate::file::{FileError, shorten};

/// A Hugging Face folder of a BERT that cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum PretrainedError {
    /// Configuration or weights cannot be read or written, or do not fit together.
    #[error(transparent)]
    Folder(#[from] FolderError),
    /// Weights of the head or the pooler are missing, so the model was not trained for the task.
    #[error("{} lacks weights of the head: {}; fine-tune it first", dir.display(), shorten(tensors))]
    Untrained {
        /// The folder.
        dir: PathBuf,
        /// The missing names.
        tensors: Vec<String>,
    },
    /// A model without adapters is to be saved as a folder of adapters.
    #[error("the model has no low-rank adapters to save")]
    NoAdapters,
    /// Adapters are to be given to a model with weights of other forms.
    #[error(
        "the model has weights that are no plain matrices, and adapters need a model whose weights all are"
    )]
    AdapterOfForms,
    /// A model whose adapters PEFT could not attach to a model of Transformers.
    #[error(
        "the low-rank adapter of `{weight}` cannot be saved for PEFT: the model of Transformers has no adapter there; save \
         the merged model instead"
    )]
    AdapterWithoutName {
        /// The weight, by its name in the model.
        weight: String,
    },
    /// Expert files and model do not belong together.
    #[error("a model with expert layers is saved with its expert files, a dense one without")]
    ExpertFiles,
}

impl From<FileError> for PretrainedError {
    fn from(error: FileError) -> Self {
        Self::Folder(error.into())
    }
}
