//! The files of a tokenizer, which go along with a model.

use std::{io, path::Path};

use crate::file::{self, FileError};

/// The files of a tokenizer, which are carried over when a model is saved.
pub const TOKENIZER_FILES: [&str; 6] = [
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "vocab.txt",
    "vocab.json",
    "merges.txt",
];

/// Copies the [`TOKENIZER_FILES`] of a folder, as far as it has them.
///
/// # Errors
///
/// If one cannot be read or written.
pub fn copy_tokenizer(from: &Path, to: &Path) -> Result<(), FileError> {
    for name in TOKENIZER_FILES {
        match file::read(&from.join(name)) {
            Ok(bytes) => file::write(&to.join(name), &bytes)?,
            Err(FileError::Read { source, .. }) if source.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
