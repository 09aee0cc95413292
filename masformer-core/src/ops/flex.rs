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
/// Numbers that a result is written in.
const PIECE: usize = 64;
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
///
/// A run is made where it stays in a core's cache, and goes from there, piece by piece, to memory that
/// nobody has cleared before: for work as light as this, writing all of it once more doubles the time.
pub(super) fn make(
    source: &FlexTensor,
    run: usize,
    kernel: impl Fn(Mac, usize, &[f32], &mut [f32]) + Sync,
) -> FlexTensor {
    let (shape, source) = (source.shape(), source.storage::<f32>());
    let kernel = |first: usize, values: &mut [f32]| {
        let source = &source[first..first + values.len()];
        vectorize(
            #[inline(always)]
            |mac| kernel(mac, first, source, values),
        );
    };
    let pieces = (0..source.len().div_ceil(PIECE)).into_par_iter();
    let pieces = pieces.with_min_len((TASK * run).div_ceil(PIECE));
    let values: Vec<[f32; PIECE]> = pieces
        .map_init(Made::default, |made, piece| {
            let place = piece * PIECE;
            let mut ready = made.from(place, run, source.len(), &kernel);
            if let Some(whole) = ready.first_chunk() {
                return *whole;
            }
            // The run ends within this piece, or all do.
            let length = PIECE.min(source.len() - place);
            let mut numbers = [0.0; PIECE];
            let mut count = 0;
            loop {
                let part = ready.len().min(length - count);
                numbers[count..count + part].copy_from_slice(&ready[..part]);
                count += part;
                if count == length {
                    return numbers;
                }
                ready = made.from(place + count, run, source.len(), &kernel);
            }
        })
        .collect();
    let mut values = values.into_flattened();
    values.truncate(source.len());
    FlexTensor::from_data(TensorData::new(values, shape))
}

/// The run that a core made last.
#[derive(Default)]
struct Made {
    first: usize,
    values: Vec<f32>,
}

impl Made {
    /// What is ready from a place on: the rest of its run, which is made first if it is another one.
    fn from(
        &mut self,
        place: usize,
        run: usize,
        end: usize,
        kernel: impl Fn(usize, &mut [f32]),
    ) -> &[f32] {
        if !(self.first..self.first + self.values.len()).contains(&place) {
            self.first = place / run * run;
            self.values.resize(run.min(end - self.first), 0.0);
            kernel(self.first, &mut self.values);
        }
        &self.values[place - self.first..]
    }
}
