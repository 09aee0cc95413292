//! How much of the larger model a smaller one keeps.

use crate::{
    ablate::statistics::{Direction, Unit},
    report::{
        figure::{DataTable, Figure, cell, cell_of},
        measure::Measure,
        section::{Block, Made, Section},
        subject::Subject,
        svg::{Axis, Canvas, Legend, Plot, Scale, side_by_side},
    },
    results::ArmResults,
};

/// The section.
pub fn make(subject: &Subject<'_>) -> Made {
    let measure = subject.measure()?;
    let results = &subject.data.results;
    let reference = results
        .reference
        .as_deref()
        .and_then(|name| results.arm(name));
    let sources = results.arms.iter().filter(|arm| !arm.is_arm);
    let candidates: Vec<&ArmResults> = reference.into_iter().chain(sources).collect();
    let found = candidates.into_iter().find_map(|base| {
        let kept = kept(subject, measure, base);
        (!kept.is_empty()).then_some((base, kept))
    });
    let Some((base, kept)) = found else {
        return Err(
            "no arm is smaller than the reference or the model that arms are made of".to_owned(),
        );
    };
    Ok(Section {
        id: "retention",
        title: "Retention",
        blocks: vec![Block::Figures(vec![figure(subject, measure, base, &kept)])],
    })
}

struct Kept<'a> {
    arm: &'a ArmResults,
    compression: f64,
    share: f64,
    interval: Option<(f64, f64)>,
}

/// The arms that are smaller than a model, with what they keep of it.
fn kept<'a>(subject: &'a Subject<'_>, measure: &Measure, base: &ArmResults) -> Vec<Kept<'a>> {
    let results = &subject.data.results;
    let products = |arm: &ArmResults| Some(arm.cost.as_ref()?.multiply_adds_per_token as f64);
    let (Some(of_base), Some(whole)) = (products(base), base.mean(&measure.name)) else {
        return vec![];
    };
    if whole <= 0.0 {
        return vec![];
    }
    let is_reference = results.reference.as_ref() == Some(&base.name);
    let arms = results.arms.iter().filter(|arm| arm.is_arm);
    arms.filter_map(|arm| {
        let compression = of_base / products(arm).filter(|cost| *cost > 0.0)?;
        let mean = arm.mean(&measure.name)?;
        let share = |value: f64| match measure.direction {
            Direction::HigherIsBetter => 100.0 * value / whole,
            Direction::LowerIsBetter => 100.0 * whole / value,
        };
        let estimate = arm.metrics.get(&measure.name)?;
        let own = estimate.low.zip(estimate.high);
        // The comparison knows that seeds and examples are the same; it is in the unit of the metric but for scores in percent.
        let compared = results.comparison(&arm.name).and_then(|comparison| {
            let ends = comparison.interval()?;
            let is_plain = whole <= 1.0 || measure.unit == Unit::Plain;
            (is_plain && measure.name != "perplexity")
                .then_some((whole + ends.low, whole + ends.high))
        });
        let ends = if is_reference { compared } else { own };
        let ends = ends.map(|(low, high)| (share(low), share(high)));
        (compression > 1.001).then(|| Kept {
            arm,
            compression,
            share: share(mean),
            interval: ends.map(|(low, high)| (low.min(high), low.max(high))),
        })
    })
    .collect()
}

fn figure(
    subject: &Subject<'_>,
    measure: &Measure,
    base: &ArmResults,
    kept: &[Kept<'_>],
) -> Figure {
    let title = format!("{} kept, %", measure.name.replace('_', " "));
    let mut data = DataTable::new(&["arm", "times fewer multiply-adds", "kept %", "low", "high"]);
    let ends = kept.iter().filter_map(|kept| kept.interval);
    let ends = ends.flat_map(|(low, high)| [low, high]);
    let values = kept
        .iter()
        .map(|kept| kept.share)
        .chain(ends)
        .chain([100.0]);
    let most = kept.iter().map(|kept| kept.compression).fold(1.0, f64::max);
    let times = [1.0, most + (most - 1.0) * 0.08];
    let unlimited = (0.0, f64::INFINITY);
    let x = Axis::new(
        "times fewer multiply-adds per token",
        Scale::linear(times, unlimited),
    );
    let y = Axis::new(&title, Scale::linear(values, unlimited));
    let mut canvas = Canvas::new();
    let plot = Plot::draw(&mut canvas, &x, &y, 0.0, 220.0, 16.0);
    let whole = plot.y.at(100.0);
    canvas.line("limit", (plot.sides.0, whole), (plot.sides.1, whole));
    let mut legend = Legend::default();
    let places: Vec<f64> = kept
        .iter()
        .map(|kept| plot.x.at(kept.compression))
        .collect();
    let are_many = subject.styles.has_others();
    let moved = side_by_side(&places);
    for (kept, moved) in kept.iter().zip(moved) {
        let x = plot.x.at(kept.compression) + if are_many { 0.0 } else { moved };
        let style = subject.styles.style(&kept.arm.name);
        canvas.open_titled(style.class, &kept.arm.name);
        if let (Some((low, high)), Some(_)) = (kept.interval, subject.styles.get(&kept.arm.name)) {
            canvas.line("thin", (x, plot.y.at(low)), (x, plot.y.at(high)));
        }
        let is_named = subject.styles.get(&kept.arm.name).is_some();
        let size = if is_named { 5.5 } else { 3.0 };
        canvas.mark("mk", style.marker, (x, plot.y.at(kept.share)), size);
        canvas.close();
        if is_named {
            legend.entries.push(style.marker_entry(&kept.arm.name));
        }
        data.push([
            kept.arm.name.clone(),
            cell(kept.compression),
            cell(kept.share),
            cell_of(kept.interval.map(|ends| ends.0)),
            cell_of(kept.interval.map(|ends| ends.1)),
        ]);
    }
    let bottom = legend.draw(&mut canvas, plot.bottom);
    let is_reference = subject.data.results.reference.as_ref() == Some(&base.name);
    let intervals = if is_reference {
        "Intervals are those of the difference to the reference."
    } else {
        "Intervals are those of each arm alone."
    };
    Figure {
        name: "retention".to_owned(),
        title: format!("Share of {} that smaller models keep", base.name),
        caption: format!(
            "{intervals} The dashed line is all of it.{}",
            subject.styles.note()
        ),
        drawing: canvas.finish(bottom),
        data,
    }
}
