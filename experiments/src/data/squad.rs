//! The Stanford Question Answering Dataset, versions 1.1 (Rajpurkar et al. 2016, arXiv 1606.05250) and
//! 2.0 (Rajpurkar et al. 2018, arXiv 1806.03822), read from its official JSON files.
//!
//! [`read`] gives the questions, [`windows`] cuts them into model inputs, and [`spans`] turns the
//! model's logits back into answers, which [`crate::metric::squad`] scores.

mod error;
mod example;
mod file;
pub mod spans;
pub mod windows;

use std::collections::HashSet;
use std::fmt;
use std::path::Path;

pub use error::SquadError;
pub use example::{GoldAnswer, SquadExample};

use error::QuestionError;
use file::{Entry, SquadFile};

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

    /// What a test file is called, though the official one is not public.
    pub fn test_file(self) -> String {
        format!("test-v{self}.json")
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

/// Reads the questions of a file in `SQuAD`'s format to score answers to them, in the file's order.
///
/// The passages are kept to the letter, leading blanks included, for answers count from their start.
/// The format is read as the official scripts read it: identifiers may be numbers; a question of 2.0 is
/// unanswerable if it has no answers; answers are compared by their texts, wherever they stand. A version
/// other than 1.1 and 2.0 means nothing. Questions that cannot be used are left out with a warning.
///
/// # Errors
///
/// If the file is missing, malformed, of the other version or empty; if two questions share an
/// identifier, or more than one in ten cannot be used.
pub fn read(path: &Path, version: SquadVersion) -> Result<Vec<SquadExample>, SquadError> {
    let file = SquadFile::read(path)?;
    questions(file, path, version, |entry| check_answered(entry, version))
}

/// Reads the questions of a file as [`read`] does, to train on them: a question cannot be used if its
/// answers contradict `is_impossible` (2.0 only), or if none stands in the passage where it should.
///
/// # Errors
///
/// As [`read`].
pub fn read_to_train(path: &Path, version: SquadVersion) -> Result<Vec<SquadExample>, SquadError> {
    let file = SquadFile::read(path)?;
    questions(file, path, version, |entry| {
        let example = &mut entry.example;
        // Some files give an unanswerable question an empty answer.
        example.answers.retain(|answer| !answer.is_blank());
        let answers = example.answers.len();
        let id = || example.id.clone();
        match (version, entry.impossible) {
            (SquadVersion::V1, _) if answers == 0 => {
                return Err(QuestionError::NoAnswers { id: id() });
            }
            (SquadVersion::V2, Some(impossible)) if impossible != (answers == 0) => {
                return Err(QuestionError::Contradiction {
                    id: id(),
                    answers,
                    impossible,
                });
            }
            _ => {}
        }
        match example.answers.first() {
            Some(first) if example.stated_bytes().is_none() => Err(misplaced(example, first)),
            _ => Ok(()),
        }
    })
}

/// Reads the questions of a test file as [`read`] does, and says whether it has answers: one that hides them has
/// none, and calls no question impossible.
///
/// # Errors
///
/// As [`read`].
pub fn read_test(
    path: &Path,
    version: SquadVersion,
) -> Result<(Vec<SquadExample>, bool), SquadError> {
    let file = SquadFile::read(path)?;
    let is_open =
        |entry: &Entry| entry.example.answers.is_empty() && entry.impossible != Some(true);
    let has_answers = !file.entries.iter().all(is_open);
    let examples = questions(file, path, version, |entry| {
        if has_answers {
            check_answered(entry, version)
        } else {
            Ok(())
        }
    })?;
    Ok((examples, has_answers))
}

/// Refuses a question of 1.1 without an answer.
fn check_answered(entry: &Entry, version: SquadVersion) -> Result<(), QuestionError> {
    if version == SquadVersion::V1 && entry.example.answers.is_empty() {
        let id = entry.example.id.clone();
        return Err(QuestionError::NoAnswers { id });
    }
    Ok(())
}

/// Why no answer stands where it should, told of the first one.
fn misplaced(example: &SquadExample, answer: &GoldAnswer) -> QuestionError {
    let (id, text) = (example.id.clone(), answer.text.clone());
    match answer.start {
        None => QuestionError::NoStart { id, text },
        Some(start) => {
            let rest = example::chars_from(&example.context, start).unwrap_or_default();
            let found = rest.chars().take(text.chars().count()).collect();
            QuestionError::Outside {
                id,
                text,
                start,
                found,
            }
        }
    }
}

/// The questions of a file that pass a check, which may change them.
fn questions(
    file: SquadFile,
    path: &Path,
    version: SquadVersion,
    check: impl Fn(&mut Entry) -> Result<(), QuestionError>,
) -> Result<Vec<SquadExample>, SquadError> {
    if let Some(found) = file.other_version(version) {
        return Err(SquadError::Version {
            path: path.into(),
            found: found.to_owned(),
            expected: version,
        });
    }
    let mut unreadable = file.unreadable;
    let mut examples = Vec::with_capacity(file.entries.len());
    let mut ids = HashSet::new();
    for mut entry in file.entries {
        if !ids.insert(entry.example.id.clone()) {
            return Err(SquadError::DuplicateId {
                path: path.into(),
                id: entry.example.id,
            });
        }
        match check(&mut entry) {
            Ok(()) => examples.push(entry.example),
            Err(error) => unreadable.add(1, format!("{}: {error}", entry.place)),
        }
    }
    unreadable.finish(examples.len())?;
    if examples.is_empty() {
        return Err(SquadError::Empty { path: path.into() });
    }
    Ok(examples)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use serde_json::{Value, json};

    use super::*;

    fn written(text: &str) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), text).unwrap();
        file
    }

    /// A file with one passage and the given questions.
    fn file(version: &Value, qas: &Value) -> tempfile::NamedTempFile {
        let paragraph = json!({ "context": "  Dalén’s valve lit it.", "qas": qas });
        let empty = json!({ "context": "none", "qas": null });
        let article = json!({ "title": null, "paragraphs": [paragraph, empty] });
        let none = json!({ "paragraphs": null });
        written(&json!({ "version": version, "data": [article, none] }).to_string())
    }

    fn question(id: impl Into<Value>, text: &str, start: impl Into<Value>) -> Value {
        let answer = json!({ "text": text, "answer_start": start.into() });
        json!({ "id": id.into(), "question": "Who?", "answers": [answer] })
    }

    fn ids(examples: &[SquadExample]) -> Vec<&str> {
        examples.iter().map(|example| example.id.as_str()).collect()
    }

    type Read = fn(&Path, SquadVersion) -> Result<Vec<SquadExample>, SquadError>;

    const BOTH: [Read; 2] = [read, read_to_train];

    fn refusal(read: Read, file: &tempfile::NamedTempFile, version: SquadVersion) -> String {
        let error = read(file.path(), version).unwrap_err();
        let message = error.to_string();
        assert!(message.contains(file.path().to_str().unwrap()), "{message}");
        message
    }

    #[test]
    fn reads_answers_at_characters_of_a_passage_kept_to_the_letter() {
        let file = file(&json!("1.1"), &json!([question("q", "valve", 10)]));
        let examples = read(file.path(), SquadVersion::V1).unwrap();
        assert_eq!(examples.len(), 1);
        let example = &examples[0];
        assert_eq!(
            (example.id.as_str(), example.question.as_str()),
            ("q", "Who?")
        );
        // Character 10 is byte 13: é has two bytes and the apostrophe three.
        assert_eq!(example.answers[0].bytes(&example.context), Some(13..18));
        assert_eq!(example.answer_bytes(), Some(13..18));
        assert_eq!(
            read_to_train(file.path(), SquadVersion::V1).unwrap(),
            examples
        );
    }

    #[test]
    fn ids_may_be_numbers_but_no_two_the_same() {
        let numbers = json!([question(7, "valve", 10), question("7a", "lit", 16)]);
        let examples = read(file(&json!("1.1"), &numbers).path(), SquadVersion::V1).unwrap();
        assert_eq!(ids(&examples), ["7", "7a"]);
        for second in [json!("q"), json!(7)] {
            let first = if second == "q" { "q" } else { "7" };
            let twice = json!([question(first, "valve", 10), question(second, "lit", 16)]);
            let message = refusal(read, &file(&json!("1.1"), &twice), SquadVersion::V1);
            assert!(
                message.contains(&format!("\"{first}\" occurs twice")),
                "{message}"
            );
        }
    }

    #[test]
    fn versions_other_than_squads_mean_nothing() {
        let versions = json!([
            null,
            1.0,
            1.1,
            1,
            "1.0",
            "v1.1",
            "MLQA",
            "XQuAD",
            "",
            [],
            "2.0",
            2.0
        ]);
        for version in versions.as_array().unwrap() {
            let file = file(version, &json!([question("q", "valve", 10)]));
            assert!(read(file.path(), SquadVersion::V1).is_ok(), "{version}");
        }
        let without = json!({ "data": [{ "paragraphs": [
            { "context": "it", "qas": [question("q", "it", 0)] }
        ] }] });
        let without = written(&without.to_string());
        for version in [SquadVersion::V1, SquadVersion::V2] {
            assert!(read(without.path(), version).is_ok());
        }
    }

    #[test]
    fn refuses_the_other_version_where_its_questions_are_of_it() {
        let none = json!({ "id": "r", "question": "?", "answers": [] });
        let second = file(&json!("v2.0"), &json!([question("q", "valve", 10), none]));
        let message = refusal(read, &second, SquadVersion::V1);
        assert!(
            message.contains(
                "states version \"v2.0\" and has questions without an answer, but SQuAD 1.1"
            ),
            "{message}"
        );
        assert!(read(second.path(), SquadVersion::V2).is_ok());

        for stated in [json!("1.1"), json!(1.1)] {
            let first = file(&stated, &json!([question("q", "valve", 10)]));
            let message = refusal(read, &first, SquadVersion::V2);
            assert!(
                message.contains("states version \"1.1\" and has neither"),
                "{message}"
            );
            let unanswerable = file(&stated, &json!([question("q", "valve", 10), none]));
            assert!(read(unanswerable.path(), SquadVersion::V2).is_ok());
        }
    }

    #[test]
    fn a_question_of_2_0_without_answers_is_unanswerable() {
        for more in [
            json!({}),
            json!({ "answers": null }),
            json!({ "answers": [], "is_impossible": null }),
            json!({ "answers": [], "is_impossible": true,
                "plausible_answers": [{ "text": "valve", "answer_start": 10 }] }),
        ] {
            let mut question = json!({ "id": "q", "question": "?" });
            question
                .as_object_mut()
                .unwrap()
                .extend(more.as_object().unwrap().clone());
            let file = file(&json!("v2.0"), &json!([question]));
            for read in BOTH {
                let examples = read(file.path(), SquadVersion::V2).unwrap();
                assert!(examples[0].answers.is_empty(), "{question}");
                assert_eq!(examples[0].answer_bytes(), None);
            }
        }
        // Answers decide what is scored, and what contradicts them is not trained on.
        for (answers, impossible) in [(json!([]), false), (json!([{ "text": "lit" }]), true)] {
            let count = answers.as_array().unwrap().len();
            let question = json!({ "id": "q", "question": "?", "answers": answers, "is_impossible": impossible });
            let file = file(&json!(null), &json!([question]));
            let examples = read(file.path(), SquadVersion::V2).unwrap();
            assert_eq!(examples[0].answers.len(), count);
            let message = refusal(read_to_train, &file, SquadVersion::V2);
            let reason = format!("has {count} answers and is_impossible {impossible}");
            assert!(message.contains(&reason), "{message}");
        }
        // The official script scores an empty answer, and it is nothing to learn.
        let file = file(&json!(null), &json!([question("q", "", -1)]));
        assert_eq!(
            read(file.path(), SquadVersion::V2).unwrap()[0]
                .answers
                .len(),
            1
        );
        let examples = read_to_train(file.path(), SquadVersion::V2).unwrap();
        assert!(examples[0].answers.is_empty());
    }

    #[test]
    fn a_question_of_1_1_needs_an_answer() {
        let none = json!([{ "id": "q7", "question": "?", "answers": null }]);
        for read in BOTH {
            let message = refusal(read, &file(&json!(null), &none), SquadVersion::V1);
            assert!(
                message.contains("1 of 1 questions cannot be used"),
                "{message}"
            );
            let reason = "data[0].paragraphs[0].qas[0]: question \"q7\" has no answers; SQuAD 1.1";
            assert!(message.contains(reason), "{message}");
        }
    }

    #[test]
    fn an_answer_that_does_not_stand_there_is_scored_and_not_trained_on() {
        for (text, start, bytes, reason) in [
            (
                "valve",
                json!(9),
                Some(13..18),
                "answer \"valve\" of question \"q7\" does not stand at character 9 of its passage, \
                 which has \" valv\" there",
            ),
            ("it.", json!(9999), Some(23..26), "character 9999"),
            ("valve", json!(null), Some(13..18), "has no answer_start"),
            ("valve", json!(-1), Some(13..18), "has no answer_start"),
            ("valve", json!("10"), Some(13..18), "has no answer_start"),
            ("valves", json!(10), None, "which has \"valve \" there"),
        ] {
            let file = file(&json!("1.1"), &json!([question("q7", text, start.clone())]));
            let examples = read(file.path(), SquadVersion::V1).unwrap();
            assert_eq!(examples[0].answers[0].text, text);
            assert_eq!(examples[0].answer_bytes(), bytes, "{text} {start}");
            let message = refusal(read_to_train, &file, SquadVersion::V1);
            assert!(message.contains(reason), "{message}");
        }
        // A float is a position as well, and one answer that stands is enough.
        let mut second = question("q", "valve", 10.0);
        let answers = second["answers"].as_array_mut().unwrap();
        answers.insert(0, json!({ "text": "lamp", "answer_start": 3 }));
        let file = file(&json!("1.1"), &json!([second]));
        let examples = read_to_train(file.path(), SquadVersion::V1).unwrap();
        assert_eq!(examples[0].answer_bytes(), Some(13..18));
    }

    #[test]
    fn a_few_questions_that_are_none_are_left_out() {
        let mut qas: Vec<Value> = (0..28).map(|id| question(id, "valve", 10)).collect();
        qas.push(json!({ "id": null, "question": "?", "answers": [] }));
        qas.push(json!({ "id": 99, "question": "?", "answers": [{ "text": null }] }));
        let paragraph = json!({ "context": "a valve", "qas": qas });
        let broken = json!({ "context": null, "qas": [question(77, "a", 0)] });
        let data = |more: &[Value]| {
            let article = json!({ "paragraphs": [paragraph, broken] });
            let articles: Vec<&Value> = [&article].into_iter().chain(more).collect();
            written(&json!({ "data": articles }).to_string())
        };
        let examples = read(data(&[]).path(), SquadVersion::V1).unwrap();
        assert_eq!(examples.len(), 28);
        let message = refusal(read, &data(&[json!("no article")]), SquadVersion::V1);
        for text in [
            "4 of 32 questions cannot be used, and at most one in 10 may be",
            "data[0].paragraphs[0].qas[28]: not in SQuAD's format: the id is neither",
            "data[0].paragraphs[0].qas[29]: not in SQuAD's format: invalid type: null",
            "data[0].paragraphs[1]: not in SQuAD's format",
        ] {
            assert!(message.contains(text), "{message}");
        }
    }

    #[test]
    fn a_mark_and_half_a_pair_do_not_hinder() {
        let text = r#"{"data": [{"paragraphs": [{"context": "a \ud83d b", "qas": [
            {"id": 1, "question": "?", "answers": [{"text": "b", "answer_start": 4}]}]}]}]}"#;
        let plain = read_to_train(written(text).path(), SquadVersion::V1).unwrap();
        assert_eq!(plain[0].context, "a \u{fffd} b");
        let marked = written(&format!("\u{feff}{text}"));
        assert_eq!(
            read_to_train(marked.path(), SquadVersion::V1).unwrap(),
            plain
        );
    }

    #[test]
    fn says_what_is_broken_as_a_whole() {
        let missing = read(Path::new("nowhere/dev-v1.1.json"), SquadVersion::V1).unwrap_err();
        assert!(
            missing
                .to_string()
                .starts_with("cannot read nowhere/dev-v1.1.json"),
            "{missing}"
        );
        for text in [
            r#"{"version": "1.1", "data": [{"#,
            "{}",
            r#"{"data": null}"#,
            "",
        ] {
            let message = refusal(read, &written(text), SquadVersion::V1);
            assert!(
                message.contains("the file is not in SQuAD's format"),
                "{message}"
            );
        }
        let empty = written(&json!({ "version": "1.1", "data": [] }).to_string());
        assert!(refusal(read, &empty, SquadVersion::V1).contains("has no questions"));
    }
}
