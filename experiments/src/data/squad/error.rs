//! What can be wrong with `SQuAD` files.

use std::path::PathBuf;

use moebert_core::file::FileError;

use super::SquadVersion;
use crate::data::unreadable::TooManyUnreadable;

/// Why a `SQuAD` file was refused.
#[derive(Debug, thiserror::Error)]
pub enum SquadError {
    /// The file cannot be read.
    #[error(transparent)]
    File(#[from] FileError),
    /// The file is not JSON, or has no articles.
    #[error("{}: the file is not in SQuAD's format", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// What was found there.
        source: serde_json::Error,
    },
    /// The file states the other version, and its questions are of that version.
    #[error(
        "{} states version {found:?} and {}, but SQuAD {expected} was asked for", path.display(),
        match expected {
            SquadVersion::V1 => "has questions without an answer",
            SquadVersion::V2 => "has neither questions without an answer nor is_impossible",
        }
    )]
    Version {
        /// The file.
        path: PathBuf,
        /// The version stated.
        found: String,
        /// The version asked for.
        expected: SquadVersion,
    },
    /// The file has no questions.
    #[error("{} has no questions", path.display())]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// Two questions share an identifier.
    #[error("{}: the question id {id:?} occurs twice; predictions could not be told apart", path.display())]
    DuplicateId {
        /// The file.
        path: PathBuf,
        /// The identifier.
        id: String,
    },
    /// Too many questions cannot be used.
    #[error(transparent)]
    Unreadable(#[from] TooManyUnreadable),
    /// There is no test split.
    #[error(
        "SQuAD {version} has no test split, as its answers are not public; choose train ({}) or dev ({}), \
         or put one of your own into {}",
        version.train_file(), version.dev_file(), version.test_file()
    )]
    NoTest {
        /// The version asked for.
        version: SquadVersion,
    },
}

/// Why a question cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum QuestionError {
    /// It is not what `SQuAD`'s format has there.
    #[error("not in SQuAD's format: {0}")]
    Format(serde_json::Error),
    /// It has no answers, and its version has no such questions.
    #[error("question {id:?} has no answers; SQuAD 1.1 needs at least one")]
    NoAnswers {
        /// The question.
        id: String,
    },
    /// Its answers contradict its flag.
    #[error("question {id:?} has {answers} answers and is_impossible {impossible}")]
    Contradiction {
        /// The question.
        id: String,
        /// How many answers it has.
        answers: usize,
        /// Whether it is marked impossible.
        impossible: bool,
    },
    /// No answer stands in the passage where it should.
    #[error(
        "answer {text:?} of question {id:?} does not stand at character {start} of its passage, \
         which has {found:?} there"
    )]
    Outside {
        /// The question.
        id: String,
        /// Its first answer.
        text: String,
        /// The answer's stated start in characters.
        start: usize,
        /// What the passage has there instead; empty beyond its end.
        found: String,
    },
    /// Nothing says where the answer starts.
    #[error("answer {text:?} of question {id:?} has no answer_start")]
    NoStart {
        /// The question.
        id: String,
        /// Its first answer.
        text: String,
    },
}
