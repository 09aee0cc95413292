//! What importance, partition and saving need of a model, encoder or decoder.

use burn::{
    module::{Module, Param},
    prelude::*,
};
use masformer_core::{Decoder, Mlp, Stack};

use crate::{half::Half, heads::BertModel};

/// A model of layers whose feed-forward halves may be experts, encoder or decoder.
pub trait Layered: Module {
    /// The layers.
    fn stack(&self) -> &Stack<Half>;

    /// The layers, to be changed.
    fn stack_mut(&mut self) -> &mut Stack<Half>;

    /// The token embeddings, one row for each of `V` ids.
    fn embedding(&self) -> &Param<Tensor<2>>;

    /// Whether a token may depend on those after it.
    fn is_causal(&self) -> bool;

    /// Number of token ids `V`.
    fn vocabulary(&self) -> usize {
        self.embedding().dims()[0]
    }

    /// Width `D` of the hidden states.
    fn width(&self) -> usize;

    /// The number of layers, and of neurons in each dense feed-forward half (0 where none is dense).
    fn neurons(&self) -> (usize, usize) {
        let layers = &self.stack().layers;
        let mut dense = layers.iter().filter_map(|layer| layer.feed_forward.dense());
        let width = dense.next().map_or(0, Mlp::width);
        (layers.len(), width)
    }

    /// Whether some layer has experts.
    fn has_experts(&self) -> bool {
        let mut layers = self.stack().layers.iter();
        layers.any(|layer| layer.feed_forward.experts().is_some())
    }
}

impl Layered for BertModel {
    fn stack(&self) -> &Stack<Half> {
        &self.bert.stack
    }

    fn stack_mut(&mut self) -> &mut Stack<Half> {
        &mut self.bert.stack
    }

    fn embedding(&self) -> &Param<Tensor<2>> {
        &self.bert.embeddings.word.weight
    }

    fn width(&self) -> usize {
        self.bert.embeddings.width()
    }

    fn is_causal(&self) -> bool {
        false
    }
}

impl Layered for Decoder<Half> {
    fn stack(&self) -> &Stack<Half> {
        &self.stack
    }

    fn stack_mut(&mut self) -> &mut Stack<Half> {
        &mut self.stack
    }

    fn embedding(&self) -> &Param<Tensor<2>> {
        &self.token.weight
    }

    fn width(&self) -> usize {
        self.token.weight.dims()[1]
    }

    fn is_causal(&self) -> bool {
        true
    }
}
