//! A linear layer, `x W + b`, with one pass over the weight for some hundred tokens on a CPU.

use burn::{
    backend::{
        Autodiff, Dispatch, autodiff::checkpoint::strategy::CheckpointStrategy, backend_extension,
        tensor::FloatTensor,
    },
    prelude::*,
};

use super::{differentiable::differentiable, primitive::Float, product::ProductOps};

/// `input weight + bias`.
///
/// # Shapes
///
/// - input: `[N, D]`
/// - weight: `[D, F]`
/// - bias: `[F]`
/// - output: `[N, F]`
pub fn linear(input: Tensor<2>, weight: Tensor<2>, bias: Tensor<1>) -> Tensor<2> {
    let output = <Dispatch as LinearOps>::linear(
        input.into_dispatch(),
        weight.into_dispatch(),
        bias.unsqueeze::<2>().into_dispatch(),
    );
    Tensor::from_dispatch(output)
}

/// Linear layers on one backend; the default body works on all of them. The bias is `[1, F]`.
#[backend_extension(
    Autodiff,
    Flex: cfg(feature = "flex"),
    NdArray: cfg(feature = "ndarray"),
    Cube: cfg(feature = "cube"),
    Remote: cfg(feature = "remote"),
    Fusion: cfg(feature = "fusion")
)]
pub trait LinearOps: ProductOps {
    /// The output `[N, F]`.
    #[fusion(default)]
    fn linear(
        input: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        Self::product_onto(bias, input, weight)
    }
}

/// The gradients of input and bias, from that of the output.
fn to_input_and_bias<B: ProductOps>(
    weight: FloatTensor<B>,
    gradient: Float<B>,
) -> [FloatTensor<B>; 2] {
    let to_input = gradient.clone().times(Float(weight).transpose());
    [to_input.0, gradient.sum_dim(0).0]
}

#[cfg(feature = "ndarray")]
impl LinearOps for burn::backend::NdArray {}
#[cfg(feature = "cube")]
impl LinearOps for burn::backend::Cube {}
#[cfg(feature = "remote")]
impl LinearOps for burn::backend::Remote {}

impl<B: LinearOps, C: CheckpointStrategy> LinearOps for Autodiff<B, C> {
    fn linear(
        input: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        let is_frozen = !weight.is_tracked();
        let (to_input, to_weight, to_bias) = (input.node(), weight.node(), bias.node());
        let (input, weight) = (input.into_primitive(), weight.into_primitive());
        // In training many rows go at a time, as they do in the backward pass.
        let output = B::product_onto(bias.into_primitive(), input.clone(), weight.clone());
        if is_frozen {
            let nodes = [to_input, to_bias];
            return differentiable::<B, C, _, _>(nodes, output, weight, |weight, gradient| {
                to_input_and_bias(weight, Float::<B>(gradient))
            });
        }
        let nodes = [to_input, to_weight, to_bias];
        differentiable::<B, C, _, _>(
            nodes,
            output,
            [input, weight],
            |[input, weight], gradient| {
                let gradient = Float::<B>(gradient);
                let to_weight = Float(input).transpose().times(gradient.clone());
                let [to_input, to_bias] = to_input_and_bias(weight, gradient);
                [to_input, to_weight.0, to_bias]
            },
        )
    }
}

#[cfg(feature = "flex")]
mod flex {
    use burn::backend::{Flex, TensorMetadata};

    use super::LinearOps;
    use crate::ops::{
        flex::{FlexTensor, all_f32, in_order, tensor, zeros},
        product::ProductOps,
        streamed::{LayerTensors, streams},
    };

    impl LinearOps for Flex {
        fn linear(input: FlexTensor, weight: FlexTensor, bias: FlexTensor) -> FlexTensor {
            let [rows, inner] = input.shape().dims();
            let [_, width] = bias.shape().dims();
            let is_empty = inner == 0 || width == 0;
            let is_f32 = all_f32(&[&input, &weight, &bias]);
            if !is_f32 || is_empty || !streams(rows, &[&weight]) {
                return Self::product_onto(bias, input, weight);
            }
            let input = in_order(input);
            let mut output = zeros(rows * width);
            let tensors = LayerTensors::new(weight, bias);
            tensors.layer().apply(input.storage(), &mut output);
            tensor(output, [rows, width])
        }
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::module;
    use proptest::prelude::*;

    use super::*;
    use crate::ops::agreement::{assert_close, assert_same, multiplies_empty, random};

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        #[test]
        fn outputs_and_gradients_are_those_of_the_definition(
            rows in prop_oneof![0..40_usize, 120..270_usize],
            inner in 1..40_usize,
            width in prop_oneof![1..70_usize, 380..500_usize],
        ) {
            let device = Device::default().autodiff();
            prop_assume!(rows > 0 || multiplies_empty(&device));
            let inputs = [[rows, inner], [inner, width], [1, width]].map(|shape| random(shape, &device));
            let fused = |[input, weight, bias]: [Tensor<2>; 3]| linear(input, weight, bias.flatten(0, 1));
            let plain = |[input, weight, bias]: [Tensor<2>; 3]| {
                module::linear(input, weight, Some(bias.flatten(0, 1)))
            };
            assert_same(&inputs, fused, plain);
            let inputs = inputs.map(Tensor::inner);
            let [found, expected] = [fused(inputs.clone()), plain(inputs)].map(Tensor::into_data);
            assert_close(&[found], &[expected], 1e-5);
        }
    }

    #[test]
    fn a_frozen_layer_hands_its_gradient_on() {
        let device = Device::default().autodiff();
        let weight = random([6, 5], &device);
        assert_same(
            &[[4, 6], [1, 5]].map(|shape| random(shape, &device)),
            |[input, bias]| linear(input, weight.clone(), bias.flatten(0, 1)),
            |[input, bias]| module::linear(input, weight.clone(), Some(bias.flatten(0, 1))),
        );
    }
}
