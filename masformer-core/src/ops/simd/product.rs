//! Products of small matrices that lie in the cache, of which only parts may be wanted.
//!
//! A micro tile of six rows by two vectors of the result stays in registers while it is summed.

use std::ops::Range;

use pulp::{Simd, WithSimd};

/// Rows of the result that are computed together: a panel.
pub(in crate::ops) const PANEL: usize = 6;
/// Vectors of a micro tile: with six rows they take twelve registers of the sixteen of AVX2.
pub(in crate::ops) const VECTORS: usize = 2;

/// A matrix in rows.
#[derive(Clone, Copy)]
pub(in crate::ops) struct Rows<'a> {
    pub(in crate::ops) data: &'a [f32],
    /// Numbers from one row to the next.
    pub(in crate::ops) stride: usize,
}

/// `C = A B`, with `A` `[m, k]`, `B` `[k, n]` and `C` `[m, n]`; `n` is a multiple of
/// [`VECTORS`] vectors.
///
/// Of the panel `p` of `C` only the columns `columns[p]` are written, widened to whole vectors.
pub(in crate::ops) fn multiply<S: Simd>(
    simd: S,
    left: Rows,
    right: Rows,
    result: &mut [f32],
    [rows, inner]: [usize; 2],
    columns: &[Range<usize>],
) {
    let product = Product::<false, false> {
        left,
        right,
        result,
        rows,
        inner,
        bounds: columns,
    };
    Simd::vectorize(simd, product);
}

/// `C += A B`, as for [`multiply`]; the panel `p` of `C` is a sum over `inner[p]` of `0..k` alone.
pub(in crate::ops) fn accumulate<S: Simd>(
    simd: S,
    left: Rows,
    right: Rows,
    result: &mut [f32],
    rows: usize,
    inner: &[Range<usize>],
) {
    let product = Product::<false, true> {
        left,
        right,
        result,
        rows,
        inner: 0,
        bounds: inner,
    };
    Simd::vectorize(simd, product);
}

/// `C += A^T B`, as for [`accumulate`], with `A` `[k, m]`.
pub(in crate::ops) fn accumulate_transposed<S: Simd>(
    simd: S,
    left: Rows,
    right: Rows,
    result: &mut [f32],
    rows: usize,
    inner: &[Range<usize>],
) {
    let product = Product::<true, true> {
        left,
        right,
        result,
        rows,
        inner: 0,
        bounds: inner,
    };
    Simd::vectorize(simd, product);
}

/// The bounds of a panel are columns, or what is summed over where the result is added to.
struct Product<'a, const TRANSPOSED: bool, const ADDED: bool> {
    left: Rows<'a>,
    right: Rows<'a>,
    result: &'a mut [f32],
    rows: usize,
    inner: usize,
    bounds: &'a [Range<usize>],
}

impl<const TRANSPOSED: bool, const ADDED: bool> WithSimd for Product<'_, TRANSPOSED, ADDED> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let step = VECTORS * S::F32_LANES;
        debug_assert!(self.right.stride.is_multiple_of(step), "whole micro tiles");
        let stride = self.right.stride / S::F32_LANES;
        let (right, _) = S::as_simd_f32s(self.right.data);
        let (result, _) = S::as_mut_simd_f32s(self.result);
        for column in (0..self.right.stride).step_by(step) {
            for (panel, bound) in self.bounds.iter().enumerate() {
                let inner = if ADDED && !bound.is_empty() {
                    bound.clone()
                } else if !ADDED && bound.start < column + step && column < bound.end {
                    0..self.inner
                } else {
                    continue;
                };
                let row = panel * PANEL;
                let mut tile = Tile::<S> {
                    simd,
                    left: self.left,
                    right,
                    result,
                    stride,
                    row,
                    inner,
                    at: column / S::F32_LANES,
                };
                let half = column + S::F32_LANES;
                if !ADDED && bound.end <= half {
                    tile.compute_rows::<1, TRANSPOSED, ADDED>(self.rows - row);
                } else if !ADDED && bound.start >= half {
                    tile.at += 1;
                    tile.compute_rows::<1, TRANSPOSED, ADDED>(self.rows - row);
                } else {
                    tile.compute_rows::<VECTORS, TRANSPOSED, ADDED>(self.rows - row);
                }
            }
        }
    }
}

/// A micro tile of the result: rows from `row`, and vectors from `at`.
struct Tile<'a, S: Simd> {
    simd: S,
    left: Rows<'a>,
    right: &'a [S::f32s],
    result: &'a mut [S::f32s],
    stride: usize,
    row: usize,
    inner: Range<usize>,
    at: usize,
}

impl<S: Simd> Tile<'_, S> {
    #[inline(always)]
    fn compute_rows<const V: usize, const TRANSPOSED: bool, const ADDED: bool>(
        &mut self,
        rows: usize,
    ) {
        match rows {
            1 => self.compute::<1, V, TRANSPOSED, ADDED>(),
            2 => self.compute::<2, V, TRANSPOSED, ADDED>(),
            3 => self.compute::<3, V, TRANSPOSED, ADDED>(),
            4 => self.compute::<4, V, TRANSPOSED, ADDED>(),
            5 => self.compute::<5, V, TRANSPOSED, ADDED>(),
            _ => self.compute::<PANEL, V, TRANSPOSED, ADDED>(),
        }
    }

    #[inline(always)]
    fn compute<const M: usize, const V: usize, const TRANSPOSED: bool, const ADDED: bool>(
        &mut self,
    ) {
        let sums = if TRANSPOSED {
            self.columns::<M, V>()
        } else {
            self.rows::<M, V>()
        };
        for (row, sums) in sums.into_iter().enumerate() {
            let start = (self.row + row) * self.stride + self.at;
            let result = &mut self.result[start..start + V];
            for (result, sum) in result.iter_mut().zip(sums) {
                *result = if ADDED {
                    self.simd.add_f32s(*result, sum)
                } else {
                    sum
                };
            }
        }
    }

    /// With `A` in rows.
    #[inline(always)]
    fn rows<const M: usize, const V: usize>(&self) -> [[S::f32s; V]; M] {
        let Range { start, end } = self.inner;
        let length = end - start;
        let mut left = [&self.left.data[..length]; M];
        for (row, left) in left.iter_mut().enumerate() {
            *left = &self.left.data[(self.row + row) * self.left.stride + start..][..length];
        }
        let mut sums = [[self.simd.splat_f32s(0.0); V]; M];
        for place in 0..length {
            let start = (start + place) * self.stride + self.at;
            let right = &self.right[start..start + V];
            for (left, sums) in left.iter().zip(&mut sums) {
                let left = self.simd.splat_f32s(left[place]);
                for (sum, right) in sums.iter_mut().zip(right) {
                    *sum = self.simd.mul_add_e_f32s(left, *right, *sum);
                }
            }
        }
        sums
    }

    /// With `A` in columns.
    #[inline(always)]
    fn columns<const M: usize, const V: usize>(&self) -> [[S::f32s; V]; M] {
        let mut sums = [[self.simd.splat_f32s(0.0); V]; M];
        for place in self.inner.clone() {
            let start = place * self.stride + self.at;
            let right = &self.right[start..start + V];
            let start = place * self.left.stride + self.row;
            let left = &self.left.data[start..start + M];
            for (left, sums) in left.iter().zip(&mut sums) {
                let left = self.simd.splat_f32s(*left);
                for (sum, right) in sums.iter_mut().zip(right) {
                    *sum = self.simd.mul_add_e_f32s(left, *right, *sum);
                }
            }
        }
        sums
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::ops::agreement::whole_numbers;

    /// The three products in the instructions of `simd`, inside the bounds.
    fn check<S: Simd>(simd: S, rows: usize, inner: usize, stride: usize, bounds: &[Range<usize>]) {
        let (left, right) = (
            whole_numbers(rows * inner, 3),
            whole_numbers(inner * stride, 5),
        );
        let transposed: Vec<f32> = (0..inner * rows)
            .map(|place| left[place % rows * inner + place / rows])
            .collect();
        let of = |data, stride| Rows { data, stride };
        let expected = |row: usize, column: usize, inner_range: Range<usize>| -> f32 {
            inner_range
                .map(|place| left[row * inner + place] * right[place * stride + column])
                .sum()
        };
        let mut found = vec![0.0; rows * stride];
        let sides = (of(&left, inner), of(&right, stride));
        multiply(simd, sides.0, sides.1, &mut found, [rows, inner], bounds);
        for row in 0..rows {
            for column in bounds[row / PANEL].clone() {
                let difference = found[row * stride + column] - expected(row, column, 0..inner);
                assert!(difference.abs() < 1e-3, "{row} {column} {difference}");
            }
        }
        let within: Vec<_> = bounds
            .iter()
            .map(|bound| bound.start.min(inner)..bound.end.min(inner))
            .collect();
        let mut sums = [vec![1.0; rows * stride], vec![1.0; rows * stride]];
        accumulate(simd, sides.0, sides.1, &mut sums[0], rows, &within);
        let columns = of(&transposed, rows);
        accumulate_transposed(simd, columns, sides.1, &mut sums[1], rows, &within);
        for row in 0..rows {
            for column in 0..stride {
                let sum = 1.0 + expected(row, column, within[row / PANEL].clone());
                for sums in &sums {
                    let difference = sums[row * stride + column] - sum;
                    assert!(difference.abs() < 1e-3, "{row} {column} {difference}");
                }
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn every_instruction_set_gives_the_product(
            rows in 1..20_usize,
            inner in 1..40_usize,
            tiles in 1..4_usize,
            bounds in prop::collection::vec((0..96_usize, 0..96_usize), 4),
        ) {
            // Whole micro tiles of the widest instructions.
            let stride = tiles * 32;
            let bounds: Vec<_> = bounds
                .into_iter()
                .take(rows.div_ceil(PANEL))
                .map(|(start, length)| start.min(stride)..(start + length).min(stride))
                .collect();
            check(pulp::Scalar::new(), rows, inner, stride, &bounds);
            #[cfg(target_arch = "x86_64")]
            if let Some(simd) = pulp::x86::V3::try_new() {
                check(simd, rows, inner, stride, &bounds);
            }
            #[cfg(target_arch = "x86_64")]
            if let Some(simd) = pulp::x86::V4::try_new() {
                check(simd, rows, inner, stride, &bounds);
            }
        }
    }
}
