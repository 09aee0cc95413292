//! Tab-separated files without quoting: a quotation mark is text, and a cell ends at a tab.

use std::{
    fs,
    io::{self, ErrorKind},
    path::{Path, PathBuf},
};

/// A file that is not readable as tab-separated text.
#[derive(Debug, thiserror::Error)]
pub enum TsvError {
    /// The file is not there.
    #[error("no file {}", path.display())]
    Missing {
        /// The file.
        path: PathBuf,
    },
    /// The file cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// The file is not UTF-8.
    #[error("{}, line {line}: not UTF-8 text", path.display())]
    Encoding {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
    },
    /// The header lacks a column.
    #[error("{}, line 1: no column `{column}` in the header; found {}", path.display(), found.join(", "))]
    Column {
        /// The file.
        path: PathBuf,
        /// The column that is needed.
        column: String,
        /// The columns of the header.
        found: Vec<String>,
    },
}

/// A file in memory.
#[derive(Clone, Debug)]
pub struct Table {
    path: PathBuf,
    text: String,
}

/// A line of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row<'t> {
    /// The line in the file, from 1.
    pub line: usize,
    /// The cells, without the line's end.
    pub cells: Vec<&'t str>,
}

impl Table {
    /// Reads a file of UTF-8 text, with or without a byte order mark.
    ///
    /// # Errors
    ///
    /// If the file is missing, unreadable or not UTF-8.
    pub fn read(path: &Path) -> Result<Self, TsvError> {
        let path = path.to_owned();
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == ErrorKind::NotFound => {
                return Err(TsvError::Missing { path });
            }
            Err(source) => return Err(TsvError::Read { path, source }),
        };
        match String::from_utf8(bytes) {
            Ok(text) => Ok(Self { path, text }),
            Err(error) => {
                let valid = &error.as_bytes()[..error.utf8_error().valid_up_to()];
                let line = valid.split(|byte| *byte == b'\n').count();
                Err(TsvError::Encoding { path, line })
            }
        }
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// All lines, the header included. Lines end in LF or CRLF; blank lines at the end are left
    /// out.
    pub fn rows(&self) -> impl Iterator<Item = Row<'_>> {
        let text = self.text.strip_prefix('\u{feff}').unwrap_or(&self.text);
        let text = text.trim_end_matches(['\n', '\r']);
        // `split` finds one empty line in an empty text.
        let text = (!text.is_empty()).then_some(text);
        text.into_iter()
            .flat_map(|text| text.split('\n'))
            .enumerate()
            .map(|(index, line)| Row {
                line: index + 1,
                cells: line
                    .strip_suffix('\r')
                    .unwrap_or(line)
                    .split('\t')
                    .collect(),
            })
    }

    /// The position of `column` in a header of this file.
    ///
    /// # Errors
    ///
    /// If there is no such column.
    pub fn column(&self, header: &Row, column: &str) -> Result<usize, TsvError> {
        header
            .cells
            .iter()
            .position(|cell| cell.trim() == column)
            .ok_or_else(|| TsvError::Column {
                path: self.path.clone(),
                column: column.to_owned(),
                found: header
                    .cells
                    .iter()
                    .map(|cell| format!("`{}`", cell.trim()))
                    .collect(),
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(text: &str) -> Table {
        Table {
            path: "x.tsv".into(),
            text: text.into(),
        }
    }

    fn cells(text: &str) -> Vec<Vec<String>> {
        table(text)
            .rows()
            .map(|row| row.cells.iter().map(ToString::to_string).collect())
            .collect()
    }

    #[test]
    fn byte_order_mark_and_line_ends_are_not_text() {
        let expected = vec![vec!["a", "b"], vec!["c", "d"]];
        assert_eq!(cells("a\tb\nc\td"), expected);
        assert_eq!(cells("\u{feff}a\tb\r\nc\td\r\n\r\n"), expected);
    }

    #[test]
    fn quotes_and_unicode_line_separators_are_text() {
        assert_eq!(
            cells("\"a\tb\u{2028}\"c\n"),
            vec![vec!["\"a", "b\u{2028}\"c"]]
        );
    }

    #[test]
    fn empty_text_has_no_rows_and_a_blank_line_inside_is_one() {
        assert!(cells("\n").is_empty());
        assert_eq!(cells("a\n\nb"), vec![vec!["a"], vec![""], vec!["b"]]);
    }

    #[test]
    fn a_missing_column_names_those_that_are_there() {
        let table = table("index\tsentence\n");
        let header = table.rows().next().unwrap();
        assert_eq!(table.column(&header, "sentence").unwrap(), 1);
        assert_eq!(
            table.column(&header, "label").unwrap_err().to_string(),
            "x.tsv, line 1: no column `label` in the header; found `index`, `sentence`"
        );
    }

    #[test]
    fn text_in_another_encoding_names_its_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("latin1.tsv");
        fs::write(&path, b"a\tb\ncaf\xe9\tb\n").unwrap();
        assert!(matches!(
            Table::read(&path),
            Err(TsvError::Encoding { line: 2, .. })
        ));
    }
}
