//! A question with its passage and answers.

use std::ops::Range;

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

/// One question about one passage.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SquadExample {
    /// The question's identifier, unique in its file.
    pub id: String,
    /// The question.
    pub question: String,
    /// The passage.
    pub context: String,
    /// The accepted answers: one in training files, several in development files, none where the passage
    /// does not answer the question (2.0 only).
    pub answers: Vec<GoldAnswer>,
}

impl SquadExample {
    /// The bytes of the passage to learn as the answer: those of the first answer that stands where it
    /// should. Without such an answer, where the text of one first stands; `None` if it does not.
    pub fn answer_bytes(&self) -> Option<Range<usize>> {
        let found = || {
            let mut answers = self.answers.iter().filter(|answer| !answer.is_blank());
            answers.find_map(|answer| {
                let start = self.context.find(&answer.text)?;
                Some(start..start + answer.text.len())
            })
        };
        self.stated_bytes().or_else(found)
    }

    /// The bytes of the first answer that stands where it should.
    pub(super) fn stated_bytes(&self) -> Option<Range<usize>> {
        let mut answers = self.answers.iter().filter(|answer| !answer.is_blank());
        answers.find_map(|answer| answer.bytes(&self.context))
    }
}

/// An accepted answer: a piece of the passage.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GoldAnswer {
    /// The answer as it stands in the passage.
    pub text: String,
    /// Where it starts, in characters (Unicode scalar values) from the start of the passage; `None` if
    /// the file does not say.
    #[serde(rename = "answer_start", default, deserialize_with = "start")]
    pub start: Option<usize>,
}

impl GoldAnswer {
    /// The bytes of `context` that this answer takes, or `None` if the text does not stand there.
    pub fn bytes(&self, context: &str) -> Option<Range<usize>> {
        let rest = chars_from(context, self.start?)?;
        let start = context.len() - rest.len();
        rest.starts_with(&self.text)
            .then(|| start..start + self.text.len())
    }

    pub(super) fn is_blank(&self) -> bool {
        self.text.trim().is_empty()
    }
}

/// A position, which may be a float; `None` for everything else, such as null and -1.
fn start<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<usize>, D::Error> {
    let start = Value::deserialize(deserializer)?.as_f64();
    Ok(start
        .filter(|start| *start >= 0.0 && start.fract() == 0.0)
        .map(|start| start as usize))
}

/// What is left of `text` after its first `count` characters, or `None` if it has fewer.
pub(super) fn chars_from(text: &str, count: usize) -> Option<&str> {
    let mut chars = text.chars();
    match count.checked_sub(1) {
        Some(last) => chars.nth(last).map(|_| chars.as_str()),
        None => Some(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_beyond_the_passage_has_no_bytes() {
        let answer = |text: &str, start| GoldAnswer {
            text: text.into(),
            start: Some(start),
        };
        assert_eq!(answer("b", 1).bytes("ab"), Some(1..2));
        assert_eq!(answer("b", 0).bytes("ab"), None);
        assert_eq!(answer("b", 2).bytes("ab"), None);
        assert_eq!(answer("b", 3).bytes("ab"), None);
        assert_eq!(answer("b", usize::MAX).bytes("ab"), None);
    }
}
