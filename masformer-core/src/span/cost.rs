//! What attention costs: pairs of a query and a key, and positions in a cache.

use super::{Direction, Span, reach};

impl Span {
    /// Number of pairs of a query and a key that it sees in a sequence of `length`, one head of one
    /// layer; `u64::MAX` if there are more.
    ///
    /// With a band of `r` positions beside the query, each side of it has `r n - r (r + 1) / 2` pairs.
    pub fn pairs(self, direction: Direction, length: usize) -> u64 {
        // No sum below exceeds n^2, which 128 bits always hold.
        let n = length as u128;
        let pairs = match self {
            Self::Full => full(direction, n),
            Self::Block { width } => {
                let width = width.get() as u128;
                n / width * full(direction, width.min(n)) + full(direction, n % width)
            }
            Self::Window { width, sinks } => {
                let (sinks, last) = ((sinks as u128).min(n), n.saturating_sub(1));
                let reach = (reach(width, direction) as u128).min(last);
                let side = reach * n - triangle(reach);
                // Sink k is outside the band of the n - 1 - r - k queries after it, and, where a query
                // sees what comes after it, of the k - r queries before it.
                let far = last - reach;
                let after = triangle(far) - triangle(far - sinks.min(far));
                match direction {
                    Direction::Causal => n + side + after,
                    Direction::Bidirectional => {
                        let before = triangle(sinks.saturating_sub(reach + 1));
                        n + 2 * side + after + before
                    }
                }
            }
        };
        u64::try_from(pairs).unwrap_or(u64::MAX)
    }

    /// Number of positions whose keys and values a decoder has to keep to go on after `length`
    /// tokens. A window also keeps those of its sinks that have left it; a block keeps its own
    /// positions, so this is its most.
    pub fn cached_positions(self, length: usize) -> usize {
        match self {
            Self::Full => length,
            Self::Window { width, sinks } => {
                let window = width.get().min(length);
                window + sinks.min(length - window)
            }
            Self::Block { width } => width.get().min(length),
        }
    }
}

/// 1 + 2 + ... + n
fn triangle(n: u128) -> u128 {
    // One of the two factors is even; halving it first keeps the product in range.
    if n.is_multiple_of(2) {
        n / 2 * (n + 1)
    } else {
        n.div_ceil(2) * n
    }
}

fn full(direction: Direction, n: u128) -> u128 {
    match direction {
        Direction::Causal => triangle(n),
        Direction::Bidirectional => n * n,
    }
}

/// What the attention of a model costs for one sequence; sums over its layers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpanCost {
    /// Pairs of a query and a key, one head a layer; `u64::MAX` if there are more.
    pub pairs: u64,
    /// What [`pairs`](Self::pairs) would be with full attention in every layer.
    pub full_pairs: u64,
    /// Positions whose keys and values a decoder keeps ([`Span::cached_positions`]).
    pub cached_positions: usize,
}

/// The size of the keys and values of one position in one layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyValueSize {
    /// Key and value heads.
    pub heads: usize,
    /// Width of a head.
    pub width: usize,
    /// Bytes of a number: 4 for `f32`, 2 for `bf16`.
    pub bytes: usize,
}

impl KeyValueSize {
    /// Bytes that the keys and values of so many positions take, counted over all layers;
    /// `u64::MAX` if there are more.
    pub fn bytes(self, positions: usize) -> u64 {
        [self.heads, self.width, self.bytes, positions]
            .into_iter()
            .fold(2, |product: u64, factor| {
                product.saturating_mul(factor as u64)
            })
    }
}

impl SpanCost {
    /// The cost of a model whose layers have these spans, for a sequence of `length`.
    pub fn of(spans: &[Span], direction: Direction, length: usize) -> Self {
        let full = Span::Full.pairs(direction, length);
        Self {
            pairs: spans
                .iter()
                .map(|span| span.pairs(direction, length))
                .fold(0, u64::saturating_add),
            full_pairs: full.saturating_mul(spans.len() as u64),
            cached_positions: spans.iter().map(|span| span.cached_positions(length)).sum(),
        }
    }

    /// The pairs as a share of those of full attention, from 0 to 1; 1 where there are none.
    pub fn share(&self) -> f64 {
        match self.full_pairs {
            0 => 1.0,
            full => self.pairs as f64 / full as f64,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroUsize;

    use proptest::prelude::*;

    use super::*;
    use crate::{schedule::SpanSchedule, span::tests::spans};

    const CAUSAL: Direction = Direction::Causal;

    fn span(text: &str) -> Span {
        text.parse().unwrap()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(512))]

        #[test]
        fn pairs_are_those_that_the_definition_counts(span in spans(), length in 0..100_usize) {
            for direction in [CAUSAL, Direction::Bidirectional] {
                let counted = (0..length)
                    .flat_map(|query| (0..length).map(move |key| (query, key)))
                    .filter(|&(query, key)| span.sees(direction, query, key))
                    .count();
                prop_assert_eq!(span.pairs(direction, length), counted as u64, "{:?}", direction);
            }
        }

        #[test]
        fn the_last_query_sees_what_is_cached(span in spans(), length in 1..100_usize) {
            let seen = (0..length).filter(|&key| span.sees(CAUSAL, length - 1, key)).count();
            let cached = span.cached_positions(length);
            if let Span::Block { width } = span {
                // The last block may have just begun.
                prop_assert_eq!(cached, width.get().min(length));
            } else {
                prop_assert_eq!(cached, seen);
            }
        }
    }

    #[test]
    fn formulas_of_the_cost_model() {
        assert_eq!(span("full").pairs(CAUSAL, 8192), 8192 * 8193 / 2);
        let window = 8192 * 256 - 256 * 255 / 2;
        assert_eq!(span("window:256").pairs(CAUSAL, 8192), window);
        let block = 8 * 1024 * 1025 / 2;
        assert_eq!(span("block:1024").pairs(CAUSAL, 8192), block);
        let ragged = 8 * 1000 * 1001 / 2 + 192 * 193 / 2;
        assert_eq!(span("block:1000").pairs(CAUSAL, 8192), ragged);
    }

    #[test]
    fn sizes_beyond_a_number_stay_at_the_largest() {
        let most = NonZeroUsize::MAX;
        for direction in [CAUSAL, Direction::Bidirectional] {
            for span in [
                Span::Full,
                Span::Block { width: most },
                Span::Window {
                    width: most,
                    sinks: usize::MAX,
                },
            ] {
                assert_eq!(span.pairs(direction, usize::MAX), u64::MAX);
                assert_eq!(
                    span.pairs(direction, 1000),
                    Span::Full.pairs(direction, 1000)
                );
            }
        }
    }

    #[test]
    fn shares_of_24_layers_are_those_of_the_published_cost_model() {
        let full_layers = [0, 2, 3, 4, 6, 8, 12];
        for (width, shares) in [
            (512, [0.063, 0.141, 0.180, 0.219, 0.297, 0.375, 0.531]),
            (1024, [0.125, 0.198, 0.234, 0.271, 0.344, 0.417, 0.563]),
            (2048, [0.250, 0.313, 0.344, 0.375, 0.438, 0.500, 0.625]),
        ] {
            for (full, expected) in full_layers.into_iter().zip(shares) {
                let schedule: SpanSchedule =
                    format!("bottom:{full} block:{width}").parse().unwrap();
                let spans = schedule.spans(24).unwrap();
                let share = SpanCost::of(&spans, CAUSAL, 8192).share();
                assert_eq!(
                    format!("{share:.3}"),
                    format!("{expected:.3}"),
                    "{schedule}"
                );
            }
        }
    }

    #[test]
    fn caches_of_local_layers_do_not_grow() {
        for (text, length, positions) in [
            ("full", 8192, 8192),
            ("window:256", 8192, 256),
            ("window:256", 100, 100),
            ("window:256+4", 8192, 260),
            ("window:256+4", 258, 258),
            ("block:1024", 8192, 1024),
            ("block:1024", 100, 100),
        ] {
            assert_eq!(span(text).cached_positions(length), positions, "{text}");
        }
        let spans = [span("full"), span("block:1024")];
        let cost = SpanCost::of(&spans, CAUSAL, 8192);
        assert_eq!(cost.cached_positions, 9216);
        let size = KeyValueSize {
            heads: 12,
            width: 64,
            bytes: 2,
        };
        assert_eq!(size.bytes(cost.cached_positions), 9216 * 3072);
        assert_eq!(size.bytes(usize::MAX), u64::MAX);
    }

    #[test]
    fn nothing_costs_what_full_attention_does() {
        assert!((SpanCost::of(&[], CAUSAL, 8).share() - 1.0).abs() < f64::EPSILON);
        assert!((SpanCost::of(&[Span::Full], CAUSAL, 8).share() - 1.0).abs() < f64::EPSILON);
    }
}
