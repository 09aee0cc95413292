//! What a layer mixes tokens with.

mod span;

use std::fmt;

use burn::{
    module::{Module, ModuleDisplay},
    prelude::*,
};

use crate::flow::Flow;

pub use span::{SpanAttention, SpanAttentionConfig};

/// The part of a layer in which tokens meet, without residual connection and normalisation.
pub trait Mix: Module + ModuleDisplay {
    /// What the mixer keeps of the tokens before.
    type Cache: Clone + fmt::Debug;

    /// Mixes whole sequences or, with a cache, the tokens that follow those in the cache, which takes
    /// them in.
    ///
    /// One method for both, so that one fold over layers serves both; by value, so that the hidden states can
    /// be freed once they are projected.
    ///
    /// # Shapes
    ///
    /// - hidden states and output: `[B, T, D]`; with a cache, of the new tokens alone
    ///
    /// # Panics
    ///
    /// If the padding is not `[B, T]`, or there is a cache and the mixer sees later positions.
    fn forward(&self, flow: Flow, cache: Option<&mut Self::Cache>) -> Tensor<3>;

    /// An empty cache for this mixer.
    fn cache(&self) -> Self::Cache;

    /// Multiply-adds of the mixer for one sequence of `length` tokens.
    fn cost(&self, length: usize) -> usize;
}
