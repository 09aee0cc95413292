//! The pairs of tokens that attention sees.

use burn::prelude::*;
use masformer_core::{Direction, Span};

/// The pairs of tokens of a batch that a layer compares.
#[derive(Clone, Debug)]
pub struct Pairs {
    /// `[B or 1, 1, T, T]`, true where a token does not see another.
    pub(super) unseen: Option<Tensor<4, Bool>>,
    /// `[B, 1, T]`, 1 at real tokens and 0 at padding.
    pub(super) real: Tensor<3>,
}

impl Pairs {
    /// The pairs that a layer of this span sees in sequences of `length` tokens, and of them those of real tokens.
    ///
    /// # Shapes
    ///
    /// - padding: `[B, T]`, true where a position is padding
    pub fn new(
        (span, direction): (Span, Direction),
        [batch, length]: [usize; 2],
        padding: Option<&Tensor<2, Bool>>,
        device: &Device,
    ) -> Self {
        let outside = (span, direction) != (Span::Full, Direction::Bidirectional);
        let outside = outside.then(|| {
            let queries = 0..length;
            let unseen: Vec<bool> = queries
                .flat_map(|query| (0..length).map(move |key| !span.sees(direction, query, key)))
                .collect();
            let unseen = TensorData::new(unseen, [1, 1, length, length]);
            Tensor::<4, Bool>::from_data(unseen, device)
        });
        let padded = padding.map(|padding| padding.clone().reshape([batch, 1, 1, length]));
        let unseen = match (outside, padded) {
            (Some(outside), Some(padded)) => {
                let all = [batch, 1, length, length];
                Some(outside.expand(all).bool_or(padded.expand(all)))
            }
            (outside, padded) => outside.or(padded),
        };
        let real = match padding {
            Some(padding) => padding.clone().bool_not().float(),
            None => Tensor::ones([batch, length], device),
        };
        Self {
            unseen,
            real: real.reshape([batch, 1, length]),
        }
    }
}
