//! What can be wrong with texts and summaries.

use std::path::PathBuf;

use moebert_core::file::FileError;

use crate::data::{tokenizer::TokenizerError, unreadable::TooManyUnreadable};

/// Texts and summaries that cannot be read or used.
#[derive(Debug, thiserror::Error)]
pub enum SummaryError {
    /// A file cannot be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// The split has no file.
    #[error("{} has no {}", dir.display(), files.join(" or "))]
    NoFile {
        /// The folder.
        dir: PathBuf,
        /// The names that the file may have.
        files: &'static [&'static str],
    },
    /// A file has too many lines that cannot be used.
    #[error(transparent)]
    Unreadable(#[from] TooManyUnreadable),
    /// No text of a file has a summary.
    #[error("{} has no summaries to compare with", path.display())]
    NoSummaries {
        /// The file.
        path: PathBuf,
    },
    /// A file has no lines.
    #[error("{} has no examples", path.display())]
    NoExamples {
        /// The file.
        path: PathBuf,
    },
    /// There is no room for a text beside its summary.
    #[error(
        "a length of {length} tokens has no room for a text: the summary takes {summary}, the \
         separator {separator}; expected at least {}",
        summary.saturating_add(*separator).saturating_add(1)
    )]
    Length {
        /// Tokens of the sequence.
        length: usize,
        /// Tokens of the summary.
        summary: usize,
        /// Tokens of the separator.
        separator: usize,
    },
    /// Summaries are to have no tokens.
    #[error("a summary of 0 tokens; expected at least 1")]
    NoTokens,
    /// The tokenizer fails.
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
}

/// A line that cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum LineError {
    /// It is not UTF-8.
    #[error("line {line}: byte {offset} is not UTF-8 text")]
    Encoding {
        /// The line, from 1.
        line: usize,
        /// Where in the file the first byte is that is not text, from 0.
        offset: u64,
    },
    /// It is not of the form.
    #[error(
        "line {line}, column {column}: {reason}; expected an object with the texts `input` and \
         `output`"
    )]
    Json {
        /// The line, from 1.
        line: usize,
        /// The column, from 1.
        column: usize,
        /// What is wrong there.
        reason: String,
    },
    /// It has no text.
    #[error("line {line}: no text in `input`; a text is needed")]
    NoInput {
        /// The line, from 1.
        line: usize,
    },
    /// It has no summary.
    #[error("line {line}: no text in `output`; a summary is needed")]
    NoOutput {
        /// The line, from 1.
        line: usize,
    },
    /// Another line with the same id has another text.
    #[error(
        "line {line}: the id `{id}` is that of line {first}, which has another `input`; references \
         of one text repeat it"
    )]
    OtherInput {
        /// The line, from 1.
        line: usize,
        /// The id.
        id: String,
        /// The line that had the id first.
        first: usize,
    },
}

impl LineError {
    /// A line that is not JSON of the form.
    pub fn json(line: usize, error: &serde_json::Error) -> Self {
        let message = error.to_string();
        // The only line that the parser saw has another number in the file.
        let reason = message.rsplit_once(" at line ").map(|(reason, _)| reason);
        Self::Json {
            line,
            column: error.column(),
            reason: reason.unwrap_or(&message).to_owned(),
        }
    }
}
