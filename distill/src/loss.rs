//! What a student is compared by: pure functions on tensors.

pub mod cosine;
pub mod first_token;
pub mod hidden;
pub mod logits;
pub mod pairs;
pub mod relation;
pub mod scores;

pub use hidden::Padding;
pub use logits::LogitsForm;
