//! What a token file was made of.

use std::{ops::Range, path::Path};

use moebert_core::file::{self, FileError};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::TokenFileError;
use crate::data::{
    corpus::{Corpus, Document},
    text_tokenizer::TextTokenizer,
    tokenizer::TokenizerError,
};

/// The form of the files that this program writes and reads.
const VERSION: u64 = 1;

/// The JSON file beside the tokens.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenFileHeader {
    version: u64,
    /// Number of tokens of the vocabulary, `V`.
    pub vocabulary: usize,
    /// The id of the token after each document.
    pub end_id: u32,
    /// [`TextTokenizer::fingerprint`] of the tokenizer.
    pub tokenizer: String,
    /// Number of tokens in the file.
    pub tokens: usize,
    /// The documents in their order; at least one.
    pub documents: Vec<StoredDocument>,
}

/// A document, and the file that it was read from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StoredDocument {
    /// The name of the file, without its folder.
    pub file: String,
    /// The size of the text in bytes.
    pub bytes: u64,
    /// When the file was last changed, in nanoseconds since 1970.
    pub modified: u64,
    /// The position of the first token.
    pub start: usize,
}

impl TokenFileHeader {
    /// The header of a corpus whose documents begin at `starts`, with `tokens` tokens in all.
    pub(super) fn new(
        corpus: &Corpus,
        tokenizer: &TextTokenizer,
        starts: &[usize],
        tokens: usize,
    ) -> Result<Self, TokenizerError> {
        let documents = corpus.documents().iter().zip(starts);
        let documents = documents.map(|(document, start)| StoredDocument {
            file: document.name(),
            bytes: document.bytes(),
            modified: document.modified(),
            start: *start,
        });
        Ok(Self {
            version: VERSION,
            vocabulary: tokenizer.vocab_size(),
            end_id: tokenizer.end_id(),
            tokenizer: tokenizer.fingerprint()?,
            tokens,
            documents: documents.collect(),
        })
    }

    /// Reads and checks a header.
    pub(super) fn load(path: &Path) -> Result<Self, TokenFileError> {
        let bytes = file::read(path)?;
        let json = |source| FileError::Json {
            path: path.to_owned(),
            source,
        };
        // The version comes first: the other keys are what it says they are.
        let value: Value = serde_json::from_slice(&bytes).map_err(json)?;
        if let Some(found) = value["version"].as_u64().filter(|found| *found != VERSION) {
            return Err(TokenFileError::Version {
                path: path.to_owned(),
                found,
                expected: VERSION,
            });
        }
        let header: Self = serde_json::from_value(value).map_err(json)?;
        let starts = header.documents.iter().map(|document| document.start);
        let ordered = starts
            .clone()
            .chain([header.tokens])
            .is_sorted_by(|a, b| a < b);
        if starts.min() != Some(0) || !ordered {
            let problem = format!(
                "must begin with token 0, rise, and end before token {}",
                header.tokens
            );
            return Err(FileError::entry(path, "documents", problem).into());
        }
        Ok(header)
    }

    /// The bytes of a header.
    pub(super) fn json(&self) -> String {
        format!("{:#}\n", serde_json::json!(self))
    }

    /// Whether the file was made of this corpus by this tokenizer.
    pub(super) fn describes(
        &self,
        corpus: &Corpus,
        tokenizer: &TextTokenizer,
    ) -> Result<bool, TokenizerError> {
        let starts: Vec<usize> = self
            .documents
            .iter()
            .map(|document| document.start)
            .collect();
        let same_count = starts.len() == corpus.documents().len();
        Ok(same_count && *self == Self::new(corpus, tokenizer, &starts, self.tokens)?)
    }

    /// Whether one of the file's documents was this one, unchanged since.
    pub fn holds(&self, document: &Document) -> bool {
        // Documents are in the order of their names.
        let found = self
            .documents
            .binary_search_by(|stored| stored.file.cmp(&document.name()));
        found.is_ok_and(|index| {
            let stored = &self.documents[index];
            stored.bytes == document.bytes() && stored.modified == document.modified()
        })
    }

    /// Bytes of a token in the file: 2 or 4.
    pub(super) fn width(&self) -> usize {
        width(self.vocabulary)
    }

    /// The positions of a document's tokens; the last is the end-of-document token.
    ///
    /// # Panics
    ///
    /// If there is no such document.
    pub fn document(&self, index: usize) -> Range<usize> {
        let end = self.documents.get(index + 1);
        self.documents[index].start..end.map_or(self.tokens, |next| next.start)
    }
}

/// Bytes of a token of a vocabulary: 2 where the highest id fits, else 4.
pub(super) fn width(vocabulary: usize) -> usize {
    if vocabulary <= 1 << 16 { 2 } else { 4 }
}
