//! The questions of a `SQuAD` file, as they stand there.

use std::path::Path;

use moebert_core::file;

use serde::{Deserialize, de::DeserializeOwned};
use serde_json::Value;

use super::{GoldAnswer, SquadError, SquadExample, SquadVersion, error::QuestionError};
use crate::data::{
    json::{self, Id},
    unreadable::Unreadable,
};

#[derive(Deserialize)]
struct Articles {
    version: Option<Value>,
    data: Vec<Value>,
}

// Where the lists below are null, there are no questions; where they are missing, the form is another one.

#[derive(Deserialize)]
struct Article {
    #[serde(deserialize_with = "Option::deserialize")]
    paragraphs: Option<Vec<Value>>,
}

#[derive(Deserialize)]
struct Paragraph {
    context: String,
    #[serde(deserialize_with = "Option::deserialize")]
    qas: Option<Vec<Value>>,
}

#[derive(Deserialize)]
struct Question {
    id: Id,
    #[serde(rename = "question")]
    text: String,
    answers: Option<Vec<GoldAnswer>>,
    #[serde(default)]
    is_impossible: Value,
}

/// A question with what its file says of it.
pub(super) struct Entry {
    pub example: SquadExample,
    /// The JSON path.
    pub place: String,
    /// `is_impossible`, where the file has it.
    pub impossible: Option<bool>,
}

/// The questions of a file, and those that are none.
pub(super) struct SquadFile {
    /// The version that the file states, as text.
    version: Option<String>,
    pub entries: Vec<Entry>,
    pub unreadable: Unreadable,
}

impl SquadFile {
    /// Reads a file level by level: what is broken on one is left out alone.
    pub fn read(path: &Path) -> Result<Self, SquadError> {
        let bytes = file::read(path)?;
        let articles: Articles = json::parse(&bytes).map_err(|source| SquadError::Format {
            path: path.into(),
            source,
        })?;
        let version = articles.version.map(|version| match version {
            Value::String(text) => text,
            other => other.to_string(),
        });
        let mut file = Self {
            version,
            entries: vec![],
            unreadable: Unreadable::new(path, "questions"),
        };
        for (index, article) in articles.data.into_iter().enumerate() {
            file.add_article(&format!("data[{index}]"), article);
        }
        Ok(file)
    }

    fn add_article(&mut self, place: &str, article: Value) {
        if let Some(article) = self.parse::<Article>(place, article) {
            let paragraphs = article.paragraphs.into_iter().flatten();
            for (index, paragraph) in paragraphs.enumerate() {
                self.add_paragraph(&format!("{place}.paragraphs[{index}]"), paragraph);
            }
        }
    }

    fn add_paragraph(&mut self, place: &str, paragraph: Value) {
        let Some(Paragraph { context, qas }) = self.parse(place, paragraph) else {
            return;
        };
        for (index, question) in qas.into_iter().flatten().enumerate() {
            let place = format!("{place}.qas[{index}]");
            let Some(question) = self.parse::<Question>(&place, question) else {
                continue;
            };
            let example = SquadExample {
                id: question.id.0,
                question: question.text,
                context: context.clone(),
                answers: question.answers.unwrap_or_default(),
            };
            self.entries.push(Entry {
                example,
                place,
                impossible: question.is_impossible.as_bool(),
            });
        }
    }

    /// A part of the file; if it is not of the form, the questions in it count as unreadable.
    fn parse<T: DeserializeOwned>(&mut self, place: &str, value: Value) -> Option<T> {
        let questions = questions_in(&value);
        match serde_json::from_value(value) {
            Ok(part) => Some(part),
            Err(error) => {
                let error = QuestionError::Format(error);
                self.unreadable.add(questions, format!("{place}: {error}"));
                None
            }
        }
    }

    /// The stated version, if it is the other one and the questions agree with it: many files state
    /// versions of their own.
    pub fn other_version(&self, asked: SquadVersion) -> Option<&str> {
        let found = self.version.as_deref()?;
        let stated = match found.trim().trim_start_matches(['v', 'V']) {
            "1.1" => SquadVersion::V1,
            "2.0" | "2" => SquadVersion::V2,
            _ => return None,
        };
        let agree = match stated {
            SquadVersion::V1 => self
                .entries
                .iter()
                .all(|entry| !entry.example.answers.is_empty() && entry.impossible.is_none()),
            SquadVersion::V2 => self
                .entries
                .iter()
                .any(|entry| entry.example.answers.is_empty() || entry.impossible == Some(true)),
        };
        (stated != asked && agree).then_some(found)
    }
}

/// How many questions a part of a file holds; it counts as one where that cannot be told.
fn questions_in(part: &Value) -> usize {
    let lists = |key| {
        part.get(key)
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
    };
    let questions = lists("qas").count() + lists("paragraphs").map(questions_in).sum::<usize>();
    questions.max(1)
}
