//! The report of a run: one HTML file, its charts as SVG files, and its table in Markdown and LaTeX.
//!
//! [`load`](load::load) reads a run folder, and [`Report`] makes all of it. The same data make the same bytes.

pub mod data;
mod extent;
mod figure;
mod latency;
mod latex;
pub mod layers;
pub mod load;
mod markdown;
mod measure;
mod number;
mod page;
mod section;
mod style;
mod subject;
mod summary;
mod svg;
mod verdict;
mod view;

use serde::Serialize;

use self::data::ReportData;
use self::figure::Figure;
use self::section::{Block, Section};
use self::subject::Subject;
use self::summary::Summary;

pub use page::PageError;

/// A report.
#[derive(Debug)]
pub struct Report<'a> {
    data: &'a ReportData,
    sections: Vec<Section>,
    left_out: Vec<LeftOut>,
    summary: Summary,
}

/// A view that a report does not have.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LeftOut {
    /// The view.
    pub title: &'static str,
    /// Why it is left out.
    pub reason: String,
}

impl<'a> Report<'a> {
    /// The report of a run.
    pub fn new(data: &'a ReportData) -> Self {
        let subject = Subject::new(data);
        let (mut sections, mut left_out) = (vec![], vec![]);
        for view in &view::VIEWS {
            match (view.make)(&subject) {
                Ok(section) => sections.push(section),
                Err(reason) => left_out.push(LeftOut {
                    title: view.title,
                    reason,
                }),
            }
        }
        Self {
            summary: Summary::of(&data.results, &subject.speeds),
            data,
            sections,
            left_out,
        }
    }

    /// The views that are left out, with the reasons.
    pub fn left_out(&self) -> &[LeftOut] {
        &self.left_out
    }

    /// The names of all charts, in their order.
    pub fn figures(&self) -> Vec<&str> {
        self.all_figures()
            .map(|figure| figure.name.as_str())
            .collect()
    }

    /// A chart as an SVG file; none if the report has none of this name.
    pub fn svg(&self, name: &str) -> Option<String> {
        let figure = self.all_figures().find(|figure| figure.name == name)?;
        Some(figure.drawing.standalone(&figure.title))
    }

    /// The page with everything in it, which asks for no other file.
    ///
    /// # Errors
    ///
    /// None that is known; the template library does not rule them out.
    pub fn html(&self) -> Result<String, PageError> {
        page::html(self.data, &self.sections, &self.left_out)
    }

    /// The table in Markdown, with the verdicts.
    pub fn markdown(&self) -> String {
        markdown::table(&self.data.results, &self.summary)
    }

    /// The table in LaTeX, for the package `booktabs`.
    pub fn latex(&self) -> String {
        latex::table(&self.summary)
    }

    fn all_figures(&self) -> impl Iterator<Item = &Figure> {
        let blocks = self.sections.iter().flat_map(|section| &section.blocks);
        blocks
            .filter_map(|block| match block {
                Block::Figures(figures) => Some(figures),
                _ => None,
            })
            .flatten()
    }
}
