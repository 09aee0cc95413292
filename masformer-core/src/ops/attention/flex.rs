//! Span attention on Burn's flex backend: the kernel for numbers of 32 bits.

use burn::{
    backend::{Flex, TensorMetadata},
    tensor::DType,
};

use super::{
    SpanAttentionOps, SpanAttentionOptions, composed,
    kernel::{self, Gradients, Inputs, Results, Sizes, View},
};
use crate::ops::flex::{FlexTensor, tensor, zeros};

impl SpanAttentionOps for Flex {
    fn span_attention(
        query: FlexTensor,
        key: FlexTensor,
        value: FlexTensor,
        bias: FlexTensor,
        options: SpanAttentionOptions,
    ) -> (FlexTensor, FlexTensor) {
        if query.dtype() != DType::F32 {
            return composed::forward::<Self>([query, key, value, bias], options);
        }
        let [batch, heads, queries, width] = query.shape().dims();
        let mut output = cleared([batch, queries, heads, width]);
        let mut denominators = cleared([batch, heads, queries, 1]);
        let inputs = OnFlex::new([query, key, value, bias]);
        kernel::forward(
            inputs.view(options),
            output.storage_mut(),
            denominators.storage_mut(),
        );
        (by_heads(output), denominators)
    }

    fn span_attention_output(
        query: FlexTensor,
        key: FlexTensor,
        value: FlexTensor,
        bias: FlexTensor,
        options: SpanAttentionOptions,
    ) -> FlexTensor {
        Self::span_attention(query, key, value, bias, options).0
    }

    fn span_attention_backward(
        query: FlexTensor,
        key: FlexTensor,
        value: FlexTensor,
        bias: FlexTensor,
        output: FlexTensor,
        denominators: FlexTensor,
        gradient: FlexTensor,
        options: SpanAttentionOptions,
    ) -> (FlexTensor, FlexTensor, FlexTensor) {
        if query.dtype() != DType::F32 {
            let inputs = [query, key, value, bias];
            return composed::backward::<Self>(inputs, [output, denominators, gradient], options);
        }
        let [mut to_query, mut to_key, mut to_value] = [&query, &key, &value].map(|input| {
            let [batch, heads, length, width] = input.shape().dims();
            cleared([batch, length, heads, width])
        });
        let inputs = OnFlex::new([query, key, value, bias]);
        let [output, gradient] = [output, gradient].map(in_rows);
        let denominators = denominators.to_contiguous();
        let results = Results {
            output: view(&output),
            denominators: denominators.storage(),
            gradient: view(&gradient),
        };
        let gradients = Gradients {
            query: to_query.storage_mut(),
            key: to_key.storage_mut(),
            value: to_value.storage_mut(),
        };
        kernel::backward(inputs.view(options), results, gradients);
        (by_heads(to_query), by_heads(to_key), by_heads(to_value))
    }
}

/// `[B, T, H, d]` as `[B, H, T, d]`.
fn by_heads(tensor: FlexTensor) -> FlexTensor {
    tensor.transpose(1, 2)
}

/// The inputs, in rows.
struct OnFlex {
    query: FlexTensor,
    key: FlexTensor,
    value: FlexTensor,
    bias: FlexTensor,
}

impl OnFlex {
    fn new([query, key, value, bias]: [FlexTensor; 4]) -> Self {
        let [query, key, value] = [query, key, value].map(in_rows);
        Self {
            query,
            key,
            value,
            bias: bias.to_contiguous(),
        }
    }

    fn view(&self, options: SpanAttentionOptions) -> Inputs<'_> {
        let [batch, heads, queries, width] = self.query.shape().dims();
        let [_, _, keys, _] = self.key.shape().dims();
        let bias = self.bias.storage();
        Inputs {
            query: view(&self.query),
            key: view(&self.key),
            value: view(&self.value),
            bias: (bias.len() == batch * keys).then_some(bias),
            sizes: Sizes {
                heads,
                queries,
                keys,
                width,
            },
            options,
        }
    }
}

fn cleared(shape: [usize; 4]) -> FlexTensor {
    tensor(zeros(shape.iter().product()), shape)
}

/// The tensor itself if the numbers of its innermost dimension are in one piece, otherwise a copy.
fn in_rows(tensor: FlexTensor) -> FlexTensor {
    let [outer @ .., inner] = tensor.layout().strides() else {
        return tensor;
    };
    if *inner == 1 && outer.iter().all(|stride| *stride >= 0) {
        tensor
    } else {
        tensor.to_contiguous()
    }
}

/// Views what [`in_rows`] gave.
fn view(tensor: &FlexTensor) -> View<'_> {
    let mut strides = [0; 3];
    for (stride, &of_tensor) in strides.iter_mut().zip(tensor.layout().strides()) {
        *stride = of_tensor.unsigned_abs();
    }
    View {
        data: tensor.storage(),
        start: tensor.layout().start_offset(),
        strides,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand::{RngExt, SeedableRng, rngs::StdRng};

    use super::*;
    use crate::{
        ops::{
            attention::{HIDDEN, WeightDropout},
            tiles::tests::{directions, spans},
        },
        span::{Direction, Span},
    };

    /// Heads in every order of the dimensions that a caller may have them in.
    fn random(rng: &mut StdRng, [batch, heads, length, width]: [usize; 4]) -> FlexTensor {
        let count = batch * heads * length * width;
        let numbers: Vec<f32> = (0..count).map(|_| rng.random_range(-2.0..2.0)).collect();
        match rng.random_range(0..4) {
            // As projections give them, as transposed keys, and from the second position on.
            0 => tensor(numbers, [batch, length, heads, width]).transpose(1, 2),
            1 => tensor(numbers, [batch, heads, width, length]).transpose(2, 3),
            2 => {
                let longer = numbers.repeat(2);
                tensor(longer, [batch, heads, 2 * length, width]).narrow(2, 1, length)
            }
            _ => tensor(numbers, [batch, heads, length, width]),
        }
    }

    fn numbers(tensor: FlexTensor) -> Vec<f32> {
        tensor.into_data().try_into_vec().unwrap()
    }

    /// Output and gradients.
    type Run = [FlexTensor; 4];

    fn by_kernel(
        inputs: [FlexTensor; 4],
        gradient: FlexTensor,
        options: SpanAttentionOptions,
    ) -> Run {
        let [query, key, value, bias] = inputs.clone();
        let (output, denominators) = Flex::span_attention(query, key, value, bias, options);
        let [query, key, value, bias] = inputs;
        let kept = output.clone();
        let (query, key, value) = Flex::span_attention_backward(
            query,
            key,
            value,
            bias,
            kept,
            denominators,
            gradient,
            options,
        );
        [output, query, key, value]
    }

    fn composed(
        inputs: [FlexTensor; 4],
        gradient: FlexTensor,
        options: SpanAttentionOptions,
    ) -> Run {
        let (output, denominators) = composed::forward::<Flex>(inputs.clone(), options);
        let results = [output.clone(), denominators, gradient];
        let (query, key, value) = composed::backward::<Flex>(inputs, results, options);
        [output, query, key, value]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        #[test]
        fn the_kernel_equals_the_definition(
            span in spans(),
            direction in directions(),
            batch in 1..3_usize,
            heads in 1..4_usize,
            keys in 1..400_usize,
            cached in prop_oneof![Just(0), 0..400_usize],
            width in prop_oneof![1..40_usize, Just(64)],
            padded in proptest::option::of(0..401_usize),
            left in any::<bool>(),
            dropout in proptest::option::of(0.01..0.9_f64),
            seed in any::<u64>(),
        ) {
            let mut rng = StdRng::seed_from_u64(seed);
            let queries = keys - cached.min(keys - 1);
            let [query, key, value, gradient] = [queries, keys, keys, queries]
                .map(|length| random(&mut rng, [batch, heads, length, width]));
            // The first sequence is padded on one side, entirely if the draw is longer than it.
            let bias = match padded {
                None => tensor(vec![0.0], [1, 1, 1, 1]),
                Some(padded) => {
                    let hidden = |place| {
                        place < keys && if left { place < padded } else { place + padded >= keys }
                    };
                    let bias = (0..batch * keys)
                        .map(|place| if hidden(place) { HIDDEN as f32 } else { 0.0 });
                    tensor(bias.collect(), [batch, 1, 1, keys])
                }
            };
            let options = SpanAttentionOptions {
                span,
                direction,
                scale: 0.4,
                dropout: dropout.map(|prob| WeightDropout { prob, seed }),
            };
            let inputs = [query, key, value, bias];
            let found = by_kernel(inputs.clone(), gradient.clone(), options);
            let expected = composed(inputs, gradient, options);
            let names = ["output", "query", "key", "value"];
            let largest = |numbers: &[f32]| numbers.iter().fold(1.0, |most: f32, number| most.max(number.abs()));
            // Gradients of queries and keys are differences of terms as large as the gradient of
            // the values; where a query sees a single key, nothing but their rounding is left.
            let terms = largest(&numbers(expected[3].clone()));
            for (name, (found, expected)) in names.into_iter().zip(found.into_iter().zip(expected)) {
                prop_assert_eq!(found.shape(), expected.shape());
                let [found, expected] = [found, expected].map(numbers);
                let size = match name {
                    "query" | "key" => terms.max(largest(&expected)),
                    _ => largest(&expected),
                };
                for (place, (found, expected)) in found.iter().zip(&expected).enumerate() {
                    let difference = (found - expected).abs() / size;
                    prop_assert!(difference < 1e-5, "{}: {} at {}", name, difference, place);
                }
            }
        }
    }

    #[test]
    fn the_kernel_equals_burns_own() {
        let mut rng = StdRng::seed_from_u64(5);
        for (direction, queries) in [
            (Direction::Causal, 150),
            (Direction::Causal, 1),
            (Direction::Bidirectional, 150),
            (Direction::Bidirectional, 40),
        ] {
            let [query, key, value] =
                [queries, 150, 150].map(|length| random(&mut rng, [2, 2, length, 24]));
            let inputs = [query, key, value, tensor(vec![0.0], [1, 1, 1, 1])];
            let options = SpanAttentionOptions {
                span: Span::Full,
                direction,
                scale: 0.2,
                dropout: None,
            };
            let burns = composed::output::<Flex>(inputs.clone(), options);
            let [query, key, value, bias] = inputs;
            let kernels = Flex::span_attention_output(query, key, value, bias, options);
            // As heads are merged.
            assert!(kernels.transpose(1, 2).is_contiguous());
            let differences = numbers(burns).into_iter().zip(numbers(kernels));
            for (burns, kernels) in differences {
                assert!((burns - kernels).abs() < 1e-5, "{direction:?} {queries}");
            }
        }
    }

    #[test]
    fn runs_agree_to_the_last_bit() {
        let mut rng = StdRng::seed_from_u64(7);
        let [query, key, value, gradient] = [(); 4].map(|()| random(&mut rng, [1, 3, 500, 24]));
        let inputs = [query, key, value, tensor(vec![0.0], [1, 1, 1, 1])];
        let options = SpanAttentionOptions {
            span: Span::Full,
            direction: Direction::Causal,
            scale: 0.2,
            dropout: Some(WeightDropout { prob: 0.1, seed: 3 }),
        };
        let run = || by_kernel(inputs.clone(), gradient.clone(), options).map(numbers);
        let first = run();
        for _ in 0..3 {
            assert!(run() == first);
        }
    }
}
