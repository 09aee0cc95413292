//! The nine tasks of GLUE (Wang et al. 2018, arXiv 1804.07461) in their official files.

mod msr;
mod task;

use std::path::{Path, PathBuf};

pub use task::{GlueTask, Split, UnknownTask};

use super::{
    example::{Example, Label},
    tsv::{Row, Table, TsvError},
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
    /// A line has too few or too many cells.
    #[error("{}, line {line}: expected {expected} cells between tabs, found {found}", path.display())]
    Row {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// The number of columns.
        expected: usize,
        /// The number of cells in the line.
        found: usize,
    },
    /// A label is none of the task's.
    #[error("{}, line {line}: label `{value}` is not one of {expected}", path.display())]
    Label {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// The text in the label's column.
        value: String,
        /// What is allowed there.
        expected: String,
    },
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

/// Where a file keeps what an example needs.
struct Columns {
    width: usize,
    first: usize,
    second: Option<usize>,
    label: Option<usize>,
}

impl GlueTask {
    /// Reads one split from a folder with the task's official files (see [`Self::file`]).
    ///
    /// Labels are `None` in a test file without a label column. MRPC is also read from the
    /// Microsoft corpus that GLUE made it of: `msr_paraphrase_train.txt`, divided by `dev_ids.tsv`,
    /// and `msr_paraphrase_test.txt`. A few questions of the official QQP contain a line break; the
    /// broken lines are left out and their number is logged as a warning, as the readers of Hugging
    /// Face leave them out.
    ///
    /// # Errors
    ///
    /// If the task has no such split, or its file is missing, malformed, has a label outside the
    /// task's or no examples.
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
        keep: impl Fn(&Row, &Row) -> bool,
    ) -> Result<Vec<Example>, GlueError> {
        let table = self.open(path)?;
        let mut rows = table.rows().peekable();
        let Some(header) = rows.peek().cloned() else {
            return Err(GlueError::Empty {
                path: path.to_owned(),
            });
        };
        let columns = if self.has_header(split) {
            rows.next();
            self.columns(&table, &header, split)?
        } else {
            // CoLA: source, label, the author's mark, sentence.
            Columns {
                width: 4,
                first: 3,
                second: None,
                label: Some(1),
            }
        };

        let mut examples = Vec::new();
        let mut broken = 0;
        for row in rows {
            let found = row.cells.len();
            if found != columns.width {
                if self == Self::Qqp {
                    broken += 1;
                    continue;
                }
                let (line, expected) = (row.line, columns.width);
                return Err(GlueError::Row {
                    path: path.to_owned(),
                    line,
                    expected,
                    found,
                });
            }
            if keep(&header, &row) {
                examples.push(Example {
                    first: row.cells[columns.first].to_owned(),
                    second: columns.second.map(|second| row.cells[second].to_owned()),
                    label: columns
                        .label
                        .map(|label| self.label(path, &row, label))
                        .transpose()?,
                });
            }
        }
        if broken > 0 {
            log::warn!(
                "{}: left out {broken} lines of {} that a line break in a question broke",
                self,
                path.display()
            );
        }
        if examples.is_empty() {
            return Err(GlueError::Empty {
                path: path.to_owned(),
            });
        }
        Ok(examples)
    }

    fn open(self, path: &Path) -> Result<Table, GlueError> {
        Table::read(path).map_err(|error| match error {
            TsvError::Missing { path } => GlueError::Missing { path, task: self },
            other => GlueError::Table(other),
        })
    }

    fn columns(self, table: &Table, header: &Row, split: Split) -> Result<Columns, GlueError> {
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
            width: header.cells.len(),
            first: find(first)?,
            second,
            label,
        })
    }

    fn label(self, path: &Path, row: &Row, column: usize) -> Result<Label, GlueError> {
        let text = row.cells[column].trim();
        self.parse_label(text).ok_or_else(|| GlueError::Label {
            path: path.to_owned(),
            line: row.line,
            value: text.to_owned(),
            expected: self.label_texts(),
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
    fn malformed_files_name_the_line_and_what_is_right() {
        let rte = "index\tsentence1\tsentence2\tlabel\n";
        let cases = [
            (
                format!("{rte}0\tA\tB\tentailment\n1\tA\tentailment\n"),
                "train.tsv, line 3: expected 4 cells between tabs, found 3",
            ),
            (
                format!("{rte}0\tA\tB\tneutral\n"),
                "train.tsv, line 2: label `neutral` is not one of entailment, not_entailment",
            ),
            (rte.to_owned(), "train.tsv: no examples"),
            (String::new(), "train.tsv: no examples"),
            (
                "index\tsentence1\tsentence2\n0\tA\tB\n".to_owned(),
                "train.tsv, line 1: no column `label` in the header; found `index`, `sentence1`, `sentence2`",
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
            "dev.tsv, line 2: expected 4 cells between tabs, found 1"
        );
    }

    #[test]
    fn labels_outside_the_range_are_errors() {
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
            assert_eq!(message, format!("train.tsv, line 2: {expected}"));
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
