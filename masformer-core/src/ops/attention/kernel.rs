//! Span attention on a CPU, over slices of numbers.
//!
//! The queries of a head are cut into strips, and the keys that a strip sees into tiles. The scores of
//! a tile lie as `[keys, queries]`, so that what the softmax does to each query is done to a vector of
//! queries, and neither keys nor values have to be transposed.

mod backward;
mod band;
mod forward;

use std::{borrow::Cow, f32::consts::LOG2_E, ops::Range};

use pulp::Simd;
use rayon::prelude::*;

use super::{SpanAttentionOptions, draws::Draws};
use crate::{
    ops::simd::{Rows, VECTORS, lanes},
    span::{Direction, Span},
};
use band::{Band, Bounds};

pub(super) use backward::{Gradients, Results, backward};
pub(super) use forward::forward;

/// Queries of a strip: whole panels and whole vectors.
const QUERIES: usize = 96;
/// Keys of a tile: whole panels.
const KEYS: usize = 96;

/// A tensor `[B, H, T, d]` whose rows of `d` numbers are each in one piece.
#[derive(Clone, Copy, Debug)]
pub(super) struct View<'a> {
    pub(super) data: &'a [f32],
    pub(super) start: usize,
    /// Numbers from one sequence, head or position to the next.
    pub(super) strides: [usize; 3],
}

/// What the forward pass is given.
#[derive(Clone, Copy, Debug)]
pub(super) struct Inputs<'a> {
    pub(super) query: View<'a>,
    pub(super) key: View<'a>,
    pub(super) value: View<'a>,
    /// `[B, S]`, added to the scores.
    pub(super) bias: Option<&'a [f32]>,
    pub(super) sizes: Sizes,
    pub(super) options: SpanAttentionOptions,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Sizes {
    pub(super) heads: usize,
    pub(super) queries: usize,
    pub(super) keys: usize,
    pub(super) width: usize,
}

/// The rows of one head of a [`View`].
#[derive(Clone, Copy, Debug)]
struct HeadView<'a> {
    data: &'a [f32],
    start: usize,
    stride: usize,
    width: usize,
}

/// The keys and values of one head, in rows of whole vectors.
struct Head<'a> {
    key: Cow<'a, [f32]>,
    value: Cow<'a, [f32]>,
    bias: Option<&'a [f32]>,
    query: HeadView<'a>,
    draws: Option<Draws>,
    band: Band,
    scale: f32,
    /// `d`, rounded up to whole micro tiles.
    stride: usize,
}

impl<'a> View<'a> {
    fn head(self, index: usize, sizes: Sizes) -> HeadView<'a> {
        let [batch, head, stride] = self.strides;
        let start = index / sizes.heads * batch + index % sizes.heads * head;
        HeadView {
            data: self.data,
            start: self.start + start,
            stride,
            width: sizes.width,
        }
    }
}

impl<'a> HeadView<'a> {
    fn row(&self, row: usize) -> &'a [f32] {
        &self.data[self.start + row * self.stride..][..self.width]
    }

    /// The first `length` rows, each lengthened with zeros to `stride`.
    fn padded(&self, length: usize, stride: usize) -> Cow<'a, [f32]> {
        if self.stride == stride && self.width == stride {
            return Cow::Borrowed(&self.data[self.start..][..length * stride]);
        }
        let mut rows = vec![0.0; length * stride];
        for (row, padded) in rows.chunks_exact_mut(stride).enumerate() {
            padded[..self.width].copy_from_slice(self.row(row));
        }
        Cow::Owned(rows)
    }

    /// Rows times a factor, as columns `[d, QUERIES]` and zeros beside them.
    fn transposed(&self, rows: &Range<usize>, factor: f32, columns: &mut [f32]) {
        const BLOCK: usize = 8;
        for block in (0..QUERIES).step_by(BLOCK) {
            let mut sources: [&[f32]; BLOCK] = [&[]; BLOCK];
            let mut count = 0;
            for (source, row) in sources.iter_mut().zip(rows.clone().skip(block)) {
                *source = self.row(row);
                count += 1;
            }
            if count == BLOCK {
                let sources = sources.map(|source| &source[..self.width]);
                for (place, column) in columns.chunks_exact_mut(QUERIES).enumerate() {
                    let column = &mut column[block..block + BLOCK];
                    for (number, source) in column.iter_mut().zip(sources) {
                        *number = source[place] * factor;
                    }
                }
            } else {
                for (place, column) in columns.chunks_exact_mut(QUERIES).enumerate() {
                    let column = &mut column[block..block + BLOCK];
                    column.fill(0.0);
                    for (number, source) in column.iter_mut().zip(&sources[..count]) {
                        *number = source[place] * factor;
                    }
                }
            }
        }
    }
}

impl<'a> Inputs<'a> {
    fn head(&self, index: usize) -> Head<'a> {
        let Self { sizes, options, .. } = *self;
        let stride = sizes.width.next_multiple_of(VECTORS * lanes());
        let padded = |view: View<'a>| view.head(index, sizes).padded(sizes.keys, stride);
        Head {
            key: padded(self.key),
            value: padded(self.value),
            bias: self
                .bias
                .map(|bias| &bias[index / sizes.heads * sizes.keys..][..sizes.keys]),
            query: self.query.head(index, sizes),
            draws: options.dropout.map(|dropout| Draws::new(dropout, index)),
            band: self.band(),
            scale: options.scale as f32,
            stride,
        }
    }

    fn band(&self) -> Band {
        Band {
            span: self.options.span,
            direction: self.options.direction,
            queries: self.sizes.queries,
            keys: self.sizes.keys,
        }
    }
}

impl Head<'_> {
    /// What is added to a key's binary scores.
    fn bias(&self, key: usize) -> f32 {
        self.bias.map_or(0.0, |bias| bias[key] * LOG2_E)
    }

    fn rows<'a>(&self, padded: &'a [f32], from: usize) -> Rows<'a> {
        Rows {
            data: &padded[from * self.stride..],
            stride: self.stride,
        }
    }
}

/// Number of pairs whose scores are computed for one head of a sequence: those that the span allows, and
/// at most 100 more per query at the edges of strips and panels.
pub(super) fn computed_pairs(span: Span, direction: Direction, length: usize) -> u64 {
    let band = Band {
        span,
        direction,
        queries: length,
        keys: length,
    };
    band.computed_pairs()
}

/// The rows of each head, from a result `[B, T, H, d]`: that is the order in which the layer after attention
/// reads them.
fn rows_of_heads(result: &mut [f32], [length, heads, width]: [usize; 3]) -> Vec<Vec<&mut [f32]>> {
    let sequences = result.par_chunks_mut((length * heads * width).max(1));
    let of_sequences = sequences.flat_map_iter(|sequence| {
        let mut rows: Vec<_> = (0..heads).map(|_| Vec::with_capacity(length)).collect();
        for position in sequence.chunks_exact_mut(heads * width) {
            for (rows, row) in rows.iter_mut().zip(position.chunks_exact_mut(width)) {
                rows.push(row);
            }
        }
        rows
    });
    of_sequences.collect()
}

/// The places of the vectors that hold a range of numbers.
fn vectors<S: Simd>(range: &Range<usize>) -> Range<usize> {
    range.start / S::F32_LANES..range.end.div_ceil(S::F32_LANES)
}

/// Strips of queries.
fn strips(queries: Range<usize>) -> impl Iterator<Item = Range<usize>> {
    let end = queries.end;
    queries
        .step_by(QUERIES)
        .map(move |start| start..(start + QUERIES).min(end))
}
