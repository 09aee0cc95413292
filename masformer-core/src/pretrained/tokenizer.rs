//! The files of a tokenizer, which go along with a model.

use std::path::Path;

use crate::file::{self, FileError};

/// The files that say how text becomes tokens, and with which of them a generation begins and ends. They are
/// carried over when a model is saved.
pub const TOKENIZER_FILES: [&str; 14] = [
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.txt",
    "vocab.json",
    "merges.txt",
    "tokenizer.model",
    "spiece.model",
    "spm.model",
    "sentencepiece.bpe.model",
    "chat_template.jinja",
    "chat_template.json",
    "generation_config.json",
];

/// Checks that the [`TOKENIZER_FILES`] that a folder has are not pointers of Git LFS.
///
/// # Errors
///
/// If one is, or cannot be read.
pub fn check_tokenizer(dir: &Path) -> Result<(), FileError> {
    let files = TOKENIZER_FILES.map(|name| dir.join(name));
    let mut there = files.iter().filter(|path| path.exists());
    there.try_for_each(|path| file::check_readable(path))
}

/// Copies the [`TOKENIZER_FILES`] of a folder, as far as it has them.
///
/// # Errors
///
/// If one cannot be read or written.
pub fn copy_tokenizer(from: &Path, to: &Path) -> Result<(), FileError> {
    for name in TOKENIZER_FILES {
        if let Some(bytes) = file::read_if_there(&from.join(name))? {
            file::write(&to.join(name), &bytes)?;
        }
    }
    Ok(())
}
