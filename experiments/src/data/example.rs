//! One example of a sentence or sentence-pair task, as text.

use serde::Serialize;

/// What a model should answer, and what it answered.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub enum Label {
    /// The class, `0..C`.
    Class(usize),
    /// The value of a regression task.
    Score(f32),
}

/// One sentence or pair of sentences with its label.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Example {
    /// The first, or only, sentence.
    pub first: String,
    /// The second sentence of a pair.
    pub second: Option<String>,
    /// What its file calls its index; without one its line, from 0 after the header.
    pub row: usize,
    /// The label; `None` where the file hides it, as GLUE's test files do.
    pub label: Option<Label>,
}
