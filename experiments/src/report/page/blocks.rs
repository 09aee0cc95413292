//! Parts of sections as the template wants them.

use serde::Serialize;

use super::summary::SummaryView;
use crate::{
    ablate::statistics::VerdictKind,
    report::{
        figure::Figure,
        section::{Block, Sentence, Table},
        verdict::KINDS,
    },
};

/// A part of a section.
#[derive(Serialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum BlockView {
    /// A paragraph.
    Text {
        /// The text.
        text: String,
    },
    /// Verdicts.
    Verdicts {
        /// All of them, or those of a kind.
        groups: Vec<GroupView>,
    },
    /// The table of all arms.
    Summary(Box<SummaryView>),
    /// Charts.
    Figures {
        /// In their order.
        figures: Vec<FigureView>,
    },
    /// A table.
    Table(TableView),
    /// A text as it is.
    Code {
        /// What it is.
        title: String,
        /// The text.
        text: String,
        /// Its anchor.
        id: String,
    },
}

/// Verdicts that are shown together.
#[derive(Serialize)]
pub struct GroupView {
    /// What they have in common; empty where they are all.
    title: String,
    /// Whether they show at once.
    is_open: bool,
    sentences: Vec<SentenceView>,
}

/// A verdict.
#[derive(Serialize)]
pub struct SentenceView {
    sign: &'static str,
    word: &'static str,
    class: &'static str,
    text: String,
}

/// A chart.
#[derive(Serialize)]
pub struct FigureView {
    name: String,
    title: String,
    caption: String,
    svg: String,
    data: TableView,
}

/// A table.
#[derive(Serialize)]
pub struct TableView {
    caption: String,
    header: Vec<String>,
    texts: usize,
    rows: Vec<Vec<String>>,
    /// Whether it is folded away.
    is_long: bool,
}

/// More verdicts are shown by kind, and folded away where a kind has more.
const SENTENCES: usize = 20;
/// A table with more rows is folded away.
const ROWS: usize = 40;

impl BlockView {
    /// The view of a block; `id` is an anchor of its own.
    pub fn of(block: &Block, id: &str) -> Self {
        match block {
            Block::Text(text) => Self::Text { text: text.clone() },
            Block::Verdicts(sentences) => verdicts(sentences),
            Block::Summary(summary) => Self::Summary(Box::new(SummaryView::of(summary))),
            Block::Figures(figures) => Self::Figures {
                figures: figures.iter().map(FigureView::of).collect(),
            },
            Block::Table(table) => Self::Table(TableView::of(table)),
            Block::Code { title, text } => Self::Code {
                title: title.clone(),
                text: text.clone(),
                id: id.to_owned(),
            },
        }
    }
}

fn verdicts(sentences: &[Sentence]) -> BlockView {
    let view = |sentence: &Sentence| SentenceView {
        sign: sentence.kind.sign(),
        word: sentence.kind.word(),
        class: sentence.kind.class(),
        text: sentence.text.clone(),
    };
    if sentences.len() <= SENTENCES {
        let group = GroupView {
            title: String::new(),
            is_open: true,
            sentences: sentences.iter().map(view).collect(),
        };
        return BlockView::Verdicts {
            groups: vec![group],
        };
    }
    let mut groups: Vec<GroupView> = vec![];
    for kind in KINDS {
        let own = sentences.iter().filter(|sentence| sentence.kind == kind);
        let own: Vec<SentenceView> = own.map(view).collect();
        if !own.is_empty() {
            groups.push(GroupView {
                title: format!("{} {}", own.len(), kind.word()),
                is_open: own.len() <= SENTENCES && kind != VerdictKind::Undecided,
                sentences: own,
            });
        }
    }
    BlockView::Verdicts { groups }
}

impl FigureView {
    fn of(figure: &Figure) -> Self {
        Self {
            name: figure.name.clone(),
            title: figure.title.clone(),
            caption: figure.caption.clone(),
            svg: figure.drawing.inline(&format!(
                "{}; the data are in the table below",
                figure.title
            )),
            data: TableView {
                caption: format!("{}: data", figure.title),
                header: figure.data.header.clone(),
                texts: 1,
                rows: figure.data.rows.clone(),
                is_long: true,
            },
        }
    }
}

impl TableView {
    fn of(table: &Table) -> Self {
        Self {
            caption: table.caption.clone(),
            header: table.header.clone(),
            texts: table.texts,
            rows: table.rows.clone(),
            is_long: table.is_folded || table.rows.len() > ROWS,
        }
    }
}
