//! Whether answers are right as often as models think.

use super::lines::{Guide, Line, Lines};
use crate::report::{
    data::{Bin, Evaluation},
    extent::extent,
    figure::{DataTable, Figure, cell},
    number,
    section::{Block, Made, Section, Table},
    subject::Subject,
    svg::{Axis, Scale},
};

/// Bins with fewer answers are not drawn.
const LEAST: usize = 5;

/// The section.
pub fn make(subject: &Subject<'_>) -> Made {
    let evaluations = subject.data.evaluations.iter();
    let judged: Vec<&Evaluation> = evaluations
        .filter(|evaluation| !evaluation.calibration.is_empty())
        .collect();
    if judged.is_empty() {
        return Err("predictions have no class scores, or no right classes".to_owned());
    }
    Ok(Section {
        id: "calibration",
        title: "Calibration",
        blocks: vec![
            Block::Figures(vec![reliability(subject, &judged)]),
            Block::Table(errors(subject, &judged)),
        ],
    })
}

/// The evaluations of each model that has some, in the order of the table.
fn by_arm<'a>(
    subject: &'a Subject<'_>,
    judged: &'a [&Evaluation],
) -> impl Iterator<Item = (&'a str, Vec<&'a Evaluation>)> {
    let arms = subject.data.results.arms.iter();
    let arms = arms.map(|arm| {
        let own = judged
            .iter()
            .filter(|evaluation| evaluation.arm == arm.name);
        (arm.name.as_str(), own.copied().collect::<Vec<_>>())
    });
    arms.filter(|(_, own)| !own.is_empty())
}

/// The expected calibration errors.
fn errors(subject: &Subject<'_>, judged: &[&Evaluation]) -> Table {
    let mut table = Table::new(
        "Expected calibration error: the mean distance of confidence and accuracy over 15 bins, over the seeds",
        &["arm", "ECE, points", "least", "largest"],
        1,
    );
    for (arm, own) in by_arm(subject, judged) {
        let errors = own
            .iter()
            .map(|evaluation| 100.0 * error(&evaluation.calibration));
        let mean = errors.clone().sum::<f64>() / own.len() as f64;
        let (least, largest) = extent(errors).unwrap_or_default();
        let mut row = vec![arm.to_owned()];
        row.extend([mean, least, largest].map(|number| number::fixed(number, 2)));
        table.rows.push(row);
    }
    table
}

/// Accuracy by confidence.
fn reliability(subject: &Subject<'_>, judged: &[&Evaluation]) -> Figure {
    let mut data = DataTable::new(&["arm", "confidence", "right share", "answers"]);
    let mut lines = vec![];
    for (arm, own) in by_arm(subject, judged) {
        let style = subject.styles.get(arm);
        if style.is_none() {
            continue;
        }
        let mut points = vec![];
        for place in 0..own[0].calibration.len() {
            let bins = own
                .iter()
                .filter_map(|evaluation| evaluation.calibration.get(place));
            let bin = bins.fold(Bin::default(), |sum, bin| Bin {
                count: sum.count + bin.count,
                confidence: sum.confidence + bin.confidence,
                right: sum.right + bin.right,
            });
            if bin.count >= LEAST {
                let count = bin.count as f64;
                let point = (bin.confidence / count, bin.right as f64 / count);
                points.push(point);
                data.push([
                    arm.to_owned(),
                    cell(point.0),
                    cell(point.1),
                    bin.count.to_string(),
                ]);
            }
        }
        lines.push(Line {
            name: arm.to_owned(),
            style,
            points,
            ..Line::default()
        });
    }
    let points = || lines.iter().flat_map(|line| &line.points);
    let lowest = points().map(|point| point.0).fold(1.0, f64::min);
    let shares = points().map(|point| point.1).chain([lowest, 1.0]);
    let which = if subject.styles.has_others() {
        " Shown for the reference and the best arms."
    } else {
        ""
    };
    Lines {
        name: "calibration".to_owned(),
        title: "Accuracy by confidence".to_owned(),
        caption: format!(
            "Answers of all seeds in 15 bins of equal width; bins with fewer than {LEAST} answers are left out. On the dashed \
             line, confidence equals accuracy; below it, a model is overconfident.{which}"
        ),
        x: Axis::new("confidence", Scale::exact((lowest * 20.0).floor() / 20.0, 1.0)),
        y: Axis::new("share of right answers", Scale::linear(shares, (0.0, 1.0))),
        series: lines,
        guide: Guide::Diagonal,
        data,
    }
    .figure()
}

/// The expected calibration error.
fn error(bins: &[Bin]) -> f64 {
    let all: usize = bins.iter().map(|bin| bin.count).sum();
    let distances = bins
        .iter()
        .map(|bin| (bin.confidence - bin.right as f64).abs());
    distances.sum::<f64>() / all.max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_the_mean_distance_of_confidence_and_accuracy() {
        let bins = [
            Bin {
                count: 2,
                confidence: 1.2,
                right: 2,
            },
            Bin {
                count: 2,
                confidence: 1.8,
                right: 1,
            },
        ];
        assert!((error(&bins) - 0.4).abs() < 1e-12);
    }
}
