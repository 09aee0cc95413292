//! Products of some rows with a large matrix that has to come from memory.
//!
//! With few rows, the time goes into fetching the matrix and into laying its columns side by side. Here
//! the first panel of rows does both on its way, while each panel asks for columns that come next; the
//! columns of a matrix that has been laid out before are read as they are.

mod layer;
mod panels;
mod tensors;

use std::{array, ops::Range};

use bytemuck::{cast_slice, cast_slice_mut};
use macerator::{AutoArch, Scalar, Simd, Vector, WithSimd};

pub(super) use layer::{FEW, FeedForward};
pub(super) use panels::Panels;
pub(super) use tensors::{LayerTensors, streams};

use super::simd::Rows;
use panels::{Packed, Packing, Source, pack, vectors};

/// Terms that follow one another without a branch, after requests for memory.
const STEP: usize = 8;
/// Rows of the next columns that are asked for in such a step: two panels of rows are enough for all.
const ASK: usize = 4;
/// A number that the columns of a panel divide, for all instructions.
const PANELS: usize = 48;

/// The right side of a product, `[k, n]`.
trait Right<'a>: Copy {
    /// Whether its columns lie side by side.
    const IS_PACKED: bool;

    /// The matrix from a row and column on, where a panel of `width` columns begins; nothing beyond its
    /// end.
    fn strip(self, row: usize, column: usize, width: usize) -> Rows<'a>;
}

/// Where the columns `columns` of a product `A B` are summed up, with `A` `[m, k]` and `B` `[k, n]`.
///
/// A number of the result is the same whatever else is computed beside it, and however `B` is laid out.
struct Streamed<'a, R> {
    /// `A`, cut between columns: how many there are, and their rows.
    left: &'a [(usize, Rows<'a>)],
    rows: usize,
    right: R,
    /// Of a matrix in panels they begin with one.
    columns: Range<usize>,
}

/// The columns of a product, in rows of whole vectors.
struct Columns {
    data: Vec<f32>,
    stride: usize,
}

impl Columns {
    /// The columns as the left side of another product.
    fn rows(&self) -> Rows<'_> {
        Rows {
            data: &self.data,
            stride: self.stride,
        }
    }
}

impl<'a, R: Right<'a>> WithSimd for Streamed<'a, R> {
    type Output = Columns;

    #[inline(always)]
    fn with_simd<S: Simd>(self) -> Columns {
        // Sums take three quarters of the registers: AVX-512 has thirty-two, and the others sixteen. A
        // block's panel of columns stays near: 36 and 18 KiB.
        if vectors::<S>() == 3 {
            self.blocks::<S, 8, 3>(192)
        } else {
            self.blocks::<S, 6, 2>(288)
        }
    }
}

impl<'a, R: Right<'a>> Streamed<'a, R> {
    /// The columns of the product.
    fn compute(self) -> Columns {
        AutoArch::new().dispatch(self)
    }

    #[inline(always)]
    fn blocks<S: Simd, const M: usize, const V: usize>(self, block: usize) -> Columns {
        let width = V * S::lanes32();
        let stride = self.columns.len().next_multiple_of(width);
        let mut result = vec![0.0; self.rows * stride];
        let mut buffer = vec![0.0_f32.splat::<S>(); block * V];
        let panels = self.rows.div_ceil(M);
        let mut first = 0;
        for &(inner, left) in self.left {
            for start in (0..inner).step_by(block) {
                let length = block.min(inner - start);
                let (top, below) = (first + start, first + start + length);
                for (place, column) in self.columns.clone().step_by(width).enumerate() {
                    let after = column + width;
                    let strip = self.right.strip(top, column, width);
                    let next = if after < self.columns.end {
                        self.right.strip(top, after, width)
                    } else {
                        self.right.strip(below, self.columns.start, width)
                    };
                    let buffer = cast_slice_mut::<_, f32>(&mut buffer[..length * V]);
                    let is_part = after > self.columns.end;
                    if is_part && !R::IS_PACKED {
                        pack(strip, self.columns.end - column, buffer, width);
                    }
                    let mut row = 0;
                    for index in 0..panels {
                        // Panels of about the same height, none of a single row beside full ones.
                        let height = (self.rows - row).div_ceil(panels - index);
                        let mut tile = Tile {
                            left: Rows {
                                data: &left.data[row * left.stride + start..],
                                stride: left.stride,
                            },
                            next,
                            result: &mut result[row * stride + place * width..],
                            stride,
                            length,
                            ahead: ahead(length, index, panels),
                        };
                        if R::IS_PACKED {
                            let panel = strip.data;
                            tile.compute_rows::<S, V>(height, Packed { panel });
                        } else if index == 0 && !is_part {
                            tile.compute_rows::<S, V>(
                                height,
                                Packing {
                                    rows: strip,
                                    buffer,
                                },
                            );
                        } else {
                            tile.compute_rows::<S, V>(height, Packed { panel: buffer });
                        }
                        row += height;
                    }
                }
            }
            first += inner;
        }
        Columns {
            data: result,
            stride,
        }
    }
}

impl<'a> Right<'a> for Rows<'a> {
    const IS_PACKED: bool = false;

    #[inline(always)]
    fn strip(self, row: usize, column: usize, _width: usize) -> Self {
        let start = row * self.stride + column;
        Self {
            data: self.data.get(start..).unwrap_or_default(),
            ..self
        }
    }
}

/// The rows of the next columns that one of the panels asks for.
fn ahead(length: usize, index: usize, panels: usize) -> Range<usize> {
    let share = length.div_ceil(panels);
    (index * share).min(length)..((index + 1) * share).min(length)
}

/// Rows of a panel times `V` vectors of columns, over one block.
struct Tile<'a> {
    left: Rows<'a>,
    /// The right matrix from the columns that come after these.
    next: Rows<'a>,
    result: &'a mut [f32],
    stride: usize,
    length: usize,
    ahead: Range<usize>,
}

impl Tile<'_> {
    #[inline(always)]
    fn compute_rows<S: Simd, const V: usize>(&mut self, height: usize, from: impl Source) {
        match height {
            1 => self.compute::<S, 1, V>(from),
            2 => self.compute::<S, 2, V>(from),
            3 => self.compute::<S, 3, V>(from),
            4 => self.compute::<S, 4, V>(from),
            5 => self.compute::<S, 5, V>(from),
            6 => self.compute::<S, 6, V>(from),
            7 => self.compute::<S, 7, V>(from),
            _ => self.compute::<S, 8, V>(from),
        }
    }

    #[inline(always)]
    fn compute<S: Simd, const M: usize, const V: usize>(&mut self, from: impl Source) {
        let sums = self.sum::<S, M, V>(from);
        for (row, sums) in self.result.chunks_mut(self.stride).zip(sums) {
            for (result, sum) in row.chunks_exact_mut(S::lanes32()).zip(sums) {
                for (result, sum) in result.iter_mut().zip(cast_slice::<_, f32>(&[sum])) {
                    *result += sum;
                }
            }
        }
    }

    #[inline(always)]
    fn sum<S: Simd, const M: usize, const V: usize>(
        &self,
        from: impl Source,
    ) -> [[Vector<S, f32>; V]; M] {
        let (left, length) = (self.left, self.length);
        let left: [&[f32]; M] = array::from_fn(|row| &left.data[row * left.stride..][..length]);
        let mut sums = [[0.0_f32.splat::<S>(); V]; M];
        let mut from = from.first::<S, V>(length);
        let mut ahead = self.ahead.clone();
        let mut place = 0;
        while place + STEP <= length {
            for _ in 0..ASK {
                if let Some(row) = ahead.next() {
                    self.ask::<S, V>(row);
                }
            }
            for step in 0..STEP {
                add(&left, place + step, from.vectors(place + step), &mut sums);
            }
            place += STEP;
        }
        for place in place..length {
            add(&left, place, from.vectors(place), &mut sums);
        }
        sums
    }

    /// Asks for a row of the columns that come next.
    #[inline(always)]
    fn ask<S: Simd, const V: usize>(&self, row: usize) {
        for vector in 0..V {
            let place = row * self.next.stride + vector * S::lanes32();
            fetch(self.next.data, place);
        }
    }
}

/// Adds one term to all sums, so that no sum waits for itself.
#[inline(always)]
fn add<S: Simd, const M: usize, const V: usize>(
    left: &[&[f32]; M],
    place: usize,
    right: [Vector<S, f32>; V],
    sums: &mut [[Vector<S, f32>; V]; M],
) {
    for (left, sums) in left.iter().zip(sums) {
        let left = left[place].splat::<S>();
        for (sum, right) in sums.iter_mut().zip(right) {
            *sum = left.mul_add(right, *sum);
        }
    }
}

/// Asks for a number that will be needed soon.
#[inline(always)]
#[cfg(target_arch = "x86_64")]
fn fetch(numbers: &[f32], index: usize) {
    if let Some(number) = numbers.get(index) {
        safe_arch::prefetch_t1(number);
    }
}

/// Processors of other kinds look ahead by themselves.
#[inline(always)]
#[cfg(not(target_arch = "x86_64"))]
fn fetch(_: &[f32], _: usize) {}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::ops::agreement::whole_numbers;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn columns_are_those_of_the_product(
            rows in 1..30_usize,
            parts in prop::collection::vec(1..700_usize, 1..3),
            columns in 1..150_usize,
            before in 0..50_usize,
            after in 0..50_usize,
        ) {
            let inner: usize = parts.iter().sum();
            let stride = before + columns + after;
            let right = whole_numbers(inner * stride, 3);
            let lefts: Vec<_> = parts.iter().map(|part| whole_numbers(rows * part, *part)).collect();
            let left: Vec<_> = parts
                .iter()
                .zip(&lefts)
                .map(|(&part, data)| (part, Rows { data, stride: part }))
                .collect();
            let found = Streamed {
                left: &left,
                rows,
                right: Rows { data: &right, stride },
                columns: before..before + columns,
            };
            let found = found.compute();
            let wanted = Rows { data: &right[before..], stride };
            let laid_out = Streamed {
                left: &left,
                rows,
                right: &Panels::new(wanted, [inner, columns]),
                columns: 0..columns,
            };
            prop_assert_eq!(&laid_out.compute().data, &found.data);
            for row in 0..rows {
                let whole: Vec<f32> = parts
                    .iter()
                    .zip(&lefts)
                    .flat_map(|(part, left)| &left[row * part..][..*part])
                    .copied()
                    .collect();
                for column in 0..columns {
                    let terms = whole.iter().enumerate();
                    let sum: f32 = terms
                        .map(|(place, x)| x * right[place * stride + before + column])
                        .sum();
                    let difference = (found.data[row * found.stride + column] - sum).abs();
                    prop_assert!(difference < 1e-3, "{} {}", row, column);
                }
            }
        }
    }
}
