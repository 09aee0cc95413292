//! What travels from layer to layer.

use burn::{prelude::*, tensor::IndexingUpdateOp};

use crate::relative::Relative;

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
    /// The relative positions that all layers share, in a model that has them.
    pub relative: Option<Relative>,
    /// The tokens that layers below have dropped; `None` where all are here.
    pub dropped: Option<Dropped>,
}

impl Flow {
    /// Hidden states `[B, T, D]` of these tokens, of which none is dropped, without relative positions.
    pub fn new(hidden: Tensor<3>, tokens: Tokens) -> Self {
        Self {
            hidden,
            tokens,
            relative: None,
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

/// The tokens that layers have dropped, and where those stand that are left.
#[derive(Clone, Debug)]
pub struct Dropped {
    /// The least share of tokens that a layer has left.
    pub(crate) share: f64,
    /// `[B, T, D]`, with the last hidden state of those that are dropped.
    pub(crate) hidden: Tensor<3>,
    /// Where the tokens that are left stood at first `[B, K]`.
    pub(crate) positions: Tensor<2, Int>,
    /// Whether they are real `[B, K]`: 1, or 0 where they fill up a batch.
    pub(crate) real: Tensor<2, Int>,
    /// Real tokens at first `[B, 1]`.
    pub(crate) lengths: Tensor<2>,
}

impl Dropped {
    /// The last hidden state of every token `[B, T, D]`, of which `left` `[B, K, D]` are those of the tokens that are
    /// left.
    fn all_hidden(&self, left: &Tensor<3>) -> Tensor<3> {
        let [batch, length, _] = self.hidden.dims();
        let [_, count] = self.positions.dims();
        let real = self.real.clone().float().cast(left.dtype());
        let at = |width: usize| {
            let positions = self.positions.clone().unsqueeze_dim::<3>(2);
            positions.expand([batch, count, width])
        };
        let real = real.unsqueeze_dim::<3>(2);
        let options = (&left.device(), left.dtype());
        let spread = |values: Tensor<3>| {
            let [_, _, width] = values.dims();
            let zeros = Tensor::zeros([batch, length, width], options);
            zeros.scatter(1, at(width), values, IndexingUpdateOp::Add)
        };
        let is_left = spread(real.clone());
        // Sums with zeros, so that no state changes by rounding.
        self.hidden.clone() * (1.0 - is_left) + spread(left.clone() * real)
    }
}
