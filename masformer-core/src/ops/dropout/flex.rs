//! Dropout on the flex backend: whether a number stays is a function of its place and of a key, so that
//! only the key is kept.

use super::{DropoutOps, plain, plain_again};
use crate::ops::flex::{FlexTensor, all_f32, change, run_of_rows};
use burn::{
    backend::{Flex, TensorMetadata, ops::FloatTensorOps},
    tensor::Distribution,
};

/// Numbers of 24 random bits in a key of 64.
const DRAWS: usize = 3;

impl DropoutOps for Flex {
    fn dropout(input: FlexTensor, prob: f64) -> (FlexTensor, FlexTensor) {
        if !all_f32(&[&input]) {
            return plain::<Flex>(input, prob);
        }
        let distribution = Distribution::Uniform(0.0, 1.0);
        let (device, dtype) = (input.device(), input.dtype().into());
        let draws = Flex::float_random([1, DRAWS].into(), distribution, &device, dtype);
        (drop_by_key(input, &draws, prob), draws)
    }

    fn dropout_backward(gradient: FlexTensor, draws: FlexTensor, prob: f64) -> FlexTensor {
        if all_f32(&[&gradient, &draws]) {
            drop_by_key(gradient, &draws, prob)
        } else {
            plain_again::<Flex>(gradient, draws, prob)
        }
    }
}

fn drop_by_key(numbers: FlexTensor, draws: &FlexTensor, prob: f64) -> FlexTensor {
    let key = draws.storage::<f32>().iter().fold(0_u64, |key, draw| {
        (key << 24) ^ (draw * 16_777_216.0) as u64
    });
    let key = [(key >> 32) as u32, key as u32];
    let limit = (prob * 4_294_967_296.0) as u32;
    let factor = (1.0 / (1.0 - prob)) as f32;
    change(
        numbers,
        run_of_rows(1),
        #[inline(always)]
        |_, first, run| {
            // Copies, which the compiler knows not to change while it writes the numbers.
            let (key, limit, factor) = (key, limit, factor);
            for (place, x) in run.iter_mut().enumerate() {
                let drawn = bits((first + place) as u32, key);
                let scaled = *x * factor;
                *x = if drawn < limit { 0.0 } else { scaled };
            }
        },
    )
}

/// 32 random bits of a place: a permutation of the places, and the one with the least bias of those that
/// multiply twice (Wellons, "Prospecting for hash functions", 2018), with a key on either side.
#[inline(always)]
fn bits(place: u32, [before, between]: [u32; 2]) -> u32 {
    let x = place ^ before;
    let x = (x ^ (x >> 16)).wrapping_mul(0x21f0_aaad) ^ between;
    let x = (x ^ (x >> 15)).wrapping_mul(0xd35a_2d97);
    x ^ (x >> 15)
}
