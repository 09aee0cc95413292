//! Which pairs of a cache stay.

use std::ops::Range;

use burn::prelude::*;

use crate::span::Span;

/// The pairs of a cache that stay; the others go for good.
#[derive(Clone, Debug)]
#[allow(clippy::large_enum_variant)]
pub enum Survivors {
    /// All of them.
    All,
    /// The same places in every sequence: two ranges, one after the other; the first may be empty.
    Ranges([Range<usize>; 2]),
    /// The places `[B, K]` in each sequence, in ascending order.
    Chosen(Tensor<2, Int>),
}

impl Survivors {
    /// Those of `length` pairs that queries after the first `seen` positions may see, in a layer with a span.
    ///
    /// Of a window they are one more than the next query sees, unless positions are places in the cache: a pair
    /// that is not seen would take a place between sinks and window.
    pub(super) fn of_span(span: Span, length: usize, seen: usize, is_placed: bool) -> Self {
        match span {
            Span::Full => Self::All,
            Span::Window { width, sinks } => {
                let width = width.get();
                let newest = if is_placed { (width - 1).max(1) } else { width };
                if length > sinks + newest {
                    Self::Ranges([0..sinks, length - newest..length])
                } else {
                    Self::All
                }
            }
            Span::Block { width } => Self::Ranges([0..0, length - seen % width..length]),
        }
    }
}
