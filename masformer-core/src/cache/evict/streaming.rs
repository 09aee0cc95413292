//! The first pairs and the newest.

use burn::prelude::*;
use serde::{Deserialize, Serialize};

use super::{Evict, EvictSpec, Pass, Turn};
use crate::{cache::Survivors, text_form::TextForm};

/// Attention sinks, `streaming` in texts (`StreamingLLM`, arXiv 2309.17453, section 3.2): the first `S` pairs stay,
/// and of the others the newest, up to the budget.
///
/// With a budget of `b`, each token sees what it sees in a layer with the span `window:(b-S)+S`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Streaming {
    /// `S`, below the budget. Default 4, the paper's.
    pub sinks: usize,
}

impl Default for Streaming {
    fn default() -> Self {
        Self { sinks: 4 }
    }
}

impl TextForm for Streaming {
    const NAME: &'static str = "streaming";
    const BARE: Option<&'static str> = Some("sinks");
}

impl EvictSpec for Streaming {
    type Policy = Self;

    fn init(&self) -> Self {
        *self
    }

    fn least_budget(&self) -> usize {
        self.sinks.saturating_add(1)
    }
}

impl Evict for Streaming {
    fn turn(&self, _pass: Pass) -> Turn {
        Turn::Before
    }

    fn keep(&mut self, pass: Pass, _received: Option<Tensor<2>>) -> Survivors {
        let length = pass.old + pass.new;
        if length <= pass.budget {
            return Survivors::All;
        }
        let newest = pass.budget - self.sinks;
        Survivors::Ranges([0..self.sinks, length - newest..length])
    }
}

#[cfg(test)]
mod tests {
    use crate::cache::reference::assert_baseline;

    #[test]
    fn survivors_are_those_of_the_reference() {
        assert_baseline("streaming", "streaming:2");
    }
}
