//! What a student is compared by: pure functions on tensors.

pub mod hidden;
pub mod logits;

pub use hidden::HiddenLoss;
pub use logits::LogitsLoss;
