//! What views make: sections of a report, or why there is none.

use crate::{
    ablate::statistics::VerdictKind,
    report::{figure::Figure, summary::Summary},
};

/// A section of a report.
#[derive(Clone, Debug)]
pub struct Section {
    /// Its anchor.
    pub id: &'static str,
    /// Its title.
    pub title: &'static str,
    /// Its parts from top to bottom.
    pub blocks: Vec<Block>,
}

/// A part of a section.
#[derive(Clone, Debug)]
pub enum Block {
    /// A paragraph.
    Text(String),
    /// Verdicts, one sentence each.
    Verdicts(Vec<Sentence>),
    /// The table of all arms.
    Summary(Box<Summary>),
    /// Charts.
    Figures(Vec<Figure>),
    /// A table.
    Table(Table),
    /// A text as it is, folded away.
    Code {
        /// What it is.
        title: String,
        /// The text.
        text: String,
    },
}

/// A verdict in a sentence.
#[derive(Clone, Debug, PartialEq)]
pub struct Sentence {
    /// The kind.
    pub kind: VerdictKind,
    /// The sentence.
    pub text: String,
}

/// A table of texts.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Table {
    /// What it shows.
    pub caption: String,
    /// The titles of the columns.
    pub header: Vec<String>,
    /// How many columns from the left hold texts; the others hold numbers.
    pub texts: usize,
    /// The cells, by row.
    pub rows: Vec<Vec<String>>,
    /// Whether it is folded away however short it is.
    pub is_folded: bool,
}

impl Table {
    /// A table without rows.
    pub fn new(caption: &str, header: &[&str], texts: usize) -> Self {
        Self {
            caption: caption.to_owned(),
            header: header.iter().map(ToString::to_string).collect(),
            texts,
            rows: vec![],
            is_folded: false,
        }
    }
}

/// What a view makes, or why it is left out.
pub type Made = Result<Section, String>;
