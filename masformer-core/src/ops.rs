//! Operations that Burn does not have, or not in a form that is cheap enough.
//!
//! Each is a trait whose default body works on every backend, with a backward pass of its own, and with
//! a faster body on some. This folder alone names backends.

#![allow(
    clippy::inline_always,
    reason = "what is not inlined is not compiled for the processor's vectors"
)]
#![cfg_attr(
    feature = "ndarray",
    allow(deprecated, reason = "a second CPU backend, as long as Burn has it")
)]

mod activation;
mod adam;
#[cfg(test)]
mod agreement;
mod attention;
mod cross_entropy;
mod differentiable;
mod dropout;
mod expert_feed_forward;
mod feed_forward;
#[cfg(feature = "flex")]
mod flex;
mod groups;
mod layer_norm;
mod linear;
#[cfg(feature = "flex")]
mod math;
mod prepack;
mod primitive;
mod product;
#[cfg(feature = "flex")]
mod simd;
mod softmax;
#[cfg(feature = "flex")]
mod streamed;
mod tiles;

pub use activation::{ActivationOps, bias_activation};
pub use adam::{AdamOps, AdamStep, adam_step};
pub use attention::{
    SpanAttentionOps, SpanAttentionOptions, WeightDropout, attention_received, computed_pairs,
    span_attention,
};
pub use cross_entropy::{
    CrossEntropyOps, cross_entropy, linear_cross_entropy, linear_cross_entropy_mean,
};
pub use dropout::{DropoutOps, dropout};
pub use expert_feed_forward::{
    ExpertFeedForwardOps, ExpertOptions, ExpertWeights, expert_feed_forward,
};
pub use feed_forward::{FeedForwardOps, FeedForwardOptions, FeedForwardWeights, feed_forward};
pub use groups::{Groups, is_on_host};
pub use layer_norm::{LayerNormOps, layer_norm};
pub use linear::{LinearOps, linear};
pub use prepack::{Prepacked, prepack};
pub use product::ProductOps;
pub use softmax::{SoftmaxOps, softmax};
