//! The share of tokens that each layer leaves.

use masformer_core::Stack;
use serde_json::{Value, json};

use super::Structure;
use crate::half::Half;

/// `drop_tokens`: one share for each layer from the bottom, 1 where a layer leaves all.
pub(super) struct DropTokens;

impl Structure for DropTokens {
    fn key(&self) -> &'static str {
        "drop_tokens"
    }

    fn write(&self, stack: &Stack<Half>) -> Option<Value> {
        let shares = stack.token_shares();
        let drops = shares.iter().any(|share| *share < 1.0);
        drops.then(|| json!(shares))
    }

    fn read(&self, value: &Value, stack: &mut Stack<Half>) -> Result<(), String> {
        let shares: Vec<f64> = serde_json::from_value(value.clone())
            .map_err(|error| format!("must be a list of shares: {error}"))?;
        stack
            .drop_tokens(&shares)
            .map_err(|error| format!("cannot be: {error}"))
    }
}
