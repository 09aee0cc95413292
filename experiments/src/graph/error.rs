//! Errors of a store.

use std::path::PathBuf;

use moebert_core::file::FileError;

use super::key::{Key, KeyError};

/// Why a store, or something in it, cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A file cannot be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// The key of a stage cannot be computed.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The folder has other content.
    #[error(
        "{} is not a store: it {problem}; choose a new or empty folder",
        path.display()
    )]
    NotAStore {
        /// The folder.
        path: PathBuf,
        /// What it holds instead.
        problem: String,
    },
    /// Another version of Kiln created the store.
    #[error(
        "{}: format {format} is unknown, expected 1; use the version of Kiln that created this store, or another store",
        path.display()
    )]
    Format {
        /// The settings of the store.
        path: PathBuf,
        /// The format that they name.
        format: String,
    },
    /// The settings of the store are damaged.
    #[error(
        "{}: {problem}; delete this file and run the command again",
        path.display()
    )]
    Settings {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// The file system cannot hold a store.
    #[error(
        "{} is on a file system that cannot hold a store: {problem}; use a local disk or NFS",
        path.display()
    )]
    FileSystem {
        /// The folder.
        path: PathBuf,
        /// What is wrong with the file system.
        problem: &'static str,
    },
    /// A record is damaged, missing or that of another stage.
    #[error(
        "{}: {problem}; delete {} and run the command again",
        path.display(),
        delete.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
        /// What to delete, so that Kiln creates it again.
        delete: PathBuf,
    },
    /// An entry of a stage's folder is neither a file nor a folder, or its name is not UTF-8.
    #[error(
        "{} cannot be kept in a store, which holds plain files with UTF-8 names",
        path.display()
    )]
    Entry {
        /// The entry.
        path: PathBuf,
    },
    /// The caller published the result of another stage.
    #[error("the result of {found} cannot be published as {claimed}")]
    OtherStage {
        /// The stage that was claimed.
        claimed: Key,
        /// The key of the result's document.
        found: Key,
    },
}
