//! What can be wrong with GLUE data.

use std::path::PathBuf;

use super::{GlueTask, Split};
use crate::data::{
    tsv::{NotText, TsvError},
    unreadable::TooManyUnreadable,
};

/// GLUE data that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum GlueError {
    /// The task has no such split.
    #[error("{task} has no split `{split}`; it has {}", list(&task.splits()))]
    NoSplit {
        /// The task.
        task: GlueTask,
        /// The split.
        split: Split,
    },
    /// A file is not there.
    #[error("no file {}; {task} is read from {}", path.display(), list(&task.files()))]
    Missing {
        /// The file.
        path: PathBuf,
        /// The task.
        task: GlueTask,
    },
    /// A file is not readable.
    #[error(transparent)]
    Table(TsvError),
    /// A file has too many lines that are no examples.
    #[error(transparent)]
    Unreadable(#[from] TooManyUnreadable),
    /// A file has no examples.
    #[error("{}: no examples", path.display())]
    Empty {
        /// The file.
        path: PathBuf,
    },
}

fn list<T: ToString>(items: &[T]) -> String {
    items
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(", ")
}

/// A line that is no example.
#[derive(Debug, thiserror::Error)]
pub(super) enum LineError {
    /// It is not UTF-8.
    #[error(transparent)]
    Encoding(#[from] NotText),
    /// It has too few or too many cells.
    #[error("line {line}: expected {expected} cells between tabs, found {found}")]
    Cells {
        /// The line, from 1.
        line: usize,
        /// The number of columns.
        expected: usize,
        /// The number of cells in the line.
        found: usize,
    },
    /// Its label is none of the task's.
    #[error("line {line}: label `{value}` is not one of {expected}")]
    Label {
        /// The line, from 1.
        line: usize,
        /// The text in the label's column.
        value: String,
        /// What is allowed there.
        expected: String,
    },
}
