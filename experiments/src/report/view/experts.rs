//! How evenly experts are used, while models train.

use super::curves::{chart, how_to_read, slug};
use crate::report::{
    data::Curve,
    section::{Block, Made, Section},
    subject::Subject,
};

/// The section.
pub fn make(subject: &Subject<'_>) -> Made {
    let curves = &subject.data.curves;
    let mut names: Vec<&str> = vec![];
    for curve in curves {
        let name = curve.name.to_lowercase();
        let is_of_experts = name.contains("expert") || name.contains("entropy");
        if is_of_experts && curve.points.len() > 1 && !names.contains(&curve.name.as_str()) {
            names.push(&curve.name);
        }
    }
    if names.is_empty() {
        return Err("no router was watched while training".to_owned());
    }
    let figures = names.into_iter().map(|name| {
        let own = curves
            .iter()
            .filter(|curve| curve.name == name && curve.split == "train");
        let own: Vec<&Curve> = own.collect();
        let mut figure = chart(subject, &own, &format!("experts-{}", slug(name)), name);
        if name == "Busiest expert" {
            figure.caption = format!(
                "Share of tokens of the busiest expert; of E experts used evenly, each has 1/E. {}",
                figure.caption
            );
        }
        figure
    });
    Ok(Section {
        id: "experts",
        title: "Expert load",
        blocks: vec![
            Block::Text(how_to_read(subject)),
            Block::Figures(figures.collect()),
        ],
    })
}
