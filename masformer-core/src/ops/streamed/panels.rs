//! Columns side by side, as the tiles of a product read them.

use std::{array, fmt};

use bytemuck::{cast_slice, cast_slice_mut};
use macerator::{AutoArch, Scalar, Simd, Vector, WithSimd};
use rayon::prelude::*;

use super::Right;
use crate::ops::simd::Rows;

/// Numbers of a line of the cache, to which vectors are best aligned.
const LINE: usize = 16;
/// Numbers of a vector of AVX-512.
const WIDEST: usize = 16;

/// A matrix `[k, n]` in panels of as many columns as a tile has, one after the other. Zeros are beside the
/// columns of the last.
pub(in crate::ops) struct Panels {
    data: Vec<f32>,
    /// Where the first panel begins: at a line of the cache.
    first: usize,
    /// Numbers of a panel.
    size: usize,
}

impl fmt::Debug for Panels {
    /// Without the numbers, of which there are millions.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let numbers = self.data.len();
        f.debug_struct("Panels")
            .field("numbers", &numbers)
            .finish_non_exhaustive()
    }
}

impl Panels {
    /// Lays out the first `columns` of a matrix.
    pub(in crate::ops) fn new(matrix: Rows, [rows, columns]: [usize; 2]) -> Self {
        let width = AutoArch::new().dispatch(Width);
        let size = rows * width;
        let all = columns.div_ceil(width) * size;
        let mut data = vec![0.0_f32; all + LINE];
        let first = data.as_ptr().align_offset(LINE * size_of::<f32>()) % LINE;
        let panels = data[first..first + all].par_chunks_exact_mut(size.max(1));
        panels.enumerate().for_each(|(index, panel)| {
            let column = index * width;
            let from = Rows {
                data: &matrix.data[column..],
                ..matrix
            };
            pack(from, width.min(columns - column), panel, width);
        });
        Self { data, first, size }
    }
}

impl<'a> Right<'a> for &'a Panels {
    const IS_PACKED: bool = true;

    /// The width comes from the caller, where the compiler knows it.
    #[inline(always)]
    fn strip(self, row: usize, column: usize, width: usize) -> Rows<'a> {
        let start = self.first + column / width * self.size + row * width;
        Rows {
            data: self.data.get(start..).unwrap_or_default(),
            stride: width,
        }
    }
}

/// The columns of a tile.
struct Width;

impl WithSimd for Width {
    type Output = usize;

    #[inline(always)]
    fn with_simd<S: Simd>(self) -> usize {
        vectors::<S>() * S::lanes32()
    }
}

/// The vectors of a tile's columns. AVX-512 has thirty-two registers, and the others sixteen.
pub(super) fn vectors<S: Simd>() -> usize {
    if S::lanes32() == WIDEST { 3 } else { 2 }
}

/// Lays `count` columns side by side, and zeros beside them.
pub(super) fn pack(columns: Rows, count: usize, panel: &mut [f32], width: usize) {
    for (row, packed) in panel.chunks_exact_mut(width).enumerate() {
        let (numbers, zeros) = packed.split_at_mut(count);
        numbers.copy_from_slice(&columns.data[row * columns.stride..][..count]);
        zeros.fill(0.0);
    }
}

/// Where a tile has its columns from.
pub(super) trait Source {
    /// The first rows alone: then the compiler sees that all of them are there.
    fn first<S: Simd, const V: usize>(self, rows: usize) -> Self;

    /// The columns of a row.
    fn vectors<S: Simd, const V: usize>(&mut self, row: usize) -> [Vector<S, f32>; V];
}

/// Columns that lie side by side.
pub(super) struct Packed<'a> {
    pub(super) panel: &'a [f32],
}

/// Columns that are laid side by side on the way.
pub(super) struct Packing<'a> {
    pub(super) rows: Rows<'a>,
    pub(super) buffer: &'a mut [f32],
}

impl Source for Packed<'_> {
    #[inline(always)]
    fn first<S: Simd, const V: usize>(self, rows: usize) -> Self {
        Self {
            panel: &self.panel[..rows * V * S::lanes32()],
        }
    }

    #[inline(always)]
    fn vectors<S: Simd, const V: usize>(&mut self, row: usize) -> [Vector<S, f32>; V] {
        let width = V * S::lanes32();
        load::<S, V>(&self.panel[row * width..][..width])
    }
}

impl Source for Packing<'_> {
    #[inline(always)]
    fn first<S: Simd, const V: usize>(self, rows: usize) -> Self {
        Self {
            buffer: &mut self.buffer[..rows * V * S::lanes32()],
            ..self
        }
    }

    #[inline(always)]
    fn vectors<S: Simd, const V: usize>(&mut self, row: usize) -> [Vector<S, f32>; V] {
        let width = V * S::lanes32();
        let vectors = load::<S, V>(&self.rows.data[row * self.rows.stride..][..width]);
        let buffer = self.buffer[row * width..][..width].chunks_exact_mut(S::lanes32());
        for (buffer, vector) in buffer.zip(vectors) {
            buffer.copy_from_slice(cast_slice(&[vector]));
        }
        vectors
    }
}

/// The vectors are loaded one by one: together they would go through memory first.
#[inline(always)]
fn load<S: Simd, const V: usize>(numbers: &[f32]) -> [Vector<S, f32>; V] {
    array::from_fn(|index| {
        let mut vector = [0.0_f32.splat::<S>()];
        cast_slice_mut(&mut vector)
            .copy_from_slice(&numbers[index * S::lanes32()..][..S::lanes32()]);
        vector[0]
    })
}
