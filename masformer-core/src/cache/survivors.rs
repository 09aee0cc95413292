//! Which pairs of a cache stay.

use std::ops::Range;

use crate::span::Span;

/// The pairs of a cache that stay; the others go for good.
#[derive(Clone, Debug)]
pub enum Survivors {
    /// All of them.
    All,
    /// The same places in every sequence: two ranges, one after the other; the first may be empty.
    Ranges([Range<usize>; 2]),
}

impl Survivors {
    /// Those of `length` pairs that queries after the first `seen` positions may see, in a layer with a span.
    pub(super) fn of_span(span: Span, length: usize, seen: usize) -> Self {
        match span {
            Span::Window { width, sinks } if length > width.get() + sinks => {
                Self::Ranges([0..sinks, length - width.get()..length])
            }
            Span::Full | Span::Window { .. } => Self::All,
            Span::Block { width } => Self::Ranges([0..0, length - seen % width..length]),
        }
    }
}
