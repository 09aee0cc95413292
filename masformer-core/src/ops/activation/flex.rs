//! Activations on the flex backend: one pass, in place where nothing else holds the numbers.

use burn::backend::{Flex, TensorMetadata};
use rayon::prelude::*;

use super::{ActivationOps, plain, plain_again, plain_backward};
use crate::{
    activation::Activation,
    ops::{
        flex::{FlexTensor, TASK, all_f32, change, in_order, run_of_rows},
        math::{
            Mac, gelu, gelu_and_slope, gelu_tanh, gelu_tanh_and_slope, quick_gelu,
            quick_gelu_and_slope, relu, relu_and_slope, silu, silu_and_slope, vectorize,
        },
    },
};

impl ActivationOps for Flex {
    fn bias_activation(input: FlexTensor, bias: FlexTensor, activation: Activation) -> FlexTensor {
        if !all_f32(&[&input, &bias]) {
            return plain::<Flex>(input, bias, activation);
        }
        match activation {
            Activation::Gelu => apply(input, bias, gelu),
            Activation::GeluTanh => apply(input, bias, gelu_tanh),
            Activation::Relu => apply(input, bias, relu),
            Activation::Silu => apply(input, bias, silu),
            Activation::QuickGelu => apply(input, bias, quick_gelu),
        }
    }

    fn bias_activation_backward(
        input: FlexTensor,
        bias: FlexTensor,
        gradient: FlexTensor,
        activation: Activation,
    ) -> FlexTensor {
        if !all_f32(&[&input, &bias, &gradient]) {
            return plain_backward::<Flex>(input, bias, gradient, activation);
        }
        match activation {
            Activation::Gelu => apply_backward(input, bias, gradient, gelu_and_slope),
            Activation::GeluTanh => apply_backward(input, bias, gradient, gelu_tanh_and_slope),
            Activation::Relu => apply_backward(input, bias, gradient, relu_and_slope),
            Activation::Silu => apply_backward(input, bias, gradient, silu_and_slope),
            Activation::QuickGelu => apply_backward(input, bias, gradient, quick_gelu_and_slope),
        }
    }

    fn bias_activation_again(
        input: FlexTensor,
        bias: FlexTensor,
        gradient: FlexTensor,
        activation: Activation,
    ) -> (FlexTensor, FlexTensor) {
        if !all_f32(&[&input, &bias, &gradient]) {
            return plain_again::<Flex>(input, bias, gradient, activation);
        }
        match activation {
            Activation::Gelu => apply_again(input, bias, gradient, gelu_and_slope),
            Activation::GeluTanh => apply_again(input, bias, gradient, gelu_tanh_and_slope),
            Activation::Relu => apply_again(input, bias, gradient, relu_and_slope),
            Activation::Silu => apply_again(input, bias, gradient, silu_and_slope),
            Activation::QuickGelu => apply_again(input, bias, gradient, quick_gelu_and_slope),
        }
    }
}

fn apply(
    input: FlexTensor,
    bias: FlexTensor,
    function: impl Fn(Mac, f32) -> f32 + Copy + Sync,
) -> FlexTensor {
    let [_, width] = input.shape().dims();
    let bias = in_order(bias);
    let bias = bias.storage::<f32>();
    change(
        input,
        run_of_rows(width),
        #[inline(always)]
        |mac, _, run| {
            for row in run.chunks_exact_mut(width) {
                for (x, bias) in row.iter_mut().zip(bias) {
                    *x = function(mac, *x + bias);
                }
            }
        },
    )
}

fn apply_backward(
    input: FlexTensor,
    bias: FlexTensor,
    gradient: FlexTensor,
    function: impl Fn(Mac, f32) -> (f32, f32) + Copy + Sync,
) -> FlexTensor {
    let [_, width] = input.shape().dims();
    let (input, bias) = (in_order(input), in_order(bias));
    let (input, bias) = (input.storage::<f32>(), bias.storage::<f32>());
    change(
        gradient,
        run_of_rows(width),
        #[inline(always)]
        |mac, first, run| {
            let rows = input[first..].chunks_exact(width);
            for (gradient, row) in run.chunks_exact_mut(width).zip(rows) {
                for ((gradient, x), bias) in gradient.iter_mut().zip(row).zip(bias) {
                    *gradient *= function(mac, x + bias).1;
                }
            }
        },
    )
}

fn apply_again(
    input: FlexTensor,
    bias: FlexTensor,
    gradient: FlexTensor,
    function: impl Fn(Mac, f32) -> (f32, f32) + Copy + Sync,
) -> (FlexTensor, FlexTensor) {
    let [_, width] = input.shape().dims();
    let (mut values, bias, mut gradient) = (in_order(input), in_order(bias), in_order(gradient));
    let bias = bias.storage::<f32>();
    let step = run_of_rows(width);
    let runs = values.storage_mut::<f32>().par_chunks_mut(step);
    let runs = runs.zip(gradient.storage_mut::<f32>().par_chunks_mut(step));
    runs.with_min_len(TASK).for_each(|(run, gradient)| {
        vectorize(
            #[inline(always)]
            |mac| {
                let rows = run.chunks_exact_mut(width);
                for (row, gradient) in rows.zip(gradient.chunks_exact_mut(width)) {
                    for ((x, gradient), bias) in row.iter_mut().zip(gradient).zip(bias) {
                        let (value, slope) = function(mac, *x + bias);
                        *x = value;
                        *gradient *= slope;
                    }
                }
            },
        );
    });
    (values, gradient)
}
