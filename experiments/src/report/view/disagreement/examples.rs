//! The examples that are gained and lost with the most seeds.

use super::Change;
use crate::report::{
    data::{Evaluation, ReportData},
    section::Table,
};

/// So many of each.
const MOST: usize = 5;
/// A longer text is cut.
const LENGTH: usize = 280;

/// The table of an arm; none where nothing changed.
pub fn table(data: &ReportData, change: &Change<'_>) -> Option<Table> {
    let gained = most(change.by_example.iter().map(|example| example.0));
    let lost = most(change.by_example.iter().map(|example| example.1));
    let has_labels = data.examples.iter().any(|example| example.label.is_some());
    let seeds = change.pairs.len();
    let mut header = vec!["", "seeds", "example"];
    header[0] = "change";
    if has_labels {
        header.push("right");
    }
    header.extend(["arm says", "reference says"]);
    let caption = format!(
        "{} against {}: examples that change with the most seeds",
        change.arm, change.reference
    );
    let mut table = Table::new(&caption, &header, header.len());
    table.is_folded = true;
    for (kind, found) in [("gained", gained), ("lost", lost)] {
        for (place, count) in found {
            let example = data.examples.get(place)?;
            let text = example
                .text
                .as_ref()
                .map_or_else(|| example.id.clone(), |text| cut(text));
            let mut row = vec![kind.to_owned(), format!("{count} of {seeds}"), text];
            if has_labels {
                row.push(example.label.clone().unwrap_or_default());
            }
            let says = |evaluation: &Evaluation| {
                evaluation.answers.get(place).cloned().unwrap_or_default()
            };
            // What they say with the first seed with which it changes.
            let shows = |own: &Evaluation, base: &Evaluation| {
                let (own, base) = (own.values[place], base.values[place]);
                if kind == "gained" {
                    own > base
                } else {
                    own < base
                }
            };
            let pair = change.pairs.iter().find(|(own, base)| shows(own, base));
            let (own, base) = pair?;
            row.extend([says(own), says(base)]);
            table.rows.push(row);
        }
    }
    (!table.rows.is_empty()).then_some(table)
}

/// The places with the largest counts above 0; of equal ones, the first.
fn most(counts: impl Iterator<Item = usize>) -> Vec<(usize, usize)> {
    let mut places: Vec<(usize, usize)> =
        counts.enumerate().filter(|(_, count)| *count > 0).collect();
    places.sort_by_key(|(place, count)| (std::cmp::Reverse(*count), *place));
    places.truncate(MOST);
    places
}

fn cut(text: &str) -> String {
    match text.char_indices().nth(LENGTH) {
        Some((end, _)) => format!("{}\u{2026}", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_counts_come_first() {
        let found = most([0, 2, 3, 2, 0].into_iter());
        assert_eq!(found, [(2, 3), (1, 2), (3, 2)]);
        assert_eq!(cut(&"é".repeat(300)).chars().count(), LENGTH + 1);
    }
}
