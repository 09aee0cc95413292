//! Tensors of one backend, with the operators that Burn gives to its own tensors only.

use burn::{
    backend::{
        Backend, TensorMetadata,
        tensor::{FloatTensor, IntTensor},
    },
    tensor::{IndexingUpdateOp, Slice, TensorData},
};
use std::ops::{Add, Div, Mul, Range, Sub};

use super::product::ProductOps;

/// A float tensor of the backend `B`.
#[derive(Debug)]
pub(super) struct Float<B: Backend>(pub(super) FloatTensor<B>);

impl<B: Backend> Clone for Float<B> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<B: Backend> Float<B> {
    /// Data on the device of `self`.
    pub(super) fn like(&self, data: TensorData) -> Self {
        let dtype = self.0.dtype();
        Self(B::float_from_data(
            data.convert_dtype(dtype),
            &self.0.device(),
        ))
    }

    pub(super) fn dims<const D: usize>(&self) -> [usize; D] {
        self.0.shape().dims()
    }

    pub(super) fn matmul(self, other: Self) -> Self {
        Self(B::float_matmul(self.0, other.0))
    }

    /// The product of two matrices.
    pub(super) fn times(self, other: Self) -> Self
    where
        B: ProductOps,
    {
        Self(B::product(self.0, other.0))
    }

    /// `left right + self`, where `self` may be a single row.
    pub(super) fn plus_product(self, left: Self, right: Self) -> Self
    where
        B: ProductOps,
    {
        Self(B::product_onto(self.0, left.0, right.0))
    }

    pub(super) fn transpose(self) -> Self {
        Self(B::float_transpose(self.0))
    }

    pub(super) fn scale(self, factor: f64) -> Self {
        Self(B::float_mul_scalar(self.0, factor.into()))
    }

    pub(super) fn exp(self) -> Self {
        Self(B::float_exp(self.0))
    }

    pub(super) fn log(self) -> Self {
        Self(B::float_log(self.0))
    }

    pub(super) fn sqrt(self) -> Self {
        Self(B::float_sqrt(self.0))
    }

    pub(super) fn erf(self) -> Self {
        Self(B::float_erf(self.0))
    }

    pub(super) fn tanh(self) -> Self {
        Self(B::float_tanh(self.0))
    }

    pub(super) fn relu(self) -> Self {
        Self(B::relu(self.0))
    }

    pub(super) fn sign(self) -> Self {
        Self(B::float_sign(self.0))
    }

    pub(super) fn plus(self, summand: f64) -> Self {
        Self(B::float_add_scalar(self.0, summand.into()))
    }

    pub(super) fn at_least(self, least: f64) -> Self {
        Self(B::float_clamp_min(self.0, least.into()))
    }

    pub(super) fn sum_dim(self, dim: usize) -> Self {
        Self(B::float_sum_dim(self.0, dim))
    }

    pub(super) fn mean_dim(self, dim: usize) -> Self {
        Self(B::float_mean_dim(self.0, dim))
    }

    pub(super) fn max_dim(self, dim: usize) -> Self {
        Self(B::float_max_dim(self.0, dim))
    }

    /// The numbers as floats like those of `self`.
    pub(super) fn of_ints(&self, numbers: IntTensor<B>) -> Self {
        Self(B::int_into_float(numbers, self.0.dtype().into()))
    }

    /// Adds `value` `[N, 1]` to one column of each row of `[N, V]`.
    pub(super) fn add_at(self, columns: IntTensor<B>, value: Self) -> Self {
        let update = IndexingUpdateOp::Add;
        Self(B::float_scatter(1, self.0, columns, value.0, update))
    }

    /// Some rows of a matrix.
    pub(super) fn take(&self, rows: IntTensor<B>) -> Self {
        Self(B::float_select(self.0.clone(), 0, rows))
    }

    /// A matrix with some rows, each once, replaced by those of `value`.
    pub(super) fn put(self, rows: IntTensor<B>, value: Self) -> Self {
        let update = IndexingUpdateOp::Assign;
        Self(B::float_select_assign(self.0, 0, rows, value.0, update))
    }

    /// A range of the rows of a matrix.
    pub(super) fn rows(&self, rows: &Range<usize>) -> Self {
        let slices = [rows.clone().into(), Slice::full()];
        Self(B::float_slice(self.0.clone(), &slices))
    }

    /// A range of one of four dimensions.
    pub(super) fn range(&self, dim: usize, range: &Range<usize>) -> Self {
        let mut slices = [Slice::full(); 4];
        slices[dim] = range.clone().into();
        Self(B::float_slice(self.0.clone(), &slices))
    }

    pub(super) fn cat(parts: Vec<Self>, dim: usize) -> Self {
        let parts = parts.into_iter().map(|part| part.0).collect();
        Self(B::float_cat(parts, dim))
    }
}

/// One column `[N, 1]` of each row of `[N, V]`.
pub(super) fn pick<B: Backend>(rows: Float<B>, columns: IntTensor<B>) -> Float<B> {
    Float(B::float_gather(1, rows.0, columns))
}

/// `0..length` in ranges of at most `size`; a single empty one if there is nothing.
pub(super) fn ranges(length: usize, size: usize) -> impl Iterator<Item = Range<usize>> {
    let starts = (0..length.max(1)).step_by(size.max(1));
    starts.map(move |start| start..(start + size).min(length))
}

impl<B: Backend> Add for Float<B> {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self(B::float_add(self.0, other.0))
    }
}

impl<B: Backend> Sub for Float<B> {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        Self(B::float_sub(self.0, other.0))
    }
}

impl<B: Backend> Mul for Float<B> {
    type Output = Self;

    fn mul(self, other: Self) -> Self {
        Self(B::float_mul(self.0, other.0))
    }
}

impl<B: Backend> Div for Float<B> {
    type Output = Self;

    fn div(self, other: Self) -> Self {
        Self(B::float_div(self.0, other.0))
    }
}
