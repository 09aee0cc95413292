//! How the pairs of queries and keys that a span allows are cut into tiles.

use std::ops::Range;

use crate::span::{Direction, Span};

/// The longest side of a tile's query rows and of a grid cell of keys.
const CELL: usize = 256;
/// The shortest, so that a narrow window is not a matter of many tiny products.
const SMALLEST_CELL: usize = 32;
/// Neighbouring cells of keys are taken together up to this many keys.
const KEYS: usize = 512;

/// The tiles of one attention layer.
///
/// Queries are the last positions that there are keys for: all of them, or the new ones where keys are
/// cached. Keys lie on a grid of cells; a tile of queries meets every cell that holds a key that one of
/// them sees. With a cell of `c` keys, at most 256 and at most `W` if that is 32 or more, a window of
/// `W` costs a query at most `W + 3c` pairs; a block costs `W` where `c` divides `W` (as it does up to
/// 256 and for powers of two), otherwise at most `2W + 3c`.
#[derive(Clone, Debug)]
pub(super) struct Tiles {
    span: Span,
    direction: Direction,
    queries: usize,
    keys: usize,
    cell: usize,
}

/// All that the hidden pairs of a tile depend on: those of [`Tiles`] with the same pattern have the same mask.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Pattern {
    rows: usize,
    keys: usize,
    /// How far the first query is after the first key, up to where no window reaches a key any more.
    ahead: isize,
    /// Where the first key is among the sinks, or in its block.
    place: usize,
}

impl Tiles {
    pub(super) fn new(span: Span, direction: Direction, queries: usize, keys: usize) -> Self {
        let cell = match span {
            Span::Full => CELL,
            Span::Window { width, .. } | Span::Block { width } => {
                let width = width.get();
                width.div_ceil(width.div_ceil(CELL)).max(SMALLEST_CELL)
            }
        };
        Self {
            span,
            direction,
            queries,
            keys,
            cell,
        }
    }

    /// The position of the first query.
    fn offset(&self) -> usize {
        self.keys - self.queries
    }

    /// The side of a grid cell.
    pub(super) fn cell(&self) -> usize {
        self.cell
    }

    /// The cells of keys, in order.
    pub(super) fn cells(&self) -> impl Iterator<Item = Range<usize>> + use<> {
        chunks(0..self.keys, self.cell)
    }

    /// The tiles of query rows, in order.
    pub(super) fn rows(&self) -> impl Iterator<Item = Range<usize>> + use<> {
        chunks(0..self.queries, self.cell)
    }

    /// The ranges of keys that a tile of query rows meets; each is made of whole cells.
    pub(super) fn keys(&self, rows: &Range<usize>) -> Vec<Range<usize>> {
        let offset = self.offset();
        let keys = |row| self.span.keys(self.direction, row + offset, self.keys);
        let ([first_sinks, first], [last_sinks, last]) = (keys(rows.start), keys(rows.end - 1));
        let on_grid = |range: Range<usize>| {
            let start = range.start / self.cell * self.cell;
            let end = range.end.next_multiple_of(self.cell).min(self.keys);
            start..end
        };
        let sinks = on_grid(0..first_sinks.end.max(last_sinks.end));
        let band = on_grid(first.start..last.end);
        let ranges = if sinks.end >= band.start {
            vec![0..band.end]
        } else {
            vec![sinks, band]
        };
        let most = (KEYS / self.cell).max(1) * self.cell;
        ranges
            .into_iter()
            .flat_map(|range| chunks(range, most))
            .collect()
    }

    /// Number of pairs in all tiles.
    pub(super) fn pairs(&self) -> u64 {
        let tile = |rows: Range<usize>| {
            let keys: usize = self.keys(&rows).iter().map(ExactSizeIterator::len).sum();
            (rows.len() * keys) as u64
        };
        self.rows().map(tile).sum()
    }

    /// The pattern of one of the tiles.
    pub(super) fn pattern(&self, rows: &Range<usize>, keys: &Range<usize>) -> Pattern {
        let first = rows.start + self.offset();
        let width = match self.span {
            Span::Full => 0,
            Span::Window { width, .. } | Span::Block { width } => width.get(),
        };
        let most = keys.len().saturating_add(width);
        let most = isize::try_from(most).unwrap_or(isize::MAX);
        Pattern {
            rows: rows.len(),
            keys: keys.len(),
            ahead: (first as isize - keys.start as isize).min(most),
            place: match self.span {
                Span::Full => 0,
                Span::Window { sinks, .. } => keys.start.min(sinks),
                Span::Block { width } => keys.start % width,
            },
        }
    }

    /// Which of a tile's pairs are hidden, row by row; `None` if none is.
    pub(super) fn mask(&self, rows: &Range<usize>, keys: &Range<usize>) -> Option<Vec<bool>> {
        let offset = self.offset();
        let sees = |row: usize, key: usize| self.span.sees(self.direction, row + offset, key);
        let corners = [rows.start, rows.end - 1]
            .into_iter()
            .all(|row| sees(row, keys.start) && sees(row, keys.end - 1));
        // What a span allows has no holes but between the sinks and the window.
        let convex = match self.span {
            Span::Window { sinks, .. } => keys.start >= sinks,
            Span::Full | Span::Block { .. } => true,
        };
        if corners && convex {
            return None;
        }
        let mask: Vec<bool> = rows
            .clone()
            .flat_map(|row| keys.clone().map(move |key| (row, key)))
            .map(|(row, key)| !sees(row, key))
            .collect();
        mask.contains(&true).then_some(mask)
    }
}

fn chunks(range: Range<usize>, size: usize) -> impl Iterator<Item = Range<usize>> {
    let end = range.end;
    range
        .step_by(size)
        .map(move |start| start..(start + size).min(end))
}

#[cfg(test)]
pub(super) mod tests {
    use std::{
        collections::{HashMap, HashSet},
        num::NonZeroUsize,
    };

    use proptest::prelude::*;

    use super::*;

    /// Any span with a width that is not always a multiple of a tile.
    pub(crate) fn spans() -> impl Strategy<Value = Span> {
        let width = (1..700_usize).prop_map(|width| NonZeroUsize::new(width).unwrap());
        prop_oneof![
            Just(Span::Full),
            (width.clone(), prop_oneof![0..40_usize, 0..700_usize])
                .prop_map(|(width, sinks)| Span::Window { width, sinks }),
            width.prop_map(|width| Span::Block { width }),
        ]
    }

    pub(crate) fn directions() -> impl Strategy<Value = Direction> {
        prop_oneof![Just(Direction::Causal), Just(Direction::Bidirectional)]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn tiles_hold_every_visible_pair_once(
            span in spans(),
            direction in directions(),
            keys in 1..900_usize,
            cached in 0..900_usize,
        ) {
            let queries = keys - cached.min(keys - 1);
            let tiles = Tiles::new(span, direction, queries, keys);
            let mut found = vec![0_u8; queries * keys];
            for rows in tiles.rows() {
                for range in tiles.keys(&rows) {
                    prop_assert!(range.start % tiles.cell() == 0);
                    let mask = tiles.mask(&rows, &range);
                    for (i, row) in rows.clone().enumerate() {
                        for (j, key) in range.clone().enumerate() {
                            let hidden = mask.as_ref().is_some_and(|mask| mask[i * range.len() + j]);
                            found[row * keys + key] += u8::from(!hidden);
                        }
                    }
                }
            }
            for row in 0..queries {
                for key in 0..keys {
                    let sees = span.sees(direction, row + keys - queries, key);
                    prop_assert_eq!(found[row * keys + key], u8::from(sees), "{} {}", row, key);
                }
            }
        }

        #[test]
        fn tiles_of_one_pattern_hide_the_same(
            span in spans(),
            direction in directions(),
            keys in 1..2500_usize,
            cached in 0..900_usize,
        ) {
            let queries = keys - cached.min(keys - 1);
            let tiles = Tiles::new(span, direction, queries, keys);
            let mut masks = HashMap::new();
            for rows in tiles.rows() {
                for range in tiles.keys(&rows) {
                    let mask = tiles.mask(&rows, &range);
                    let before = masks.entry(tiles.pattern(&rows, &range));
                    prop_assert_eq!(&mask, before.or_insert_with(|| mask.clone()));
                }
            }
        }

        #[test]
        fn long_sequences_have_few_patterns(length in 2000..20_000_usize) {
            for (span, most) in [("full", 6), ("window:256", 6), ("window:256+4", 12), ("block:512", 6)] {
                let tiles = Tiles::new(span.parse().unwrap(), Direction::Causal, length, length);
                let patterns: HashSet<Pattern> = tiles
                    .rows()
                    .flat_map(|rows| tiles.keys(&rows).into_iter().map(move |keys| (rows.clone(), keys)))
                    .map(|(rows, keys)| tiles.pattern(&rows, &keys))
                    .collect();
                prop_assert!(patterns.len() <= most, "{span}: {}", patterns.len());
            }
        }

        #[test]
        fn local_spans_cost_what_is_stated(
            width in 1..700_usize,
            direction in directions(),
            length in 1..5000_usize,
        ) {
            let width = NonZeroUsize::new(width).unwrap();
            for span in [Span::Window { width, sinks: 0 }, Span::Block { width }] {
                let tiles = Tiles::new(span, direction, length, length);
                let (width, cell) = (width.get(), tiles.cell());
                let most = match span {
                    Span::Block { .. } if width % cell == 0 => width,
                    Span::Block { .. } => 2 * width + 3 * cell,
                    _ => width + 3 * cell,
                };
                for rows in tiles.rows() {
                    let pairs: usize = tiles.keys(&rows).iter().map(ExactSizeIterator::len).sum();
                    prop_assert!(pairs <= most, "{} pairs a query of {}", pairs, most);
                }
            }
        }
    }
}
