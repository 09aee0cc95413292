//! Fewer tokens from layer to layer.

use masformer_core::TokenDropping;
use moebert_core::layered::Layered;
use serde::{Deserialize, Serialize};

use super::Surgery;
use crate::MethodError;

/// Drops tokens from layer to layer of an encoder (latency-adjustable encoder, arXiv 2201.03327): between its mixer and its
/// feed-forward half, each layer leaves those that receive most attention ([`TokenDropping`]).
///
/// How many are left falls evenly to `last`, or is `keep`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DropTokens {
    /// The share of tokens that the last layer leaves; the layers below leave shares that fall evenly from 1 to it.
    pub last: f64,
    /// The share that each layer leaves, from the bottom, instead.
    pub keep: Option<Vec<f64>>,
}

impl Default for DropTokens {
    fn default() -> Self {
        Self {
            last: 0.5,
            keep: None,
        }
    }
}

impl DropTokens {
    /// The share that each of so many layers leaves, from the bottom.
    fn shares(&self, layers: usize) -> Vec<f64> {
        let step = (1.0 - self.last) / layers as f64;
        let falling = || (1..=layers).map(|l| 1.0 - step * l as f64).collect();
        self.keep.clone().unwrap_or_else(falling)
    }
}

impl<M: Layered> Surgery<M> for DropTokens {
    fn name(&self) -> &'static str {
        "drop-tokens"
    }

    fn check(&self) -> Result<(), MethodError> {
        for share in self.keep.iter().flatten().chain([&self.last]) {
            TokenDropping::new(*share)?;
        }
        let falls = self
            .keep
            .as_ref()
            .is_none_or(|keep| keep.is_sorted_by(|one, next| one >= next));
        if !falls {
            return Err("`keep` must not rise: a token that is dropped does not come back".into());
        }
        Ok(())
    }

    fn apply(&self, mut model: M) -> Result<M, MethodError> {
        if model.is_causal() {
            return Err("tokens are dropped from encoders alone; a decoder needs them all".into());
        }
        let stack = model.stack_mut();
        stack.drop_tokens(&self.shares(stack.layers.len()))?;
        Ok(model)
    }
}
