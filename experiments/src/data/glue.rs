//! The nine tasks of GLUE (Wang et al. 2018, arXiv 1804.07461) in their official files.

mod error;
mod msr;
mod task;

use std::path::Path;

pub use error::GlueError;
pub use task::{GlueTask, Split, UnknownGlueTask};

use self::error::LineError;
use super::{
    example::{Example, Label},
    tsv::{TsvError, TsvRow, TsvTable},
    unreadable::Unreadable,
};
use crate::warning::warn;

/// Where a file keeps what an example needs.
struct Columns {
    /// The line of the first example, from 1.
    first_line: usize,
    width: usize,
    first: usize,
    second: Option<usize>,
    label: Option<usize>,
    /// The number of the example, in files that have one.
    index: Option<usize>,
}

impl GlueTask {
    /// Reads one split from a folder with the task's official files (see [`Self::file`]).
    ///
    /// Labels are `None` in a test file without a column of labels, or with one and the same text there
    /// that is no label, such as -1. MRPC is also read from the Microsoft corpus that GLUE made it of:
    /// `msr_paraphrase_train.txt`, divided by `dev_ids.tsv`, and `msr_paraphrase_test.txt`.
    ///
    /// Lines that are no examples are left out with a warning. A few questions of the official QQP
    /// contain a line break; its broken lines are left out however many they are, as the readers of
    /// Hugging Face leave them out.
    ///
    /// # Errors
    ///
    /// If the task has no such split, or its file is missing, lacks a column, has no examples or more
    /// than one line in ten that is none.
    pub fn load(self, dir: &Path, split: Split) -> Result<Vec<Example>, GlueError> {
        let file = self
            .file(split)
            .ok_or(GlueError::NoSplit { task: self, split })?;
        let path = dir.join(file);
        if self == Self::Mrpc && !path.exists() && msr::is_there(dir) {
            return msr::load(dir, split);
        }
        self.read(&path, split, |_, _| true)
    }

    /// Reads the examples of a file whose row the filter keeps; it sees the header and the row.
    fn read(
        self,
        path: &Path,
        split: Split,
        keep: impl Fn(&TsvRow, &TsvRow) -> bool,
    ) -> Result<Vec<Example>, GlueError> {
        let table = self.open(path)?;
        let empty = || GlueError::Empty {
            path: path.to_owned(),
        };
        let first = table.rows().next().ok_or_else(empty)?;
        let header = first.map_err(|error| GlueError::Table(table.not_text(error)))?;
        let has_header = self.has_header(&header);
        let rows = || table.rows().skip(usize::from(has_header));
        let mut columns = if has_header {
            self.columns(&table, &header, split)?
        } else {
            // CoLA: source, label, the author's mark, sentence.
            Columns {
                first_line: 1,
                width: 4,
                first: 3,
                second: None,
                label: Some(1),
                index: None,
            }
        };
        if split.is_test() && self.hides_labels(&columns, rows().flatten()) {
            columns.label = None;
        }

        let mut examples = Vec::new();
        let mut unreadable = Unreadable::new(path, "lines");
        let mut broken = 0;
        for row in rows() {
            let example = row.map_err(LineError::from).and_then(|row| {
                columns.check(&row)?;
                let kept = keep(&header, &row);
                kept.then(|| self.example(&columns, &row)).transpose()
            });
            match example {
                Ok(example) => examples.extend(example),
                Err(LineError::Cells { .. }) if self == Self::Qqp => broken += 1,
                Err(error) => unreadable.add(1, error),
            }
        }
        if broken > 0 {
            let path = path.display();
            warn(&format!(
                "{path}: left out {broken} lines that a line break in a question broke"
            ));
        }
        unreadable.finish(examples.len())?;
        if examples.is_empty() {
            return Err(empty());
        }
        Ok(examples)
    }

    fn open(self, path: &Path) -> Result<TsvTable, GlueError> {
        TsvTable::read(path).map_err(|error| match error {
            TsvError::Missing { path } => GlueError::Missing { path, task: self },
            other => GlueError::Table(other),
        })
    }

    fn columns(
        self,
        table: &TsvTable,
        header: &TsvRow,
        split: Split,
    ) -> Result<Columns, GlueError> {
        let find = |name| table.column(header, name).map_err(GlueError::Table);
        let [first, second, label] = self.column_names();
        let label = match find(label) {
            Err(_) if split.is_test() => None,
            found => Some(found?),
        };
        let second = if second.is_empty() {
            None
        } else {
            Some(find(second)?)
        };
        Ok(Columns {
            first_line: 2,
            width: header.cells.len(),
            first: find(first)?,
            second,
            label,
            index: table.column(header, "index").ok(),
        })
    }

    /// Whether the file has something else in place of labels: the same text in every row.
    fn hides_labels<'t>(self, columns: &Columns, rows: impl Iterator<Item = TsvRow<'t>>) -> bool {
        let Some(label) = columns.label else {
            return false;
        };
        let mut texts = rows
            .filter(|row| columns.check(row).is_ok())
            .map(|row| row.cells[label].trim());
        texts.next().is_some_and(|first| {
            self.parse_label(first).is_none() && texts.all(|text| text == first)
        })
    }

    /// The example of a row of the right width.
    fn example(self, columns: &Columns, row: &TsvRow) -> Result<Example, LineError> {
        let label = |column: usize| -> Result<Label, LineError> {
            let text = row.cells[column].trim();
            self.parse_label(text).ok_or_else(|| LineError::Label {
                line: row.line,
                value: text.to_owned(),
                expected: self.label_texts(),
            })
        };
        Ok(Example {
            first: row.cells[columns.first].to_owned(),
            second: columns.second.map(|second| row.cells[second].to_owned()),
            row: columns
                .index
                .and_then(|index| row.cells[index].trim().parse().ok())
                .unwrap_or(row.line - columns.first_line),
            label: columns.label.map(label).transpose()?,
        })
    }
}

impl Columns {
    fn check(&self, row: &TsvRow) -> Result<(), LineError> {
        let (expected, found) = (self.width, row.cells.len());
        if found == expected {
            return Ok(());
        }
        Err(LineError::Cells {
            line: row.line,
            expected,
            found,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use tempfile::TempDir;

    use super::*;

    fn folder(files: &[(&str, &str)]) -> TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            fs::write(folder.path().join(name), text).unwrap();
        }
        folder
    }

    /// The only example of the task's file `name` with this text.
    fn only(
        task: GlueTask,
        split: Split,
        name: &str,
        text: &str,
    ) -> (String, Option<String>, Option<Label>) {
        assert_eq!(task.file(split).as_deref(), Some(name));
        let folder = folder(&[(name, text)]);
        let [example] = &task.load(folder.path(), split).unwrap()[..] else {
            panic!("{task} has more than one example");
        };
        (example.first.clone(), example.second.clone(), example.label)
    }

    fn error(task: GlueTask, split: Split, name: &str, text: &str) -> String {
        let folder = folder(&[(name, text)]);
        let error = task.load(folder.path(), split).unwrap_err().to_string();
        error.replace(&format!("{}/", folder.path().display()), "")
    }

    #[test]
    fn single_sentences() {
        let text = "gj04\t0\t*\tThe \"cat\n";
        let expected = ("The \"cat".to_owned(), None, Some(Label::Class(0)));
        assert_eq!(
            only(GlueTask::Cola, Split::Train, "train.tsv", text),
            expected
        );
        assert_eq!(
            only(
                GlueTask::Cola,
                Split::DevOutOfDomain,
                "out_of_domain_dev.tsv",
                text
            ),
            expected
        );

        let text = "\u{feff}sentence\tlabel\r\na fine film\t1\r\n\r\n";
        let expected = ("a fine film".to_owned(), None, Some(Label::Class(1)));
        assert_eq!(only(GlueTask::Sst2, Split::Dev, "dev.tsv", text), expected);
    }

    #[test]
    fn pairs() {
        let cases = [
            (
                GlueTask::Mrpc,
                "train.tsv",
                "Quality\t#1 ID\t#2 ID\t#1 String\t#2 String\n1\t7\t8\tA\tB\n",
                Label::Class(1),
            ),
            (
                GlueTask::Qqp,
                "train.tsv",
                "id\tqid1\tqid2\tquestion1\tquestion2\tis_duplicate\n9\t1\t2\tA\tB\t0\n",
                Label::Class(0),
            ),
            (
                GlueTask::Stsb,
                "train.tsv",
                "index\tgenre\tfilename\tyear\told_index\tsource1\tsource2\tsentence1\tsentence2\tscore\n\
                 0\tnews\tf\t2012\t1\tnone\tnone\tA\tB\t3.800\n",
                Label::Score(3.8),
            ),
            (
                GlueTask::Mnli,
                "train.tsv",
                "index\tpromptID\tpairID\tgenre\tsentence1_binary_parse\tsentence2_binary_parse\t\
                 sentence1_parse\tsentence2_parse\tsentence1\tsentence2\tlabel1\tgold_label\n\
                 0\t1\t1n\tfiction\t(\t(\t(\t(\tA\tB\tneutral\tcontradiction\n",
                Label::Class(2),
            ),
            (
                GlueTask::Qnli,
                "train.tsv",
                "index\tquestion\tsentence\tlabel\n0\tA\tB\tentailment\n",
                Label::Class(0),
            ),
            (
                GlueTask::Rte,
                "train.tsv",
                "index\tsentence1\tsentence2\tlabel\n0\tA\tB\tnot_entailment\n",
                Label::Class(1),
            ),
            (
                GlueTask::Wnli,
                "train.tsv",
                "index\tsentence1\tsentence2\tlabel\n0\tA\tB\t1\n",
                Label::Class(1),
            ),
        ];
        for (task, name, text, label) in cases {
            let expected = ("A".to_owned(), Some("B".to_owned()), Some(label));
            assert_eq!(only(task, Split::Train, name, text), expected, "{task}");
        }
    }

    #[test]
    fn test_files_may_hide_their_labels() {
        let text = "index\tsentence1\tsentence2\n0\tA\tB\n";
        let expected = ("A".to_owned(), Some("B".to_owned()), None);
        assert_eq!(
            only(
                GlueTask::Mnli,
                Split::TestMismatched,
                "test_mismatched.tsv",
                text
            ),
            expected
        );
        let text = "index\tsentence\n0\tA cat\n";
        assert_eq!(
            only(GlueTask::Cola, Split::Test, "test.tsv", text),
            ("A cat".to_owned(), None, None)
        );
        let text = "sentence\tlabel\nA cat\t1\n";
        let expected = ("A cat".to_owned(), None, Some(Label::Class(1)));
        assert_eq!(
            only(GlueTask::Sst2, Split::Test, "test.tsv", text),
            expected
        );
    }

    #[test]
    fn broken_lines_of_qqp_are_left_out() {
        let header = "id\tqid1\tqid2\tquestion1\tquestion2\tis_duplicate\n";
        let text = format!("{header}1\t1\t2\tWhat\nis it?\tWhat?\t0\n2\t3\t4\tA\tB\t1\n");
        let expected = ("A".to_owned(), Some("B".to_owned()), Some(Label::Class(1)));
        assert_eq!(
            only(GlueTask::Qqp, Split::Train, "train.tsv", &text),
            expected
        );
    }

    #[test]
    fn labels_of_a_test_file_are_read_or_hidden() {
        let load = |task: GlueTask, text: &str| {
            let folder = folder(&[("test.tsv", text)]);
            let examples = task.load(folder.path(), Split::Test);
            let labels = |examples: Vec<Example>| examples.iter().map(|e| e.label).collect();
            examples.map(labels).map_err(|error| error.to_string())
        };
        let class = |class| Some(Label::Class(class));
        let cases: [(GlueTask, &str, Vec<Option<Label>>); 7] = [
            (
                GlueTask::Sst2,
                "index\tsentence\tlabel\n0\tA\t1\n1\tB\t0\n",
                vec![class(1), class(0)],
            ),
            (
                GlueTask::Sst2,
                "sentence\tlabel\nA\t-1\nB\t-1\n",
                vec![None, None],
            ),
            (GlueTask::Sst2, "sentence\tlabel\nA\t\n", vec![None]),
            (
                GlueTask::Rte,
                "index\tsentence1\tsentence2\tlabel\n0\tA\tB\thidden\n",
                vec![None],
            ),
            (
                GlueTask::Stsb,
                "sentence1\tsentence2\tscore\nA\tB\t-1\nA\tB\t-1\n",
                vec![None, None],
            ),
            // CoLA's other files have no header.
            (
                GlueTask::Cola,
                "gj04\t1\t\tA\ngj04\t0\t*\tB\n",
                vec![class(1), class(0)],
            ),
            (GlueTask::Cola, "index\tsentence\n0\tA\n", vec![None]),
        ];
        for (task, text, labels) in cases {
            assert_eq!(load(task, text), Ok(labels), "{text}");
        }
        // Names of other classes are a mistake, and not hidden.
        let names = "sentence\tlabel\nA\tgood\nB\tbad\n";
        let error = load(GlueTask::Sst2, names).unwrap_err();
        assert!(
            error.contains("line 2: label `good` is not one of 0, 1"),
            "{error}"
        );
    }

    #[test]
    fn a_few_lines_that_are_no_examples_are_left_out() {
        let rte = "index\tsentence1\tsentence2\tlabel\n";
        let mut text = format!("{rte}0\tA\tB\tentailment\n").into_bytes();
        for _ in 0..27 {
            text.extend(b"1\tA\tB\tnot_entailment\n");
        }
        text.extend(b"2\tA\tentailment\n3\tA\tB\t-\n4\tA\tcaf\xe9\tentailment\n");
        let folder = folder(&[]);
        let path = folder.path().join("dev.tsv");
        fs::write(&path, &text).unwrap();
        let load = || GlueTask::Rte.load(folder.path(), Split::Dev);
        assert_eq!(load().unwrap().len(), 28);

        text.extend(b"5\n");
        fs::write(&path, &text).unwrap();
        let error = load().unwrap_err().to_string();
        let expected = "dev.tsv: 4 of 32 lines cannot be used, and at most one in 10 may be: \
                        line 30: expected 4 cells between tabs, found 3; \
                        line 31: label `-` is not one of entailment, not_entailment; \
                        line 32: not UTF-8 text; ...";
        assert!(error.ends_with(expected), "{error}");
    }

    #[test]
    fn malformed_files_name_the_line_and_what_is_right() {
        let rte = "index\tsentence1\tsentence2\tlabel\n";
        let most = "cannot be used, and at most one in 10 may be";
        let cases = [
            (
                format!("{rte}0\tA\tB\tentailment\n1\tA\tentailment\n"),
                format!("train.tsv: 1 of 2 lines {most}: line 3: expected 4 cells between tabs, found 3"),
            ),
            (
                format!("{rte}0\tA\tB\tneutral\n"),
                format!("train.tsv: 1 of 1 lines {most}: line 2: label `neutral` is not one of entailment, not_entailment"),
            ),
            (rte.to_owned(), "train.tsv: no examples".to_owned()),
            (String::new(), "train.tsv: no examples".to_owned()),
            (
                "index\tsentence1\tsentence2\n0\tA\tB\n".to_owned(),
                "train.tsv, line 1: no column `label` in the header; found `index`, `sentence1`, `sentence2`".to_owned(),
            ),
        ];
        for (text, expected) in cases {
            assert_eq!(
                error(GlueTask::Rte, Split::Train, "train.tsv", &text),
                expected
            );
        }
        let blank = "gj04\t1\t\tA\n\ngj04\t1\t\tB\n";
        assert_eq!(
            error(GlueTask::Cola, Split::Dev, "dev.tsv", blank),
            format!("dev.tsv: 1 of 3 lines {most}: line 2: expected 4 cells between tabs, found 1")
        );
        let folder = folder(&[]);
        fs::write(folder.path().join("dev.tsv"), b"\xff\xfes\0").unwrap();
        let error = GlueTask::Rte.load(folder.path(), Split::Dev).unwrap_err();
        assert!(
            error
                .to_string()
                .ends_with("dev.tsv, line 1: not UTF-8 text")
        );
    }

    #[test]
    fn labels_outside_the_range_are_no_labels() {
        let cases = [
            (
                GlueTask::Sst2,
                "sentence\tlabel\nA\t2\n",
                "label `2` is not one of 0, 1",
            ),
            (
                GlueTask::Sst2,
                "sentence\tlabel\nA\t-1\n",
                "label `-1` is not one of 0, 1",
            ),
            (
                GlueTask::Mnli,
                "sentence1\tsentence2\tgold_label\nA\tB\t-\n",
                "label `-` is not one of entailment, neutral, contradiction",
            ),
            (
                GlueTask::Stsb,
                "sentence1\tsentence2\tscore\nA\tB\t5.1\n",
                "label `5.1` is not one of the numbers from 0 to 5",
            ),
            (
                GlueTask::Stsb,
                "sentence1\tsentence2\tscore\nA\tB\tNaN\n",
                "label `NaN` is not one of the numbers from 0 to 5",
            ),
        ];
        for (task, text, expected) in cases {
            let message = error(task, Split::Train, "train.tsv", text);
            assert!(
                message.ends_with(&format!(": line 2: {expected}")),
                "{message}"
            );
        }
    }

    #[test]
    fn a_missing_file_or_split_names_those_of_the_task() {
        assert_eq!(
            error(GlueTask::Mnli, Split::Dev, "dev.tsv", ""),
            "no file dev_matched.tsv; mnli is read from train.tsv, dev_matched.tsv, dev_mismatched.tsv, \
             test_matched.tsv, test_mismatched.tsv"
        );
        assert_eq!(
            error(GlueTask::Rte, Split::DevMismatched, "dev.tsv", ""),
            "rte has no split `dev_mismatched`; it has train, dev, test"
        );
    }
}
