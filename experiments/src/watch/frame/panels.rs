//! What is shown in the place of the arms: failures, and what happened.

use super::{Line, Tone};
use crate::{
    number::counted,
    watch::{
        state::Event,
        text::clock,
        view::{FailureView, View},
    },
};

/// Every failure with what is known of it.
pub(super) fn failures(view: &View, width: usize) -> Vec<Line> {
    if view.failures.is_empty() {
        return vec![Line::of(Tone::Faint, "nothing has failed")];
    }
    let mut lines = vec![];
    for failure in &view.failures {
        let FailureView {
            title,
            cause,
            message,
            place,
            host,
            attempts,
            log,
            blocks,
            ..
        } = failure;
        let tried = match attempts {
            1 => String::new(),
            attempts => format!(", tried {attempts} times"),
        };
        lines.push(Line::of(
            Tone::Failed,
            format!("{title}: {cause} on {host}{tried}"),
        ));
        let place = place.iter().map(|place| format!("at {place}"));
        let blocks = (*blocks > 0).then(|| format!("needed by {}", counted(*blocks, "stage")));
        for text in [message.clone()].into_iter().chain(place).chain(blocks) {
            lines.extend(wrapped(&text, width).map(|text| Line::of(Tone::Plain, text)));
        }
        let log = log.iter().flat_map(|text| wrapped(text, width));
        lines.extend(log.map(|text| Line::of(Tone::Faint, text)));
        lines.push(Line::default());
    }
    lines.push(Line::of(
        Tone::Faint,
        "`--retry` with the same command tries them again",
    ));
    lines
}

/// A text in indented lines of a width.
fn wrapped(text: &str, width: usize) -> impl Iterator<Item = String> {
    const INDENT: &str = "    ";
    let width = width.saturating_sub(INDENT.len()).max(1);
    let chars: Vec<char> = text.chars().collect();
    let lines: Vec<String> = chars
        .chunks(width)
        .map(|chunk| format!("{INDENT}{}", chunk.iter().collect::<String>()))
        .collect();
    lines.into_iter()
}

/// What happened, newest first.
pub(super) fn log(events: &[Event]) -> Vec<Line> {
    if events.is_empty() {
        return vec![Line::of(
            Tone::Faint,
            "nothing has happened since you began to watch",
        )];
    }
    let events = events.iter().rev();
    events
        .map(|event| Line::of(Tone::Plain, format!("{} {}", clock(event.time), event.text)))
        .collect()
}
