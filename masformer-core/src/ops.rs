//! Operations that Burn does not have, or not in a form that is cheap enough.
//!
//! Each is a trait whose default body works on every backend, with a backward pass of its own. This
//! folder alone names backends.

#![cfg_attr(
    feature = "flex",
    allow(
        clippy::inline_always,
        reason = "vector code runs in the widest instructions only where it is part of their function"
    )
)]

#[cfg_attr(
    feature = "ndarray",
    allow(deprecated, reason = "a second CPU backend, as long as Burn has it")
)]
mod attention;
mod primitive;
#[cfg(feature = "flex")]
mod simd;
mod tiles;

pub use attention::{SpanAttentionOps, SpanAttentionOptions, WeightDropout, span_attention};
