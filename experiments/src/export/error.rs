//! What an export can fail with.

use moebert_core::file::FileError;

use super::{
    long_table::TableError,
    mlflow::{MlflowError, TransportError},
    tensorboard::EventFileError,
};

/// A run that cannot be exported.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// A file cannot be read, written or understood.
    #[error(transparent)]
    File(#[from] FileError),
    /// A table cannot be made or written.
    #[error(transparent)]
    Table(#[from] TableError),
    /// An event file cannot be written.
    #[error(transparent)]
    Events(#[from] EventFileError),
    /// MLflow cannot be reached, or refuses something.
    #[error(transparent)]
    Mlflow(#[from] MlflowError),
    /// The address of MLflow is none.
    #[error(transparent)]
    Server(#[from] TransportError),
}
