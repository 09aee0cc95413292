//! Texts with their summaries: JSON lines in the form of SCROLLS (arXiv 2201.03533, appendix A).
//!
//! A line is an object with `input` and `output`, and may have `id` and `pid`. Lines with the same
//! `id` are one text with several references, which a summary is judged by the best of.

mod error;
mod format;
mod marked_words;

use std::{
    collections::HashMap,
    fs::File,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
};

use moebert_core::file::FileError;
use serde::Deserialize;

pub use error::SummaryError;
pub use format::{SummaryConfig, SummaryFormat};
pub use marked_words::MarkedWords;

/// A part of the data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SummarySplit {
    /// To train on.
    Train,
    /// To choose a model by.
    Validation,
    /// To judge a model by.
    Test,
}

/// A text, and what it may be summarised as.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SummaryExample {
    /// Its `id`; `line N` where it has none.
    pub id: String,
    /// The text.
    pub input: String,
    /// Its summaries, at least one.
    pub references: Vec<String>,
}

/// A line of a file.
#[derive(Deserialize)]
struct Line {
    id: Option<String>,
    input: String,
    output: Option<String>,
}

impl SummarySplit {
    /// The names that its file may have; the first that is there is read.
    pub fn files(self) -> &'static [&'static str] {
        match self {
            Self::Train => &["train.jsonl"],
            Self::Validation => &["validation.jsonl", "dev.jsonl"],
            Self::Test => &["test.jsonl"],
        }
    }

    /// The file of the split in a folder, if it is there.
    pub fn file_in(self, dir: &Path) -> Option<PathBuf> {
        let mut paths = self.files().iter().map(|name| dir.join(name));
        paths.find(|path| path.exists())
    }

    /// Reads the split of a folder, in the order of its texts.
    ///
    /// # Errors
    ///
    /// If there is no such file, or it has no lines, or one that is not of the form; the error names
    /// file and line.
    pub fn read(self, dir: &Path) -> Result<Vec<SummaryExample>, SummaryError> {
        match self.file_in(dir) {
            Some(path) => read(path),
            None => Err(SummaryError::NoFile {
                dir: dir.to_owned(),
                files: self.files(),
            }),
        }
    }
}

fn read(path: PathBuf) -> Result<Vec<SummaryExample>, SummaryError> {
    let unreadable = |source| FileError::Read {
        path: path.clone(),
        source,
    };
    let mut file = BufReader::new(File::open(&path).map_err(unreadable)?);
    let mut examples: Vec<SummaryExample> = vec![];
    // The example with an id, and the line that it comes from.
    let mut known: HashMap<String, (usize, usize)> = HashMap::new();
    let (mut start, mut bytes) = (0, vec![]);
    for number in 1.. {
        start += bytes.len() as u64;
        bytes.clear();
        if file.read_until(b'\n', &mut bytes).map_err(unreadable)? == 0 {
            break;
        }
        let text = std::str::from_utf8(&bytes).map_err(|error| SummaryError::Encoding {
            path: path.clone(),
            line: number,
            offset: start + error.valid_up_to() as u64,
        })?;
        let text = text.trim_end();
        if text.is_empty() {
            continue;
        }
        let Line { id, input, output } = serde_json::from_str(text)
            .map_err(|error| SummaryError::json(path.clone(), number, &error))?;
        let missing = |key| SummaryError::NoText {
            path: path.clone(),
            line: number,
            key,
        };
        if input.trim().is_empty() {
            return Err(missing("input"));
        }
        let output = output.filter(|output| !output.trim().is_empty());
        let output = output.ok_or_else(|| missing("output"))?;
        if let Some(&(index, line)) = id.as_ref().and_then(|id| known.get(id)) {
            let example = &mut examples[index];
            if example.input != input {
                return Err(SummaryError::OtherInput {
                    path,
                    line: number,
                    id: example.id.clone(),
                    first: line,
                });
            }
            example.references.push(output);
            continue;
        }
        if let Some(id) = &id {
            known.insert(id.clone(), (examples.len(), number));
        }
        examples.push(SummaryExample {
            id: id.unwrap_or_else(|| format!("line {number}")),
            input,
            references: vec![output],
        });
    }
    if examples.is_empty() {
        return Err(SummaryError::NoExamples { path });
    }
    Ok(examples)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_text(text: impl AsRef<[u8]>) -> Result<Vec<SummaryExample>, SummaryError> {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("dev.jsonl"), text).unwrap();
        SummarySplit::Validation.read(dir.path())
    }

    #[test]
    fn lines_with_one_id_are_references_of_one_text() {
        let examples = read_text(
            r#"{"id": "a", "pid": "a_0", "input": "long", "output": "one"}
{"input": "other", "output": "x", "more": [1]}

{"id": "a", "pid": "a_1", "input": "long", "output": "two"}"#,
        )
        .unwrap();
        let example = |id: &str, input: &str, references: &[&str]| SummaryExample {
            id: id.to_owned(),
            input: input.to_owned(),
            references: references.iter().map(ToString::to_string).collect(),
        };
        assert_eq!(
            examples,
            [
                example("a", "long", &["one", "two"]),
                example("line 2", "other", &["x"])
            ]
        );
    }

    #[test]
    fn what_is_not_of_the_form_is_named_with_its_line() {
        let good = r#"{"id": "a", "input": "long", "output": "short"}"#;
        for (line, expected) in [
            (
                "{",
                "dev.jsonl, line 2, column 1: EOF while parsing an object; expected",
            ),
            ("3", "line 2, column 1: invalid type: integer `3`"),
            (
                r#"{"input": 3, "output": "x"}"#,
                "invalid type: integer `3`",
            ),
            (r#"{"output": "x"}"#, "missing field `input`"),
            (
                r#"{"input": "x", "output": null}"#,
                "line 2: no text in `output`; a summary is needed",
            ),
            (
                r#"{"input": " \n", "output": "x"}"#,
                "line 2: no text in `input`",
            ),
            (
                r#"{"id": "a", "input": "else", "output": "x"}"#,
                "line 2: the id `a` is that of line 1, which has another `input`",
            ),
        ] {
            let error = read_text(format!("{good}\n{line}\n")).unwrap_err();
            assert!(error.to_string().contains(expected), "{line}: {error}");
        }
        for empty in ["", "\n \n"] {
            let error = read_text(empty).unwrap_err().to_string();
            assert!(error.ends_with("dev.jsonl has no examples"), "{error}");
        }
    }

    #[test]
    fn bytes_that_are_no_text_are_named_with_their_place() {
        let error =
            read_text(b"{\"input\": \"x\", \"output\": \"y\"}\n{\"input\": \"\xff\"}").unwrap_err();
        assert!(
            error
                .to_string()
                .ends_with("dev.jsonl, line 2: byte 41 is not UTF-8 text"),
            "{error}"
        );
    }

    #[test]
    fn a_split_without_a_file_names_those_it_could_have() {
        let dir = tempfile::tempdir().unwrap();
        let error = SummarySplit::Validation.read(dir.path()).unwrap_err();
        assert!(
            error
                .to_string()
                .ends_with("has no validation.jsonl or dev.jsonl"),
            "{error}"
        );
    }
}
