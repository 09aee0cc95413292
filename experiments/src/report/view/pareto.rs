//! Quality against cost, with the models that no other beats in both.

use crate::{
    report::{
        extent::extent,
        figure::{DataTable, Figure, cell, cell_of},
        measure::Measure,
        section::{Block, Made, Section},
        style::OTHER,
        subject::Subject,
        svg::{Anchor, Axis, Canvas, Entry, Legend, Marker, Plot, Scale, polyline, side_by_side},
    },
    results::ArmResults,
};

type CostOf = fn(&Subject<'_>, &ArmResults) -> Option<f64>;

/// Name of the file, title of the axis, and the number.
const COSTS: [(&str, &str, CostOf); 5] = [
    ("latency", "median latency, ms", |subject, arm| {
        subject.speeds.median(&arm.name)
    }),
    ("multiply-adds", "multiply-adds per token", |_, arm| {
        Some(arm.cost.as_ref()?.multiply_adds_per_token as f64)
    }),
    ("active", "active parameters", |_, arm| {
        Some(arm.cost.as_ref()?.active_parameters as f64)
    }),
    ("parameters", "parameters", |_, arm| {
        Some(arm.cost.as_ref()?.parameters as f64)
    }),
    ("cache", "cached positions", |_, arm| {
        Some(arm.cost.as_ref()?.attention.as_ref()?.cached_positions as f64)
    }),
];

/// The section.
pub fn make(subject: &Subject<'_>) -> Made {
    let measure = subject.measure()?;
    let mut figures = vec![];
    let mut seen: Vec<Vec<f64>> = vec![];
    for (name, axis, cost) in COSTS {
        let points = points(subject, measure, cost);
        let costs: Vec<f64> = points.iter().map(|point| point.cost).collect();
        let varies = costs
            .iter()
            .any(|cost| (cost - costs[0]).abs() > f64::EPSILON);
        if points.len() > 1 && varies && !seen.contains(&costs) {
            figures.push(figure(subject, measure, name, axis, &points));
            seen.push(costs);
        }
    }
    if figures.is_empty() {
        return Err("the models do not differ in cost, or there is one only".to_owned());
    }
    let text = "Dashed lines join the models that no other beats in both. Bars are intervals of each model alone";
    let more = if subject.styles.has_others() {
        ". Numbers are the models of the front; other names show under the pointer."
    } else {
        "; those of times go from the 5 % to the 95 % quantile. Models of the same cost stand side by side."
    };
    let text = format!("{text}{more}");
    Ok(Section {
        id: "cost",
        title: "Quality against cost",
        blocks: vec![Block::Text(text), Block::Figures(figures)],
    })
}

struct Point<'a> {
    arm: &'a ArmResults,
    cost: f64,
    /// From the 5 % to the 95 % quantile, where it was measured.
    spread: Option<(f64, f64)>,
    value: f64,
    interval: Option<(f64, f64)>,
}

fn points<'a>(subject: &'a Subject<'_>, measure: &Measure, cost: CostOf) -> Vec<Point<'a>> {
    let arms = subject.data.results.arms.iter();
    arms.filter_map(|arm| {
        let estimate = arm.metrics.get(&measure.name)?;
        let scaled = |value: f64| value * measure.scale;
        let cost = cost(subject, arm).filter(|cost| *cost > 0.0)?;
        let times = subject.speeds.times(&arm.name);
        let at = |share: f64| times.get((share * (times.len() as f64 - 1.0)).round() as usize);
        let is_time = subject.speeds.median(&arm.name) == Some(cost);
        Some(Point {
            arm,
            cost,
            spread: at(0.05).copied().zip(at(0.95).copied()).filter(|_| is_time),
            value: scaled(estimate.mean?),
            interval: estimate.low.map(scaled).zip(estimate.high.map(scaled)),
        })
    })
    .collect()
}

/// The places of the points that no other beats in both, by rising cost.
fn front(points: &[Point<'_>], measure: &Measure) -> Vec<usize> {
    let mut order: Vec<usize> = (0..points.len()).collect();
    order.sort_by(|a, b| {
        let (a, b) = (&points[*a], &points[*b]);
        let best_first = if measure.is_better(a.value, b.value) {
            std::cmp::Ordering::Less
        } else {
            std::cmp::Ordering::Greater
        };
        a.cost.total_cmp(&b.cost).then(best_first)
    });
    let mut best: Option<f64> = None;
    order.retain(|place| {
        let value = points[*place].value;
        let is_front = best.is_none_or(|best| measure.is_better(value, best));
        if is_front {
            best = Some(value);
        }
        is_front
    });
    order
}

fn figure(
    subject: &Subject<'_>,
    measure: &Measure,
    name: &str,
    axis: &str,
    points: &[Point<'_>],
) -> Figure {
    let are_many = subject.styles.has_others();
    let front = front(points, measure);
    let costs: Vec<f64> = points.iter().map(|point| point.cost).collect();
    let ends = points.iter().filter_map(|point| point.interval);
    let ends = ends.flat_map(|(low, high)| [low, high]);
    let values = points.iter().map(|point| point.value).chain(ends);
    let spreads = points
        .iter()
        .filter_map(|point| point.spread.filter(|_| !are_many));
    let mut wide: Vec<f64> = costs.clone();
    wide.extend(spreads.flat_map(|(low, high)| [low, high]));
    let x = Axis::new(axis, roomy(&wide));
    let y = Axis::new(&measure.title, Scale::linear(values, measure.limits));
    let mut canvas = Canvas::new();
    let plot = Plot::draw(&mut canvas, &x, &y, 0.0, 240.0, 16.0);
    let places: Vec<f64> = costs.iter().map(|cost| plot.x.at(*cost)).collect();
    let moved = if are_many {
        vec![0.0; places.len()]
    } else {
        side_by_side(&places)
    };
    let mut steps: Vec<(f64, f64)> = vec![];
    for place in &front {
        let (x, y) = plot.at(points[*place].cost, points[*place].value);
        let x = x + moved[*place];
        if let Some((_, before)) = steps.last().copied() {
            steps.push((x, before));
        }
        steps.push((x, y));
    }
    if let Some((_, last)) = steps.last().copied() {
        steps.push((plot.sides.1, last));
    }
    canvas.path("limit", &polyline(steps));
    let mut legend = Legend::default();
    let mut data = DataTable::new(&["arm", axis, &measure.title, "low", "high", "front"]);
    for (place, point) in points.iter().enumerate() {
        let number = front.iter().position(|member| *member == place);
        let is_reference = subject.data.results.reference.as_ref() == Some(&point.arm.name);
        data.push([
            point.arm.name.clone(),
            cell(point.cost),
            cell(point.value),
            cell_of(point.interval.map(|ends| ends.0)),
            cell_of(point.interval.map(|ends| ends.1)),
            if number.is_some() { "yes" } else { "" }.to_owned(),
        ]);
        // Of many arms, those of the front come last, on top.
        if are_many && (number.is_some() || is_reference) {
            continue;
        }
        let style = if are_many {
            OTHER
        } else {
            subject.styles.style(&point.arm.name)
        };
        canvas.open_titled(style.class, &title(point, axis));
        if !are_many {
            cross(&mut canvas, &plot, point, moved[place], true);
            legend.entries.push(style.marker_entry(&point.arm.name));
        }
        let size = if are_many { 3.0 } else { 5.5 };
        let (x, y) = plot.at(point.cost, point.value);
        canvas.mark("mk", style.marker, (x + moved[place], y), size);
        canvas.close();
    }
    if are_many {
        numbered(
            subject,
            &mut canvas,
            &plot,
            points,
            &front,
            axis,
            &mut legend,
        );
    }
    let bottom = legend.draw(&mut canvas, plot.bottom);
    Figure {
        name: format!("cost-{name}"),
        title: format!("{} against {axis}", measure.title),
        caption: String::new(),
        drawing: canvas.finish(bottom),
        data,
    }
}

/// A scale with room for models of the same cost side by side.
fn roomy(costs: &[f64]) -> Scale {
    let (low, high) = extent(costs.iter().copied()).unwrap_or_default();
    if high / low > 5.0 {
        return Scale::log(costs.iter().copied());
    }
    let room = (high - low) * 0.06;
    Scale::linear([(low - room).max(0.0), high + room], (0.0, f64::INFINITY))
}

fn title(point: &Point<'_>, axis: &str) -> String {
    format!(
        "{}: {} at {} {axis}",
        point.arm.name,
        cell(point.value),
        cell(point.cost)
    )
}

/// The intervals of a point that is moved to the side.
fn cross(canvas: &mut Canvas, plot: &Plot, point: &Point<'_>, shift: f64, has_spread: bool) {
    if let Some((low, high)) = point.interval {
        let x = plot.x.at(point.cost) + shift;
        canvas.line("thin", (x, plot.y.at(low)), (x, plot.y.at(high)));
    }
    if let Some((low, high)) = point.spread.filter(|_| has_spread) {
        canvas.line(
            "thin",
            plot.at(low, point.value),
            plot.at(high, point.value),
        );
    }
}

/// The front, with numbers in its markers, and the reference.
fn numbered(
    subject: &Subject<'_>,
    canvas: &mut Canvas,
    plot: &Plot,
    points: &[Point<'_>],
    front: &[usize],
    axis: &str,
    legend: &mut Legend,
) {
    let reference = subject.data.results.reference.as_deref();
    for point in points
        .iter()
        .filter(|point| reference == Some(&point.arm.name))
    {
        canvas.open_titled("c1", &title(point, axis));
        cross(canvas, plot, point, 0.0, false);
        canvas.mark("mk", Marker::Diamond, plot.at(point.cost, point.value), 7.0);
        canvas.close();
        legend.entries.push(Entry {
            class: "c1",
            dashes: None,
            marker: Some(Marker::Diamond),
            is_hollow: false,
            name: format!("{} (reference)", point.arm.name),
        });
    }
    for (number, place) in front.iter().enumerate() {
        let point = &points[*place];
        canvas.open_titled("c0", &title(point, axis));
        cross(canvas, plot, point, 0.0, false);
        let (x, y) = plot.at(point.cost, point.value);
        canvas.mark("mk", Marker::Circle, (x, y), 8.0);
        canvas.text(
            "num",
            (x, y + 3.5),
            Anchor::Middle,
            &(number + 1).to_string(),
        );
        canvas.close();
        legend.entries.push(Entry {
            class: "c0",
            dashes: None,
            marker: Some(Marker::Circle),
            is_hollow: false,
            name: format!("{} {}", number + 1, point.arm.name),
        });
    }
}
