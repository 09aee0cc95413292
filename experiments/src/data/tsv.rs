//! Tab-separated files without quoting: a quotation mark is text, and a cell ends at a tab.

use std::path::{Path, PathBuf};

use moebert_core::file::{self, FileError};

use super::byte_order_mark::without_mark;

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
    #[error(transparent)]
    File(#[from] FileError),
    /// A line that is needed is not UTF-8.
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

/// A line that is not UTF-8.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: not UTF-8 text")]
pub struct NotText {
    /// The line in the file, from 1.
    pub line: usize,
}

/// A file in memory.
#[derive(Clone, Debug)]
pub struct TsvTable {
    path: PathBuf,
    bytes: Vec<u8>,
}

/// A line of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TsvRow<'t> {
    /// The line in the file, from 1.
    pub line: usize,
    /// The cells, without the line's end.
    pub cells: Vec<&'t str>,
}

impl TsvTable {
    /// Reads a file, with or without a byte order mark.
    ///
    /// # Errors
    ///
    /// If the file is missing or unreadable.
    pub fn read(path: &Path) -> Result<Self, TsvError> {
        let path = path.to_owned();
        match file::read_if_there(&path)? {
            Some(bytes) => Ok(Self { path, bytes }),
            None => Err(TsvError::Missing { path }),
        }
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// All lines, the header included. Lines end in LF or CRLF; blank lines at the end are left
    /// out.
    pub fn rows(&self) -> impl Iterator<Item = Result<TsvRow<'_>, NotText>> {
        let bytes = without_mark(&self.bytes);
        let end = bytes.iter().rposition(|byte| !b"\n\r".contains(byte));
        // `split` finds one empty line in an empty text.
        let bytes = end.map(|end| &bytes[..=end]);
        bytes
            .into_iter()
            .flat_map(|bytes| bytes.split(|byte| *byte == b'\n'))
            .zip(1..)
            .map(|(bytes, line)| {
                let bytes = bytes.strip_suffix(b"\r").unwrap_or(bytes);
                let text = str::from_utf8(bytes).map_err(|_| NotText { line })?;
                let cells = text.split('\t').collect();
                Ok(TsvRow { line, cells })
            })
    }

    /// The error of a line that has to be text.
    pub fn not_text(&self, NotText { line }: NotText) -> TsvError {
        TsvError::Encoding {
            path: self.path.clone(),
            line,
        }
    }

    /// The position of `column` in a header of this file.
    ///
    /// # Errors
    ///
    /// If there is no such column.
    pub fn column(&self, header: &TsvRow, column: &str) -> Result<usize, TsvError> {
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
    use std::fs;

    use super::*;

    fn table(text: &str) -> TsvTable {
        TsvTable {
            path: "x.tsv".into(),
            bytes: text.into(),
        }
    }

    fn cells(text: &str) -> Vec<Vec<String>> {
        table(text)
            .rows()
            .map(|row| row.unwrap().cells.iter().map(ToString::to_string).collect())
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
        let header = table.rows().next().unwrap().unwrap();
        assert_eq!(table.column(&header, "sentence").unwrap(), 1);
        assert_eq!(
            table.column(&header, "label").unwrap_err().to_string(),
            "x.tsv, line 1: no column `label` in the header; found `index`, `sentence`"
        );
    }

    #[test]
    fn a_line_in_another_encoding_is_told_from_the_others() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("latin1.tsv");
        fs::write(&path, b"a\tb\ncaf\xe9\tb\nc\td\n").unwrap();
        let table = TsvTable::read(&path).unwrap();
        let rows: Vec<_> = table.rows().collect();
        assert_eq!(rows[1], Err(NotText { line: 2 }));
        assert_eq!(rows[2].as_ref().unwrap().cells, ["c", "d"]);
        let error = table.not_text(NotText { line: 2 }).to_string();
        assert!(
            error.ends_with("latin1.tsv, line 2: not UTF-8 text"),
            "{error}"
        );
    }
}
