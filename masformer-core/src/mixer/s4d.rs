//! S4D: a diagonal state space instead of attention.

use burn::{
    module::Module,
    nn::{Linear, LinearConfig},
    prelude::*,
};
use serde::{Deserialize, Serialize};

use super::{
    Mix, MixCache, MixSpec, Reach, SpanAttentionConfig,
    state_space::{StateSpace, StateSpaceCache, StateSpaceConfig},
};
use crate::{
    activation::Activation,
    flow::Flow,
    linear::{apply_linear, multiply_adds, zero_bias},
    span::Span,
    text_form::TextForm,
    trace::Trace,
};

/// `s4d` in texts: [`S4d`]. Its keys are those of the state space.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct S4dSpec {
    /// The state space.
    #[serde(flatten)]
    pub state_space: StateSpaceConfig,
}

/// S4D (arXiv 2206.11893): a diagonal [`StateSpace`] for each channel, then gelu and a linear layer that mixes the
/// channels, as in the blocks of the paper (section 5 and appendix C).
///
/// It has no positions, heads or span; of the layer's attention it takes hidden width, direction and initialiser.
#[derive(Module, Debug)]
pub struct S4d {
    /// The state spaces of `D` channels.
    pub state_space: StateSpace,
    /// The linear layer after gelu, stored `[D, D]`.
    pub project: Linear,
}

impl TextForm for S4dSpec {
    const NAME: &'static str = "s4d";

    fn check(&self) -> Result<(), String> {
        self.state_space.check()
    }
}

impl MixSpec for S4dSpec {
    type Mixer = S4d;

    fn init(&self, attention: &SpanAttentionConfig, device: &Device) -> S4d {
        let hidden = attention.hidden;
        let project = LinearConfig::new(hidden, hidden)
            .with_initializer(attention.initializer.clone())
            .init(device);
        S4d {
            state_space: self.state_space.init(hidden, attention.direction, device),
            project: zero_bias(project),
        }
    }

    fn reach(&self, _span: Span) -> Reach {
        Reach {
            span: None,
            is_summarised: true,
        }
    }

    fn state(&self, attention: &SpanAttentionConfig) -> usize {
        self.state_space.state(attention.hidden)
    }
}

impl MixCache for StateSpaceCache {
    fn select(&mut self, rows: &Tensor<1, Int>) {
        StateSpaceCache::select(self, rows);
    }
}

impl Mix for S4d {
    type Cache = StateSpaceCache;

    fn forward(
        &self,
        flow: Flow,
        cache: Option<&mut StateSpaceCache>,
        _trace: &mut Trace,
    ) -> Tensor<3> {
        let Flow { hidden, tokens, .. } = flow;
        let [batch, length, width] = hidden.dims();
        let states = self
            .state_space
            .forward(hidden, tokens.padding.as_ref(), cache);
        let active = Activation::Gelu.forward(states.reshape([batch * length, width]));
        apply_linear(&self.project, active).reshape([batch, length, width])
    }

    fn cache(&self) -> StateSpaceCache {
        StateSpaceCache::default()
    }

    fn cost(&self, length: usize) -> usize {
        let projection = multiply_adds(&self.project);
        self.state_space.cost(length) + projection * length
    }
}

#[cfg(test)]
mod tests;
