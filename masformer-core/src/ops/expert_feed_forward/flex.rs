//! Experts on the flex backend: from gathering tokens to normalised rows without a tensor between, an
//! expert a core as long as there are enough.

use std::cmp::Reverse;

use burn::{
    backend::{Flex, TensorMetadata},
    prelude::*,
};
use rayon::prelude::*;

use super::{ExpertFeedForwardOps, ExpertOptions, ExpertWeights};
use crate::ops::{
    flex::{FlexTensor, in_order, is_inference, primitive},
    layer_norm::normalize_row,
    math::vectorize,
    simd::Rows,
    streamed::{FEW, FeedForward, LayerTensors},
};

/// Fewest tokens of a task that normalises.
const NORMALIZED: usize = 16;

/// For training, dropout and other types of numbers.
impl ExpertFeedForwardOps for Flex {}

/// Whether [`together`] is for these tokens and experts: nothing is trained, in numbers of 32 bits.
pub(super) fn computes(input: &Tensor<2>, experts: &[ExpertWeights]) -> bool {
    let fits = |expert: &ExpertWeights| {
        let layers = &expert.feed_forward;
        let vectors = [
            &layers.inner_bias,
            &layers.outer_bias,
            &expert.gamma,
            &expert.beta,
        ];
        expert.options.dropout == 0.0
            && [&layers.inner, &layers.outer].into_iter().all(is_inference)
            && vectors.into_iter().all(is_inference)
    };
    is_inference(input) && experts.iter().all(fits)
}

/// The tokens `[N, D]`, each through the expert among whose rows it is; every expert has some.
pub(super) fn together<'a>(
    input: Tensor<2>,
    experts: impl Iterator<Item = (&'a ExpertWeights, &'a [i64])>,
) -> Tensor<2> {
    let (weights, rows): (Vec<_>, Vec<_>) = experts.unzip();
    let numbers: Vec<_> = weights.iter().map(|weights| Numbers::of(weights)).collect();
    let mut tokens = in_order(primitive(input));
    let [count, hidden] = tokens.shape().dims();
    let mut places: Vec<_> = tokens
        .storage_mut()
        .chunks_exact_mut(hidden)
        .map(Some)
        .collect();
    let mut parts = vec![];
    for (numbers, rows) in numbers.iter().zip(rows) {
        let expert = numbers.expert();
        let mut rows: Vec<_> = rows
            .iter()
            .map(|&row| places[row as usize].take().expect("a token has one expert"))
            .collect();
        // All of about the same size, since each part reads all weights.
        let size = rows.len().div_ceil(rows.len().div_ceil(FEW));
        while !rows.is_empty() {
            let rest = rows.split_off(size.min(rows.len()));
            parts.push((expert, rows));
            rows = rest;
        }
    }
    // The longest first, so that no core waits for a long one at the end.
    parts.sort_by_key(|(_, rows)| Reverse(rows.len()));
    let is_parallel = |(expert, _): &(Expert, _)| expert.layers.is_parallel(count);
    if parts.first().is_some_and(is_parallel) {
        let parts = parts.into_iter().par_bridge();
        parts.for_each(|(expert, rows)| expert.apply(rows, true));
    } else {
        let parts = parts.into_iter();
        parts.for_each(|(expert, rows)| expert.apply(rows, false));
    }
    Tensor::from_primitive::<Flex>(tokens)
}

/// The tensors of an expert.
struct Numbers {
    layers: [LayerTensors; 2],
    gamma: FlexTensor,
    beta: FlexTensor,
    options: ExpertOptions,
}

impl Numbers {
    fn of(weights: &ExpertWeights) -> Self {
        let layers = weights.feed_forward.clone();
        Self {
            layers: [
                (layers.inner, layers.inner_bias),
                (layers.outer, layers.outer_bias),
            ]
            .map(|(weight, bias)| LayerTensors::new(primitive(weight), primitive(bias))),
            gamma: in_order(primitive(weights.gamma.clone())),
            beta: in_order(primitive(weights.beta.clone())),
            options: weights.options,
        }
    }

    fn expert(&self) -> Expert<'_> {
        let [inner, outer] = self.layers.each_ref().map(LayerTensors::layer);
        Expert {
            layers: FeedForward {
                inner,
                outer,
                activation: self.options.feed_forward.activation,
            },
            gamma: self.gamma.storage(),
            beta: self.beta.storage(),
            options: self.options,
        }
    }
}

/// The numbers of an expert.
#[derive(Clone, Copy)]
struct Expert<'a> {
    layers: FeedForward<'a>,
    gamma: &'a [f32],
    beta: &'a [f32],
    options: ExpertOptions,
}

impl Expert<'_> {
    /// Puts some tokens through the expert; `parallel` if other cores may help.
    fn apply(&self, rows: Vec<&mut [f32]>, parallel: bool) {
        let bias = self.layers.outer.bias;
        let hidden = bias.len();
        let mut input = Vec::with_capacity(rows.len() * hidden);
        for row in &rows {
            input.extend_from_slice(row);
        }
        let ExpertOptions {
            epsilon,
            is_pre_norm,
            ..
        } = self.options;
        if is_pre_norm {
            vectorize(
                #[inline(always)]
                |_| {
                    for row in input.chunks_exact_mut(hidden) {
                        normalize_row(row, self.gamma, self.beta, epsilon);
                    }
                },
            );
        }
        let left = Rows {
            data: &input,
            stride: hidden,
        };
        let output = self.layers.product(left, rows.len(), parallel);
        let finish = |(row, target): (usize, &mut [f32])| {
            vectorize(
                #[inline(always)]
                |_| {
                    output.each(row, |columns, part| {
                        let bias = &bias[columns.clone()];
                        let numbers = target[columns].iter_mut().zip(part);
                        for ((sum, output), bias) in numbers.zip(bias) {
                            *sum += output + bias;
                        }
                    });
                    if !is_pre_norm {
                        normalize_row(target, self.gamma, self.beta, epsilon);
                    }
                },
            );
        };
        if parallel {
            let rows = rows.into_par_iter().enumerate();
            rows.with_min_len(NORMALIZED).for_each(finish);
        } else {
            rows.into_iter().enumerate().for_each(finish);
        }
    }
}
