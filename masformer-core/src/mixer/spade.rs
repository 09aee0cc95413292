//! SPADE: a state space beside the attention of the layer.

use burn::{
    module::Module,
    nn::{Linear, LinearConfig},
    prelude::*,
};
use serde::{Deserialize, Serialize};

use super::{
    Mix, MixCache, MixSpec, Reach, SpanAttention, SpanAttentionConfig,
    state_space::{StateSpace, StateSpaceCache, StateSpaceConfig},
};
use crate::{
    cache::LayerCache,
    flow::Flow,
    linear::{apply_linear, multiply_adds, zero_bias},
    norm::{Norm, NormConfig},
    span::Span,
    text_form::TextForm,
    trace::Trace,
};

/// How [`Spade`] puts the outputs of its two parts together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Combine {
    /// `W [LN(s); LN(l)] + b`, the paper's.
    #[default]
    Concat,
    /// `(LN(s) + LN(l)) / 2`.
    Add,
    /// The attention reads the states instead of the input: `l = Attention(s)`.
    Stack,
}

/// `spade` in texts: [`Spade`]. Its keys are `combine` and those of the state space.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct SpadeSpec {
    /// How the two parts are put together: `concat`, `add` or `stack`. Default `concat`.
    pub combine: Combine,
    /// The state space.
    #[serde(flatten)]
    pub state_space: StateSpaceConfig,
}

/// SPADE (arXiv 2212.08136, section 3): a diagonal state space `s`, without activation or projection, beside
/// attention `l` over the layer's span; both read the same input.
///
/// The published model has the state space of S4, whose matrix is diagonal plus low rank, and biases of relative
/// positions in its attention. Here it is that of S4D, and positions are the model's.
#[derive(Module, Debug)]
pub struct Spade {
    /// The state spaces of `D` channels.
    pub state_space: StateSpace,
    /// The attention.
    pub attention: SpanAttention,
    /// What puts their outputs together; `None` where the attention reads the states ([`Combine::Stack`]).
    pub join: Option<Join>,
}

/// The mean of normalised states and attention ([`Combine::Add`]), or a linear layer over both
/// ([`Combine::Concat`]).
#[derive(Module, Debug)]
pub struct Join {
    /// Normalisation of the states.
    pub state_norm: Norm,
    /// Normalisation of the attention's output.
    pub attention_norm: Norm,
    /// `W`, stored `[2 D, D]`, the states first, and `b`; `None` for the mean.
    pub aggregate: Option<Linear>,
}

/// What [`Spade`] keeps: the states, and the keys and values of its span.
#[derive(Clone, Debug)]
pub struct SpadeCache {
    /// The states.
    pub states: StateSpaceCache,
    /// Keys and values.
    pub attention: LayerCache,
}

impl TextForm for SpadeSpec {
    const NAME: &'static str = "spade";

    fn check(&self) -> Result<(), String> {
        self.state_space.check()
    }
}

impl MixSpec for SpadeSpec {
    type Mixer = Spade;

    fn init(&self, attention: &SpanAttentionConfig, device: &Device) -> Spade {
        let hidden = attention.hidden;
        let norm = || NormConfig::new(hidden).init(device);
        let aggregate = || {
            let config = LinearConfig::new(2 * hidden, hidden)
                .with_initializer(attention.initializer.clone());
            zero_bias(config.init(device))
        };
        let join = |aggregate| Join {
            state_norm: norm(),
            attention_norm: norm(),
            aggregate,
        };
        Spade {
            state_space: self.state_space.init(hidden, attention.direction, device),
            attention: attention.init(device),
            join: match self.combine {
                Combine::Concat => Some(join(Some(aggregate()))),
                Combine::Add => Some(join(None)),
                Combine::Stack => None,
            },
        }
    }

    fn fits(&self, attention: &SpanAttentionConfig) -> Result<(), String> {
        attention.check()
    }

    fn reach(&self, span: Span) -> Reach {
        Reach {
            span: Some(span),
            is_summarised: true,
        }
    }

    fn state(&self, attention: &SpanAttentionConfig) -> usize {
        self.state_space.state(attention.hidden)
    }
}

impl MixCache for SpadeCache {
    fn select(&mut self, rows: &Tensor<1, Int>) {
        self.states.select(rows);
        self.attention.select(rows);
    }

    fn attention(&mut self) -> Option<&mut LayerCache> {
        Some(&mut self.attention)
    }
}

impl Join {
    /// Puts states and the attention's output together.
    ///
    /// # Shapes
    ///
    /// - states, attended and output: `[B, T, D]`
    pub fn forward(&self, states: Tensor<3>, attended: Tensor<3>) -> Tensor<3> {
        let [batch, length, width] = states.dims();
        let states = self.state_norm.forward(states);
        let attended = self.attention_norm.forward(attended);
        match &self.aggregate {
            None => (states + attended) * 0.5,
            Some(aggregate) => {
                let both = Tensor::cat(vec![states, attended], 2);
                let rows = both.reshape([batch * length, 2 * width]);
                apply_linear(aggregate, rows).reshape([batch, length, width])
            }
        }
    }
}

impl Mix for Spade {
    type Cache = SpadeCache;

    fn forward(&self, flow: Flow, cache: Option<&mut SpadeCache>, trace: &mut Trace) -> Tensor<3> {
        let Flow { hidden, tokens, .. } = flow;
        let padding = tokens.padding.as_ref();
        let (state_cache, attention_cache) = match cache {
            Some(SpadeCache { states, attention }) => (Some(states), Some(attention)),
            None => (None, None),
        };
        let states = self
            .state_space
            .forward(hidden.clone(), padding, state_cache);
        let attend = |input| match attention_cache {
            Some(cache) => self.attention.forward_cached(input, padding, cache, trace),
            None => self.attention.forward(input, padding, trace),
        };
        match &self.join {
            Some(join) => join.forward(states, attend(hidden)),
            None => attend(states),
        }
    }

    fn cache(&self) -> SpadeCache {
        SpadeCache {
            states: StateSpaceCache::default(),
            attention: LayerCache::new(self.attention.span()),
        }
    }

    fn attention(&self) -> Option<&SpanAttention> {
        Some(&self.attention)
    }

    fn cost(&self, length: usize) -> usize {
        let aggregate = self.join.as_ref().and_then(|join| join.aggregate.as_ref());
        let aggregate = aggregate.map_or(0, multiply_adds);
        self.state_space.cost(length) + self.attention.cost(length) + aggregate * length
    }
}

#[cfg(test)]
mod tests;
