//! One layer of a model: a mixer, then a feed-forward half of any kind.

use burn::{
    config::Config,
    module::Module,
    nn::{Dropout, DropoutConfig},
    prelude::*,
};

use crate::{
    dropout::dropout,
    feed_forward::FeedForward,
    flow::Flow,
    mixer::{Mix, Mixer, MixerCache, MixerSpec, SpanAttentionConfig},
    norm::{Norm, NormConfig, NormKind, NormPlacement},
    span::Span,
    token_dropping::{TokenDropping, TokenDroppingError},
    trace::Trace,
};

/// Configuration of a [`Layer`], but for its feed-forward half.
#[derive(Config, Debug)]
pub struct LayerConfig {
    /// Span attention as this layer would have it; each mixer takes of it what it needs.
    pub attention: SpanAttentionConfig,
    /// How the mixer is made.
    #[config(default = "MixerSpec::default()")]
    pub mixer: MixerSpec,
    /// Probability of dropping an element of the mixer's output in training.
    #[config(default = 0.1)]
    pub dropout: f64,
    /// How the mixer is normalised.
    #[config(default = "NormKind::Layer")]
    pub norm: NormKind,
    /// Added to the variance in the normalisation.
    #[config(default = 1e-12)]
    pub norm_epsilon: f64,
    /// Where the mixer is normalised, and whether the halves are parallel; the feed-forward half has the same
    /// placement in its own configuration.
    #[config(default = "NormPlacement::Post")]
    pub norm_placement: NormPlacement,
}

/// A mixer with its residual connection and normalisation, as its [`NormPlacement`] says, then the feed-forward
/// half, which carries its own. With `m(x) = dropout(mixer(x))` and the half `h`, the layer computes
///
/// - [`Post`](NormPlacement::Post): `h(norm(x + m(x)))`
/// - [`Pre`](NormPlacement::Pre): `h(x + m(norm(x)))`
/// - [`Both`](NormPlacement::Both): `h(x + norm_out(m(norm(x))))`
/// - [`Parallel`](NormPlacement::Parallel): `m(norm(x)) + h(x)`, where `h(x)` has the residual connection of both
#[derive(Module, Debug)]
pub struct Layer<F: FeedForward> {
    /// What the layer mixes tokens with.
    pub mixer: Mixer,
    /// Normalisation of the mixer: after its residual connection, or of its input.
    pub mixer_norm: Norm,
    /// Normalisation of the mixer's output, with [`NormPlacement::Both`].
    pub mixer_output_norm: Option<Norm>,
    /// Dropout of the mixer's output.
    pub dropout: Dropout,
    /// The feed-forward half.
    pub feed_forward: F,
    #[module(skip)]
    norm_placement: NormPlacement,
    #[module(skip)]
    span: Span,
    #[module(skip)]
    spec: MixerSpec,
    #[module(skip)]
    dropping: Option<TokenDropping>,
}

impl LayerConfig {
    /// Makes a layer around a feed-forward half.
    pub fn init<F: FeedForward>(&self, feed_forward: F, device: &Device) -> Layer<F> {
        let norm = NormConfig::new(self.attention.hidden)
            .with_kind(self.norm)
            .with_epsilon(self.norm_epsilon);
        Layer {
            mixer: self.mixer.init(&self.attention, device),
            mixer_norm: norm.init(device),
            mixer_output_norm: self.norm_placement.output_norm(&norm, device),
            dropout: DropoutConfig::new(self.dropout).init(),
            feed_forward,
            norm_placement: self.norm_placement,
            span: self.attention.span,
            spec: self.mixer.clone(),
            dropping: None,
        }
    }
}

impl<F: FeedForward> Layer<F> {
    /// The span that the layer was configured with, whether or not its mixer attends to it.
    pub fn span(&self) -> Span {
        self.span
    }

    /// How its mixer was made.
    pub fn spec(&self) -> &MixerSpec {
        &self.spec
    }

    /// The layer with another feed-forward half.
    ///
    /// # Errors
    ///
    /// Those of `half`.
    pub fn with_half<G: FeedForward, E>(
        self,
        half: impl FnOnce(F) -> Result<G, E>,
    ) -> Result<Layer<G>, E> {
        Ok(Layer {
            mixer: self.mixer,
            mixer_norm: self.mixer_norm,
            mixer_output_norm: self.mixer_output_norm,
            dropout: self.dropout,
            feed_forward: half(self.feed_forward)?,
            norm_placement: self.norm_placement,
            span: self.span,
            spec: self.spec,
            dropping: self.dropping,
        })
    }

    /// Which tokens the feed-forward half and the layers above see; `None` for all.
    pub fn dropping(&self) -> Option<TokenDropping> {
        self.dropping
    }

    /// Drops tokens between the mixer and the feed-forward half; `layer` is its index, for errors.
    pub(crate) fn set_dropping(
        &mut self,
        layer: usize,
        dropping: TokenDropping,
    ) -> Result<(), TokenDroppingError> {
        self.dropping = Some(dropping).filter(|dropping| dropping.share() < 1.0);
        if self.dropping.is_none() {
            return Ok(());
        }
        if self.mixer.attention().is_none() {
            let mixer = self.spec.name();
            return Err(TokenDroppingError::NoAttention { layer, mixer });
        }
        if self.norm_placement == NormPlacement::Parallel {
            return Err(TokenDroppingError::Parallel { layer });
        }
        Ok(())
    }

    /// Applies the layer to whole sequences or, with a cache, to the tokens that follow those in it.
    ///
    /// # Panics
    ///
    /// As [`Mix::forward`], or if the layer drops tokens and there is a cache.
    pub fn forward(&self, flow: Flow, cache: Option<&mut MixerCache>, trace: &mut Trace) -> Flow {
        assert!(
            self.dropping.is_none() || cache.is_none(),
            "a layer with a cache drops no tokens"
        );
        let dropping = self.dropping.filter(|dropping| dropping.drops(&flow));
        let Flow {
            hidden,
            tokens,
            relative,
            dropped,
        } = flow;
        trace.ask_received(dropping.is_some());
        let mix = |hidden| {
            let flow = Flow {
                relative: relative.clone(),
                ..Flow::new(hidden, tokens.clone())
            };
            let mixed = Mix::forward(&self.mixer, flow, cache, trace);
            dropout(&self.dropout, mixed)
        };
        let (hidden, beside) = match self.norm_placement {
            NormPlacement::Parallel => {
                let mixed = mix(self.mixer_norm.forward(hidden.clone()));
                (hidden, Some(mixed))
            }
            placement => {
                let output_norm = self.mixer_output_norm.as_ref();
                let mixed = placement.residual(&self.mixer_norm, output_norm, hidden, mix);
                (mixed, None)
            }
        };
        let mut flow = Flow {
            hidden,
            tokens,
            relative,
            dropped,
        };
        if let (Some(dropping), Some(received)) = (dropping, trace.take_received()) {
            flow = dropping.apply(flow, received);
        }
        let output = self.feed_forward.forward(&flow, trace);
        let hidden = match beside {
            Some(mixed) => mixed + output,
            None => output,
        };
        Flow { hidden, ..flow }
    }
}

#[cfg(test)]
mod tests {
    use burn::{
        module::Param,
        nn::Initializer,
        tensor::{Distribution, activation::relu},
    };

    use super::*;
    use crate::{
        activation::Activation,
        feed_forward::{Mlp, MlpConfig},
        flow::Tokens,
        norm::PLACEMENTS,
    };

    const EPSILON: f64 = 1e-6;

    fn layer(placement: NormPlacement, device: &Device) -> Layer<Mlp> {
        let initializer = Initializer::Normal {
            mean: 0.0,
            std: 0.5,
        };
        let mlp = MlpConfig::new(8, 12)
            .with_activation(Activation::Relu)
            .with_norm(NormKind::Rms)
            .with_norm_epsilon(EPSILON)
            .with_norm_placement(placement)
            .with_initializer(initializer.clone());
        let attention = SpanAttentionConfig::new(8, 2).with_initializer(initializer);
        let config = LayerConfig::new(attention)
            .with_norm(NormKind::Rms)
            .with_norm_epsilon(EPSILON)
            .with_norm_placement(placement);
        let mut layer = config.init(mlp.init(device), device);
        // Scales that tell the norms from each other.
        let half = &mut layer.feed_forward;
        let norms = [Some(&mut layer.mixer_norm), Some(&mut half.norm)];
        let outputs = [&mut layer.mixer_output_norm, &mut half.output_norm];
        for norm in norms
            .into_iter()
            .chain(outputs.map(Option::as_mut))
            .flatten()
        {
            let scale = Tensor::random([8], Distribution::Normal(1.0, 0.5), device);
            norm.gamma = Param::from_tensor(scale);
        }
        layer
    }

    #[test]
    fn each_placement_is_its_equation() {
        let device = Device::default();
        for placement in PLACEMENTS {
            let layer = layer(placement, &device);
            let half = &layer.feed_forward;
            let normal = Distribution::Normal(0.0, 1.0);
            let x = Tensor::<3>::random([2, 5, 8], normal, &device);
            let tokens = Tokens::new(Tensor::zeros([2, 5], &device), None);
            let flow = |hidden| Flow::new(hidden, tokens.clone());
            let mixer = |x| Mix::forward(&layer.mixer, flow(x), None, &mut Trace::nothing());
            let feed_forward = |x: Tensor<3>| {
                let hidden = relu(x.matmul(half.inner.weight.val().unsqueeze()));
                hidden.matmul(half.outer.weight.val().unsqueeze())
            };
            let norm = |norm: &Norm, x: Tensor<3>| {
                let scale = (x.clone().square().mean_dim(2) + EPSILON).sqrt();
                x / scale * norm.gamma.val().unsqueeze()
            };
            let (first, second) = (&layer.mixer_norm, &half.norm);
            let expected = match placement {
                NormPlacement::Post => {
                    let a = norm(first, x.clone() + mixer(x.clone()));
                    norm(second, a.clone() + feed_forward(a))
                }
                NormPlacement::Pre => {
                    let a = x.clone() + mixer(norm(first, x.clone()));
                    a.clone() + feed_forward(norm(second, a))
                }
                NormPlacement::Both => {
                    let [out, half_out] = [&layer.mixer_output_norm, &half.output_norm]
                        .map(|norm| norm.as_ref().unwrap());
                    let a = x.clone() + norm(out, mixer(norm(first, x.clone())));
                    a.clone() + norm(half_out, feed_forward(norm(second, a)))
                }
                NormPlacement::Parallel => {
                    let mixed = mixer(norm(first, x.clone()));
                    x.clone() + mixed + feed_forward(norm(second, x.clone()))
                }
            };
            let found = layer.forward(flow(x), None, &mut Trace::nothing());
            let difference = (found.hidden - expected).abs().max();
            let difference = difference.into_scalar::<f32>();
            assert!(difference < 1e-5, "{placement:?} {difference}");
        }
    }
}
