//! How long passes take.

use super::lines::{Guide, Line, Lines, thinned};
use crate::{
    ablate::{latency_ratios::LatencyRatio, statistics::quantile},
    report::{
        figure::{DataTable, Figure, cell, cell_of},
        number,
        section::{Block, Made, Section, Table},
        subject::Subject,
        summary::value_text,
        svg::{Axis, Canvas, Marker, Rows, Scale},
    },
};

/// A distribution has at most so many points, and one of many others.
const MOST: usize = 100;
const FEW: usize = 20;

/// The section.
pub fn make(subject: &Subject<'_>) -> Made {
    let speeds = &subject.speeds;
    if speeds.is_empty() {
        return Err("nothing was timed".to_owned());
    }
    let mut figures = vec![distribution(subject)];
    figures.extend(ratios(subject));
    let starts = &subject.data.record.starts;
    let machines: Vec<String> = starts
        .iter()
        .map(|start| {
            let part = |key: &str| start.get(key).map(value_text).unwrap_or_default();
            format!(
                "{}, {} cores, backend {}",
                part("system"),
                part("cpus"),
                part("device")
            )
        })
        .collect();
    let mut text = "Models of a seed took turns, round by round.".to_owned();
    if let Some(machine) = machines.first() {
        text.extend([" Machine: ", machine, "."]);
        if machines.iter().any(|other| other != machine) {
            text += " Some starts of the run were on other machines: see the record.";
        }
    }
    Ok(Section {
        id: "latency",
        title: "Latency",
        blocks: vec![
            Block::Text(text),
            Block::Figures(figures),
            Block::Table(quantiles(subject)),
        ],
    })
}

fn quantiles(subject: &Subject<'_>) -> Table {
    let mut table = Table::new(
        "Milliseconds of a forward pass, over all seeds and rounds",
        &["arm", "median", "5 %", "95 %", "rounds"],
        1,
    );
    for arm in &subject.data.results.arms {
        let times = subject.speeds.times(&arm.name);
        let at = |share: f64| Some(number::short(quantile(&times, share)?, 4));
        if let (Some(median), Some(low), Some(high)) = (at(0.5), at(0.05), at(0.95)) {
            table.rows.push(vec![
                arm.name.clone(),
                median,
                low,
                high,
                times.len().to_string(),
            ]);
        }
    }
    table
}

/// The share of passes that are at most so long.
fn distribution(subject: &Subject<'_>) -> Figure {
    let shares = (0..=20).map(|share| f64::from(share) / 20.0);
    let mut data = DataTable::new(&["share of passes"]);
    data.rows = shares.clone().map(|share| vec![cell(share)]).collect();
    let mut lines = vec![];
    for arm in &subject.data.results.arms {
        let times = subject.speeds.times(&arm.name);
        let style = subject.styles.get(&arm.name);
        if times.is_empty() {
            continue;
        }
        data.header.push(format!("{}, ms", arm.name));
        for (row, share) in data.rows.iter_mut().zip(shares.clone()) {
            let place = (share * (times.len() - 1) as f64).round() as usize;
            row.push(number::short(times[place], 4));
        }
        let count = times.len() as f64;
        let ranked: Vec<(f64, f64)> = (1..=times.len())
            .map(|rank| (times[rank - 1], rank as f64 / count))
            .collect();
        let mut points = vec![];
        let mut before = 0.0;
        for (time, share) in thinned(&ranked, if style.is_some() { MOST } else { FEW }) {
            points.extend([(time, before), (time, share)]);
            before = share;
        }
        lines.push(Line {
            name: arm.name.clone(),
            style,
            points,
            ..Line::default()
        });
    }
    let all = lines.iter().flat_map(|line| &line.points);
    let times: Vec<f64> = all.map(|point| point.0).collect();
    Lines {
        name: "latency-distribution".to_owned(),
        title: "Passes that took at most so long".to_owned(),
        caption: format!(
            "Empirical distribution over all seeds and rounds.{}",
            subject.styles.note()
        ),
        x: Axis::new("milliseconds", Scale::log_if_wide_above(&times, 5.0)),
        y: Axis::new("share of passes", Scale::exact(0.0, 1.0)),
        series: lines,
        guide: Guide::None,
        data,
    }
    .figure()
}

fn ratios(subject: &Subject<'_>) -> Option<Figure> {
    let reference = subject.speeds.reference()?;
    let arms = subject.data.results.arms.iter();
    let found: Vec<_> = arms
        .filter(|arm| arm.name != reference)
        .filter_map(|arm| Some((arm.name.as_str(), subject.speeds.ratio(&arm.name)?)))
        .collect();
    let ends = |ratio: &LatencyRatio| ratio.paired.interval.map(|interval| interval.ends);
    if found.is_empty() {
        return None;
    }
    let mut data = DataTable::new(&["arm", "ratio", "low", "high", "rounds", "note"]);
    let mut values = vec![1.0];
    for (name, ratio) in &found {
        let ends = ends(ratio);
        values.push(ratio.paired.ratio);
        values.extend(ends.iter().flat_map(|ends| [ends.low, ends.high]));
        data.push([
            (*name).to_owned(),
            cell(ratio.paired.ratio),
            cell_of(ends.map(|ends| ends.low)),
            cell_of(ends.map(|ends| ends.high)),
            ratio.paired.rounds.to_string(),
            if ratio.varies { "varies by start" } else { "" }.to_owned(),
        ]);
    }
    let names: Vec<&str> = found.iter().map(|(name, _)| *name).collect();
    let mut canvas = Canvas::new();
    let title = "time \u{00f7} time of the reference";
    let rows = Rows::draw(&mut canvas, &names, title, Scale::log(values));
    let one = rows.x.at(1.0);
    canvas.line("zero", (one, rows.ends.0), (one, rows.ends.1));
    for (row, (name, ratio)) in found.iter().enumerate() {
        canvas.open_titled("c0", &format!("{name}: {}", cell(ratio.paired.ratio)));
        let y = rows.y(row);
        if let Some(ends) = ends(ratio) {
            canvas.line("ln", (rows.x.at(ends.low), y), (rows.x.at(ends.high), y));
        }
        let x = rows.x.at(ratio.paired.ratio);
        canvas.mark("mk", Marker::Circle, (x, y), 4.5);
        canvas.close();
    }
    Some(Figure {
        name: "latency-ratio".to_owned(),
        title: format!("Latency against {reference}"),
        caption: "Median of the ratios of rounds, with the interval of the sign test; left of the line, the arm is faster.".to_owned(),
        drawing: canvas.finish(rows.bottom),
        data,
    })
}
