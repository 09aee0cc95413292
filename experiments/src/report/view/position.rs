//! Scores by where the answer is.

use std::collections::BTreeMap;

use super::lines::{Guide, Line, Lines};
use crate::report::{
    extent::extent,
    figure::{DataTable, cell},
    section::{Block, Made, Section},
    subject::Subject,
    svg::{Axis, Scale},
};

/// At most so many points per line.
const MOST: u64 = 24;

/// The section.
pub fn make(subject: &Subject<'_>) -> Made {
    let found: Vec<_> = subject
        .data
        .evaluations
        .iter()
        .filter_map(|evaluation| Some((evaluation, evaluation.positions.as_ref()?)))
        .collect();
    let Some((_, first)) = found.first() else {
        return Err("answers have no position".to_owned());
    };
    let name = first.name.clone();
    let places = || {
        found
            .iter()
            .flat_map(|(_, positions)| positions.counts.keys())
    };
    let (low, high) = (
        places().min().copied().unwrap_or(0),
        places().max().copied().unwrap_or(0),
    );
    let width = ((high - low + 1).div_ceil(MOST)).max(1);
    let middle = |bucket: u64| (low + bucket * width) as f64 + (width as f64 - 1.0) / 2.0;
    let mut data = DataTable::new(&["arm", &name, "right %", "answers"]);
    let mut lines = vec![];
    for arm in &subject.data.results.arms {
        let own = found
            .iter()
            .filter(|(evaluation, _)| evaluation.arm == arm.name);
        let mut together: BTreeMap<u64, (usize, usize)> = BTreeMap::new();
        let mut by_seed: BTreeMap<u64, Vec<f64>> = BTreeMap::new();
        for (_, positions) in own {
            let mut buckets: BTreeMap<u64, (usize, usize)> = BTreeMap::new();
            for (place, (right, all)) in &positions.counts {
                let bucket = (place - low) / width;
                for counts in [&mut buckets, &mut together] {
                    let entry = counts.entry(bucket).or_default();
                    entry.0 += right;
                    entry.1 += all;
                }
            }
            for (bucket, (right, all)) in buckets {
                by_seed.entry(bucket).or_default().push(share(right, all));
            }
        }
        if together.is_empty() {
            continue;
        }
        let mut line = Line {
            name: arm.name.clone(),
            style: subject.styles.get(&arm.name),
            ..Line::default()
        };
        for (bucket, (right, all)) in together {
            let value = share(right, all);
            line.points.push((middle(bucket), value));
            data.push([
                arm.name.clone(),
                cell(middle(bucket)),
                cell(value),
                all.to_string(),
            ]);
            let seeds = &by_seed[&bucket];
            if seeds.len() > 1 {
                let (least, largest) = extent(seeds.iter().copied()).unwrap_or_default();
                line.band.push((middle(bucket), least, largest));
            }
        }
        lines.push(line);
    }
    let values = lines
        .iter()
        .flat_map(|line| &line.points)
        .map(|point| point.1);
    let ends = lines.iter().flat_map(|line| &line.band);
    let values = values.chain(ends.flat_map(|(_, low, high)| [*low, *high]));
    let axis = match name.as_str() {
        "distance" => "distance to the answer, tokens",
        _ => "position of the question, tokens",
    };
    let figure = Lines {
        name: "position".to_owned(),
        title: format!("Right answers by {name}"),
        caption: format!(
            "Share of right answers of all seeds; the band is the range of the seeds.{}",
            subject.styles.note()
        ),
        x: Axis::new(axis, Scale::exact(low as f64, high as f64)),
        y: Axis::new("right answers, %", Scale::linear(values, (0.0, 100.0))),
        series: lines,
        guide: Guide::None,
        data,
    };
    Ok(Section {
        id: "position",
        title: "Score by position",
        blocks: vec![Block::Figures(vec![figure.figure()])],
    })
}

fn share(right: usize, all: usize) -> f64 {
    100.0 * right as f64 / all as f64
}
