//! How important neurons are, and whether seeds agree on it.

use super::lines::{Guide, Line, Lines, thinned};
use crate::report::{
    data::Importance,
    extent::extent,
    figure::{DataTable, Figure, cell},
    number,
    section::{Block, Made, Section, Table},
    style::Style,
    subject::Subject,
    svg::{Axis, Scale},
};

/// Bars of a histogram.
const BINS: usize = 24;
/// A Lorenz curve has at most so many points.
const MOST: usize = 80;
/// At most so many layers have a Lorenz curve, and a histogram.
const LAYERS: usize = 8;
const HISTOGRAMS: usize = 3;

/// The section.
pub fn make(subject: &Subject<'_>) -> Made {
    let all = &subject.data.importance;
    let has_scores = |scores: &&Importance| scores.layers.iter().any(|layer| !layer.is_empty());
    let Some(first) = all.iter().find(has_scores) else {
        return Err("the run has no stage that scores neurons".to_owned());
    };
    // Scores of the same model with other seeds.
    let same: Vec<&Importance> = all
        .iter()
        .filter(|other| is_same_model(first, other))
        .collect();
    let layers = shown(first.layers.len());
    let mut blocks = vec![Block::Figures(vec![
        lorenz(first, &layers),
        histogram(first, &thinned(&layers, HISTOGRAMS)),
    ])];
    blocks.extend(overlap(&same).map(Block::Table));
    let others = all.len() - same.len();
    if others > 0 {
        blocks.push(Block::Text(format!(
            "Shown are the scores that {} uses; those of other models ({others} stages) are not.",
            first.arms[0]
        )));
    }
    Ok(Section {
        id: "importance",
        title: "Importance of neurons",
        blocks,
    })
}

/// Whether scores are those of the same model, with this or another seed: an arm uses both.
fn is_same_model(first: &Importance, other: &Importance) -> bool {
    let is_shared = other.arms.iter().any(|arm| first.arms.contains(arm));
    is_shared && shape(other) == shape(first)
}

fn shape(scores: &Importance) -> Vec<usize> {
    scores.layers.iter().map(Vec::len).collect()
}

/// The layers that are drawn: all, or some from the first to the last.
fn shown(layers: usize) -> Vec<usize> {
    let all: Vec<usize> = (0..layers).collect();
    thinned(&all, LAYERS)
}

fn name(layer: usize) -> String {
    format!("layer {}", layer + 1)
}

/// The share of all importance that the least important neurons have.
fn lorenz(scores: &Importance, layers: &[usize]) -> Figure {
    let mut data = DataTable::new(&["layer", "share of neurons", "share of importance"]);
    let mut lines = vec![];
    for (place, layer) in layers.iter().enumerate() {
        let mut sorted: Vec<f64> = scores.layers[*layer]
            .iter()
            .map(|score| f64::from(*score))
            .collect();
        sorted.sort_by(f64::total_cmp);
        let all: f64 = sorted.iter().sum();
        let mut sum = 0.0;
        let mut points = vec![(0.0, 0.0)];
        for (rank, score) in sorted.iter().enumerate() {
            sum += score;
            points.push((
                (rank + 1) as f64 / sorted.len() as f64,
                if all > 0.0 { sum / all } else { 0.0 },
            ));
        }
        let points = thinned(&points, MOST);
        for (x, y) in &points {
            data.push([name(*layer), cell(*x), cell(*y)]);
        }
        lines.push(Line {
            name: name(*layer),
            style: Some(Style::of_place(place)),
            points,
            ..Line::default()
        });
    }
    Lines {
        name: "importance-lorenz".to_owned(),
        title: "How unequal neurons are".to_owned(),
        caption: format!(
            "Lorenz curves with seed {}: the share of all importance that the least important neurons have together. On the dashed \
             line, all are equal. Curves are thinned to {MOST} points.",
            scores.seed
        ),
        x: Axis::new("share of neurons, the least important first", Scale::exact(0.0, 1.0)),
        y: Axis::new("share of importance", Scale::exact(0.0, 1.0)),
        series: lines,
        guide: Guide::Diagonal,
        data,
    }
    .figure()
}

fn histogram(scores: &Importance, layers: &[usize]) -> Figure {
    let positive = |layer: &usize| -> Vec<f64> {
        let scores = scores.layers[*layer].iter().map(|score| f64::from(*score));
        scores
            .filter(|score| *score > 0.0)
            .map(f64::log10)
            .collect()
    };
    let ends = extent(layers.iter().flat_map(positive)).filter(|(low, high)| low < high);
    let (low, high) = ends.unwrap_or((-1.0, 1.0));
    let width = (high - low) / BINS as f64;
    let mut data = DataTable::new(&["layer", "importance", "share of neurons %"]);
    let mut lines = vec![];
    for (place, layer) in layers.iter().enumerate() {
        let mut counts = [0_usize; BINS];
        for score in positive(layer) {
            counts[(((score - low) / width) as usize).min(BINS - 1)] += 1;
        }
        let neurons = scores.layers[*layer].len() as f64;
        let points: Vec<(f64, f64)> = (0..BINS)
            .map(|bin| {
                let middle = 10_f64.powf(low + (bin as f64 + 0.5) * width);
                (middle, 100.0 * counts[bin] as f64 / neurons)
            })
            .collect();
        for (x, y) in &points {
            data.push([name(*layer), number::short(*x, 3), cell(*y)]);
        }
        lines.push(Line {
            name: name(*layer),
            style: Some(Style::of_place(place)),
            points,
            ..Line::default()
        });
    }
    let shares = lines
        .iter()
        .flat_map(|line| &line.points)
        .map(|point| point.1);
    let places: Vec<f64> = lines
        .iter()
        .flat_map(|line| &line.points)
        .map(|point| point.0)
        .collect();
    let y = Scale::linear(shares, (0.0, 100.0));
    Lines {
        name: "importance-histogram".to_owned(),
        title: "How important neurons are".to_owned(),
        caption: format!(
            "Share of neurons in {BINS} bins of equal width on a logarithmic scale, with seed {}.",
            scores.seed
        ),
        x: Axis::new("importance", Scale::log(places)),
        y: Axis::new("share of neurons, %", y),
        series: lines,
        guide: Guide::None,
        data,
    }
    .figure()
}

/// How many of the most important neurons two seeds have in common.
fn overlap(same: &[&Importance]) -> Option<Table> {
    let first = same.first()?;
    if same.len() < 2 {
        return None;
    }
    let width = first.layers.iter().map(Vec::len).min().unwrap_or(0);
    let shared = first.shared.min(width);
    let (most, what) = if shared > 0 {
        (shared, format!("{shared} shared neurons"))
    } else {
        (
            (width / 10).max(1),
            "tenth of the most important neurons".to_owned(),
        )
    };
    let mut table = Table::new(
        &format!(
            "Overlap of the {what} of two seeds (Jaccard index), over the pairs of {} seeds; unrelated choices overlap by about {}",
            same.len(),
            number::fixed(by_chance(most, width), 2)
        ),
        &["layer", "mean", "least", "largest"],
        1,
    );
    for layer in 0..first.layers.len() {
        let best: Vec<Vec<usize>> = same
            .iter()
            .map(|scores| top(&scores.layers[layer], most))
            .collect();
        let mut found = vec![];
        for (place, own) in best.iter().enumerate() {
            found.extend(best[..place].iter().map(|other| jaccard(own, other)));
        }
        let mean = found.iter().sum::<f64>() / found.len() as f64;
        let (least, largest) = extent(found).unwrap_or_default();
        let row = [mean, least, largest].map(|value| number::fixed(value, 2));
        table.rows.push([vec![name(layer)], row.to_vec()].concat());
    }
    Some(table)
}

/// The places of the largest scores, rising; of equal ones, the first.
fn top(scores: &[f32], most: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..scores.len()).collect();
    order.sort_by(|a, b| scores[*b].total_cmp(&scores[*a]).then(a.cmp(b)));
    order.truncate(most);
    order.sort_unstable();
    order
}

/// The size of the intersection over that of the union.
fn jaccard(a: &[usize], b: &[usize]) -> f64 {
    let common = a
        .iter()
        .filter(|place| b.binary_search(place).is_ok())
        .count();
    common as f64 / (a.len() + b.len() - common) as f64
}

/// About the Jaccard index of random choices.
fn by_chance(most: usize, width: usize) -> f64 {
    let common = (most * most) as f64 / width.max(1) as f64;
    common / (2.0 * most as f64 - common)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds_overlap_in_their_best_neurons() {
        let (a, b) = (top(&[1.0, 4.0, 3.0, 0.0], 2), top(&[0.0, 5.0, 1.0, 2.0], 2));
        assert_eq!((a.as_slice(), b.as_slice()), (&[1, 2][..], &[1, 3][..]));
        assert!((jaccard(&a, &b) - 1.0 / 3.0).abs() < 1e-12);
        assert!((by_chance(2, 4) - 1.0 / 3.0).abs() < 1e-12);
    }
}
