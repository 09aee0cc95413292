//! Products of matrices in the passes of our own operations.
//!
//! Burn's CPU backend clears each result and then copies it to another place, on one core, which takes a
//! tenth of the time of training: here it is cleared once, or is the sum that the product is added to.

use burn::backend::{
    Autodiff, Backend, autodiff::checkpoint::strategy::CheckpointStrategy, backend_extension,
    tensor::FloatTensor,
};

/// Products on one backend; the default bodies work on all of them.
#[backend_extension(
    Autodiff,
    Flex: cfg(feature = "flex"),
    NdArray: cfg(feature = "ndarray"),
    Cube: cfg(feature = "cube"),
    Remote: cfg(feature = "remote"),
    Fusion: cfg(feature = "fusion")
)]
pub trait ProductOps: Backend {
    /// The product `[M, N]` of `[M, K]` and `[K, N]`.
    #[fusion(default)]
    fn product(left: FloatTensor<Self>, right: FloatTensor<Self>) -> FloatTensor<Self> {
        Self::float_matmul(left, right)
    }

    /// The same and a sum `[M, N]`, or `[1, N]` that is added to every row.
    #[fusion(default)]
    fn product_onto(
        sum: FloatTensor<Self>,
        left: FloatTensor<Self>,
        right: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        Self::float_add(Self::float_matmul(left, right), sum)
    }
}

#[cfg(feature = "ndarray")]
impl ProductOps for burn::backend::NdArray {}
#[cfg(feature = "cube")]
impl ProductOps for burn::backend::Cube {}
#[cfg(feature = "remote")]
impl ProductOps for burn::backend::Remote {}

/// The gradients are those of Burn's product and sum.
impl<B: ProductOps, C: CheckpointStrategy> ProductOps for Autodiff<B, C> {}

#[cfg(feature = "flex")]
mod flex {
    use burn::backend::{Flex, TensorMetadata, ops::FloatTensorOps};
    use faer::{Accum, MatMut, MatRef, Par, linalg::matmul::matmul};

    use super::ProductOps;
    use crate::ops::flex::{FlexTensor, all_f32, in_order, repeated, tensor, zeros};

    /// Fewest multiply-adds that are worth waking a core.
    const PARALLEL: usize = 1 << 18;

    /// A single row is faster with Burn's product.
    impl ProductOps for Flex {
        fn product(left: FlexTensor, right: FlexTensor) -> FlexTensor {
            let [rows, _] = left.shape().dims();
            if rows == 1 || !all_f32(&[&left, &right]) {
                return Flex::float_matmul(left, right);
            }
            let [_, columns] = right.shape().dims();
            let mut output = zeros(rows * columns);
            add(&mut output, Accum::Replace, left, right);
            tensor(output, [rows, columns])
        }

        fn product_onto(sum: FlexTensor, left: FlexTensor, right: FlexTensor) -> FlexTensor {
            let [rows, _] = left.shape().dims();
            if rows == 1 || !all_f32(&[&sum, &left, &right]) {
                return Flex::float_add(Flex::float_matmul(left, right), sum);
            }
            let [summands, columns] = sum.shape().dims();
            let mut sum = in_order(sum);
            if summands == rows
                && let Some(output) = sum.try_storage_mut::<f32>()
            {
                add(output, Accum::Add, left, right);
                return sum;
            }
            let mut output = if summands == rows {
                sum.storage().to_vec()
            } else {
                repeated(sum.storage(), rows)
            };
            add(&mut output, Accum::Add, left, right);
            tensor(output, [rows, columns])
        }
    }

    fn add(output: &mut [f32], how: Accum, left: FlexTensor, right: FlexTensor) {
        let ([rows, inner], [_, columns]) = (left.shape().dims(), right.shape().dims());
        let (left, right) = (in_lines(left), in_lines(right));
        let is_small = rows * inner * columns < PARALLEL;
        // Of a single column the cores would divide the terms, and its sums depend on their number.
        let divides_terms = columns == 1 && left.layout().strides()[1] != 1;
        let parallelism = if is_small || divides_terms {
            Par::Seq
        } else {
            Par::rayon(0)
        };
        let output = MatMut::from_row_major_slice_mut(output, rows, columns);
        matmul(output, how, view(&left), view(&right), 1.0, parallelism);
    }

    /// The matrix itself if its rows or its columns are each in one piece, otherwise a copy.
    fn in_lines(matrix: FlexTensor) -> FlexTensor {
        match *matrix.layout().strides() {
            [row, column] if row >= 0 && column >= 0 && (row == 1 || column == 1) => matrix,
            _ => in_order(matrix),
        }
    }

    /// Views what [`in_lines`] gave.
    fn view(matrix: &FlexTensor) -> MatRef<'_, f32> {
        let [rows, columns] = matrix.shape().dims();
        let data = &matrix.storage()[matrix.layout().start_offset()..];
        match *matrix.layout().strides() {
            [row, 1] => MatRef::from_row_major_slice_with_stride(data, rows, columns, row as usize),
            [_, column] => {
                MatRef::from_column_major_slice_with_stride(data, rows, columns, column as usize)
            }
            _ => unreachable!("a matrix has two strides"),
        }
    }
}

#[cfg(test)]
mod tests {
    use burn::{backend::Dispatch, prelude::*};
    use proptest::prelude::*;

    use super::*;
    use crate::ops::agreement::{assert_close, multiplies_empty, random};

    fn product(left: Tensor<2>, right: Tensor<2>) -> Tensor<2> {
        Tensor::from_dispatch(Dispatch::product(
            left.into_dispatch(),
            right.into_dispatch(),
        ))
    }

    fn product_onto(sum: Tensor<2>, left: Tensor<2>, right: Tensor<2>) -> Tensor<2> {
        Tensor::from_dispatch(Dispatch::product_onto(
            sum.into_dispatch(),
            left.into_dispatch(),
            right.into_dispatch(),
        ))
    }

    #[derive(Clone, Copy, Debug)]
    enum Layout {
        Whole,
        Part,
        Transposed,
        Flipped,
        Repeated,
    }

    fn layouts() -> impl Strategy<Value = Layout> {
        use Layout::{Flipped, Part, Repeated, Transposed, Whole};
        prop::sample::select(vec![Whole, Part, Transposed, Flipped, Repeated])
    }

    fn drawn([rows, columns]: [usize; 2], layout: Layout, device: &Device) -> Tensor<2> {
        let whole = |shape| random(shape, device);
        match layout {
            Layout::Whole => whole([rows, columns]),
            Layout::Part => whole([rows + 2, columns + 1]).slice([1..=rows, 1..=columns]),
            Layout::Transposed => whole([columns, rows]).transpose(),
            Layout::Flipped => whole([rows, columns]).flip([1]),
            Layout::Repeated => whole([1, columns]).expand([rows, columns]),
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(96))]

        #[test]
        fn products_of_any_layout_are_those_of_burn(
            rows in 1..90_usize,
            inner in 1..90_usize,
            columns in 1..90_usize,
            layouts in (layouts(), layouts(), layouts()),
            shared in any::<bool>(),
            alone in any::<bool>(),
        ) {
            let device = Device::default();
            let left = drawn([rows, inner], layouts.0, &device);
            let right = drawn([inner, columns], layouts.1, &device);
            let sum = drawn([if shared { 1 } else { rows }, columns], layouts.2, &device);
            let expected = left.clone().matmul(right.clone());
            let found = product(left.clone(), right.clone());
            assert_close(&[found.into_data()], &[expected.clone().into_data()], 1e-5);
            let expected = (expected + sum.clone()).into_data();
            // A tensor without another owner may be updated in place.
            let held = (!alone).then(|| (sum.clone(), sum.to_data()));
            let found = product_onto(sum, left, right);
            assert_close(&[found.into_data()], &[expected], 1e-5);
            if let Some((sum, before)) = held {
                sum.into_data().assert_eq(&before, true);
            }
        }
    }

    #[test]
    fn nothing_adds_up_to_zeros() {
        let device = Device::default();
        for [rows, inner, columns] in [[0, 3, 2], [4, 3, 0], [4, 0, 2]] {
            if multiplies_empty(&device) {
                let factors = [[rows, inner], [inner, columns]].map(|shape| random(shape, &device));
                let [left, right] = factors;
                let sum = Tensor::ones([1, columns], &device);
                let found = [
                    product(left.clone(), right.clone()),
                    product_onto(sum, left, right),
                ];
                let [zeros, ones] = found.map(|found| found.into_data());
                assert_eq!(zeros, TensorData::zeros::<f32, _>([rows, columns]));
                assert_eq!(ones, TensorData::ones::<f32, _>([rows, columns]));
            }
        }
    }
}
