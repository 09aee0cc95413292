//! What the machine can do at best: a matrix product, and a copy.

use std::{hint::black_box, thread};

use burn::{prelude::*, tensor::Distribution};

use super::{Case, Pass, Work, held};
use crate::backend::is_gpu;

/// The name of the product's case.
pub const PRODUCT: &str = "matrix product";
/// The name of the copy's case.
pub const COPY: &str = "copy";
/// The side of the matrices on a CPU.
const SIDE: usize = 1024;
/// The side of the matrices on a GPU, to which the other is a moment's work.
const GPU_SIDE: usize = 4096;
/// Numbers that are copied: more than caches hold.
const NUMBERS: usize = 1 << 26;

/// The cases that the others are compared with: what the machine can do at best.
pub fn cases(device: &Device) -> [Case; 2] {
    let size = if is_gpu(device) { GPU_SIDE } else { SIDE };
    let (side, numbers) = (size as u64, NUMBERS as u64);
    let product = Work {
        multiply_adds: side * side * side,
        bytes: 3 * 4 * side * side,
        tokens: 0,
    };
    let copy = Work {
        multiply_adds: 0,
        bytes: 2 * 4 * numbers,
        tokens: 0,
    };
    let case = |name: &str, size, work, pass: fn(usize, &Device) -> Pass| {
        let device = device.clone();
        Case {
            name: name.to_owned(),
            size,
            work,
            prepare: Box::new(move || Ok(pass(size, &device))),
        }
    };
    [
        case(PRODUCT, size, product, product_pass),
        case(COPY, NUMBERS, copy, copy_pass),
    ]
}

fn product_pass(side: usize, device: &Device) -> Pass {
    let matrix = || Tensor::<2>::random([side, side], Distribution::Default, device);
    let (left, right) = (matrix(), matrix());
    Box::new(move || Ok(held(left.clone().matmul(right.clone()))))
}

fn copy_pass(numbers: usize, device: &Device) -> Pass {
    if is_gpu(device) {
        let numbers = Tensor::<1>::zeros([numbers], device);
        return Box::new(move || Ok(held(numbers.clone() + 1.0)));
    }
    // A tensor would be copied to pages that the system must first clear.
    let from = vec![1.0_f32; numbers];
    let mut to = vec![0.0_f32; numbers];
    let threads = thread::available_parallelism().map_or(1, usize::from);
    let part = numbers.div_ceil(threads);
    Box::new(move || {
        thread::scope(|scope| {
            for (to, from) in to.chunks_mut(part).zip(from.chunks(part)) {
                scope.spawn(|| black_box(to).copy_from_slice(from));
            }
        });
        Ok(held(()))
    })
}
