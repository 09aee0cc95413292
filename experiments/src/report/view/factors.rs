//! What each factor is worth: dropped from all of them, and added to none.

use crate::{
    ablate::compare::Effect,
    report::{
        figure::{DataTable, Figure, cell, cell_of},
        section::{Block, Made, Section},
        style::Style,
        subject::Subject,
        svg::{Axis, Canvas, Legend, Marker, Plot, Rows, Scale, polyline},
    },
};

/// The section.
pub fn make(subject: &Subject<'_>) -> Made {
    let factors = &subject.data.results.factors;
    let pairs: Vec<(&str, Effect, Effect, Option<Effect>)> = factors
        .iter()
        .filter_map(|factor| {
            Some((
                factor.name.as_str(),
                factor.drop?,
                factor.add?,
                factor.interaction,
            ))
        })
        .collect();
    if pairs.is_empty() {
        return Err("no factor was both dropped and added".to_owned());
    }
    let figures = [
        Some(slopes(subject, &pairs)?),
        interactions(subject, &pairs)?,
    ];
    Ok(Section {
        id: "factors",
        title: "Drop against add",
        blocks: vec![Block::Figures(figures.into_iter().flatten().collect())],
    })
}

type Pairs<'a> = [(&'a str, Effect, Effect, Option<Effect>)];

fn ends(effect: &Effect) -> Option<(f64, f64)> {
    effect.low.zip(effect.high)
}

fn row(name: &str, part: &str, effect: &Effect, scale: f64) -> [String; 5] {
    [
        name.to_owned(),
        part.to_owned(),
        cell(effect.difference * scale),
        cell_of(effect.low.map(|low| low * scale)),
        cell_of(effect.high.map(|high| high * scale)),
    ]
}

fn slopes(subject: &Subject<'_>, pairs: &Pairs<'_>) -> Result<Figure, String> {
    let measure = subject.measure()?;
    let scale = measure.unit.scale();
    let mut values = vec![0.0];
    let mut data = DataTable::new(&["factor", "effect", "difference", "low", "high"]);
    for (name, drop, add, interaction) in pairs {
        for (effect, part) in [(drop, "among all"), (add, "alone")] {
            values.push(effect.difference * scale);
            let ends = ends(effect).into_iter();
            values.extend(ends.flat_map(|(low, high)| [low * scale, high * scale]));
            data.push(row(name, part, effect, scale));
        }
        if let Some(interaction) = interaction {
            data.push(row(name, "interaction", interaction, scale));
        }
    }
    let mut canvas = Canvas::new();
    let unlimited = (f64::NEG_INFINITY, f64::INFINITY);
    let y = Axis::new(
        &format!("what the factor adds: {}", measure.difference),
        Scale::linear(values, unlimited),
    );
    let places = ["dropped from all", "added to none"];
    let plot = Plot::with_places(&mut canvas, &places, &y, 0.0, 200.0);
    let zero = plot.y.at(0.0);
    canvas.line("zero", (plot.sides.0, zero), (plot.sides.1, zero));
    let mut legend = Legend::default();
    let middle = (pairs.len() - 1) as f64 / 2.0;
    for (place, (name, drop, add, _)) in pairs.iter().enumerate() {
        let style = Style::of_place(place);
        // Intervals stand beside each other.
        let shift = (place as f64 - middle) * 9.0;
        let at = |x: f64, value: f64| (plot.x.at(x) + shift, plot.y.at(value * scale));
        canvas.open_titled(style.class, name);
        let (from, to) = (at(0.0, drop.difference), at(1.0, add.difference));
        canvas.dashed("ln", style.dashes, &polyline([from, to]));
        for (x, effect) in [(0.0, drop), (1.0, add)] {
            if let Some((low, high)) = ends(effect) {
                canvas.line("thin", at(x, low), at(x, high));
            }
            canvas.mark("mk", style.marker, at(x, effect.difference), 5.0);
        }
        canvas.close();
        legend.entries.push(style.entry(name));
    }
    let bottom = legend.draw(&mut canvas, plot.bottom);
    Ok(Figure {
        name: "factors".to_owned(),
        title: "What each factor is worth".to_owned(),
        caption: "To the left, all factors less all but this one; to the right, this one less none. Lines that are not level \
                  mean that factors depend on each other."
            .to_owned(),
        drawing: canvas.finish(bottom),
        data,
    })
}

fn interactions(subject: &Subject<'_>, pairs: &Pairs<'_>) -> Result<Option<Figure>, String> {
    let measure = subject.measure()?;
    let scale = measure.unit.scale();
    let found: Vec<(&str, Effect)> = pairs
        .iter()
        .filter_map(|(name, _, _, interaction)| Some((*name, (*interaction)?)))
        .collect();
    if found.is_empty() {
        return Ok(None);
    }
    let mut values = vec![0.0];
    let mut data = DataTable::new(&["factor", "effect", "difference", "low", "high"]);
    for (name, effect) in &found {
        values.push(effect.difference * scale);
        let ends = ends(effect).into_iter();
        values.extend(ends.flat_map(|(low, high)| [low * scale, high * scale]));
        data.push(row(name, "interaction", effect, scale));
    }
    let names: Vec<&str> = found.iter().map(|(name, _)| *name).collect();
    let mut canvas = Canvas::new();
    let unlimited = (f64::NEG_INFINITY, f64::INFINITY);
    let title = format!("dropped less added: {}", measure.difference);
    let rows = Rows::draw(
        &mut canvas,
        &names,
        &title,
        Scale::linear(values, unlimited),
    );
    let zero = rows.x.at(0.0);
    canvas.line("zero", (zero, rows.ends.0), (zero, rows.ends.1));
    for (place, (name, effect)) in found.iter().enumerate() {
        canvas.open_titled("c0", name);
        let y = rows.y(place);
        if let Some((low, high)) = ends(effect) {
            canvas.line(
                "ln",
                (rows.x.at(low * scale), y),
                (rows.x.at(high * scale), y),
            );
        }
        let x = rows.x.at(effect.difference * scale);
        canvas.mark("mk", Marker::Circle, (x, y), 5.0);
        canvas.close();
    }
    Ok(Some(Figure {
        name: "interactions".to_owned(),
        title: "Interaction of each factor with the others".to_owned(),
        caption: "Where the interval excludes 0, the factor is worth more or less where the others are on.".to_owned(),
        drawing: canvas.finish(rows.bottom),
        data,
    }))
}
