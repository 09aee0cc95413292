//! The page: one HTML file with styles, charts, data and a small script.

mod blocks;
mod summary;

use minijinja::{AutoEscape, Environment, context};
use serde::Serialize;

use crate::{
    number::thousands,
    report::{LeftOut, data::ReportData, number, section::Section},
};
use blocks::BlockView;

/// A page that cannot be made.
#[derive(Debug, thiserror::Error)]
#[error("cannot make the page: {0}")]
pub struct PageError(#[from] minijinja::Error);

const NAME: &str = "report.html";

#[derive(Serialize)]
struct SectionView<'a> {
    id: &'a str,
    title: &'a str,
    blocks: Vec<BlockView>,
}

/// The page of sections.
pub fn html(
    data: &ReportData,
    sections: &[Section],
    left_out: &[LeftOut],
) -> Result<String, PageError> {
    let mut environment = Environment::new();
    // All that is printed is a text, but for what the template calls safe.
    environment.set_auto_escape_callback(|_| AutoEscape::Html);
    environment.set_trim_blocks(true);
    environment.set_lstrip_blocks(true);
    environment.add_template(NAME, include_str!("page/page.html"))?;
    let template = environment.get_template(NAME)?;
    let sections: Vec<SectionView<'_>> = sections
        .iter()
        .map(|section| SectionView {
            id: section.id,
            title: section.title,
            blocks: section
                .blocks
                .iter()
                .enumerate()
                .map(|(place, block)| BlockView::of(block, &format!("{}-{place}", section.id)))
                .collect(),
        })
        .collect();
    let left_out: Vec<[&str; 2]> = left_out
        .iter()
        .map(|view| [view.title, view.reason.as_str()])
        .collect();
    Ok(template.render(context! {
        run => data.results.run,
        facts => facts(data),
        sections,
        left_out,
        figure_css => include_str!("page/figure.css"),
        css => include_str!("page/page.css"),
        script => include_str!("page/page.js"),
    })?)
}

/// What the run is, in a few terms.
fn facts(data: &ReportData) -> Vec<[String; 2]> {
    let results = &data.results;
    let arms = results.arms.iter().filter(|arm| arm.is_arm).count();
    let mut facts = vec![["arms".to_owned(), thousands(arms)]];
    let models = results.arms.len() - arms;
    if models > 0 {
        facts.push(["other models".to_owned(), models.to_string()]);
    }
    let seeds: Vec<String> = results.seeds.iter().map(ToString::to_string).collect();
    facts.push([
        "seeds".to_owned(),
        if seeds.len() > 12 {
            format!(
                "{} ({} to {})",
                seeds.len(),
                seeds[0],
                seeds[seeds.len() - 1]
            )
        } else {
            seeds.join(", ")
        },
    ]);
    if let Some(comparison) = results.primary().find(|comparison| comparison.examples > 0) {
        facts.push(["examples".to_owned(), thousands(comparison.examples)]);
    }
    if let Some(metric) = results.shown_metric() {
        facts.push(["metric".to_owned(), metric.to_owned()]);
    }
    facts.extend(
        results
            .reference
            .iter()
            .map(|reference| ["reference".to_owned(), reference.clone()]),
    );
    if !results.comparisons.is_empty() {
        facts.push(["level".to_owned(), results.alpha.to_string()]);
    }
    if let Some(margin) = results.margin {
        facts.push(["margin".to_owned(), number::short(margin, 4)]);
    }
    let failed: usize = results.arms.iter().map(|arm| arm.failures().count()).sum();
    let all: usize = results.arms.iter().map(|arm| arm.seeds.len()).sum();
    if failed > 0 {
        facts.push([
            "failed".to_owned(),
            format!("{failed} of {} trainings", thousands(all)),
        ]);
    }
    facts
}
