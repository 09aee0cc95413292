//! A chart with its caption and its data.

use crate::report::svg::Drawing;

/// A chart.
#[derive(Clone, Debug)]
pub struct Figure {
    /// The name of its file, without ending.
    pub name: String,
    /// What it shows, in a few words.
    pub title: String,
    /// How to read it.
    pub caption: String,
    /// The picture.
    pub drawing: Drawing,
    /// What is drawn.
    pub data: DataTable,
}

/// The data of a chart.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DataTable {
    /// The titles of the columns.
    pub header: Vec<String>,
    /// The cells, by row.
    pub rows: Vec<Vec<String>>,
}

impl DataTable {
    /// A table without rows.
    pub fn new(header: &[&str]) -> Self {
        Self {
            header: header.iter().map(ToString::to_string).collect(),
            rows: vec![],
        }
    }

    /// Adds a row.
    pub fn push(&mut self, row: impl IntoIterator<Item = String>) {
        self.rows.push(row.into_iter().collect());
    }
}

/// A number of a data table: short, but enough to draw it again.
pub fn cell(value: f64) -> String {
    crate::report::number::short(value, 5)
}

/// A number that may be missing.
pub fn cell_of(value: Option<f64>) -> String {
    value.map_or_else(String::new, cell)
}
