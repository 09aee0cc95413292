//! Examples gained and lost by the length of their texts.

use super::Change;
use crate::report::{
    figure::{DataTable, Figure, cell},
    subject::Subject,
    svg::{Axis, Scale},
    view::lines::{Guide, Line, Lines},
};

/// The texts are divided into so many parts of about the same size.
const PARTS: usize = 6;

/// The chart; none where texts are not known.
pub fn figure(subject: &Subject<'_>, changes: &[Change<'_>]) -> Option<Figure> {
    let mut words: Vec<(usize, usize)> = subject
        .data
        .examples
        .iter()
        .enumerate()
        .filter_map(|(place, example)| {
            Some((example.text.as_ref()?.split_whitespace().count(), place))
        })
        .collect();
    words.sort_unstable();
    if words.len() < 5 * PARTS {
        return None;
    }
    let parts: Vec<&[(usize, usize)]> = words.chunks(words.len().div_ceil(PARTS)).collect();
    let mut data = DataTable::new(&["arm", "words", "gained less lost %", "examples"]);
    let mut lines = vec![];
    for change in changes {
        let style = subject.styles.get(change.arm);
        let mut points = vec![];
        for part in &parts {
            let length =
                part.iter().map(|(words, _)| words).sum::<usize>() as f64 / part.len() as f64;
            let net = part
                .iter()
                .filter_map(|(_, place)| change.by_example.get(*place));
            let net: f64 = net
                .map(|(gained, lost)| *gained as f64 - *lost as f64)
                .sum();
            let share = 100.0 * net / (part.len() * change.pairs.len()) as f64;
            points.push((length, share));
            data.push([
                change.arm.to_owned(),
                cell(length),
                cell(share),
                part.len().to_string(),
            ]);
        }
        lines.push(Line {
            name: change.arm.to_owned(),
            style,
            points,
            ..Line::default()
        });
    }
    let all = || lines.iter().flat_map(|line| &line.points);
    let lengths: Vec<f64> = all().map(|point| point.0).collect();
    let shares = Scale::linear(
        all().map(|point| point.1).chain([0.0]),
        (f64::NEG_INFINITY, f64::INFINITY),
    );
    Some(
        Lines {
            name: "changes-by-length".to_owned(),
            title: "Gained less lost, by length".to_owned(),
            caption: format!(
                "Examples gained less those lost, as a share, in {PARTS} parts of the data by the number of words.{}",
                subject.styles.note()
            ),
            x: Axis::new("words of the example", Scale::log_if_wide(&lengths)),
            y: Axis::new("gained less lost, %", shares),
            series: lines,
            guide: Guide::Zero,
            data,
        }
        .figure(),
    )
}
