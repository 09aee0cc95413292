//! Where the pairs that a span allows lie in a strip of queries.

use std::ops::Range;

use super::{KEYS, strips};
use crate::{
    ops::simd::{PANEL, lanes},
    span::{Direction, Span},
};

/// How the queries and keys of a layer meet; queries are the last positions that there are keys for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Band {
    pub(super) span: Span,
    pub(super) direction: Direction,
    pub(super) queries: usize,
    pub(super) keys: usize,
}

/// What is to be computed of a tile of queries and keys; both are counted from its first.
#[derive(Debug, Default)]
pub(super) struct Bounds {
    /// The queries that see each key.
    pub(super) queries: Vec<Range<usize>>,
    /// The queries that see a key of each panel of keys.
    pub(super) key_panels: Vec<Range<usize>>,
    /// The keys that a query of each panel of queries sees.
    pub(super) query_panels: Vec<Range<usize>>,
}

impl Band {
    /// The keys that the queries `rows` see: sinks, which may be apart from the others, and the others.
    pub(super) fn seen(self, rows: &Range<usize>) -> [Range<usize>; 2] {
        let [first, last] = [rows.start, rows.end - 1].map(|row| self.keys(row));
        let others = first[1].start..last[1].end;
        let sinks = if others.start == 0 {
            self.sinks().min(others.end)
        } else {
            last[0].end
        };
        [0..sinks, others.start.max(sinks)..others.end]
    }

    /// The tiles of keys that the queries `rows` meet, in order. None has both sinks and other keys.
    pub(super) fn tiles(self, rows: &Range<usize>) -> impl Iterator<Item = Range<usize>> + use<> {
        self.seen(rows).into_iter().flat_map(|seen| {
            let end = seen.end;
            seen.step_by(KEYS)
                .map(move |start| start..(start + KEYS).min(end))
        })
    }

    /// Number of pairs whose scores are computed: panels of keys by whole vectors of queries.
    pub(super) fn computed_pairs(self) -> u64 {
        let vector = lanes();
        let mut bounds = Bounds::default();
        let mut pairs = 0;
        for rows in strips(0..self.queries) {
            for tile in self.tiles(&rows) {
                bounds.set(self, &rows, &tile);
                for (panel, seen) in bounds.key_panels.iter().enumerate() {
                    let keys = (tile.len() - panel * PANEL).min(PANEL);
                    let vectors = seen.start / vector..seen.end.div_ceil(vector);
                    if !seen.is_empty() {
                        pairs += (keys * vectors.len() * vector) as u64;
                    }
                }
            }
        }
        pairs
    }

    fn keys(self, row: usize) -> [Range<usize>; 2] {
        let position = row + self.keys - self.queries;
        self.span.keys(self.direction, position, self.keys)
    }

    fn sinks(self) -> usize {
        match self.span {
            Span::Window { sinks, .. } => sinks,
            Span::Full | Span::Block { .. } => 0,
        }
    }
}

impl Bounds {
    /// The bounds of one of [`Band::tiles`].
    ///
    /// Going from one key, or one query, of it to the next, what sees it or is seen by it only moves on.
    pub(super) fn set(&mut self, band: Band, rows: &Range<usize>, tile: &Range<usize>) {
        let offset = band.keys - band.queries;
        let queries = |key| {
            let seen = band.span.queries(band.direction, key, band.keys);
            let start = seen.start.saturating_sub(offset);
            within(start..seen.end.saturating_sub(offset), rows)
        };
        self.queries.clear();
        self.queries.extend(tile.clone().map(queries));
        self.key_panels.clear();
        let panels = self.queries.chunks(PANEL);
        self.key_panels
            .extend(panels.map(|panel| joined(&panel[0], &panel[panel.len() - 1])));

        let are_sinks = tile.start < band.sinks();
        let keys = |row| {
            let [sinks, others] = band.keys(row);
            let seen = if are_sinks && !sinks.is_empty() {
                sinks
            } else {
                others
            };
            within(seen, tile)
        };
        self.query_panels.clear();
        let panels = rows.clone().step_by(PANEL);
        self.query_panels
            .extend(panels.map(|row| joined(&keys(row), &keys((row + PANEL).min(rows.end) - 1))));
    }
}

/// What is left of a range inside another, counted from its start.
fn within(range: Range<usize>, outer: &Range<usize>) -> Range<usize> {
    let [start, end] =
        [range.start, range.end].map(|place| place.clamp(outer.start, outer.end) - outer.start);
    start..end
}

fn joined(first: &Range<usize>, last: &Range<usize>) -> Range<usize> {
    first.start..last.end.max(first.start)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::ops::tiles::tests::{directions, spans};

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
            let band = Band { span, direction, queries, keys };
            let mut bounds = Bounds::default();
            for rows in strips(0..queries) {
                let mut found = vec![0_u8; rows.len() * keys];
                for tile in band.tiles(&rows) {
                    bounds.set(band, &rows, &tile);
                    for (key, seen) in bounds.queries.iter().enumerate() {
                        for row in seen.clone() {
                            prop_assert!(bounds.key_panels[key / PANEL].contains(&row));
                            prop_assert!(bounds.query_panels[row / PANEL].contains(&key));
                            found[row * keys + tile.start + key] += 1;
                        }
                    }
                }
                for (place, found) in found.into_iter().enumerate() {
                    let (row, key) = (rows.start + place / keys, place % keys);
                    let sees = span.sees(direction, row + keys - queries, key);
                    prop_assert_eq!(found, u8::from(sees), "{} {}", row, key);
                }
            }
        }

        #[test]
        fn hardly_more_is_computed_than_is_seen(
            span in spans(),
            direction in directions(),
            length in 1..3000_usize,
        ) {
            let band = Band { span, direction, queries: length, keys: length };
            let (seen, computed) = (span.pairs(direction, length), band.computed_pairs());
            let strips = length.div_ceil(super::super::QUERIES) as u64;
            prop_assert!(seen <= computed, "{} of {}", computed, seen);
            let more = (computed - seen) / strips;
            prop_assert!(more <= 100 * 96, "{} more a strip", more);
        }
    }
}
