//! The layers of a model, one on the other.

use burn::module::Module;

use crate::{
    feed_forward::FeedForward,
    flow::Flow,
    layer::Layer,
    mixer::{Mix, MixerCache, MixerSpec},
    span::Span,
    token_dropping::{TokenDropping, TokenDroppingError},
    trace::Trace,
};

/// `L` layers; the only fold over layers, for encoders and decoders.
#[derive(Module, Debug)]
pub struct Stack<F: FeedForward> {
    /// The layers, from the bottom.
    pub layers: Vec<Layer<F>>,
}

impl<F: FeedForward> Stack<F> {
    /// The stack with other feed-forward halves: `half` is given each layer's index and its half.
    ///
    /// # Errors
    ///
    /// Those of `half`.
    pub fn with_halves<G: FeedForward, E>(
        self,
        mut half: impl FnMut(usize, F) -> Result<G, E>,
    ) -> Result<Stack<G>, E> {
        let layers = self.layers.into_iter().enumerate();
        let layers = layers.map(|(index, layer)| layer.with_half(|old| half(index, old)));
        Ok(Stack {
            layers: layers.collect::<Result<_, E>>()?,
        })
    }

    /// Applies the layers to whole sequences or, with caches, to the tokens that follow those in them.
    ///
    /// Hidden state 0 of the trace is the input, hidden state `l + 1` the output of layer `l`. Both these and the output
    /// have all tokens; one that a layer has dropped has the state that it had there.
    ///
    /// # Panics
    ///
    /// If there are not as many caches as layers, or as [`Layer::forward`].
    pub fn forward(
        &self,
        flow: Flow,
        caches: Option<&mut [MixerCache]>,
        trace: &mut Trace,
    ) -> Flow {
        trace.start(self.layers.len(), &flow.hidden);
        let mut caches = caches.map(|caches| {
            assert_eq!(caches.len(), self.layers.len(), "a cache for each layer");
            caches.iter_mut()
        });
        let tokens = flow.tokens.clone();
        let flow = self.layers.iter().fold(flow, |flow, layer| {
            let cache = caches.as_mut().and_then(Iterator::next);
            let flow = layer.forward(flow, cache, trace);
            trace.finish_layer(|| flow.all_hidden());
            flow
        });
        Flow::new(flow.all_hidden(), tokens)
    }

    /// An empty cache for each layer.
    pub fn caches(&self) -> Vec<MixerCache> {
        let caches = self.layers.iter().map(|layer| layer.mixer.cache());
        caches.collect()
    }

    /// The span of each layer, from the bottom, whether or not its mixer attends to it.
    pub fn spans(&self) -> Vec<Span> {
        self.layers.iter().map(Layer::span).collect()
    }

    /// How the mixer of each layer was made, from the bottom.
    pub fn mixers(&self) -> Vec<MixerSpec> {
        let mixers = self.layers.iter().map(|layer| layer.spec().clone());
        mixers.collect()
    }

    /// Makes each layer, from the bottom, leave a share of the tokens: see [`TokenDropping`].
    ///
    /// # Errors
    ///
    /// If there are not as many shares as layers, a share is not above 0 and at most 1, or a layer cannot drop tokens: its
    /// mixer has no attention, or its halves are parallel.
    pub fn drop_tokens(&mut self, shares: &[f64]) -> Result<(), TokenDroppingError> {
        let (layers, given) = (self.layers.len(), shares.len());
        if layers != given {
            return Err(TokenDroppingError::Layers { layers, given });
        }
        for (index, (layer, share)) in self.layers.iter_mut().zip(shares).enumerate() {
            layer.set_dropping(index, TokenDropping::new(*share)?)?;
        }
        Ok(())
    }

    /// The share of the tokens that each layer leaves, from the bottom.
    pub fn token_shares(&self) -> Vec<f64> {
        let layers = self.layers.iter();
        layers
            .map(|layer| layer.dropping().map_or(1.0, TokenDropping::share))
            .collect()
    }

    /// Whether padding before a sequence leaves its outputs as they are.
    pub fn is_relative(&self) -> bool {
        let mut layers = self.layers.iter();
        layers.all(|layer| layer.spec().reach(layer.span()).is_relative())
    }
}

#[cfg(test)]
mod tests {
    use burn::{nn::Initializer, prelude::*, tensor::Distribution};

    use super::*;
    use crate::{
        feed_forward::{Mlp, MlpConfig},
        flow::Tokens,
        layer::LayerConfig,
        mixer::SpanAttentionConfig,
        norm::{KINDS, NormKind, NormPlacement, PLACEMENTS},
        span::Direction,
        trace::{Keep, Layers},
    };

    const LENGTH: usize = 7;

    fn stack(kind: NormKind, placement: NormPlacement, device: &Device) -> Stack<Mlp> {
        let initializer = Initializer::Normal {
            mean: 0.0,
            std: 0.5,
        };
        let mlp = MlpConfig::new(8, 12)
            .with_norm(kind)
            .with_norm_placement(placement)
            .with_initializer(initializer.clone());
        let layer = |span: &str| {
            let attention = SpanAttentionConfig::new(8, 2)
                .with_span(span.parse().unwrap())
                .with_direction(Direction::Causal)
                .with_initializer(initializer.clone());
            LayerConfig::new(attention)
                .with_norm(kind)
                .with_norm_placement(placement)
                .init(mlp.init(device), device)
        };
        Stack {
            layers: ["full", "window:3"].map(layer).into(),
        }
    }

    fn trace() -> Trace {
        Trace::new(Keep {
            hidden: Layers::All,
            ..Keep::default()
        })
    }

    fn flow(hidden: &Tensor<3>, range: std::ops::Range<usize>) -> Flow {
        let hidden = hidden.clone().slice_dim(1, range);
        let [batch, length, _] = hidden.dims();
        let tokens = Tokens::new(Tensor::zeros([batch, length], &hidden.device()), None);
        Flow::new(hidden, tokens)
    }

    #[test]
    fn cached_steps_leave_the_trace_of_the_whole_wherever_norms_stand() {
        let device = Device::default();
        let norms = KINDS.map(|kind| PLACEMENTS.map(|placement| (kind, placement)));
        for (kind, placement) in norms.into_iter().flatten() {
            let stack = stack(kind, placement, &device);
            let normal = Distribution::Normal(0.0, 1.0);
            let hidden = Tensor::<3>::random([2, LENGTH, 8], normal, &device);
            let mut whole = trace();
            let output = stack.forward(flow(&hidden, 0..LENGTH), None, &mut whole);
            assert_eq!(whole.hidden.len(), 3);
            let last = whole.hidden[&2].to_data();
            last.assert_eq(&output.hidden.into_data(), true);
            let mut caches = stack.caches();
            for range in [0..4, 4..6, 6..LENGTH] {
                let mut part = trace();
                stack.forward(flow(&hidden, range.clone()), Some(&mut caches), &mut part);
                for (whole, part) in whole.hidden.values().zip(part.hidden.into_values()) {
                    let difference = whole.clone().slice_dim(1, range.clone()) - part;
                    let difference = difference.abs().max().into_scalar::<f32>();
                    let case = format!("{kind:?} {placement:?} {range:?}");
                    assert!(difference < 1e-5, "{case} {difference}");
                }
            }
        }
    }

    #[test]
    #[should_panic(expected = "a cache for each layer")]
    fn caches_are_as_many_as_layers() {
        let device = Device::default();
        let stack = stack(NormKind::Layer, NormPlacement::Pre, &device);
        let flow = flow(&Tensor::zeros([1, 1, 8], &device), 0..1);
        stack.forward(flow, Some(&mut []), &mut Trace::nothing());
    }
}
