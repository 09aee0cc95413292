//! A dot per seed and arm.

use crate::report::{
    extent::extent,
    figure::{DataTable, Figure, cell},
    measure::Measure,
    section::{Block, Made, Section},
    style::Style,
    subject::Subject,
    svg::{Canvas, Legend, Marker, Rows, Scale, polyline},
};

/// Dots of a seed are joined for at most so many arms.
const JOINED: usize = 12;

/// The section.
pub fn make(subject: &Subject<'_>) -> Made {
    let results = &subject.data.results;
    let measure = subject.measure()?;
    if results.seeds.len() < 2 {
        return Err("there is one seed only".to_owned());
    }
    let dots: Vec<(&str, Vec<(u64, f64)>)> = results
        .arms
        .iter()
        .map(|arm| {
            let values = arm.seeds.iter().filter_map(|seed| {
                let value = *seed.metrics.get(&measure.name)?;
                (!value.is_nan()).then_some((seed.seed, value * measure.scale))
            });
            (arm.name.as_str(), values.collect::<Vec<_>>())
        })
        .filter(|(_, values)| !values.is_empty())
        .collect();
    if dots.is_empty() {
        return Err("the models have no scores".to_owned());
    }
    let figure = if dots.len() <= JOINED {
        values(subject, measure, &dots)
    } else {
        differences(subject, measure, &dots)
    };
    Ok(Section {
        id: "seeds",
        title: "Seeds",
        blocks: vec![Block::Figures(vec![figure])],
    })
}

type Dots<'a> = [(&'a str, Vec<(u64, f64)>)];

/// The values, those of a seed joined.
fn values(subject: &Subject<'_>, measure: &Measure, dots: &Dots<'_>) -> Figure {
    let all = dots.iter().flat_map(|(_, values)| values);
    let scale = Scale::linear(all.map(|value| value.1), measure.limits);
    let names: Vec<&str> = dots.iter().map(|(name, _)| *name).collect();
    let mut canvas = Canvas::new();
    let rows = Rows::draw(&mut canvas, &names, &measure.title, scale);
    let mut legend = Legend::default();
    let mut data = DataTable::new(&["arm", "seed", &measure.title]);
    for (name, values) in dots {
        for (seed, value) in values {
            data.push([(*name).to_owned(), seed.to_string(), cell(*value)]);
        }
    }
    for (place, seed) in subject.data.results.seeds.iter().enumerate() {
        let style = Style::of_place(place);
        let mut points = vec![];
        for (row, (_, values)) in dots.iter().enumerate() {
            let own = values.iter().find(|(other, _)| other == seed);
            points.extend(own.map(|(_, value)| (rows.x.at(*value), rows.y(row))));
        }
        canvas.open_titled(&format!("series {}", style.class), &format!("seed {seed}"));
        canvas.dashed("thin", style.dashes, &polyline(points.iter().copied()));
        for point in points {
            canvas.mark("mk", style.marker, point, 4.5);
        }
        canvas.close();
        legend.entries.push(style.entry(&format!("seed {seed}")));
    }
    let bottom = legend.draw(&mut canvas, rows.bottom);
    Figure {
        name: "seeds".to_owned(),
        title: format!("{} by seed", measure.title),
        caption: "A dot per seed; lines join the dots of a seed. Parallel lines mean that arms differ by the same amount with every seed."
            .to_owned(),
        drawing: canvas.finish(bottom),
        data,
    }
}

/// The differences to the reference with the same seed, or to the mean of the seed where there is none.
fn differences(subject: &Subject<'_>, measure: &Measure, dots: &Dots<'_>) -> Figure {
    let reference = subject.data.results.reference.as_deref();
    let base = dots.iter().find(|(name, _)| Some(*name) == reference);
    let of_seed = |seed: u64| -> f64 {
        let of = |values: &[(u64, f64)]| {
            values
                .iter()
                .find(|value| value.0 == seed)
                .map(|value| value.1)
        };
        if let Some((_, values)) = base {
            of(values).unwrap_or(f64::NAN)
        } else {
            let all: Vec<f64> = dots.iter().filter_map(|(_, values)| of(values)).collect();
            all.iter().sum::<f64>() / all.len() as f64
        }
    };
    let mut data = DataTable::new(&["arm", "seed", "difference"]);
    let mut shown: Vec<(&str, Vec<f64>)> = vec![];
    for (name, values) in dots.iter().filter(|(name, _)| Some(*name) != reference) {
        let mut own = vec![];
        for (seed, value) in values {
            let difference = value - of_seed(*seed);
            if difference.is_finite() {
                data.push([(*name).to_owned(), seed.to_string(), cell(difference)]);
                own.push(difference);
            }
        }
        shown.push((name, own));
    }
    let all = shown
        .iter()
        .flat_map(|(_, values)| values)
        .copied()
        .chain([0.0]);
    let scale = Scale::linear(all, (f64::NEG_INFINITY, f64::INFINITY));
    let names: Vec<&str> = shown.iter().map(|(name, _)| *name).collect();
    let to = base.map_or("the mean of all arms", |(name, _)| *name);
    let mut canvas = Canvas::new();
    let rows = Rows::draw(&mut canvas, &names, &measure.difference, scale);
    let zero = rows.x.at(0.0);
    canvas.line("zero", (zero, rows.ends.0), (zero, rows.ends.1));
    for (row, (name, values)) in shown.iter().enumerate() {
        canvas.open_titled("c0", name);
        let y = rows.y(row);
        if let Some((low, high)) = extent(values.iter().copied()) {
            canvas.line("thin", (rows.x.at(low), y), (rows.x.at(high), y));
        }
        for value in values {
            canvas.mark("mk", Marker::Circle, (rows.x.at(*value), y), 3.0);
        }
        canvas.close();
    }
    Figure {
        name: "seeds".to_owned(),
        title: format!("Difference to {to} by seed"),
        caption: "A dot per seed: the difference with the same seed. The line is their range."
            .to_owned(),
        drawing: canvas.finish(rows.bottom),
        data,
    }
}
