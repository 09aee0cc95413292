//! Tensors of the flex backend as slices of `f32`.

use burn::{
    backend::{Flex, tensor::FloatTensor},
    tensor::{DType, TensorData},
};

/// A tensor of the flex backend.
pub(super) type FlexTensor = FloatTensor<Flex>;

/// Numbers of one task: enough to be worth waking a core, few enough to stay in its cache.
const TASK: usize = 1 << 15;

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

/// Numbers of the whole rows that one task works on. It does not depend on the number of cores, and
/// neither may results.
pub(super) fn run_of_rows(width: usize) -> usize {
    let width = width.max(1);
    (TASK / width).max(1) * width
}
