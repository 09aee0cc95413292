//! Which positions a layer attends to.

mod cost;

use std::{fmt, num::NonZeroUsize, ops::Range, str::FromStr};

use serde::{Deserialize, Serialize};

pub use cost::{KeyValueSize, SpanCost};

/// Whether a query may see what comes after it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Direction {
    /// Both sides, as in an encoder.
    #[default]
    Bidirectional,
    /// Itself and what comes before, as in a decoder.
    Causal,
}

/// The positions that a query may attend to.
///
/// Padding and span combine by AND: a key is seen if the span allows it and it is not padding.
///
/// The text form is `full`, `window:W`, `window:W+S` with `S` sinks, or `block:W`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Span {
    /// Every position.
    #[default]
    Full,
    /// The nearest positions. Query `i` sees key `j` where `i - W < j <= i` in a decoder (the query
    /// itself and `W - 1` before it), and `|i - j| <= W / 2` in an encoder (Longformer, arXiv
    /// 2004.05150, section 3.1).
    Window {
        /// `W`.
        width: NonZeroUsize,
        /// The first positions of the sequence, which every query that may look back sees
        /// (attention sinks, arXiv 2309.17453).
        sinks: usize,
    },
    /// The positions of the query's own block; blocks are `W` long and start at multiples of `W`.
    Block {
        /// `W`.
        width: NonZeroUsize,
    },
}

/// A span that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "unknown span `{0}`: expected `full`, `window:W`, `window:W+SINKS` or `block:W`, W at least 1"
)]
pub struct SpanError(String);

impl Span {
    /// Whether query `i` may see key `j`, both counted from 0: the definition that every fast path
    /// follows.
    pub fn sees(self, direction: Direction, query: usize, key: usize) -> bool {
        let causal = direction == Direction::Causal;
        if causal && key > query {
            return false;
        }
        match self {
            Self::Full => true,
            Self::Window { width, sinks } => {
                key < sinks || query.abs_diff(key) <= reach(width, direction)
            }
            Self::Block { width } => query / width == key / width,
        }
    }

    /// Whether what a query sees depends on distances alone, so that padding before a sequence leaves
    /// it as it is. Blocks and sinks are counted from the first position.
    pub fn is_relative(self) -> bool {
        matches!(self, Self::Full | Self::Window { sinks: 0, .. })
    }

    /// The keys that query `i` sees in a sequence of `length`, as two ranges in their order: sinks
    /// that are apart from the others (often none), and the others.
    pub fn keys(self, direction: Direction, query: usize, length: usize) -> [Range<usize>; 2] {
        let end = match direction {
            Direction::Causal => (query + 1).min(length),
            Direction::Bidirectional => length,
        };
        match self {
            Self::Full => [0..0, 0..end],
            Self::Window { width, sinks } => {
                let (sinks, reach) = (sinks.min(end), reach(width, direction));
                let start = query.saturating_sub(reach);
                let band = start..query.saturating_add(reach).saturating_add(1).min(end);
                if sinks < start {
                    [0..sinks, band]
                } else {
                    [0..0, 0..band.end.max(sinks)]
                }
            }
            Self::Block { width } => {
                let start = query / width * width.get();
                [0..0, start..start.saturating_add(width.get()).min(end)]
            }
        }
    }

    /// The queries that see key `j` in a sequence of `length`: the other side of [`Self::keys`].
    pub fn queries(self, direction: Direction, key: usize, length: usize) -> Range<usize> {
        let first = match direction {
            Direction::Causal => key,
            Direction::Bidirectional => 0,
        };
        let (start, end) = match self {
            Self::Full => (0, length),
            Self::Window { sinks, .. } if key < sinks => (0, length),
            Self::Window { width, .. } => {
                let reach = reach(width, direction);
                let end = key.saturating_add(reach).saturating_add(1);
                (key.saturating_sub(reach), end)
            }
            Self::Block { width } => {
                let start = key / width * width.get();
                (start, start.saturating_add(width.get()))
            }
        };
        start.max(first)..end.min(length)
    }
}

/// How far a window goes to either side that a query may see.
fn reach(width: NonZeroUsize, direction: Direction) -> usize {
    match direction {
        Direction::Causal => width.get() - 1,
        Direction::Bidirectional => width.get() / 2,
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full => f.write_str("full"),
            Self::Window { width, sinks: 0 } => write!(f, "window:{width}"),
            Self::Window { width, sinks } => write!(f, "window:{width}+{sinks}"),
            Self::Block { width } => write!(f, "block:{width}"),
        }
    }
}

impl FromStr for Span {
    type Err = SpanError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let text = text.trim();
        let parsed = match text.split_once(':') {
            None => (text == "full").then_some(Self::Full),
            Some(("block", width)) => width.parse().ok().map(|width| Self::Block { width }),
            Some(("window", sizes)) => {
                let (width, sinks) = sizes.split_once('+').unwrap_or((sizes, "0"));
                width
                    .parse()
                    .ok()
                    .zip(sinks.parse().ok())
                    .map(|(width, sinks)| Self::Window { width, sinks })
            }
            Some(_) => None,
        };
        parsed.ok_or_else(|| SpanError(text.to_owned()))
    }
}

impl TryFrom<String> for Span {
    type Error = SpanError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Span> for String {
    fn from(span: Span) -> Self {
        span.to_string()
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;

    fn span(text: &str) -> Span {
        text.parse().unwrap()
    }

    #[test]
    fn text_form_round_trips() {
        for text in ["full", "window:256", "window:256+4", "block:1024"] {
            assert_eq!(span(text).to_string(), text);
        }
        assert_eq!(span(" window:3+0 "), span("window:3"));
    }

    #[test]
    fn unknown_text_names_itself_and_the_choices() {
        for text in [
            "diagonal",
            "window",
            "window:0",
            "window:3+",
            "block:-1",
            "full:3",
        ] {
            let error = text.parse::<Span>().unwrap_err().to_string();
            let expected = format!(
                "unknown span `{text}`: expected `full`, `window:W`, `window:W+SINKS` or `block:W`, \
                 W at least 1"
            );
            assert_eq!(error, expected);
        }
    }

    /// The keys below 8 that query 4 sees.
    fn seen(text: &str, direction: Direction) -> Vec<usize> {
        let span = span(text);
        (0..8).filter(|&key| span.sees(direction, 4, key)).collect()
    }

    #[test]
    fn decoders_see_themselves_and_what_is_before() {
        let causal = Direction::Causal;
        assert_eq!(seen("full", causal), [0, 1, 2, 3, 4]);
        assert_eq!(seen("window:1", causal), [4]);
        assert_eq!(seen("window:3", causal), [2, 3, 4]);
        assert_eq!(seen("window:2+1", causal), [0, 3, 4]);
        assert_eq!(seen("block:3", causal), [3, 4]);
    }

    #[test]
    fn encoders_see_half_a_window_on_either_side() {
        let both = Direction::Bidirectional;
        assert_eq!(seen("full", both), [0, 1, 2, 3, 4, 5, 6, 7]);
        assert_eq!(seen("window:1", both), [4]);
        assert_eq!(seen("window:4", both), [2, 3, 4, 5, 6]);
        assert_eq!(seen("window:5+1", both), [0, 2, 3, 4, 5, 6]);
        assert_eq!(seen("block:3", both), [3, 4, 5]);
    }

    /// Spans with sizes below 80.
    pub(crate) fn spans() -> impl Strategy<Value = Span> {
        let width = (1..80_usize).prop_map(|width| NonZeroUsize::new(width).unwrap());
        prop_oneof![
            Just(Span::Full),
            (width.clone(), 0..80_usize).prop_map(|(width, sinks)| Span::Window { width, sinks }),
            width.prop_map(|width| Span::Block { width }),
        ]
    }

    proptest! {
        #[test]
        fn keys_are_those_that_are_seen(span in spans(), query in 0..100_usize, more in 1..50_usize) {
            let length = query + more;
            for direction in [Direction::Causal, Direction::Bidirectional] {
                let [sinks, others] = span.keys(direction, query, length);
                prop_assert!(sinks.is_empty() || sinks.end < others.start);
                let keys: Vec<usize> = sinks.chain(others).collect();
                let seen: Vec<usize> =
                    (0..length).filter(|&key| span.sees(direction, query, key)).collect();
                prop_assert_eq!(keys, seen);
            }
        }

        #[test]
        fn relative_spans_stay_behind_padding(span in spans(), query in 0..100_usize, more in 0..9_usize) {
            let stays = (0..=query).all(|key| {
                let sees = |more| span.sees(Direction::Causal, query + more, key + more);
                sees(0) == sees(more)
            });
            prop_assert!(stays || !span.is_relative());
        }

        #[test]
        fn queries_are_those_that_see(span in spans(), key in 0..100_usize, more in 1..50_usize) {
            let length = key + more;
            for direction in [Direction::Causal, Direction::Bidirectional] {
                let queries: Vec<usize> = span.queries(direction, key, length).collect();
                let seeing: Vec<usize> =
                    (0..length).filter(|&query| span.sees(direction, query, key)).collect();
                prop_assert_eq!(queries, seeing);
            }
        }
    }
}
