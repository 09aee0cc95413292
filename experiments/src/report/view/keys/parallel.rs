//! All arms of a sweep as lines over one axis per key and one for the metric.

use serde_json::Value;

use super::Swept;
use crate::report::{
    extent::extent,
    figure::{DataTable, Figure, cell},
    measure::Measure,
    number,
    summary::{suffix, value_text},
    svg::{Anchor, Canvas, Entry, Legend, WIDTH, fitted, polyline},
};

/// More keys than this do not fit.
const KEYS: usize = 6;
/// At most so many values of an axis are told.
const VALUES: usize = 8;
/// The height of the axes.
const HEIGHT: f64 = 190.0;
const LINE: f64 = 13.0;

/// An axis: its name, the place of each arm from 0 at the bottom to 1, and what the places are, from the top.
struct Axis {
    name: String,
    places: Vec<f64>,
    values: Vec<String>,
}

/// The chart; none where there are too many keys.
pub fn figure(measure: &Measure, keys: &[&str], arms: &Swept<'_>) -> Option<Figure> {
    if keys.len() > KEYS {
        return None;
    }
    let mut axes: Vec<Axis> = keys.iter().map(|key| axis(key, keys, arms)).collect();
    let means: Vec<f64> = arms.iter().map(|(_, mean)| *mean).collect();
    axes.push(numeric(measure.title.clone(), &means, |mean| {
        measure.value(mean, None)
    }));
    let mut order: Vec<usize> = (0..arms.len()).collect();
    order.sort_by(|a, b| {
        let is_better = measure.is_better(means[*a], means[*b]);
        let is_worse = measure.is_better(means[*b], means[*a]);
        is_better.cmp(&is_worse).then(b.cmp(a))
    });
    // The best come last, on top.
    let best = arms.len().div_ceil(4);
    let mut header = vec!["arm"];
    header.extend(keys);
    header.push(&measure.title);
    let mut data = DataTable::new(&header);
    for (arm, mean) in arms {
        let mut row = vec![arm.name.clone()];
        row.extend(
            keys.iter()
                .map(|key| arm.set.get(*key).map_or_else(String::new, value_text)),
        );
        row.push(cell(mean * measure.scale));
        data.rows.push(row);
    }
    let (upper, lower) = (10.0, 10.0 + HEIGHT);
    let room = WIDTH / axes.len() as f64;
    let x = |axis: usize| (axis as f64 + 0.5) * room;
    let mut canvas = Canvas::new();
    for (rank, arm) in order.iter().enumerate() {
        let points = axes.iter().enumerate();
        let points = points.map(|(place, axis)| (x(place), lower - axis.places[*arm] * HEIGHT));
        let is_best = rank + best >= order.len();
        canvas.open_titled(if is_best { "c0" } else { "cx" }, &arms[*arm].0.name);
        canvas.path(if is_best { "ln" } else { "thin" }, &polyline(points));
        canvas.close();
    }
    let mut bottom = lower;
    for (place, axis) in axes.iter().enumerate() {
        let x = x(place);
        canvas.line("zero", (x, upper), (x, lower));
        let mut y = lower + 18.0;
        canvas.text(
            "tx",
            (x, y),
            Anchor::Middle,
            &fitted(&axis.name, room - 6.0),
        );
        for value in axis.values.iter().take(VALUES) {
            y += LINE;
            canvas.text("small", (x, y), Anchor::Middle, &fitted(value, room - 6.0));
        }
        bottom = f64::max(bottom, y);
    }
    let entry = |class, name: &str| Entry {
        class,
        dashes: Some(""),
        marker: None,
        is_hollow: false,
        name: name.to_owned(),
    };
    let entries = vec![
        entry("c0", "the best quarter of the arms"),
        entry("cx", "the others"),
    ];
    let bottom = Legend { entries }.draw(&mut canvas, bottom + 10.0);
    Some(Figure {
        name: "keys-parallel".to_owned(),
        title: "Arms by their keys".to_owned(),
        caption: "A line per arm, over one axis per key and one for the metric. Below each axis are its values as they stand on it, from top \
                  to bottom."
            .to_owned(),
        drawing: canvas.finish(bottom),
        data,
    })
}

/// The axis of a key: numbers by their size, other values in the order in which they come first, from the top.
fn axis(key: &str, keys: &[&str], arms: &Swept<'_>) -> Axis {
    let name = suffix(key, keys).to_owned();
    let values = || {
        arms.iter()
            .map(|(arm, _)| arm.set.get(key).unwrap_or(&Value::Null))
    };
    let numbers: Option<Vec<f64>> = values().map(Value::as_f64).collect();
    if let Some(numbers) = numbers {
        return numeric(name, &numbers, |value| number::short(value, 3));
    }
    let mut different: Vec<String> = vec![];
    for value in values().map(value_text) {
        if !different.contains(&value) {
            different.push(value);
        }
    }
    let last = (different.len() - 1).max(1) as f64;
    let place = |value: String| {
        let rank = different
            .iter()
            .position(|other| *other == value)
            .unwrap_or(0);
        1.0 - rank as f64 / last
    };
    Axis {
        name,
        places: values().map(value_text).map(place).collect(),
        values: different.clone(),
    }
}

/// An axis of numbers; on a logarithmic scale where they are above 0 and far apart.
fn numeric(name: String, numbers: &[f64], text: impl Fn(f64) -> String) -> Axis {
    let (low, high) = extent(numbers.iter().copied()).unwrap_or_default();
    let is_log = low > 0.0 && high / low > 8.0;
    let scaled = |value: f64| if is_log { value.ln() } else { value };
    let width = scaled(high) - scaled(low);
    let place = |value: &f64| {
        if width > 0.0 {
            (scaled(*value) - scaled(low)) / width
        } else {
            0.5
        }
    };
    Axis {
        name,
        places: numbers.iter().map(place).collect(),
        values: vec![text(high), "to".to_owned(), text(low)],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_far_apart_are_on_a_logarithmic_scale() {
        let axis = numeric("a".to_owned(), &[1.0, 10.0, 100.0], |value| {
            value.to_string()
        });
        assert!((axis.places[1] - 0.5).abs() < 1e-12);
        assert_eq!(axis.values, ["100", "to", "1"]);
        let axis = numeric("a".to_owned(), &[0.0, 1.0, 4.0], |value| value.to_string());
        assert!((axis.places[1] - 0.25).abs() < 1e-12);
    }
}
