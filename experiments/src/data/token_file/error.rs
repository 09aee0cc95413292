//! What can be wrong with a token file.

use std::path::PathBuf;

use moebert_core::file::FileError;

use crate::data::{corpus::CorpusError, tokenizer::TokenizerError};

/// A token file that cannot be made or read.
#[derive(Debug, thiserror::Error)]
pub enum TokenFileError {
    /// A file cannot be read, written or understood.
    #[error(transparent)]
    File(#[from] FileError),
    /// The corpus cannot be read.
    #[error(transparent)]
    Corpus(#[from] CorpusError),
    /// The corpus cannot be tokenized.
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
    /// The file is of another version of this program.
    #[error("{}: version {found}; this program reads version {expected}", path.display())]
    Version {
        /// The header.
        path: PathBuf,
        /// The version that it names.
        found: u64,
        /// The version that is read here.
        expected: u64,
    },
    /// The file is shorter or longer than its header says.
    #[error("{} has {found} bytes, its header says {expected}; delete it to recreate it", path.display())]
    Length {
        /// The tokens.
        path: PathBuf,
        /// The bytes that it has.
        found: u64,
        /// The bytes that it should have.
        expected: u64,
    },
    /// The file holds a number that is no token.
    #[error("{}: token {position} is {id}, but there are only {vocabulary} tokens; delete it to recreate it", path.display())]
    Damaged {
        /// The tokens.
        path: PathBuf,
        /// The position of the token, from 0.
        position: usize,
        /// What is there.
        id: u32,
        /// Number of tokens of the vocabulary.
        vocabulary: usize,
    },
}
