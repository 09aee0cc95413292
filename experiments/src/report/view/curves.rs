//! Learning curves: mean and range over the seeds.

use std::collections::BTreeMap;

use super::lines::{Guide, Line, Lines, thinned};
use crate::report::{
    data::Curve,
    extent::extent,
    figure::{DataTable, Figure, cell},
    section::{Block, Made, Section},
    subject::Subject,
    svg::{Axis, Scale},
};

/// A series has at most so many points.
const MOST: usize = 500;
/// All series of a chart have about so many points.
const TOGETHER: usize = 3000;
/// The line of a seed has at most so many points.
const SEED: usize = 60;
/// At most so many charts; fewer where there are many arms.
const CHARTS: usize = 6;

/// The section.
pub fn make(subject: &Subject<'_>) -> Made {
    let curves = &subject.data.curves;
    let mut kinds: Vec<(&str, &str)> = vec![];
    for curve in curves {
        let kind = (curve.split.as_str(), curve.name.as_str());
        if curve.points.len() > 1 && !kinds.contains(&kind) && !is_of_other_views(curve) {
            kinds.push(kind);
        }
    }
    if kinds.is_empty() {
        return Err("nothing was measured more than once while training".to_owned());
    }
    kinds
        .sort_by_key(|(split, name)| (*split != "valid", !name.contains("oss"), name.len(), *name));
    let most = if subject.styles.has_others() {
        3
    } else {
        CHARTS
    };
    kinds.truncate(most);
    let figures = kinds.into_iter().map(|(split, name)| {
        let own = |curve: &&Curve| curve.split == split && curve.name == name;
        let own: Vec<&Curve> = curves.iter().filter(own).collect();
        let words = match split {
            "valid" => "validation",
            "train" => "training",
            other => other,
        };
        let title = format!("{name}, {words}");
        let file = format!("curves-{words}-{}", slug(name));
        chart(subject, &own, &file, &title)
    });
    Ok(Section {
        id: "curves",
        title: "Learning curves",
        blocks: vec![
            Block::Text(how_to_read(subject)),
            Block::Figures(figures.collect()),
        ],
    })
}

/// How charts of curves are read.
pub fn how_to_read(subject: &Subject<'_>) -> String {
    format!(
        "Mean over the seeds by optimiser step; bands are the range of the seeds, whose lines show under the pointer.{}",
        subject.styles.note()
    )
}

/// Whether a metric is no measure of learning, or has a view of its own.
fn is_of_other_views(curve: &Curve) -> bool {
    let name = curve.name.to_lowercase();
    let others = ["expert", "entropy", "gradient norm", "learning rate"];
    others.iter().any(|other| name.contains(other))
}

/// A name as part of a file's name.
pub fn slug(name: &str) -> String {
    let kept = name.chars().map(|character| {
        if character.is_ascii_alphanumeric() {
            character.to_ascii_lowercase()
        } else {
            '-'
        }
    });
    kept.collect()
}

/// A chart of one metric by step, of all models.
pub fn chart(subject: &Subject<'_>, curves: &[&Curve], file: &str, title: &str) -> Figure {
    let mut by_arm: Vec<(&str, Vec<&Curve>)> = vec![];
    for curve in curves {
        match by_arm.iter_mut().find(|(arm, _)| *arm == curve.arm) {
            Some((_, seeds)) => seeds.push(curve),
            None => by_arm.push((&curve.arm, vec![curve])),
        }
    }
    // In the order of the table.
    let arms = &subject.data.results.arms;
    by_arm.sort_by_key(|(arm, _)| arms.iter().position(|other| other.name == **arm));
    let most = (TOGETHER / by_arm.len().max(1)).clamp(20, MOST);
    let means = curves.iter().flat_map(|curve| &curve.points);
    let is_share = title.starts_with("Accuracy") && means.clone().all(|point| point.1 <= 1.0);
    let scale = if is_share { 100.0 } else { 1.0 };
    let mut lines = vec![];
    let mut shown = vec![];
    let mut is_thinned = false;
    for (arm, seeds) in &by_arm {
        let steps = steps(seeds);
        is_thinned |= steps.len() > most;
        let kept = thinned(&steps, most);
        shown.push((*arm, kept.clone()));
        let style = subject.styles.get(arm);
        let is_named = style.is_some();
        let band = kept.iter().filter(|step| is_named && step.seeds > 1);
        let of_seed = |curve: &&Curve| -> Vec<(f64, f64)> {
            let points = thinned(&curve.points, most.min(SEED));
            points
                .into_iter()
                .map(|(step, value)| (step as f64, value * scale))
                .collect()
        };
        lines.push(Line {
            name: (*arm).to_owned(),
            style,
            points: kept
                .iter()
                .map(|step| (step.at as f64, step.mean * scale))
                .collect(),
            band: band
                .map(|step| (step.at as f64, step.least * scale, step.largest * scale))
                .collect(),
            seeds: if is_named && seeds.len() > 1 {
                seeds.iter().map(of_seed).collect()
            } else {
                vec![]
            },
        });
    }
    let all = || lines.iter().flat_map(|line| &line.points);
    let bands = lines.iter().flat_map(|line| &line.band);
    let ends = bands.flat_map(|(_, low, high)| [*low, *high]);
    let mut values: Vec<f64> = all().map(|point| point.1).chain(ends).collect();
    values.retain(|value| value.is_finite());
    let last = all().map(|point| point.0).fold(0.0, f64::max);
    let caption = if is_thinned {
        format!("Series are thinned to {most} points.")
    } else {
        String::new()
    };
    Lines {
        name: file.to_owned(),
        title: title.to_owned(),
        caption,
        x: Axis::new("step", Scale::exact(0.0, last)),
        y: Axis::new(
            &format!("{title}{}", if is_share { ", %" } else { "" }),
            Scale::log_if_wide_above(&values, 40.0),
        ),
        series: lines,
        guide: Guide::None,
        data: table(&shown, scale),
    }
    .figure()
}

/// The steps of all models: a row per step, and for each model its mean, and the range of its seeds if there are few models.
fn table(shown: &[(&str, Vec<Step>)], scale: f64) -> DataTable {
    let has_ranges = |steps: &[Step]| shown.len() <= 8 && steps.iter().any(|step| step.seeds > 1);
    let mut data = DataTable::new(&["step"]);
    let mut rows: BTreeMap<u64, Vec<String>> = BTreeMap::new();
    for (_, steps) in shown {
        for step in steps {
            rows.insert(step.at, vec![step.at.to_string()]);
        }
    }
    for (arm, steps) in shown {
        let has_ranges = has_ranges(steps);
        data.header.push((*arm).to_owned());
        if has_ranges {
            data.header
                .extend(["least", "largest"].map(|end| format!("{arm}, {end}")));
        }
        for (place, row) in &mut rows {
            let step = steps.binary_search_by_key(place, |step| step.at).ok();
            let step = step.map(|place| &steps[place]);
            let told =
                |value: Option<f64>| value.map_or_else(String::new, |value| cell(value * scale));
            row.push(told(step.map(|step| step.mean)));
            if has_ranges {
                row.push(told(step.map(|step| step.least)));
                row.push(told(step.map(|step| step.largest)));
            }
        }
    }
    data.rows = rows.into_values().collect();
    data
}

#[derive(Clone, Copy)]
struct Step {
    at: u64,
    mean: f64,
    least: f64,
    largest: f64,
    seeds: usize,
}

/// Mean and range of the seeds, at the steps at which all that came so far were measured.
fn steps(seeds: &[&Curve]) -> Vec<Step> {
    let mut by_step: BTreeMap<u64, Vec<f64>> = BTreeMap::new();
    for (step, value) in seeds.iter().flat_map(|curve| &curve.points) {
        by_step.entry(*step).or_default().push(*value);
    }
    let most = by_step.values().map(Vec::len).max().unwrap_or(0);
    let whole = by_step
        .into_iter()
        .filter(|(_, values)| values.len() == most);
    let steps = whole.map(|(at, values)| {
        let (least, largest) = extent(values.iter().copied()).unwrap_or_default();
        Step {
            at,
            mean: values.iter().sum::<f64>() / values.len() as f64,
            least,
            largest,
            seeds: values.len(),
        }
    });
    steps.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_have_the_mean_and_range_of_all_seeds() {
        let curve = |points: &[(u64, f64)]| Curve {
            points: points.to_vec(),
            ..Curve::default()
        };
        let (a, b) = (curve(&[(1, 1.0), (2, 3.0)]), curve(&[(1, 2.0), (3, 9.0)]));
        let found = steps(&[&a, &b]);
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].at, found[0].seeds), (1, 2));
        assert!((found[0].mean - 1.5).abs() < 1e-12);
        assert_eq!(slug("Total loss"), "total-loss");
    }
}
