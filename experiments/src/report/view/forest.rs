//! The difference of each arm to the reference, with its interval.

use crate::{
    ablate::{
        compare::Comparison,
        statistics::{Direction, VerdictKind},
    },
    report::{
        figure::{DataTable, Figure, cell, cell_of},
        section::{Block, Made, Section},
        subject::Subject,
        svg::{Canvas, Drawing, Entry, Legend, Marker, Rows, Scale},
    },
};

/// More arms than this are sorted by their difference.
const SORTED: usize = 12;

/// The section.
pub fn make(subject: &Subject<'_>) -> Made {
    let results = &subject.data.results;
    let measure = subject.measure()?;
    let scale = measure.unit.scale();
    let differences = results.primary().filter_map(|comparison| {
        let ends = comparison.interval();
        Some(Shown {
            comparison,
            difference: comparison.difference()? * scale,
            ends: ends.map(|ends| (ends.low * scale, ends.high * scale)),
        })
    });
    let mut shown: Vec<Shown<'_>> = differences.collect();
    if shown.is_empty() {
        return Err("no arm has a difference to a reference".to_owned());
    }
    let (side, sign) = match measure.direction {
        Direction::HigherIsBetter => ("right", -1.0),
        Direction::LowerIsBetter => ("left", 1.0),
    };
    let mut caption =
        format!("Mean difference with its simultaneous interval; arms further {side} are better.");
    if results.margin.is_some() {
        caption += " Dashed lines are the margin.";
    }
    if shown.len() > SORTED {
        shown.sort_by(|a, b| (sign * a.difference).total_cmp(&(sign * b.difference)));
        caption += " The best come first.";
    }
    let reference = results.reference.as_deref().unwrap_or("the reference");
    let margin = results.margin.map(|margin| margin * scale);
    let figure = Figure {
        name: "forest".to_owned(),
        title: format!("Difference to {reference}"),
        caption,
        drawing: draw(&shown, &measure.difference, margin),
        data: data(&shown),
    };
    Ok(Section {
        id: "forest",
        title: "Differences to the reference",
        blocks: vec![Block::Figures(vec![figure])],
    })
}

/// A comparison with its numbers in the unit of the axis.
struct Shown<'a> {
    comparison: &'a Comparison,
    difference: f64,
    ends: Option<(f64, f64)>,
}

fn data(shown: &[Shown<'_>]) -> DataTable {
    let mut data = DataTable::new(&["arm", "difference", "low", "high", "p", "verdict"]);
    for shown in shown {
        data.push([
            shown.comparison.arm.clone(),
            cell(shown.difference),
            cell_of(shown.ends.map(|ends| ends.0)),
            cell_of(shown.ends.map(|ends| ends.1)),
            cell_of(shown.comparison.p()),
            shown.comparison.verdict.kind.word().to_owned(),
        ]);
    }
    data
}

fn draw(shown: &[Shown<'_>], title: &str, margin: Option<f64>) -> Drawing {
    let margins = margin.into_iter().flat_map(|margin| [-margin, margin]);
    let mut values: Vec<f64> = margins.clone().chain([0.0]).collect();
    for shown in shown {
        values.push(shown.difference);
        values.extend(shown.ends.into_iter().flat_map(|(low, high)| [low, high]));
    }
    let names: Vec<&str> = shown
        .iter()
        .map(|shown| shown.comparison.arm.as_str())
        .collect();
    let mut canvas = Canvas::new();
    let scale = Scale::linear(values, (f64::NEG_INFINITY, f64::INFINITY));
    let rows = Rows::draw(&mut canvas, &names, title, scale);
    let (upper, lower) = rows.ends;
    for x in margins.map(|margin| rows.x.at(margin)) {
        canvas.line("limit", (x, upper), (x, lower));
    }
    canvas.line("zero", (rows.x.at(0.0), upper), (rows.x.at(0.0), lower));
    let mut legend = Legend::default();
    for (row, shown) in shown.iter().enumerate() {
        let kind = shown.comparison.verdict.kind;
        let (class, marker, is_filled) = look(kind);
        let y = rows.y(row);
        canvas.open_titled(class, &shown.comparison.verdict.sentence);
        if let Some((low, high)) = shown.ends {
            let (low, high) = (rows.x.at(low), rows.x.at(high));
            canvas.line("ln", (low, y), (high, y));
            for end in [low, high] {
                canvas.line("ln", (end, y - 3.5), (end, y + 3.5));
            }
        }
        let fill = if is_filled { "mk" } else { "ho" };
        canvas.mark(fill, marker, (rows.x.at(shown.difference), y), 5.0);
        canvas.close();
        let entry = Entry {
            class,
            dashes: None,
            marker: Some(marker),
            is_hollow: !is_filled,
            name: kind.word().to_owned(),
        };
        if !legend.entries.contains(&entry) {
            legend.entries.push(entry);
        }
    }
    let bottom = legend.draw(&mut canvas, rows.bottom);
    canvas.finish(bottom)
}

/// Class and marker of a kind, and whether the marker is filled.
fn look(kind: VerdictKind) -> (&'static str, Marker, bool) {
    match kind {
        VerdictKind::Better => ("c2", Marker::Up, true),
        VerdictKind::Worse => ("c1", Marker::Down, true),
        VerdictKind::Equivalent | VerdictKind::NotWorse | VerdictKind::Identical => {
            ("c0", Marker::Diamond, true)
        }
        VerdictKind::Undecided | VerdictKind::Refused => ("cx", Marker::Circle, false),
    }
}
