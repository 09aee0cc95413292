//! Linear and feed-forward layers made of streamed products, a task for some of the columns.

use std::ops::Range;

use rayon::prelude::*;

use super::{Columns, PANELS, Panels, Streamed};
use crate::{
    activation::Activation,
    ops::{
        math::{Mac, gelu, gelu_tanh, quick_gelu, relu, silu, vectorize},
        primitive::ranges,
        simd::Rows,
    },
};

/// Columns of a task: whole panels for all instructions.
const COLUMNS: usize = 4 * PANELS;
/// Most rows at a time: a block of their numbers and a task's results fit into the cache of a core.
pub(in crate::ops) const FEW: usize = 128;
/// Fewest multiply-adds that are worth waking a core.
const PARALLEL: usize = 1 << 20;
/// Fewest rows of a task that puts columns together.
const ROWS: usize = 16;

/// A weight `[k, n]` as it is, or laid out.
#[derive(Clone, Copy)]
pub(super) enum Weight<'a> {
    Rows(Rows<'a>),
    Panels(&'a Panels),
}

/// A weight and its bias `[n]`.
#[derive(Clone, Copy)]
pub(in crate::ops) struct Layer<'a> {
    pub(super) weight: Weight<'a>,
    /// Rows `k` of the weight.
    pub(super) inner: usize,
    pub(in crate::ops) bias: &'a [f32],
}

/// Two layers, and the function between them.
#[derive(Clone, Copy)]
pub(in crate::ops) struct FeedForward<'a> {
    pub(in crate::ops) inner: Layer<'a>,
    pub(in crate::ops) outer: Layer<'a>,
    pub(in crate::ops) activation: Activation,
}

/// A matrix in groups of columns.
pub(in crate::ops) struct Grouped {
    parts: Vec<Columns>,
    width: usize,
}

impl Weight<'_> {
    /// Some columns of the product of the first `rows` of `left` with the weight.
    fn streamed(self, left: &[(usize, Rows)], rows: usize, columns: Range<usize>) -> Columns {
        match self {
            Self::Rows(right) => Streamed {
                left,
                rows,
                right,
                columns,
            }
            .compute(),
            Self::Panels(right) => Streamed {
                left,
                rows,
                right,
                columns,
            }
            .compute(),
        }
    }
}

impl Layer<'_> {
    /// The product of the first `rows` of `left` with the weight, in which `finish` changes each group of
    /// columns; the bias is not added.
    fn product(
        &self,
        left: &[(usize, Rows)],
        rows: usize,
        parallel: bool,
        finish: impl Fn(&mut Columns, &Range<usize>) + Sync + Send,
    ) -> Grouped {
        let width = self.bias.len();
        let task = |columns: Range<usize>| {
            let mut part = self.weight.streamed(left, rows, columns.clone());
            finish(&mut part, &columns);
            part
        };
        let tasks = ranges(width, COLUMNS);
        let parts = if parallel {
            let tasks: Vec<_> = tasks.collect();
            tasks.into_par_iter().map(task).collect()
        } else {
            tasks.map(task).collect()
        };
        Grouped { parts, width }
    }

    /// `x W + b` of the rows `input` into `output`.
    pub(in crate::ops) fn apply(&self, input: &[f32], output: &mut [f32]) {
        let (inner, width) = (self.inner, self.bias.len());
        share(
            input,
            output,
            [inner, width],
            inner * width,
            |left, parallel, output| {
                let rows = output.len() / width;
                let product = self.product(&[(inner, left)], rows, parallel, |_, _| {});
                product.add_bias(self.bias, parallel, output);
            },
        );
    }
}

impl FeedForward<'_> {
    /// Whether the work on so many rows is worth more than one core.
    pub(in crate::ops) fn is_parallel(&self, rows: usize) -> bool {
        rows * self.inner.bias.len() * self.outer.bias.len() >= PARALLEL
    }

    /// `activation(x W1 + b1) W2 + b2` of the rows `input` into `output`.
    pub(in crate::ops) fn apply(&self, input: &[f32], output: &mut [f32]) {
        let width = self.outer.bias.len();
        let work = width * self.inner.bias.len();
        share(
            input,
            output,
            [width, width],
            work,
            |left, parallel, output| {
                let rows = output.len() / width;
                let product = self.product(left, rows, parallel);
                product.add_bias(self.outer.bias, parallel, output);
            },
        );
    }

    /// `activation(x W1 + b1) W2` of the first `rows` of `left`.
    pub(in crate::ops) fn product(&self, left: Rows, rows: usize, parallel: bool) -> Grouped {
        let left = [(left.stride, left)];
        let activated = self.inner.product(&left, rows, parallel, |part, columns| {
            let bias = &self.inner.bias[columns.clone()];
            match self.activation {
                Activation::Gelu => activate(part, bias, gelu),
                Activation::GeluTanh => activate(part, bias, gelu_tanh),
                Activation::Relu => activate(part, bias, relu),
                Activation::Silu => activate(part, bias, silu),
                Activation::QuickGelu => activate(part, bias, quick_gelu),
            }
        });
        let left: Vec<_> = ranges(activated.width, COLUMNS)
            .zip(&activated.parts)
            .map(|(columns, part)| (columns.len(), part.rows()))
            .collect();
        self.outer.product(&left, rows, parallel, |_, _| {})
    }
}

impl Grouped {
    /// Calls `visit` with each group of a row's columns.
    #[inline(always)]
    pub(in crate::ops) fn each(&self, row: usize, mut visit: impl FnMut(Range<usize>, &[f32])) {
        for (columns, part) in ranges(self.width, COLUMNS).zip(&self.parts) {
            let numbers = &part.data[row * part.stride..][..columns.len()];
            visit(columns, numbers);
        }
    }

    /// Writes the rows, with a bias, into `output`.
    fn add_bias(&self, bias: &[f32], parallel: bool, output: &mut [f32]) {
        let add = |(row, target): (usize, &mut [f32])| {
            self.each(row, |columns, part| {
                let bias = &bias[columns.clone()];
                for (sum, (product, bias)) in target[columns].iter_mut().zip(part.iter().zip(bias))
                {
                    *sum = product + bias;
                }
            });
        };
        if parallel {
            let rows = output.par_chunks_exact_mut(self.width).enumerate();
            rows.with_min_len(ROWS).for_each(add);
        } else {
            output
                .chunks_exact_mut(self.width)
                .enumerate()
                .for_each(add);
        }
    }
}

/// Applies a layer to rows: to all at once with the columns shared among cores, or to some at a time with
/// the rows shared. `widths` are those of input and output, and `work` the multiply-adds of a row.
fn share(
    input: &[f32],
    output: &mut [f32],
    [inner, outer]: [usize; 2],
    work: usize,
    apply: impl Fn(Rows, bool, &mut [f32]) + Sync,
) {
    let rows = output.len() / outer.max(1);
    let is_parallel = rows * work >= PARALLEL;
    let apply = |(input, output): (&[f32], &mut [f32]), parallel| {
        let left = Rows {
            data: input,
            stride: inner,
        };
        apply(left, parallel, output);
    };
    // Too few columns to share them, or too many rows.
    if is_parallel && (outer < 2 * COLUMNS || rows > 2 * FEW) {
        let inputs = input.par_chunks(FEW * inner);
        let parts = inputs.zip(output.par_chunks_mut(FEW * outer));
        parts.for_each(|part| apply(part, false));
    } else {
        in_pool(is_parallel, || {
            let parts = input
                .chunks(FEW * inner)
                .zip(output.chunks_mut(FEW * outer));
            parts.for_each(|part| apply(part, is_parallel));
        });
    }
}

/// Does some work; what works in parallel enters the thread pool once for all of it.
fn in_pool(parallel: bool, work: impl FnOnce() + Send) {
    if parallel {
        rayon::scope(|_| work());
    } else {
        work();
    }
}

fn activate(part: &mut Columns, bias: &[f32], function: impl Fn(Mac, f32) -> f32 + Copy) {
    vectorize(
        #[inline(always)]
        |mac| {
            for row in part.data.chunks_exact_mut(part.stride) {
                for (x, bias) in row.iter_mut().zip(bias) {
                    *x = function(mac, *x + bias);
                }
            }
        },
    );
}
