//! Tensors of the flex backend as slices of `f32`.

use burn::{
    backend::{Flex, TensorMetadata, tensor::FloatTensor},
    tensor::{DType, TensorData},
};
use rayon::prelude::*;

use super::math::{Mac, vectorize};

/// A tensor of the flex backend.
pub(super) type FlexTensor = FloatTensor<Flex>;

/// Numbers of a run: few enough to stay in a core's nearest cache.
const RUN: usize = 1 << 13;
/// Runs of a task: enough to be worth waking a core.
pub(super) const TASK: usize = 4;

/// Whether all are of the type that the fast paths are for.
pub(super) fn all_f32(tensors: &[&FlexTensor]) -> bool {
    tensors.iter().all(|tensor| tensor.dtype() == DType::F32)
}

/// The same tensor with its numbers in order; they are copied if they are not, or are a part of more.
pub(super) fn in_order(tensor: FlexTensor) -> FlexTensor {
    let ordered = tensor.to_contiguous();
    // Were the first still there, the second would count as shared, and be copied to be written to.
    drop(tensor);
    ordered
}

/// A matrix of numbers in rows.
pub(super) fn matrix(values: Vec<f32>, shape: [usize; 2]) -> FlexTensor {
    FlexTensor::from_data(TensorData::new(values, shape))
}

/// Numbers of the whole rows that are worked on at a time. It does not depend on the number of cores,
/// and neither may results.
pub(super) fn run_of_rows(width: usize) -> usize {
    let width = width.max(1);
    (RUN / width).max(1) * width
}

/// Applies a kernel to runs of rows, which changes them in place; the tensor is another one if somebody
/// else holds this one. The kernel gets the place of the first number, too.
pub(super) fn change(
    tensor: FlexTensor,
    run: usize,
    kernel: impl Fn(Mac, usize, &mut [f32]) + Sync,
) -> FlexTensor {
    let mut tensor = in_order(tensor);
    if let Some(values) = tensor.try_storage_mut::<f32>() {
        let runs = values.par_chunks_mut(run).enumerate().with_min_len(TASK);
        runs.for_each(|(index, values)| {
            vectorize(
                #[inline(always)]
                |mac| kernel(mac, index * run, values),
            );
        });
        return tensor;
    }
    make(
        &tensor,
        run,
        #[inline(always)]
        |mac, first, source, values| {
            values.copy_from_slice(source);
            kernel(mac, first, values);
        },
    )
}

/// Makes a tensor of the same shape from runs of the rows of one whose numbers are in order.
pub(super) fn make(
    source: &FlexTensor,
    run: usize,
    kernel: impl Fn(Mac, usize, &[f32], &mut [f32]) + Sync,
) -> FlexTensor {
    let shape = source.shape();
    let source = source.storage::<f32>();
    let mut values = vec![0.0; source.len()];
    let runs = values.par_chunks_mut(run).zip(source.par_chunks(run));
    let runs = runs.enumerate().with_min_len(TASK);
    runs.for_each(|(index, (values, source))| {
        vectorize(
            #[inline(always)]
            |mac| kernel(mac, index * run, source, values),
        );
    });
    FlexTensor::from_data(TensorData::new(values, shape))
}
