//! The load of every expert of every layer, over the training and at its end.

use super::{
    heat::{Heat, Row},
    lines::thinned,
};
use crate::report::{
    figure::{DataTable, Figure, cell},
    layers::Series,
    number,
    section::Table,
    subject::Subject,
};

/// About so many steps are shown.
const STEPS: usize = 24;
/// About so many rows are shown.
const ROWS: usize = 48;
/// The end of a training is so many lines.
const END: usize = 5;
/// An expert with less than this part of an even share does nothing.
const IDLE: f64 = 0.1;

/// The loads of a model with its first seed.
pub fn heat(series: &[Series], arm: &str) -> Option<Figure> {
    let is_own = |series: &&Series| series.name == "load" && series.arm == arm;
    let seed = series.iter().find(is_own)?.seed;
    let own = series.iter().filter(is_own);
    let own: Vec<&Series> = own.filter(|series| series.seed == seed).collect();
    let experts = own[0].points.first()?.1.len();
    let layers = thinned(&own, (ROWS / experts.max(1)).max(1));
    let binned: Vec<(usize, Vec<Bin>)> = layers
        .iter()
        .map(|series| (series.layer, bins(&series.points)))
        .collect();
    let steps: Vec<u64> = binned.first()?.1.iter().map(|(step, _)| *step).collect();
    let mut header = vec!["layer".to_owned(), "expert".to_owned()];
    header.extend(steps.iter().map(|step| format!("% at step {step}")));
    let mut data = DataTable {
        header,
        rows: vec![],
    };
    let mut groups = vec![];
    for (layer, bins) in &binned {
        let mut rows = vec![];
        for expert in 0..experts.min(ROWS) {
            let shares = bins.iter().map(|(_, shares)| shares.get(expert));
            let shares: Vec<f64> = shares.map(|share| share.copied().unwrap_or(0.0)).collect();
            let mut cells = vec![(layer + 1).to_string(), (expert + 1).to_string()];
            cells.extend(shares.iter().map(|share| cell(100.0 * share)));
            data.push(cells);
            rows.push(Row {
                name: format!("{}.{}", layer + 1, expert + 1),
                // An even share is in the middle.
                cells: shares
                    .iter()
                    .map(|share| share * experts as f64 / 2.0)
                    .collect(),
                end: format!(
                    "{} %",
                    number::fixed(100.0 * shares.last().copied().unwrap_or(0.0), 0)
                ),
            });
        }
        groups.push(rows);
    }
    let (first, last) = (steps.first()?, steps.last()?);
    let some = if layers.len() < own.len() || experts > ROWS {
        format!(
            " Shown are {} of {} layers and {} of {experts} experts of each.",
            layers.len(),
            own.len(),
            experts.min(ROWS)
        )
    } else {
        String::new()
    };
    Some(Figure {
        name: String::new(),
        title: format!("Load of each expert: {arm}"),
        caption: format!(
            "Share of a layer's tokens by expert while training, with seed {seed}; rows are layer.expert, from the bottom. An \
             even share is {} %.{some}",
            number::fixed(100.0 / experts as f64, 1)
        ),
        drawing: Heat {
            names: "layer.expert",
            places: format!("steps up to {first} \u{2192} {last}"),
            ends: "last",
            groups,
            legend: vec![
                (0.0, "nothing"),
                (0.25, "half an even share"),
                (0.5, "even"),
                (1.0, "twice and more"),
            ],
        }
        .draw(),
        data,
    })
}

/// The last step of some lines, and the share of each expert.
type Bin = (u64, Vec<f64>);

/// Neighbouring lines taken together: the last step of each, and the shares of the experts.
fn bins(points: &[(u64, Vec<f32>)]) -> Vec<Bin> {
    let size = points.len().div_ceil(STEPS).max(1);
    let bins = points.chunks(size).filter_map(|bin| {
        let (step, _) = bin.last()?;
        Some((*step, shares(bin)))
    });
    bins.collect()
}

/// The share of each expert of the tokens of some lines.
fn shares(points: &[(u64, Vec<f32>)]) -> Vec<f64> {
    let mut sums: Vec<f64> = vec![];
    for (_, loads) in points {
        sums.resize(loads.len().max(sums.len()), 0.0);
        for (sum, load) in sums.iter_mut().zip(loads) {
            *sum += f64::from(*load);
        }
    }
    let all: f64 = sums.iter().sum();
    sums.iter().map(|sum| sum / all.max(1.0)).collect()
}

/// How even the loads of all models are at the end of their training.
pub fn at_the_end(subject: &Subject<'_>) -> Option<Table> {
    let mut table = Table::new(
        "Loads at the end of training, over all layers and seeds, in % of an even share; an expert with less than a tenth of that is idle",
        &["arm", "busiest", "least busy", "idle", "experts"],
        1,
    );
    for arm in &subject.data.results.arms {
        let own = subject.data.layers.series.iter();
        let own = own.filter(|series| series.name == "load" && series.arm == arm.name);
        let (mut most, mut least) = (0.0, f64::INFINITY);
        let (mut idle, mut all) = (0, 0);
        for series in own {
            let start = series.points.len().saturating_sub(END);
            let shares = shares(&series.points[start..]);
            for share in &shares {
                let of_even = share * shares.len() as f64;
                most = f64::max(most, of_even);
                least = f64::min(least, of_even);
                idle += usize::from(of_even < IDLE);
                all += 1;
            }
        }
        if all > 0 {
            let percent = |value: f64| number::fixed(100.0 * value, 0);
            table.rows.push(vec![
                arm.name.clone(),
                percent(most),
                percent(least),
                idle.to_string(),
                all.to_string(),
            ]);
        }
    }
    (!table.rows.is_empty()).then_some(table)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_taken_together_by_their_tokens() {
        let points: Vec<(u64, Vec<f32>)> = (1..=48)
            .map(|step| (step * 10, vec![step as f32, 0.0, step as f32]))
            .collect();
        let found = bins(&points);
        assert_eq!((found.len(), found[0].0, found[23].0), (24, 20, 480));
        assert!(found.iter().all(|(_, shares)| shares == &[0.5, 0.0, 0.5]));
        assert_eq!(shares(&[(1, vec![0.0, 0.0])]), [0.0, 0.0]);
    }
}
