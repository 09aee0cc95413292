//! Products of some rows with a large matrix that has to come from memory.
//!
//! With few rows, the time goes into fetching the matrix and into laying its columns side by side. Here
//! the first panel of rows does both on its way, while each panel asks for columns that come next.

mod layer;

use std::{array, ops::Range};

use bytemuck::{cast_slice, cast_slice_mut};
use macerator::{AutoArch, Scalar, Simd, Vector, WithSimd};

pub(super) use layer::{FEW, FEWEST, FeedForward, Layer};

use super::simd::Rows;

/// Terms that follow one another without a branch, after requests for memory.
const STEP: usize = 8;
/// Rows of the next columns that are asked for in such a step: two panels of rows are enough for all.
const ASK: usize = 4;
/// A number that the columns of a panel divide, for all instructions.
const PANELS: usize = 48;

/// Where the columns `columns` of a product `A B` are summed up, with `A` `[m, k]` and `B` `[k, n]`.
///
/// A number of the result is the same whatever else is computed beside it.
struct Streamed<'a> {
    /// `A`, cut between columns: how many there are, and their rows.
    left: &'a [(usize, Rows<'a>)],
    rows: usize,
    right: Rows<'a>,
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

impl WithSimd for Streamed<'_> {
    type Output = Columns;

    #[inline(always)]
    fn with_simd<S: Simd>(self) -> Columns {
        // Sums take three quarters of the registers: AVX-512 has thirty-two, and the others sixteen. A
        // block's panel of columns stays near: 36 and 18 KiB.
        if S::lanes32() == 16 {
            self.panels::<S, 8, 3>(192)
        } else {
            self.panels::<S, 6, 2>(288)
        }
    }
}

impl Streamed<'_> {
    /// The columns of the product.
    fn compute(self) -> Columns {
        AutoArch::new().dispatch(self)
    }

    #[inline(always)]
    fn panels<S: Simd, const M: usize, const V: usize>(self, block: usize) -> Columns {
        let width = V * S::lanes32();
        let stride = self.columns.len().next_multiple_of(width);
        let mut result = vec![0.0; self.rows * stride];
        let mut panel = vec![0.0_f32.splat::<S>(); block * V];
        let panels = self.rows.div_ceil(M);
        let mut first = 0;
        for &(inner, left) in self.left {
            for start in (0..inner).step_by(block) {
                let length = block.min(inner - start);
                let (top, below) = (first + start, first + start + length);
                for (place, column) in self.columns.clone().step_by(width).enumerate() {
                    let whole = column + width <= self.columns.end;
                    let right = Rows {
                        data: &self.right.data[top * self.right.stride + column..],
                        stride: self.right.stride,
                    };
                    let next = if column + width < self.columns.end {
                        top * self.right.stride + column + width
                    } else {
                        below * self.right.stride + self.columns.start
                    };
                    let next = self.right.data.get(next..).unwrap_or_default();
                    if !whole {
                        let rest = self.columns.end - column;
                        pack(right, rest, cast_slice_mut(&mut panel[..length * V]), width);
                    }
                    let mut row = 0;
                    for index in 0..panels {
                        // Panels of about the same height, none of a single row beside full ones.
                        let height = (self.rows - row).div_ceil(panels - index);
                        let mut tile = Tile::<S, V> {
                            left: Rows {
                                data: &left.data[row * left.stride + start..],
                                stride: left.stride,
                            },
                            right,
                            next,
                            panel: &mut panel[..length * V],
                            result: &mut result[row * stride + place * width..],
                            stride,
                            length,
                            ahead: ahead(length, index, panels),
                        };
                        tile.compute_rows(height, whole && index == 0);
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

/// The rows of the next columns that one of the panels asks for.
fn ahead(length: usize, index: usize, panels: usize) -> Range<usize> {
    let share = length.div_ceil(panels);
    (index * share).min(length)..((index + 1) * share).min(length)
}

/// Lays `count` columns side by side, and zeros beside them.
fn pack(right: Rows, count: usize, panel: &mut [f32], width: usize) {
    for (row, packed) in panel.chunks_exact_mut(width).enumerate() {
        let (numbers, zeros) = packed.split_at_mut(count);
        numbers.copy_from_slice(&right.data[row * right.stride..][..count]);
        zeros.fill(0.0);
    }
}

/// Rows of a panel times `V` vectors of columns, over one block.
struct Tile<'a, S: Simd, const V: usize> {
    left: Rows<'a>,
    /// The block, from the first of the columns.
    right: Rows<'a>,
    /// The right matrix from the columns that come after these, in rows like those of the block.
    next: &'a [f32],
    /// The columns side by side.
    panel: &'a mut [Vector<S, f32>],
    result: &'a mut [f32],
    stride: usize,
    length: usize,
    ahead: Range<usize>,
}

impl<S: Simd, const V: usize> Tile<'_, S, V> {
    #[inline(always)]
    fn compute_rows(&mut self, height: usize, packs: bool) {
        match height {
            1 => self.compute::<1>(packs),
            2 => self.compute::<2>(packs),
            3 => self.compute::<3>(packs),
            4 => self.compute::<4>(packs),
            5 => self.compute::<5>(packs),
            6 => self.compute::<6>(packs),
            7 => self.compute::<7>(packs),
            _ => self.compute::<8>(packs),
        }
    }

    #[inline(always)]
    fn compute<const M: usize>(&mut self, packs: bool) {
        let sums = if packs {
            self.sum::<M, true>()
        } else {
            self.sum::<M, false>()
        };
        for (row, sums) in self.result.chunks_mut(self.stride).zip(sums) {
            for (result, sum) in row.chunks_exact_mut(S::lanes32()).zip(sums) {
                for (result, sum) in result.iter_mut().zip(cast_slice::<_, f32>(&[sum])) {
                    *result += sum;
                }
            }
        }
    }

    #[inline(always)]
    fn sum<const M: usize, const PACKS: bool>(&mut self) -> [[Vector<S, f32>; V]; M] {
        let (left, length) = (self.left, self.length);
        let left: [&[f32]; M] = array::from_fn(|row| &left.data[row * left.stride..][..length]);
        let mut sums = [[0.0_f32.splat::<S>(); V]; M];
        let mut ahead = self.ahead.clone();
        let mut place = 0;
        while place + STEP <= length {
            for _ in 0..ASK {
                if let Some(row) = ahead.next() {
                    self.ask(row);
                }
            }
            for step in 0..STEP {
                self.add::<M, PACKS>(&left, place + step, &mut sums);
            }
            place += STEP;
        }
        for place in place..length {
            self.add::<M, PACKS>(&left, place, &mut sums);
        }
        sums
    }

    /// Adds one term to all sums, so that no sum waits for itself.
    #[inline(always)]
    fn add<const M: usize, const PACKS: bool>(
        &mut self,
        left: &[&[f32]; M],
        place: usize,
        sums: &mut [[Vector<S, f32>; V]; M],
    ) {
        let right = self.vectors::<PACKS>(place);
        for (left, sums) in left.iter().zip(sums) {
            let left = left[place].splat::<S>();
            for (sum, right) in sums.iter_mut().zip(right) {
                *sum = left.mul_add(right, *sum);
            }
        }
    }

    /// Asks for a row of the columns that come next.
    #[inline(always)]
    fn ask(&self, row: usize) {
        for vector in 0..V {
            let place = row * self.right.stride + vector * S::lanes32();
            fetch(self.next, place);
        }
    }

    /// The columns of a row of the block.
    #[inline(always)]
    fn vectors<const PACKS: bool>(&mut self, place: usize) -> [Vector<S, f32>; V] {
        let packed = &mut self.panel[place * V..][..V];
        if PACKS {
            let row = &self.right.data[place * self.right.stride..][..V * S::lanes32()];
            let mut vectors = [0.0_f32.splat::<S>(); V];
            cast_slice_mut(&mut vectors).copy_from_slice(row);
            packed.copy_from_slice(&vectors);
            return vectors;
        }
        array::from_fn(|vector| packed[vector])
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

    /// Numbers that look random and are sums without rounding errors.
    fn numbers(count: usize, seed: usize) -> Vec<f32> {
        let number = |index: usize| ((index * 7919 + seed) % 17) as f32 - 8.0;
        (0..count).map(number).collect()
    }

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
            let right = numbers(inner * stride, 3);
            let lefts: Vec<_> = parts.iter().map(|part| numbers(rows * part, *part)).collect();
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
