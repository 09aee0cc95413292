//! BERT whose feed-forward layers may be split, by importance, into experts (`MoEBERT`, arXiv
//! 2204.07675).
//!
//! Shapes use one legend throughout Kiln: `B` batch, `T` tokens, `N = B * T`, `D` hidden, `H` heads,
//! `E` experts, `F` feed-forward width, `L` layers, `V` vocabulary, `C` classes. Boolean masks
//! follow Burn: `true` is masked out.

#![forbid(unsafe_code)]
#![cfg_attr(
    test,
    allow(clippy::disallowed_methods, reason = "tests compare numbers")
)]

pub mod adapt;
pub mod bert;
pub mod cost;
pub mod expert;
pub mod expert_files;
pub mod half;
pub mod heads;
pub mod importance;
pub mod keep_layers;
pub mod layered;
pub mod partition;
pub mod pretrained;
pub mod router;

mod structure;

pub use masformer_core::{file, tensor_file};
