//! How far hidden states of models are from those of their teachers.

use std::collections::BTreeMap;

use super::{
    experts::shown,
    heat::{Heat, Row},
    lines::{Guide, Line, Lines, thinned},
};
use crate::{
    inside::record::{Apart, Distances},
    report::{
        figure::{DataTable, Figure, cell},
        layers::OfModel,
        number,
        section::{Block, Made, Section},
        style::Style,
        subject::Subject,
        svg::{Axis, Scale},
    },
    results::ArmResults,
};

/// At most so many states of the other model are columns.
const COLUMNS: usize = 25;
/// At most so many states have a line while a model trains.
const STATES: usize = 8;
/// A line has at most so many points.
const MOST: usize = 60;

/// The section.
pub fn make(subject: &Subject<'_>) -> Made {
    let distances = &subject.data.layers.distances;
    let trained = while_training(subject);
    if distances.is_empty() && trained.is_none() {
        return Err(
            "no evaluation compared the hidden states of a model with those of another; models that were made from no other \
             have none, and those of earlier versions did not"
                .to_owned(),
        );
    }
    let mut figures = vec![];
    for (file, title, of) in [
        ("before", "Distance before training", before as Pick),
        ("after", "Distance after training", after as Pick),
    ] {
        figures.extend(by_state(subject, file, title, of));
    }
    figures.extend(alignment(subject));
    figures.extend(trained);
    let tokens = distances.first().map_or(0, |found| found.what.tokens);
    let text = format!(
        "Models are compared with their teacher, or else with the model that they were made from{}, on {tokens} tokens of the \
         data to validate on. State 0 is the output of the embedding, state l that of layer l. The distance is the squared \
         difference of two states as a share of the square of the other model's; of models of different depths, states at the \
         same part of the depth are compared.",
        others(subject)
    );
    Ok(Section {
        id: "distances",
        title: "Layer distances",
        blocks: vec![Block::Text(text), Block::Figures(figures)],
    })
}

type Pick = fn(&Distances) -> &Apart;

fn before(distances: &Distances) -> &Apart {
    &distances.before
}

fn after(distances: &Distances) -> &Apart {
    &distances.after
}

/// The names of the models that others are compared with.
fn others(subject: &Subject<'_>) -> String {
    let is_trained_by = |arm: &ArmResults, key: &str| {
        let mut seeds = arm.seeds.iter();
        seeds.any(|seed| {
            seed.stages
                .get("train")
                .is_some_and(|own| own.as_str() == key)
        })
    };
    let mut names: Vec<&str> = vec![];
    for found in &subject.data.layers.distances {
        let Some(key) = &found.what.to else {
            continue;
        };
        let mut arms = subject.data.results.arms.iter();
        let arm = arms.find(|arm| is_trained_by(arm, key.as_str()));
        let name = arm.map(|arm| arm.name.as_str());
        names.extend(name.filter(|name| !names.contains(name)));
    }
    match names.len() {
        0 => String::new(),
        1..=3 => format!(" ({})", names.join(", ")),
        count => format!(" ({} and {} more)", names[..3].join(", "), count - 3),
    }
}

/// The state of the other model at the same part of the depth.
fn same_depth(state: usize, own: usize, other: usize) -> usize {
    let (own, other) = (own.saturating_sub(1).max(1), other.saturating_sub(1));
    (state * other + own / 2) / own
}

/// The squared difference of each state and its counterpart, as a share of the square of that.
fn relative(distances: &Distances, apart: &Apart) -> Option<Vec<f64>> {
    let rows = apart.mse.as_ref()?;
    let shares = rows.iter().enumerate().map(|(state, row)| {
        let other = same_depth(state, rows.len(), row.len());
        let square = *distances.squares.get(other)?;
        let share = row.get(other)? / square;
        share.is_finite().then_some(share)
    });
    shares.collect()
}

/// A line for each model, with the range of its seeds.
fn by_state(subject: &Subject<'_>, file: &str, title: &str, of: Pick) -> Option<Figure> {
    let mut data = DataTable::new(&["arm", "state", "mean", "least", "largest"]);
    let mut lines = vec![];
    for arm in &subject.data.results.arms {
        let own = subject.data.layers.distances.iter();
        let own = own.filter(|found| found.arm == arm.name);
        let seeds: Vec<Vec<f64>> = own
            .filter_map(|OfModel { what, .. }| relative(what, of(what)))
            .collect();
        let Some(first) = seeds.first() else {
            continue;
        };
        let mut line = Line {
            name: arm.name.clone(),
            style: subject.styles.get(&arm.name),
            ..Line::default()
        };
        for state in 0..first.len() {
            let values = seeds.iter().filter_map(|seed| seed.get(state).copied());
            let values: Vec<f64> = values.collect();
            let mean = values.iter().sum::<f64>() / values.len() as f64;
            let least = values.iter().copied().fold(f64::INFINITY, f64::min);
            let largest = values.iter().copied().fold(0.0, f64::max);
            line.points.push((state as f64, mean));
            if values.len() > 1 && line.style.is_some() {
                line.band.push((state as f64, least, largest));
            }
            data.push([
                arm.name.clone(),
                state.to_string(),
                cell(mean),
                cell(least),
                cell(largest),
            ]);
        }
        lines.push(line);
    }
    let points = || lines.iter().flat_map(|line| &line.points);
    let last = points().map(|point| point.0).fold(0.0, f64::max);
    let bands = lines.iter().flat_map(|line| &line.band);
    let values = points()
        .map(|point| point.1)
        .chain(bands.map(|band| band.2));
    let y = Scale::linear(values.chain([0.0]), (0.0, f64::INFINITY));
    if lines.is_empty() {
        return None;
    }
    Some(
        Lines {
            name: format!("distances-{file}"),
            title: title.to_owned(),
            caption: format!(
                "Mean over the seeds; the band is their range.{}",
                subject.styles.note()
            ),
            x: Axis::new("hidden state", Scale::exact(0.0, last)),
            y: Axis::new("distance, share of the square", y),
            series: lines,
            guide: Guide::None,
            data,
        }
        .figure(),
    )
}

/// How alike all states of one model and of the other are, after training.
fn alignment(subject: &Subject<'_>) -> Option<Figure> {
    let distances = &subject.data.layers.distances;
    let of = |arm: &str| distances.iter().find(|found| found.arm == arm);
    let arm = *shown(subject, 1, |arm| of(arm).is_some()).first()?;
    let OfModel { seed, what, .. } = of(arm)?;
    let columns: Vec<usize> = (0..what.squares.len()).collect();
    let columns = thinned(&columns, COLUMNS);
    let mut header = vec!["state".to_owned()];
    header.extend(columns.iter().map(|column| format!("other {column}")));
    header.extend(
        columns
            .iter()
            .map(|column| format!("other {column}, before")),
    );
    let mut data = DataTable {
        header,
        rows: vec![],
    };
    let mut rows = vec![];
    let pick = |row: Option<&Vec<f64>>| -> Vec<f64> {
        let values = columns.iter().map(|column| row?.get(*column).copied());
        values.map(|value| value.unwrap_or(0.0)).collect()
    };
    for (state, row) in what.after.cka.iter().enumerate() {
        let (cells, earlier) = (pick(Some(row)), pick(what.before.cka.get(state)));
        let told = cells.iter().chain(&earlier).map(|value| cell(*value));
        data.push([state.to_string()].into_iter().chain(told));
        let own = row.get(same_depth(state, what.after.cka.len(), row.len()));
        rows.push(Row {
            name: state.to_string(),
            cells,
            end: number::fixed(own.copied().unwrap_or(0.0), 2),
        });
    }
    let last = what.squares.len().saturating_sub(1);
    Some(Figure {
        name: "distances-alignment".to_owned(),
        title: format!("Alignment of states: {arm}"),
        caption: format!(
            "Linear CKA, unbiased, of each state (rows) and each of the other model's (columns) after training with seed \
             {seed}: 1 for states that are the same up to rotation and scale. At the end is that of the same part of the depth."
        ),
        drawing: Heat {
            names: "state",
            places: format!("states 0 \u{2192} {last} of the other model"),
            ends: "same depth",
            groups: vec![rows],
            legend: vec![(0.0, "0"), (0.5, "0.5"), (1.0, "1")],
        }
        .draw(),
        data,
    })
}

/// The terms of layer-wise distillation while the first model with some trains, by state.
fn while_training(subject: &Subject<'_>) -> Option<Figure> {
    let series = &subject.data.layers.series;
    let is_own = |arm: &str| {
        let mut own = series.iter().filter(|series| series.arm == arm);
        own.any(|series| series.name == "hidden" && series.points.len() > 1)
    };
    let arm = *shown(subject, 1, is_own).first()?;
    let own = series.iter();
    let own = own.filter(|series| series.arm == arm && series.name == "hidden");
    // The mean of the seeds that came to a step.
    let mut by_state: BTreeMap<usize, BTreeMap<u64, (f64, usize)>> = BTreeMap::new();
    for series in own {
        let steps = by_state.entry(series.layer).or_default();
        for (step, values) in &series.points {
            let Some(value) = values.first() else {
                continue;
            };
            let sum = steps.entry(*step).or_default();
            *sum = (sum.0 + f64::from(*value), sum.1 + 1);
        }
    }
    let states: Vec<usize> = by_state.keys().copied().collect();
    let states = thinned(&states, STATES);
    let mut data = DataTable::new(&["state", "step", "mean squared error"]);
    let lines = states.iter().enumerate().map(|(place, state)| {
        let steps = by_state[state].iter();
        let points = steps.map(|(step, (sum, count))| (*step as f64, sum / *count as f64));
        let points = thinned(&points.collect::<Vec<_>>(), MOST);
        for (step, value) in &points {
            data.push([state.to_string(), cell(*step), cell(*value)]);
        }
        Line {
            name: format!("state {state}"),
            style: Some(Style::of_place(place)),
            points,
            ..Line::default()
        }
    });
    let lines: Vec<Line> = lines.collect();
    let points = || lines.iter().flat_map(|line| &line.points);
    let last = points().map(|point| point.0).fold(0.0, f64::max);
    let values: Vec<f64> = points().map(|point| point.1).collect();
    Some(
        Lines {
            name: "distances-training".to_owned(),
            title: format!("Terms of distillation: {arm}"),
            caption: format!(
                "Mean squared error of each hidden state and the teacher's, on the batches of the training; mean over the \
                 seeds. Series are thinned to {MOST} points."
            ),
            x: Axis::new("step", Scale::exact(0.0, last)),
            y: Axis::new("mean squared error", Scale::log_if_wide(&values)),
            series: lines,
            guide: Guide::None,
            data,
        }
        .figure(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_have_their_counterparts_at_the_same_part_of_the_depth() {
        let of = |own, other| -> Vec<usize> {
            (0..own)
                .map(|state| same_depth(state, own, other))
                .collect()
        };
        assert_eq!(of(4, 4), [0, 1, 2, 3]);
        assert_eq!(of(4, 7), [0, 2, 4, 6]);
        assert_eq!(of(4, 13), [0, 4, 8, 12]);
        assert_eq!(of(1, 3), [0]);
    }
}
