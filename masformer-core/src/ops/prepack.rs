//! Weights laid out once, in the order in which inference on a CPU reads them.
//!
//! A forward pass over few tokens takes about as long as its weights need to come from memory, and rows
//! of a weight are far from each other there. ONNX Runtime and XNNPACK call the same thing prepacking.

#[cfg(feature = "flex")]
mod flex;

use burn::prelude::*;

#[cfg(feature = "flex")]
pub(super) use flex::{PackedWeight, packed};

/// The prepacked weights of a model, which inference uses for as long as this or a clone of it lives.
#[derive(Clone, Debug, Default)]
#[must_use = "weights are prepacked for as long as this lives"]
pub struct Prepacked {
    #[cfg(feature = "flex")]
    #[allow(
        dead_code,
        reason = "layers find a weight by its tensor; this keeps it"
    )]
    weights: Vec<std::sync::Arc<PackedWeight>>,
}

/// Lays out the weights of all [`Linear`](burn::nn::Linear) layers of a model that is loaded for
/// inference, for [`linear`](super::linear()), [`feed_forward`](super::feed_forward()) and
/// [`expert_feed_forward`](super::expert_feed_forward()), and so for all modules of this crate.
///
/// The model stays as it is, and can be trained, saved and dropped; a weight that changes or is loaded
/// anew is no longer a prepacked one. What is prepacked takes as much memory again as the weights, and
/// comes to the same numbers, but for rounding where less than four tokens pass at a time.
///
/// Nothing happens on other backends than flex, to models under autodiff, or to types of numbers other than
/// `f32`.
///
/// ```
/// use burn::prelude::*;
/// use masformer_core::{MlpConfig, ops::prepack};
///
/// let model = MlpConfig::new(64, 256).init(&Device::default());
/// let prepacked = prepack(&model);
/// // Whatever is computed here reads the weights in their new order.
/// drop(prepacked);
/// ```
#[cfg_attr(
    not(feature = "flex"),
    allow(unused_variables, reason = "only flex reads weights in another order")
)]
pub fn prepack<M: Module>(model: &M) -> Prepacked {
    Prepacked {
        #[cfg(feature = "flex")]
        weights: flex::pack_linears(model),
    }
}

#[cfg(all(test, feature = "flex"))]
mod tests;
