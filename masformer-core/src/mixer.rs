//! What a layer mixes tokens with.
//!
//! A mixer is one file with three small implementations ([`MixSpec`], [`Mix`], [`MixCache`]) and one line of the
//! registry below, which makes [`Mixer`], [`MixerCache`] and [`MixerSpec`] and everything that they hand on.

mod disentangled;
mod error;
mod mixing;
mod s4d;
mod spade;
mod span;
mod state_space;

use std::fmt;

use burn::{
    module::{Module, ModuleDisplay},
    prelude::*,
};
use serde::{Deserialize, Serialize};

use crate::{
    cache::LayerCache, flow::Flow, span::Span, text_form::TextForm, text_forms, trace::Trace,
};

pub use disentangled::{Disentangled, DisentangledSpec};
pub use error::MixerError;
pub use mixing::Mixing;
pub use s4d::{S4d, S4dSpec};
pub use spade::{Combine, Join, Spade, SpadeCache, SpadeSpec};
pub use span::{AttentionSpec, SpanAttention, SpanAttentionConfig};
pub use state_space::{Discretization, StateSpace, StateSpaceCache, StateSpaceConfig};

/// The part of a layer in which tokens meet, without residual connection and normalisation.
///
/// Its parameters are saved under the names of its fields. `query`, `key`, `value` and `output` are those of span
/// attention: another mixer's fields have other names.
pub trait Mix: Module + ModuleDisplay {
    /// What the mixer keeps of the tokens before.
    type Cache: MixCache;

    /// Mixes whole sequences or, with a cache, the tokens that follow those in the cache, which takes
    /// them in.
    ///
    /// One method for both, so that one fold over layers serves both; by value, so that the hidden states can
    /// be freed once they are projected. A mixer with attention keeps its queries, keys and values in the trace
    /// if they are asked for.
    ///
    /// # Shapes
    ///
    /// - hidden states and output: `[B, T, D]`; with a cache, of the new tokens alone
    ///
    /// # Panics
    ///
    /// If the padding is not `[B, T]`, or there is a cache and the mixer sees later positions.
    fn forward(&self, flow: Flow, cache: Option<&mut Self::Cache>, trace: &mut Trace) -> Tensor<3>;

    /// An empty cache for this mixer.
    fn cache(&self) -> Self::Cache;

    /// Multiply-adds of the mixer for one sequence of `length` tokens.
    fn cost(&self, length: usize) -> usize;

    /// The attention that it keeps heads of in the trace, if it has any.
    fn attention(&self) -> Option<&SpanAttention> {
        None
    }
}

/// What a mixer keeps of the tokens before, for each sequence of a batch.
pub trait MixCache: Clone + fmt::Debug {
    /// Takes the sequences `rows` `[R]` of the batch, in that order and as often as they are named.
    fn select(&mut self, rows: &Tensor<1, Int>);

    /// The keys and values that it keeps, if it keeps any.
    fn attention(&mut self) -> Option<&mut LayerCache> {
        None
    }
}

/// How a mixer is made: its settings, and what they alone say of it.
///
/// The name in the text form is not that of a [`Placement`](crate::Placement).
pub trait MixSpec: TextForm {
    /// The mixer.
    type Mixer: Mix;

    /// Makes the mixer of a layer in which span attention would have the configuration `attention`, of which
    /// it takes what it needs: the hidden width and direction at least.
    ///
    /// # Panics
    ///
    /// If the settings are none that [`TextForm::check`] and [`Self::fits`] accept.
    fn init(&self, attention: &SpanAttentionConfig, device: &Device) -> Self::Mixer;

    /// Checks that a layer in which span attention would have the configuration `attention` can have the mixer: its
    /// hidden width and its heads, say, or its direction, if in the mixer tokens see later ones.
    ///
    /// # Errors
    ///
    /// If it cannot: what is wrong.
    fn fits(&self, _attention: &SpanAttentionConfig) -> Result<(), String> {
        Ok(())
    }

    /// Whether the mixer reads the relative positions that the layers of a model share
    /// ([`Flow::relative`](crate::Flow)).
    fn reads_relative(&self) -> bool {
        false
    }

    /// How tokens reach each other in a layer with this span.
    fn reach(&self, span: Span) -> Reach;

    /// How many numbers a decoder keeps for one sequence besides the keys and values of [`Self::reach`],
    /// whatever the length.
    fn state(&self, _attention: &SpanAttentionConfig) -> usize {
        0
    }
}

/// How the tokens of a sequence reach each other in a mixer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reach {
    /// What a query attends to, by pairs of a query and a key; `None` in a mixer without attention.
    pub span: Option<Span>,
    /// Whether all tokens that the direction allows reach a query without a pair, through a state or another
    /// summary of them.
    pub is_summarised: bool,
}

impl Reach {
    /// Whether padding before a sequence leaves it as it is: see [`Span::is_relative`].
    pub fn is_relative(self) -> bool {
        self.span.is_none_or(Span::is_relative)
    }
}

/// Makes the enums of all mixers from one line for each, with the specification that makes it.
macro_rules! mixers {
    ($($(#[$doc:meta])* $arm:ident($spec:ty)),+ $(,)?) => {
        /// Any mixer.
        ///
        /// The variant is no part of the names under which parameters are saved.
        #[derive(Module, Debug)]
        #[allow(clippy::large_enum_variant)]
        pub enum Mixer {
            $($(#[$doc])* $arm(<$spec as MixSpec>::Mixer)),+
        }

        /// The cache of any mixer.
        #[derive(Clone, Debug)]
        #[allow(clippy::large_enum_variant)]
        pub enum MixerCache {
            $($(#[$doc])* $arm(<<$spec as MixSpec>::Mixer as Mix>::Cache)),+
        }

        /// How any mixer is made; by default, span attention.
        ///
        /// The text form is `NAME` or `NAME:KEY=VALUE,KEY=VALUE,...`, with the keys that are not to have their
        /// default value.
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub enum MixerSpec {
            $($(#[$doc])* $arm($spec)),+
        }

        impl Mix for Mixer {
            type Cache = MixerCache;

            fn forward(
                &self,
                flow: Flow,
                cache: Option<&mut MixerCache>,
                trace: &mut Trace,
            ) -> Tensor<3> {
                match (self, cache) {
                    $(
                        (Self::$arm(mixer), None) => Mix::forward(mixer, flow, None, trace),
                        (Self::$arm(mixer), Some(MixerCache::$arm(cache))) => {
                            Mix::forward(mixer, flow, Some(cache), trace)
                        }
                    )+
                    _ => panic!("the cache is that of another mixer"),
                }
            }

            fn cache(&self) -> MixerCache {
                match self {
                    $(Self::$arm(mixer) => MixerCache::$arm(Mix::cache(mixer))),+
                }
            }

            fn cost(&self, length: usize) -> usize {
                match self {
                    $(Self::$arm(mixer) => Mix::cost(mixer, length)),+
                }
            }

            fn attention(&self) -> Option<&SpanAttention> {
                match self {
                    $(Self::$arm(mixer) => Mix::attention(mixer)),+
                }
            }
        }

        impl MixCache for MixerCache {
            fn select(&mut self, rows: &Tensor<1, Int>) {
                match self {
                    $(Self::$arm(cache) => MixCache::select(cache, rows)),+
                }
            }

            fn attention(&mut self) -> Option<&mut LayerCache> {
                match self {
                    $(Self::$arm(cache) => MixCache::attention(cache)),+
                }
            }
        }

        impl MixerSpec {
            /// Makes the mixer: see [`MixSpec::init`].
            ///
            /// # Panics
            ///
            /// As [`MixSpec::init`].
            pub fn init(&self, attention: &SpanAttentionConfig, device: &Device) -> Mixer {
                match self {
                    $(Self::$arm(spec) => Mixer::$arm(spec.init(attention, device))),+
                }
            }

            /// Checks that a layer with this attention can have the mixer: see [`MixSpec::fits`].
            ///
            /// # Errors
            ///
            /// If it cannot: what is wrong.
            pub fn fits(&self, attention: &SpanAttentionConfig) -> Result<(), String> {
                match self {
                    $(Self::$arm(spec) => spec.fits(attention)),+
                }
            }

            /// Whether the mixer reads the relative positions that the layers of a model share.
            pub fn reads_relative(&self) -> bool {
                match self {
                    $(Self::$arm(spec) => spec.reads_relative()),+
                }
            }

            /// How tokens reach each other in a layer with this span.
            pub fn reach(&self, span: Span) -> Reach {
                match self {
                    $(Self::$arm(spec) => spec.reach(span)),+
                }
            }

            /// How many numbers a decoder keeps for one sequence besides keys and values.
            pub fn state(&self, attention: &SpanAttentionConfig) -> usize {
                match self {
                    $(Self::$arm(spec) => spec.state(attention)),+
                }
            }
        }

        text_forms!("mixer", MixerSpec { $($arm($spec)),+ });
    };
}

mixers! {
    /// Attention over the layer's span.
    Attention(AttentionSpec),
    /// A diagonal state space, S4D.
    S4d(S4dSpec),
    /// A state space beside the layer's span attention, SPADE.
    Spade(SpadeSpec),
    /// Attention with scores of relative positions, for encoders.
    Disentangled(DisentangledSpec),
}

impl Default for MixerSpec {
    fn default() -> Self {
        Self::Attention(AttentionSpec::default())
    }
}

impl MixerSpec {
    /// Checks that layers can have these mixers, one for each from the bottom, in a model in which span attention would
    /// have the configuration `attention`; no mixers are attention everywhere.
    ///
    /// # Errors
    ///
    /// If one of them cannot; the first of them.
    pub fn check(mixers: &[Self], attention: &SpanAttentionConfig) -> Result<(), MixerError> {
        let everywhere = [Self::default()];
        let mixers = if mixers.is_empty() {
            &everywhere
        } else {
            mixers
        };
        for (layer, mixer) in mixers.iter().enumerate() {
            mixer
                .fits(attention)
                .map_err(|problem| MixerError::Misfit {
                    mixer: mixer.name(),
                    layer,
                    problem,
                })?;
        }
        Ok(())
    }

    /// The layers in which two lists of mixers differ; empty lists are attention everywhere.
    pub fn differing(one: &[Self], other: &[Self]) -> Vec<usize> {
        let attention = Self::default();
        let of = |mixers: &[Self], layer| mixers.get(layer).unwrap_or(&attention).clone();
        let layers = 0..one.len().max(other.len());
        layers
            .filter(|&layer| of(one, layer) != of(other, layer))
            .collect()
    }

    /// The mixers as configurations keep them: none where all are attention.
    pub fn compact(mixers: Vec<Self>) -> Vec<Self> {
        let attention = Self::default();
        if mixers.iter().all(|mixer| *mixer == attention) {
            return vec![];
        }
        mixers
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_mixer_has_a_text_form() {
        for name in MixerSpec::NAMES {
            let spec: MixerSpec = format!(" {name} ").parse().unwrap();
            assert_eq!((spec.name(), spec.to_string().as_str()), (*name, *name));
        }
        assert_eq!(MixerSpec::default().name(), "attention");
    }

    #[test]
    fn a_mixer_has_attention_where_pairs_of_tokens_meet() {
        let device = Device::default();
        for name in MixerSpec::NAMES {
            let spec: MixerSpec = name.parse().unwrap();
            let mixer = spec.init(&SpanAttentionConfig::new(4, 2), &device);
            let has_pairs = spec.reach(Span::Full).span.is_some();
            assert_eq!(Mix::attention(&mixer).is_some(), has_pairs, "{name}");
        }
    }

    #[test]
    fn unknown_text_names_the_nearest_and_all() {
        let error = |text: &str| text.parse::<MixerSpec>().unwrap_err().to_string();
        let all = MixerSpec::NAMES.join(", ");
        assert_eq!(
            error("atention"),
            format!("unknown mixer `atention`; did you mean `attention`? There is {all}")
        );
        assert_eq!(error("zzz"), format!("unknown mixer `zzz`; there is {all}"));
        assert_eq!(
            error("attention:heads=2"),
            "the mixer `attention` has no key `heads`; it has none"
        );
        assert_eq!(
            error("attention:"),
            "the mixer `attention`: `` is no setting, expected KEY=VALUE"
        );
    }
}
