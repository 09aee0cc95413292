//! What can be wrong with a tokenizer.

use std::path::PathBuf;

use moebert_core::file::FileError;

use super::{TOKENIZER, VOCABULARY};
use crate::data::corpus::CorpusError;
use crate::data::text_tokenizer::{MERGES, VOCABULARY_JSON};

/// A tokenizer that cannot be loaded, used or saved.
#[derive(Debug, thiserror::Error)]
pub enum TokenizerError {
    /// A folder has no tokenizer.
    #[error("{} has neither {TOKENIZER} nor {VOCABULARY}", dir.display())]
    Missing {
        /// The folder.
        dir: PathBuf,
    },
    /// A folder has no tokenizer of a decoder.
    #[error("{} has neither {TOKENIZER} nor {VOCABULARY_JSON} with {MERGES}", dir.display())]
    MissingText {
        /// The folder.
        dir: PathBuf,
    },
    /// A file or folder cannot be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// A file's content is not what its name says.
    #[error("{} is malformed: {reason}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// A file says what another file, or the vocabulary, denies.
    #[error("{} {reason}", path.display())]
    Contradiction {
        /// The file.
        path: PathBuf,
        /// What it says, and what is said elsewhere.
        reason: String,
    },
    /// A special token is not in the vocabulary.
    #[error("the vocabulary has no {token}, which BERT needs")]
    SpecialToken {
        /// The token.
        token: String,
    },
    /// The model has no embedding for some tokens.
    #[error(
        "the tokenizer has {vocabulary} tokens, the model's embedding only {embedding}: they do not belong together"
    )]
    Embedding {
        /// Number of tokens.
        vocabulary: usize,
        /// Rows of the embedding.
        embedding: usize,
    },
    /// There is no room for text beside the special tokens.
    #[error("a length of {max_length} has no room for two sentences; at least {least} is needed")]
    MaxLength {
        /// The length asked for.
        max_length: usize,
        /// The least length.
        least: usize,
    },
    /// A new vocabulary cannot hold the special tokens and all characters.
    #[error(
        "a vocabulary of {vocab_size} tokens is too small: special tokens and characters are {needed}"
    )]
    VocabSize {
        /// The size asked for.
        vocab_size: usize,
        /// The least size.
        needed: usize,
    },
    /// The text to make a vocabulary from cannot be read.
    #[error(transparent)]
    Corpus(#[from] CorpusError),
    /// The tokenizer refused its input.
    #[error("cannot tokenize: {0}")]
    Encode(tokenizers::Error),
}
