//! What travels from layer to layer.

use burn::prelude::*;

use crate::token_dropping::Dropped;

/// The tokens of a batch, besides their hidden states.
#[derive(Clone, Debug)]
pub struct Tokens {
    /// Token ids `[B, T]`.
    pub ids: Tensor<2, Int>,
    /// Padding `[B, T]`, true where a position is padding; `None` where there is none.
    pub padding: Option<Tensor<2, Bool>>,
}

impl Tokens {
    /// The tokens of these ids `[B, T]`, with padding `[B, T]` where there is any.
    pub fn new(ids: Tensor<2, Int>, padding: Option<Tensor<2, Bool>>) -> Self {
        Self { ids, padding }
    }
}

/// The one value that travels between the layers of a model.
#[derive(Clone, Debug)]
pub struct Flow {
    /// Hidden states `[B, T, D]`.
    pub hidden: Tensor<3>,
    /// The tokens at the same positions.
    pub tokens: Tokens,
    /// The tokens that layers below have dropped; `None` where all are here.
    pub dropped: Option<Dropped>,
}

impl Flow {
    /// Hidden states `[B, T, D]` of these tokens, of which none is dropped.
    pub fn new(hidden: Tensor<3>, tokens: Tokens) -> Self {
        Self {
            hidden,
            tokens,
            dropped: None,
        }
    }

    /// The last hidden state of every token `[B, T, D]`, dropped or not.
    pub fn all_hidden(&self) -> Tensor<3> {
        match &self.dropped {
            Some(dropped) => dropped.all_hidden(&self.hidden),
            None => self.hidden.clone(),
        }
    }
}
