//! Masks in the terminal.

use std::ops::Range;

use masformer_core::{Direction, Mixing, Span};

use super::{Layers, layer_count};

/// Queries and keys of a mask are drawn as at most so many columns and half as many lines.
const CELLS: usize = 32;
/// Width of a mask with its frame and what keeps it from the next.
const COLUMN: usize = CELLS + 4;

/// The different masks of the layers under their names, as many beside each other as `columns` have room for.
pub(super) fn draw(layers: &Layers, columns: usize) -> String {
    let kinds = layers.kinds();
    let masks: Vec<Vec<String>> = kinds
        .iter()
        .map(|&(layer, count)| {
            let mut lines = vec![format!("{layer} ({})", layer_count(count))];
            lines.extend(framed(&cells(layer, layers.direction, layers.length)));
            lines
        })
        .collect();
    // A name may be wider than its mask.
    let widths = masks
        .iter()
        .map(|mask| COLUMN.max(mask[0].chars().count() + 2));
    let widths: Vec<usize> = widths.collect();
    let mut text = String::new();
    let mut rest: &[(Vec<String>, usize)] = &masks.into_iter().zip(widths).collect::<Vec<_>>();
    while !rest.is_empty() {
        let mut width = 0;
        let fit = rest.iter().take_while(|(_, own)| {
            width += own;
            width <= columns
        });
        let (row, others) = rest.split_at(fit.count().max(1));
        for line in 0..row[0].0.len() {
            let cells = row.iter();
            let cells = cells.map(|(mask, width)| format!("{:<width$}", mask[line]));
            text.push_str(cells.collect::<String>().trim_end());
            text.push('\n');
        }
        rest = others;
    }
    text.push_str("Down: queries. Across: the keys that they see.");
    if layers.is_summarised() {
        text.push_str(" ░: tokens that reach them through a state or another summary.");
    }
    text.push('\n');
    text
}

/// How a token reaches a query.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cell {
    /// By no way.
    Hidden,
    /// Through a state or another summary.
    Summarised,
    /// As a key that the query sees.
    Seen,
}

/// How tokens reach queries in a layer, line by line of queries.
fn cells(layer: &Mixing, direction: Direction, length: usize) -> Vec<Vec<Cell>> {
    let hidden = || vec![vec![false; length.min(CELLS)]; length.min(CELLS)];
    let seen = layer
        .span
        .map_or_else(hidden, |span| mask(span, direction, length));
    let summarised = if layer.is_summarised() {
        mask(Span::Full, direction, length)
    } else {
        hidden()
    };
    let cell = |(seen, summarised)| match (seen, summarised) {
        (true, _) => Cell::Seen,
        (false, true) => Cell::Summarised,
        (false, false) => Cell::Hidden,
    };
    let rows = seen.into_iter().zip(summarised);
    rows.map(|(seen, summarised)| seen.into_iter().zip(summarised).map(cell).collect())
        .collect()
}

/// Which cells are seen, line by line of queries. The query in the middle of a line stands for it,
/// so this takes as long for a long input as for a short one.
fn mask(span: Span, direction: Direction, length: usize) -> Vec<Vec<bool>> {
    let cells = length.min(CELLS);
    (0..cells)
        .map(|row| {
            let query = (2 * row + 1) * length / (2 * cells);
            let mut seen = vec![false; cells];
            for keys in span.keys(direction, query, length) {
                seen[columns(&keys, length, cells)].fill(true);
            }
            seen
        })
        .collect()
}

/// The cells that a range of keys covers, to the nearest whole cell, and one at least.
fn columns(keys: &Range<usize>, length: usize, cells: usize) -> Range<usize> {
    if keys.is_empty() {
        return 0..0;
    }
    // Halves go down at the start and up at the end: the cell that holds the middle is covered.
    let nearest = |key: usize, half: usize| (2 * key * cells + half) / (2 * length);
    let start = nearest(keys.start, length - 1).min(cells - 1);
    start..nearest(keys.end, length).max(start + 1)
}

/// Cells in a frame; two lines of them are one line of text, in which what is seen comes first.
fn framed(cells: &[Vec<Cell>]) -> Vec<String> {
    let columns = cells.len();
    let bar = "─".repeat(columns);
    let mut lines = vec![format!("┌{bar}┐")];
    for pair in cells.chunks(2) {
        let inside: String = (0..columns)
            .map(|column| {
                let below = pair.get(1).map_or(Cell::Hidden, |row| row[column]);
                match (pair[0][column], below) {
                    (Cell::Seen, Cell::Seen) => '█',
                    (Cell::Seen, _) => '▀',
                    (_, Cell::Seen) => '▄',
                    (Cell::Hidden, Cell::Hidden) => ' ',
                    _ => '░',
                }
            })
            .collect();
        lines.push(format!("│{inside}│"));
    }
    lines.push(format!("└{bar}┘"));
    lines
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::tests::{both, causal};
    use super::*;

    #[test]
    fn short_inputs_are_drawn_position_by_position() {
        let layers = causal("bottom:1 window:2+1", 3, 5);
        let text = draw(&layers, 80);
        let lines: Vec<&str> = text.lines().collect();
        let expected = [
            "full (1 layer)                      window:2+1 (2 layers)",
            "┌─────┐                             ┌─────┐",
            "│█▄   │                             │█▄   │",
            "│███▄ │                             │█▀█▄ │",
            "│▀▀▀▀▀│                             │▀  ▀▀│",
            "└─────┘                             └─────┘",
            "Down: queries. Across: the keys that they see.",
        ];
        assert_eq!(lines, expected);
        let narrow = draw(&layers, 71);
        let below: Vec<&str> = narrow.lines().collect();
        assert_eq!(below[0], "full (1 layer)");
        assert_eq!(below[6], "window:2+1 (2 layers)");
    }

    #[test]
    fn long_inputs_keep_their_proportions() {
        let text = draw(&both("block:2048", 3, 8192), 80);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "block:2048 (3 layers)");
        assert_eq!(lines.len(), 3 + 16 + 1);
        for (index, line) in lines[2..18].iter().enumerate() {
            let before = " ".repeat(index / 4 * 8);
            assert!(line.starts_with(&format!("│{before}████████")), "{text}");
            assert_eq!(line.matches('█').count(), 8, "{text}");
        }
    }

    #[test]
    fn what_is_narrower_than_a_cell_is_still_seen() {
        let span = "window:1+1".parse().unwrap();
        let mask = mask(span, Direction::Causal, 100_000_000);
        for (row, seen) in mask.iter().enumerate() {
            let cells: Vec<usize> = (0..CELLS).filter(|&cell| seen[cell]).collect();
            let mut expected = vec![0, row];
            expected.dedup();
            assert_eq!(cells, expected);
        }
    }

    proptest! {
        #[test]
        fn up_to_32_positions_the_mask_is_the_definition(
            width in 1..40_usize,
            sinks in 0..40_usize,
            length in 1..33_usize,
        ) {
            let width = width.try_into().unwrap();
            for span in [Span::Full, Span::Block { width }, Span::Window { width, sinks }] {
                for direction in [Direction::Causal, Direction::Bidirectional] {
                    let mask = mask(span, direction, length);
                    for (query, row) in mask.iter().enumerate() {
                        for (key, seen) in row.iter().enumerate() {
                            prop_assert_eq!(*seen, span.sees(direction, query, key));
                        }
                    }
                }
            }
        }
    }
}
