//! Tells whether a file was replaced without reading it.

use std::{fs, io::ErrorKind, path::Path, time::SystemTime};

use moebert_core::file::FileError;

use super::walk;

/// What changes when a file is replaced: its length and when it was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    length: u64,
    modified: Option<SystemTime>,
}

impl Stamp {
    /// That of a file; `None` if there is no such file.
    ///
    /// # Errors
    ///
    /// If the system does not say.
    pub fn of(path: &Path) -> Result<Option<Self>, FileError> {
        match fs::metadata(path) {
            Ok(file) => Ok(Some(Self {
                length: file.len(),
                modified: file.modified().ok(),
            })),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(walk::read(path)(error)),
        }
    }
}
