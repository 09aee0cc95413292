//! Long tables in memory, and as files: CSV and Parquet.

mod csv_text;
mod parquet_file;
#[cfg(test)]
mod testing;

use std::{collections::HashSet, path::Path, path::PathBuf};

use ::parquet::errors::ParquetError;

use moebert_core::file::{self, FileError};

/// The cells of a column, from the first row; `None` where a row has no value.
#[derive(Clone, Debug, PartialEq)]
pub enum Column {
    /// Strings.
    Text(Vec<Option<String>>),
    /// Numbers, with NaN and infinities.
    Real(Vec<Option<f64>>),
    /// Numbers of single precision.
    Real32(Vec<Option<f32>>),
    /// Integers.
    Whole(Vec<Option<i64>>),
    /// Integers of 32 bits.
    Whole32(Vec<Option<i32>>),
    /// Lists of numbers of single precision.
    Reals32(Vec<Option<Vec<f32>>>),
}

impl Column {
    /// The number of rows.
    pub fn rows(&self) -> usize {
        match self {
            Self::Text(cells) => cells.len(),
            Self::Real(cells) => cells.len(),
            Self::Real32(cells) => cells.len(),
            Self::Whole(cells) => cells.len(),
            Self::Whole32(cells) => cells.len(),
            Self::Reals32(cells) => cells.len(),
        }
    }
}

/// Columns of the same length with different names.
#[derive(Clone, Debug, PartialEq)]
pub struct LongTable {
    columns: Vec<(String, Column)>,
}

/// A table that cannot be made or written.
#[derive(Debug, thiserror::Error)]
pub enum TableError {
    /// There are no columns.
    #[error("the table has no columns")]
    NoColumns,
    /// Two columns have the same name.
    #[error("two columns are named `{0}`")]
    SameName(String),
    /// A column is longer or shorter than the first.
    #[error("column `{name}` has {rows} rows, the first column has {first}")]
    Rows {
        /// The column.
        name: String,
        /// Its number of rows.
        rows: usize,
        /// The first column's.
        first: usize,
    },
    /// The table cannot be encoded.
    #[error("cannot write {}: {source}", path.display())]
    Parquet {
        /// The file.
        path: PathBuf,
        /// What the encoder said.
        source: ParquetError,
    },
    /// The file cannot be written.
    #[error(transparent)]
    File(#[from] FileError),
}

impl LongTable {
    /// A table of named columns, in their order.
    ///
    /// # Errors
    ///
    /// If there is no column, two have the same name, or their lengths differ.
    pub fn new(columns: Vec<(String, Column)>) -> Result<Self, TableError> {
        let first = columns.first().ok_or(TableError::NoColumns)?.1.rows();
        let mut names = HashSet::new();
        for (name, column) in &columns {
            if !names.insert(name) {
                return Err(TableError::SameName(name.clone()));
            }
            let rows = column.rows();
            if rows != first {
                let name = name.clone();
                return Err(TableError::Rows { name, rows, first });
            }
        }
        Ok(Self { columns })
    }

    /// The columns with their names.
    pub fn columns(&self) -> &[(String, Column)] {
        &self.columns
    }

    /// The number of rows.
    pub fn rows(&self) -> usize {
        self.columns.first().map_or(0, |(_, column)| column.rows())
    }

    /// The table as CSV (RFC 4180): a header, lines that end in CR LF, and `.` decimals. Numbers have the fewest digits
    /// that read back to the same float64, and a point or an exponent: `1.0`, `1e-7`, `NaN`, `inf`; those of single precision, to the same float32. A list is `[0.25,0.75]`. A missing value is an
    /// empty field, an empty string is `""`; the two are the same in a table of one column, as readers skip empty lines.
    pub fn to_csv(&self) -> String {
        csv_text::text(self)
    }

    /// Writes [`to_csv`](Self::to_csv).
    ///
    /// # Errors
    ///
    /// If the file cannot be written.
    pub fn write_csv(&self, path: &Path) -> Result<(), TableError> {
        Ok(file::write(path, self.to_csv().as_bytes())?)
    }

    /// Writes the table as Parquet: one row group, zstd 3, all columns and elements of lists optional. The
    /// same table and `metadata` (keys and values of the file) make the same bytes.
    ///
    /// # Errors
    ///
    /// If the table cannot be encoded or the file cannot be written.
    pub fn write_parquet(&self, path: &Path, metadata: &[(&str, &str)]) -> Result<(), TableError> {
        let bytes = parquet_file::bytes(self, metadata).map_err(|source| TableError::Parquet {
            path: path.to_owned(),
            source,
        })?;
        Ok(file::write(path, &bytes)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole(name: &str, rows: usize) -> (String, Column) {
        (name.to_owned(), Column::Whole(vec![Some(1); rows]))
    }

    #[test]
    fn refuses_columns_that_do_not_fit() {
        let error = |columns| LongTable::new(columns).unwrap_err().to_string();
        assert_eq!(error(vec![]), "the table has no columns");
        assert_eq!(
            error(vec![whole("a", 2), whole("a", 2)]),
            "two columns are named `a`"
        );
        assert_eq!(
            error(vec![whole("a", 2), whole("b", 3)]),
            "column `b` has 3 rows, the first column has 2"
        );
    }

    #[test]
    fn errors_name_the_file() {
        let table = LongTable::new(vec![whole("a", 1)]).unwrap();
        let path = Path::new("/nowhere/results.parquet");
        let error = table.write_parquet(path, &[]).unwrap_err().to_string();
        assert!(error.starts_with("cannot write /nowhere/results.parquet: "));
        let path = Path::new("/nowhere/results.csv");
        let error = table.write_csv(path).unwrap_err().to_string();
        assert!(error.starts_with("cannot write /nowhere/results.csv: "));
    }
}
