//! What can be wrong with texts and summaries.

use std::path::PathBuf;

use moebert_core::file::FileError;

use crate::data::tokenizer::TokenizerError;

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
    /// A file is not UTF-8.
    #[error("{}, line {line}: byte {offset} is not UTF-8 text", path.display())]
    Encoding {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// Where in the file the first byte is that is not text, from 0.
        offset: u64,
    },
    /// A line is not of the form.
    #[error(
        "{}, line {line}, column {column}: {reason}; expected an object with the texts `input` and \
         `output`",
        path.display()
    )]
    Json {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// The column, from 1.
        column: usize,
        /// What is wrong there.
        reason: String,
    },
    /// A text is missing or blank.
    #[error("{}, line {line}: no text in `{key}`; {} is needed", path.display(), what(key))]
    NoText {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// Where the text should be.
        key: &'static str,
    },
    /// Two lines with the same id have different texts.
    #[error(
        "{}, line {line}: the id `{id}` is that of line {first}, which has another `input`; \
         references of one text repeat it",
        path.display()
    )]
    OtherInput {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// The id.
        id: String,
        /// The line that had the id first.
        first: usize,
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

impl SummaryError {
    /// A line that is not JSON of the form.
    pub(super) fn json(path: PathBuf, line: usize, error: &serde_json::Error) -> Self {
        let message = error.to_string();
        // The only line that the parser saw has another number in the file.
        let reason = message.rsplit_once(" at line ").map(|(reason, _)| reason);
        Self::Json {
            path,
            line,
            column: error.column(),
            reason: reason.unwrap_or(&message).to_owned(),
        }
    }
}

fn what(key: &str) -> &'static str {
    if key == "output" {
        "a summary"
    } else {
        "a text"
    }
}
