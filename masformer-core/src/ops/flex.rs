//! Tensors of the flex backend as slices of `f32`.

mod changed;

use burn::{
    backend::{Flex, TensorMetadata, tensor::FloatTensor},
    prelude::*,
    tensor::DType,
};

use super::math::{Mac, vectorize};
use changed::{changed, each_run};
pub(super) use changed::{repeated, zeros};

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

/// Whether these are numbers of 32 bits on flex, and no autodiff looks on.
pub(super) fn is_inference<const D: usize>(tensor: &Tensor<D>) -> bool {
    let device = tensor.device();
    tensor.dtype() == DType::F32 && device == Device::flex() && !device.is_autodiff()
}

/// The tensor of the backend, of one for which [`is_inference`] holds.
pub(super) fn primitive<const D: usize>(tensor: Tensor<D>) -> FlexTensor {
    let tensor = tensor.try_into_primitive::<Flex>();
    tensor.expect("a tensor of this device")
}

/// The same tensor with its numbers in order; they are copied if they are not, or are a part of more.
pub(super) fn in_order(tensor: FlexTensor) -> FlexTensor {
    let ordered = tensor.to_contiguous();
    // Were the first still there, the second would count as shared, and be copied to be written to.
    drop(tensor);
    ordered
}

/// A tensor of numbers in order.
pub(super) fn tensor<const D: usize>(values: Vec<f32>, shape: [usize; D]) -> FlexTensor {
    FlexTensor::from_data(TensorData::new(values, shape))
}

/// Numbers of the whole rows that are worked on at a time. It does not depend on the number of cores,
/// and neither may results.
pub(super) fn run_of_rows(width: usize) -> usize {
    let width = width.max(1);
    (RUN / width).max(1) * width
}

/// Applies a kernel to runs of rows, which changes them in place, or in a copy if somebody else holds the
/// tensor. The kernel gets the place of the first number, too.
pub(super) fn change(
    tensor: FlexTensor,
    run: usize,
    kernel: impl Fn(Mac, usize, &mut [f32]) + Sync,
) -> FlexTensor {
    let mut tensor = in_order(tensor);
    let change = |first, values: &mut [f32]| {
        vectorize(
            #[inline(always)]
            |mac| kernel(mac, first, values),
        );
    };
    if let Some(values) = tensor.try_storage_mut::<f32>() {
        each_run(values, run, change);
        return tensor;
    }
    let values = changed(tensor.storage(), run, change);
    FlexTensor::from_data(TensorData::new(values, tensor.shape()))
}
