//! The Stanford Question Answering Dataset, versions 1.1 (Rajpurkar et al. 2016, arXiv 1606.05250) and
//! 2.0 (Rajpurkar et al. 2018, arXiv 1806.03822), read from its official JSON files.
//!
//! [`read`] gives the questions, [`windows`] cuts them into model inputs, and [`spans`] turns the
//! model's logits back into answers, which [`crate::metric::squad`] scores.

use std::collections::HashSet;
use std::fmt;
use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

pub mod spans;
pub mod windows;

/// The two versions of the data set, which differ in their files and in how answers are scored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SquadVersion {
    /// `SQuAD` 1.1: every question has an answer in its passage.
    V1,
    /// `SQuAD` 2.0: adds questions that their passage does not answer.
    V2,
}

impl SquadVersion {
    /// The official name of the training file.
    pub fn train_file(self) -> String {
        format!("train-v{self}.json")
    }

    /// The official name of the development file.
    pub fn dev_file(self) -> String {
        format!("dev-v{self}.json")
    }
}

impl fmt::Display for SquadVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V1 => "1.1",
            Self::V2 => "2.0",
        })
    }
}

/// One question about one passage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SquadExample {
    /// The question's identifier, unique in its file.
    pub id: String,
    /// The question.
    pub question: String,
    /// The passage.
    pub context: String,
    /// The accepted answers: one in training files, several in development files, none if impossible.
    pub answers: Vec<Answer>,
    /// Whether the passage does not answer the question (2.0 only).
    pub impossible: bool,
}

/// An accepted answer: a piece of the passage.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Answer {
    /// The answer as it stands in the passage.
    pub text: String,
    /// Where it starts, in characters (Unicode scalar values) from the start of the passage.
    #[serde(rename = "answer_start")]
    pub start: usize,
}

impl Answer {
    /// The bytes of `context` that this answer takes, or `None` if the text does not stand there.
    pub fn bytes(&self, context: &str) -> Option<Range<usize>> {
        let rest = chars_from(context, self.start)?;
        let start = context.len() - rest.len();
        rest.starts_with(&self.text)
            .then(|| start..start + self.text.len())
    }
}

/// What is left of `text` after its first `count` characters, or `None` if it has fewer.
fn chars_from(text: &str, count: usize) -> Option<&str> {
    let mut chars = text.chars();
    match count.checked_sub(1) {
        Some(last) => chars.nth(last).map(|_| chars.as_str()),
        None => Some(text),
    }
}

/// Why a `SQuAD` file was refused.
#[derive(Debug, thiserror::Error)]
pub enum SquadError {
    /// The file cannot be read.
    #[error("cannot read the SQuAD file {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// The file is not JSON, or a place in it is not what `SQuAD`'s format has there.
    #[error("{}: {place} is not in SQuAD's format", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// The JSON path of the broken part.
        place: String,
        /// What was found there.
        source: serde_json::Error,
    },
    /// The file states another version.
    #[error("{} states version {found:?}, but SQuAD {expected} was asked for", path.display())]
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
    /// A question has no answers, or has some although it is marked impossible.
    #[error(
        "{}: question {id:?} has {answers} answers and is_impossible {impossible}; \
         SQuAD {version} needs {}", path.display(),
        if *.impossible && *.version == SquadVersion::V2 { "none" } else { "at least one and is_impossible false" }
    )]
    AnswerCount {
        /// The file.
        path: PathBuf,
        /// The question.
        id: String,
        /// How many answers it has.
        answers: usize,
        /// Whether it is marked impossible.
        impossible: bool,
        /// The version asked for.
        version: SquadVersion,
    },
    /// An answer does not stand in the passage where it should.
    #[error(
        "{}: answer {text:?} of question {id:?} does not stand at character {start} of its \
         passage, which has {found:?} there", path.display()
    )]
    AnswerOutside {
        /// The file.
        path: PathBuf,
        /// The question.
        id: String,
        /// The answer.
        text: String,
        /// Its stated start in characters.
        start: usize,
        /// What the passage has there instead; empty beyond its end.
        found: String,
    },
}

#[derive(Deserialize)]
struct Articles {
    version: Option<String>,
    data: Vec<Value>,
}

#[derive(Deserialize)]
struct Article {
    paragraphs: Vec<Value>,
}

#[derive(Deserialize)]
struct Paragraph {
    context: String,
    qas: Vec<Value>,
}

#[derive(Deserialize)]
struct Question {
    id: String,
    #[serde(rename = "question")]
    text: String,
    #[serde(default)]
    answers: Vec<Answer>,
    #[serde(default)]
    is_impossible: bool,
}

/// Reads a file in `SQuAD`'s format, in the file's order.
///
/// The passages are kept to the letter, leading blanks included, for answers count from their start.
/// A file that states no version is taken as `version`.
///
/// # Errors
///
/// If the file is missing, malformed, of another version or empty; if two questions share an
/// identifier; if an answer does not stand in its passage, or is missing, or should be.
pub fn read(path: &Path, version: SquadVersion) -> Result<Vec<SquadExample>, SquadError> {
    let file = fs::read(path).map_err(|source| SquadError::Read {
        path: path.into(),
        source,
    })?;
    // Level by level, so that an error can say where in the file it is.
    let articles: Articles =
        serde_json::from_slice(&file).map_err(|source| SquadError::Format {
            path: path.into(),
            place: "the file".into(),
            source,
        })?;
    if let Some(found) = articles.version
        && found.trim_start_matches('v') != version.to_string()
    {
        return Err(SquadError::Version {
            path: path.into(),
            found,
            expected: version,
        });
    }

    let mut examples = Vec::new();
    let mut ids = HashSet::new();
    for (a, article) in articles.data.into_iter().enumerate() {
        let place = format!("data[{a}]");
        let article: Article = parse(path, &place, article)?;
        for (p, paragraph) in article.paragraphs.into_iter().enumerate() {
            let place = format!("{place}.paragraphs[{p}]");
            let paragraph: Paragraph = parse(path, &place, paragraph)?;
            for (q, question) in paragraph.qas.into_iter().enumerate() {
                let place = format!("{place}.qas[{q}]");
                let question: Question = parse(path, &place, question)?;
                let example = SquadExample {
                    id: question.id,
                    question: question.text,
                    context: paragraph.context.clone(),
                    answers: question.answers,
                    impossible: question.is_impossible,
                };
                check_answers(path, version, &example)?;
                if !ids.insert(example.id.clone()) {
                    return Err(SquadError::DuplicateId {
                        path: path.into(),
                        id: example.id,
                    });
                }
                examples.push(example);
            }
        }
    }
    if examples.is_empty() {
        return Err(SquadError::Empty { path: path.into() });
    }
    Ok(examples)
}

fn parse<T: DeserializeOwned>(path: &Path, place: &str, value: Value) -> Result<T, SquadError> {
    serde_json::from_value(value).map_err(|source| SquadError::Format {
        path: path.into(),
        place: place.into(),
        source,
    })
}

fn check_answers(
    path: &Path,
    version: SquadVersion,
    example: &SquadExample,
) -> Result<(), SquadError> {
    let impossible = example.impossible && version == SquadVersion::V2;
    if impossible != example.answers.is_empty() {
        return Err(SquadError::AnswerCount {
            path: path.into(),
            id: example.id.clone(),
            answers: example.answers.len(),
            impossible: example.impossible,
            version,
        });
    }
    for answer in &example.answers {
        if answer.text.is_empty() || answer.bytes(&example.context).is_none() {
            let rest = chars_from(&example.context, answer.start).unwrap_or_default();
            return Err(SquadError::AnswerOutside {
                path: path.into(),
                id: example.id.clone(),
                text: answer.text.clone(),
                start: answer.start,
                found: rest.chars().take(answer.text.chars().count()).collect(),
            });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn written(value: &Value) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), value.to_string()).unwrap();
        file
    }

    /// A file with one passage and the given questions.
    fn file(version: &str, qas: &Value) -> tempfile::NamedTempFile {
        let paragraph = json!({ "context": "  Dalén’s valve lit it.", "qas": qas });
        written(
            &json!({ "version": version, "data": [{ "title": "t", "paragraphs": [paragraph] }] }),
        )
    }

    fn question(id: &str, text: &str, start: usize) -> Value {
        json!({ "id": id, "question": "Who?", "answers": [{ "text": text, "answer_start": start }] })
    }

    fn refusal(file: &tempfile::NamedTempFile, version: SquadVersion) -> String {
        let error = read(file.path(), version).unwrap_err();
        let message = error.to_string();
        assert!(message.contains(file.path().to_str().unwrap()), "{message}");
        message
    }

    #[test]
    fn reads_answers_at_characters_of_a_passage_kept_to_the_letter() {
        let file = file("1.1", &json!([question("q", "valve", 10)]));
        let examples = read(file.path(), SquadVersion::V1).unwrap();
        assert_eq!(examples.len(), 1);
        let example = &examples[0];
        assert_eq!(
            (example.id.as_str(), example.question.as_str()),
            ("q", "Who?")
        );
        assert!(!example.impossible);
        // Character 10 is byte 13: é has two bytes and the apostrophe three.
        assert_eq!(example.answers[0].bytes(&example.context), Some(13..18));
    }

    #[test]
    fn reads_questions_without_answer() {
        let impossible = json!({ "id": "q", "question": "?", "answers": [], "is_impossible": true,
            "plausible_answers": [{ "text": "valve", "answer_start": 10 }] });
        let examples = read(file("v2.0", &json!([impossible])).path(), SquadVersion::V2).unwrap();
        assert!(examples[0].impossible && examples[0].answers.is_empty());
    }

    #[test]
    fn an_answer_beyond_the_passage_has_no_bytes() {
        let answer = |text: &str, start| Answer {
            text: text.into(),
            start,
        };
        assert_eq!(answer("b", 1).bytes("ab"), Some(1..2));
        assert_eq!(answer("b", 0).bytes("ab"), None);
        assert_eq!(answer("b", 2).bytes("ab"), None);
        assert_eq!(answer("b", 3).bytes("ab"), None);
        assert_eq!(answer("b", usize::MAX).bytes("ab"), None);
    }

    #[test]
    fn refuses_an_answer_that_does_not_stand_there() {
        let message = refusal(
            &file("1.1", &json!([question("q7", "valve", 9)])),
            SquadVersion::V1,
        );
        assert!(
            message.contains("answer \"valve\" of question \"q7\""),
            "{message}"
        );
        assert!(message.contains("which has \" valv\" there"), "{message}");
        let message = refusal(
            &file("1.1", &json!([question("q7", "it.", 9999)])),
            SquadVersion::V1,
        );
        assert!(message.contains("character 9999"), "{message}");
        let message = refusal(
            &file("1.1", &json!([question("q7", "", 3)])),
            SquadVersion::V1,
        );
        assert!(message.contains("answer \"\""), "{message}");
    }

    #[test]
    fn refuses_missing_and_surplus_answers() {
        let none = json!([{ "id": "q7", "question": "?", "answers": [] }]);
        for (version, text) in [(SquadVersion::V1, "1.1"), (SquadVersion::V2, "v2.0")] {
            let message = refusal(&file(text, &none), version);
            assert!(message.contains("\"q7\" has 0 answers"), "{message}");
            assert!(message.contains("needs at least one"), "{message}");
        }
        let mut both = question("q7", "valve", 10);
        both["is_impossible"] = true.into();
        let message = refusal(&file("v2.0", &json!([both])), SquadVersion::V2);
        assert!(
            message.contains("has 1 answers and is_impossible true"),
            "{message}"
        );
        assert!(message.ends_with("needs none"), "{message}");
    }

    #[test]
    fn refuses_another_version() {
        let file = file("v2.0", &json!([question("q", "valve", 10)]));
        let message = refusal(&file, SquadVersion::V1);
        assert!(
            message.contains("states version \"v2.0\", but SQuAD 1.1"),
            "{message}"
        );
        assert!(read(file.path(), SquadVersion::V2).is_ok());
    }

    #[test]
    fn refuses_two_questions_with_one_id() {
        let twice = json!([question("q", "valve", 10), question("q", "lit", 16)]);
        let message = refusal(&file("1.1", &twice), SquadVersion::V1);
        assert!(message.contains("\"q\" occurs twice"), "{message}");
    }

    #[test]
    fn says_where_a_file_is_broken() {
        let missing = read(Path::new("nowhere/dev-v1.1.json"), SquadVersion::V1).unwrap_err();
        assert_eq!(
            missing.to_string(),
            "cannot read the SQuAD file nowhere/dev-v1.1.json"
        );

        let cut = tempfile::NamedTempFile::new().unwrap();
        fs::write(cut.path(), r#"{"version": "1.1", "data": [{"#).unwrap();
        assert!(refusal(&cut, SquadVersion::V1).contains("the file is not in SQuAD's format"));

        let empty = written(&json!({ "version": "1.1", "data": [] }));
        assert!(refusal(&empty, SquadVersion::V1).contains("has no questions"));

        let mut second = question("r", "lit", 16);
        second["answers"][0]["answer_start"] = (-1).into();
        let broken = file("1.1", &json!([question("q", "valve", 10), second]));
        let message = refusal(&broken, SquadVersion::V1);
        assert!(
            message.contains("data[0].paragraphs[0].qas[1] is not in"),
            "{message}"
        );
    }
}
