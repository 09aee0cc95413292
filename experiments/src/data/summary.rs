//! Texts with their summaries: JSON lines in the form of SCROLLS (arXiv 2201.03533, appendix A).
//!
//! A line is an object with `input` and `output`, and may have `id`, a text or a number, and `pid`. Lines
//! with the same `id` are one text with several references, which a summary is judged by the best of.

mod error;
mod format;
mod marked_words;

use std::{
    collections::HashMap,
    fs::File,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
};

use moebert_core::file::{self, FileError};
use serde::{Deserialize, Serialize};

pub use error::SummaryError;
pub use format::{SummaryConfig, SummaryFormat};
pub use marked_words::MarkedWords;

use self::error::LineError;
use super::{
    byte_order_mark::without_mark,
    json::{self, Id},
    unreadable::Unreadable,
};
use crate::warning::warn;

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
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SummaryExample {
    /// Its `id`; `line N` where it has none.
    pub id: String,
    /// The text.
    pub input: String,
    /// Its summaries; none where the file has no answer.
    pub references: Vec<String>,
}

/// A line of a file.
#[derive(Deserialize)]
struct Line {
    id: Option<Id>,
    input: Option<String>,
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
    /// Lines that cannot be used are left out with a warning; of those to train on, lines without a
    /// summary as well. Other splits may have texts without one, or nothing but such texts.
    ///
    /// # Errors
    ///
    /// If there is no such file, or it has no lines, or more than one in ten cannot be used.
    pub fn read(self, dir: &Path) -> Result<Vec<SummaryExample>, SummaryError> {
        let path = self.path(dir)?;
        let examples = Reader::new(&path, self == Self::Train).read()?;
        let without = examples.iter().filter(|example| !example.has_reference());
        let (without, all) = (without.count(), examples.len());
        if 0 < without && without < all {
            let path = path.display();
            warn(&format!(
                "{path}: {without} of {all} texts have no summary to compare with; scores are of the others"
            ));
        }
        Ok(examples)
    }

    /// Reads the split of a folder, whose texts have summaries, or at least some of them.
    ///
    /// # Errors
    ///
    /// As [`Self::read`], and if no text has a summary.
    pub fn read_answered(self, dir: &Path) -> Result<Vec<SummaryExample>, SummaryError> {
        let examples = self.read(dir)?;
        if !examples.iter().any(SummaryExample::has_reference) {
            let path = self.path(dir)?;
            return Err(SummaryError::NoSummaries { path });
        }
        Ok(examples)
    }

    fn path(self, dir: &Path) -> Result<PathBuf, SummaryError> {
        self.file_in(dir).ok_or_else(|| SummaryError::NoFile {
            dir: dir.to_owned(),
            files: self.files(),
        })
    }
}

impl SummaryExample {
    /// Whether there is a summary to compare with.
    pub fn has_reference(&self) -> bool {
        !self.references.is_empty()
    }
}

/// Reads a file line by line.
struct Reader<'a> {
    path: &'a Path,
    /// Whether every line needs a summary.
    is_to_train: bool,
    examples: Vec<SummaryExample>,
    /// The example with an id, and the line that it comes from.
    known: HashMap<String, (usize, usize)>,
}

impl<'a> Reader<'a> {
    fn new(path: &'a Path, is_to_train: bool) -> Self {
        Self {
            path,
            is_to_train,
            examples: vec![],
            known: HashMap::new(),
        }
    }

    fn read(mut self) -> Result<Vec<SummaryExample>, SummaryError> {
        let unreadable = |source| FileError::Read {
            path: self.path.to_owned(),
            source,
        };
        file::check_readable(self.path)?;
        let mut file = BufReader::new(File::open(self.path).map_err(unreadable)?);
        let mut unusable = Unreadable::new(self.path, "lines");
        let mut usable = 0;
        let (mut start, mut bytes) = (0, vec![]);
        for number in 1.. {
            start += bytes.len() as u64;
            bytes.clear();
            if file.read_until(b'\n', &mut bytes).map_err(unreadable)? == 0 {
                break;
            }
            // Files that were put together may have marks within.
            let text = without_mark(&bytes);
            let mark = (bytes.len() - text.len()) as u64;
            let text = text.trim_ascii_end();
            if text.is_empty() {
                continue;
            }
            match self.add(number, start + mark, text) {
                Ok(()) => usable += 1,
                Err(error) => unusable.add(1, error),
            }
        }
        unusable.finish(usable)?;
        if self.examples.is_empty() {
            let path = self.path.to_owned();
            return Err(SummaryError::NoExamples { path });
        }
        Ok(self.examples)
    }

    /// Adds a line that begins at a byte of the file.
    fn add(&mut self, line: usize, start: u64, text: &[u8]) -> Result<(), LineError> {
        str::from_utf8(text).map_err(|error| LineError::Encoding {
            line,
            offset: start + error.valid_up_to() as u64,
        })?;
        let Line { id, input, output } =
            json::parse(text).map_err(|error| LineError::json(line, &error))?;
        let has_text = |text: &String| !text.trim().is_empty();
        let input = input.filter(has_text).ok_or(LineError::NoInput { line })?;
        let output = output.filter(has_text);
        if self.is_to_train && output.is_none() {
            return Err(LineError::NoOutput { line });
        }
        let id = id.map(|Id(id)| id);
        if let Some(&(index, first)) = id.as_ref().and_then(|id| self.known.get(id)) {
            let example = &mut self.examples[index];
            if example.input != input {
                return Err(LineError::OtherInput {
                    line,
                    id: example.id.clone(),
                    first,
                });
            }
            example.references.extend(output);
            return Ok(());
        }
        if let Some(id) = &id {
            self.known.insert(id.clone(), (self.examples.len(), line));
        }
        self.examples.push(SummaryExample {
            id: id.unwrap_or_else(|| format!("line {line}")),
            input,
            references: output.into_iter().collect(),
        });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read_split(
        split: SummarySplit,
        text: impl AsRef<[u8]>,
    ) -> Result<Vec<SummaryExample>, SummaryError> {
        let dir = tempfile::tempdir().unwrap();
        let name = split.files().last().unwrap();
        std::fs::write(dir.path().join(name), text).unwrap();
        split.read(dir.path())
    }

    fn read_text(text: impl AsRef<[u8]>) -> Result<Vec<SummaryExample>, SummaryError> {
        read_split(SummarySplit::Validation, text)
    }

    fn example(id: &str, input: &str, references: &[&str]) -> SummaryExample {
        SummaryExample {
            id: id.to_owned(),
            input: input.to_owned(),
            references: references.iter().map(ToString::to_string).collect(),
        }
    }

    #[test]
    fn lines_with_one_id_are_references_of_one_text() {
        let examples = read_text(
            r#"{"id": "7", "pid": "a_0", "input": "long", "output": "one"}
{"input": "other", "output": "x", "more": [1]}

{"id": 7, "pid": 1, "input": "long", "output": "two"}
{"id": null, "input": "third", "output": "y"}"#,
        )
        .unwrap();
        assert_eq!(
            examples,
            [
                example("7", "long", &["one", "two"]),
                example("line 2", "other", &["x"]),
                example("line 5", "third", &["y"])
            ]
        );
    }

    #[test]
    fn texts_without_a_summary_are_read_where_they_are_not_trained_on() {
        let text = r#"{"id": "a", "input": "one", "output": null}
{"id": "b", "input": "two"}
{"id": "a", "input": "one", "output": "1"}
{"input": "three", "output": " "}
"#;
        let expected = [
            example("a", "one", &["1"]),
            example("b", "two", &[]),
            example("line 4", "three", &[]),
        ];
        for split in [SummarySplit::Validation, SummarySplit::Test] {
            assert_eq!(read_split(split, text).unwrap(), expected);
        }
        let error = read_split(SummarySplit::Train, text)
            .unwrap_err()
            .to_string();
        assert!(
            error.ends_with(
                "train.jsonl: 3 of 4 lines cannot be used, and at most one in 10 may be: \
                 line 1: no text in `output`; a summary is needed; \
                 line 2: no text in `output`; a summary is needed; \
                 line 4: no text in `output`; a summary is needed"
            ),
            "{error}"
        );
        // One in ten is left out.
        let answered = "{\"input\": \"a\", \"output\": \"b\"}\n".repeat(9);
        let mostly = format!("{answered}{{\"input\": \"a\"}}");
        let trained_on = read_split(SummarySplit::Train, mostly).unwrap();
        assert_eq!(trained_on.len(), 9);
        assert!(trained_on.iter().all(SummaryExample::has_reference));
    }

    #[test]
    fn a_split_to_compare_with_needs_a_summary() {
        let dir = tempfile::tempdir().unwrap();
        let write = |text: &str| std::fs::write(dir.path().join("test.jsonl"), text).unwrap();
        write("{\"input\": \"a\"}\n{\"input\": \"b\", \"output\": \"c\"}");
        let examples = SummarySplit::Test.read_answered(dir.path()).unwrap();
        assert_eq!(examples.len(), 2);
        write("{\"input\": \"a\"}");
        assert_eq!(SummarySplit::Test.read(dir.path()).unwrap().len(), 1);
        let error = SummarySplit::Test.read_answered(dir.path()).unwrap_err();
        let error = error.to_string();
        assert!(
            error.ends_with("test.jsonl has no summaries to compare with"),
            "{error}"
        );
    }

    #[test]
    fn what_is_not_of_the_form_is_named_with_its_line() {
        let good = r#"{"id": "a", "input": "long", "output": "short"}"#;
        for (line, expected) in [
            (
                "{",
                "line 2, column 1: EOF while parsing an object; expected",
            ),
            ("3", "line 2, column 1: invalid type: integer `3`"),
            (
                r#"{"input": 3, "output": "x"}"#,
                "invalid type: integer `3`",
            ),
            (r#"{"output": "x"}"#, "line 2: no text in `input`"),
            (
                r#"{"input": null, "output": "x"}"#,
                "line 2: no text in `input`; a text is needed",
            ),
            (
                r#"{"input": " \n", "output": "x"}"#,
                "line 2: no text in `input`",
            ),
            (
                r#"{"id": [], "input": "x", "output": "x"}"#,
                "the id is neither a text nor a number",
            ),
            (
                r#"{"id": "a", "input": "else", "output": "x"}"#,
                "line 2: the id `a` is that of line 1, which has another `input`",
            ),
        ] {
            let error = read_text(format!("{good}\n{line}\n")).unwrap_err();
            let error = error.to_string();
            assert!(error.contains(expected), "{line}: {error}");
            assert!(
                error.contains("dev.jsonl: 1 of 2 lines cannot be used"),
                "{error}"
            );
        }
        for empty in ["", "\n \n", "\u{feff}", "\u{feff}\r\n"] {
            let error = read_text(empty).unwrap_err().to_string();
            assert!(error.ends_with("dev.jsonl has no examples"), "{error}");
        }
    }

    #[test]
    fn bytes_that_are_no_text_are_named_with_their_place() {
        for (mark, byte) in [("", 41), ("\u{feff}", 44)] {
            let mut text = format!("{mark}{{\"input\": \"x\", \"output\": \"y\"}}\n").into_bytes();
            text.extend(b"{\"input\": \"\xff\"}");
            let error = read_text(text).unwrap_err().to_string();
            let expected = format!(": line 2: byte {byte} is not UTF-8 text");
            assert!(error.ends_with(&expected), "{error}");
        }
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

    proptest! {
        #[test]
        fn marks_and_line_ends_change_nothing(
            pairs in prop::collection::vec((any::<u8>(), "\\PC{0,4}[a-z]", "\\PC{0,4}[a-z]"), 1..6),
        ) {
            let lines = |mark: &str, end: &str| -> String {
                let lines = pairs.iter().enumerate().map(|(id, (pid, input, output))| {
                    let line = serde_json::json!(
                        {"id": id, "pid": pid, "input": input, "output": output}
                    );
                    format!("{mark}{line}{end}")
                });
                lines.collect()
            };
            let plain = read_text(lines("", "\n")).unwrap();
            prop_assert_eq!(plain.len(), pairs.len());
            for text in [lines("", "\r\n"), lines("\u{feff}", "\n"), lines("\u{feff}", "\r\n")] {
                prop_assert_eq!(&read_text(text).unwrap(), &plain);
            }
            let first = format!("\u{feff}{}", lines("", "\n"));
            prop_assert_eq!(&read_text(first).unwrap(), &plain);
        }
    }
}
