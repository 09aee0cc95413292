//! Attention over a span: projections and heads, one entry for every span.

use burn::{
    config::Config,
    module::Module,
    nn::{
        Dropout, DropoutConfig, Initializer, Linear, LinearConfig, RotaryEncoding,
        RotaryEncodingConfig,
    },
    prelude::*,
    tensor::assert_shape,
};
use serde::{Deserialize, Serialize};

use super::{Mix, MixCache, MixSpec, Reach};
use crate::{
    cache::LayerCache,
    flow::Flow,
    linear::{apply_linear, multiply_adds, zero_bias},
    ops::{SpanAttentionOptions, WeightDropout, attention_received, span_attention},
    seed,
    span::{Direction, Span},
    text_form::TextForm,
    trace::{HeadTrace, Trace},
};

/// Configuration of [`SpanAttention`].
#[derive(Config, Debug)]
pub struct SpanAttentionConfig {
    /// Hidden width `D`.
    pub hidden: usize,
    /// Number of query heads `H`; divides `hidden`.
    pub heads: usize,
    /// Number of key and value heads, each shared by `H / G` query heads (grouped-query attention,
    /// arXiv 2305.13245); divides `heads`. `None` for one each.
    #[config(default = "None")]
    pub key_value_heads: Option<usize>,
    /// The positions that a query attends to.
    #[config(default = "Span::Full")]
    pub span: Span,
    /// Whether a query sees what comes after it.
    #[config(default = "Direction::Bidirectional")]
    pub direction: Direction,
    /// The factor on the scores; `None` for `1 / sqrt(D / H)`.
    #[config(default = "None")]
    pub scale: Option<f64>,
    /// Whether the projections to queries, keys and values have biases; the output always has one.
    #[config(default = true)]
    pub bias: bool,
    /// Rotary positions (arXiv 2104.09864) of heads `D / H` wide; `None` for none.
    #[config(default = "None")]
    pub rotary: Option<RotaryEncodingConfig>,
    /// Probability of dropping an attention weight in training.
    #[config(default = 0.1)]
    pub dropout: f64,
    /// How the weights start.
    #[config(default = "Initializer::Normal { mean: 0.0, std: 0.02 }")]
    pub initializer: Initializer,
}

/// Span attention as a mixer, `attention` in texts. It has no settings of its own: the layer's configuration has
/// them all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AttentionSpec {}

/// Multi-head scaled dot-product attention (arXiv 1706.03762, equation 1) over a [`Span`].
#[derive(Module, Debug)]
pub struct SpanAttention {
    /// Projection to queries, stored `[D, D]`.
    pub query: Linear,
    /// Projection to keys, stored `[D, G * D / H]` with `G` key and value heads.
    pub key: Linear,
    /// Projection to values, stored `[D, G * D / H]`.
    pub value: Linear,
    /// Projection of the concatenated heads, stored `[D, D]`.
    pub output: Linear,
    /// Dropout of the attention weights.
    pub dropout: Dropout,
    rotary: Option<RotaryEncoding>,
    heads: usize,
    key_value_heads: usize,
    scale: f64,
    #[module(skip)]
    span: Span,
    #[module(skip)]
    direction: Direction,
}

impl SpanAttentionConfig {
    /// Checks that heads divide what they share.
    ///
    /// # Errors
    ///
    /// If `heads` does not divide `hidden`, `key_value_heads` does not divide `heads`, or heads with rotary positions
    /// have an odd width.
    pub fn check(&self) -> Result<(), String> {
        let Self { hidden, heads, .. } = *self;
        if heads == 0 || !hidden.is_multiple_of(heads) {
            return Err(format!(
                "{heads} heads do not divide a hidden width of {hidden}"
            ));
        }
        let groups = self.key_value_heads.unwrap_or(heads);
        if groups == 0 || !heads.is_multiple_of(groups) {
            return Err(format!(
                "{groups} key and value heads do not divide {heads} heads"
            ));
        }
        let width = hidden / heads;
        if self.rotary.is_some() && !width.is_multiple_of(2) {
            return Err(format!(
                "rotary positions need heads of an even width, not {width}"
            ));
        }
        Ok(())
    }

    /// Makes the layer on a device.
    ///
    /// # Panics
    ///
    /// If [`Self::check`] does not accept the configuration.
    pub fn init(&self, device: &Device) -> SpanAttention {
        if let Err(problem) = self.check() {
            panic!("{problem}");
        }
        let groups = self.key_value_heads.unwrap_or(self.heads);
        let width = self.hidden / self.heads;
        let layer = |output, bias| {
            let config = LinearConfig::new(self.hidden, output)
                .with_bias(bias)
                .with_initializer(self.initializer.clone());
            zero_bias(config.init(device))
        };
        SpanAttention {
            query: layer(self.hidden, self.bias),
            key: layer(groups * width, self.bias),
            value: layer(groups * width, self.bias),
            output: layer(self.hidden, true),
            dropout: DropoutConfig::new(self.dropout).init(),
            rotary: self.rotary.as_ref().map(|rotary| rotary.init(device)),
            heads: self.heads,
            key_value_heads: groups,
            scale: self.scale.unwrap_or_else(|| (width as f64).powf(-0.5)),
            span: self.span,
            direction: self.direction,
        }
    }
}

impl SpanAttention {
    /// The positions that a query attends to.
    pub fn span(&self) -> Span {
        self.span
    }

    /// Heads `H` of the queries.
    pub fn heads(&self) -> usize {
        self.heads
    }

    /// Attends; the residual connection and normalisation are the layer's.
    ///
    /// A query that sees no key gives zeros (before the output projection).
    ///
    /// # Shapes
    ///
    /// - input: `[B, T, D]`
    /// - padding: `[B, T]`, true where a key is padding
    /// - output: `[B, T, D]`
    ///
    /// # Panics
    ///
    /// If `padding` is not `[B, T]`.
    pub fn forward(
        &self,
        input: Tensor<3>,
        padding: Option<&Tensor<2, Bool>>,
        trace: &mut Trace,
    ) -> Tensor<3> {
        let [query, key, value] = self.project(input, padding, trace);
        let [query, key] = [query, key].map(|heads| self.rotate(heads, 0));
        let (key, value) = (self.shared(key), self.shared(value));
        if trace.needs_received() {
            let (query, key) = (query.clone(), key.clone());
            trace.put_received(attention_received(query, key, padding, self.options(None)));
        }
        self.merge(self.attend(query, key, value, padding))
    }

    /// [`Self::forward`] of the tokens that follow those in the cache, which takes them in.
    ///
    /// # Shapes
    ///
    /// - input: `[B, T, D]`, the new tokens alone
    /// - padding: `[B, T]`, true where a new token is padding
    /// - output: `[B, T, D]`
    ///
    /// # Panics
    ///
    /// If `padding` is not `[B, T]`, or the layer is not causal.
    pub fn forward_cached(
        &self,
        input: Tensor<3>,
        padding: Option<&Tensor<2, Bool>>,
        cache: &mut LayerCache,
        trace: &mut Trace,
    ) -> Tensor<3> {
        assert!(
            self.direction == Direction::Causal,
            "an encoder's positions see later ones: only causal layers can have a cache"
        );
        let [query, key, value] = self.project(input, padding, trace);
        let [_, _, new, _] = query.dims();
        let (query, all) = if cache.is_placed() {
            let mut all = cache.join(key, value, padding);
            let [_, _, length, _] = all.key.dims();
            all.key = self.rotate(all.key, 0);
            (self.rotate(query, length - new), all)
        } else {
            let start = cache.seen();
            let key = self.rotate(key, start);
            let query = self.rotate(query, start);
            (query, cache.join(key, value, padding))
        };
        let padding = all.padding.as_ref();
        let (key, value) = (self.shared(all.key), self.shared(all.value));
        let received = (all.judges > 0).then(|| {
            let judges = query.clone().slice_dim(2, new - all.judges..new);
            attention_received(judges, key.clone(), padding, self.options(None))
        });
        cache.evict(new, received);
        self.merge(self.attend(query, key, value, padding))
    }

    /// The heads `[B, _, T, d]` of tokens whose first has the position `start`.
    fn rotate(&self, heads: Tensor<4>, start: usize) -> Tensor<4> {
        match &self.rotary {
            Some(rotary) => rotary.apply(heads, start),
            None => heads,
        }
    }

    /// The factor on the scores.
    pub(super) fn scale(&self) -> f64 {
        self.scale
    }

    /// Queries `[B, H, T, d]`, keys and values `[B, G, T, d]`, without positions.
    pub(super) fn project(
        &self,
        input: Tensor<3>,
        padding: Option<&Tensor<2, Bool>>,
        trace: &mut Trace,
    ) -> [Tensor<4>; 3] {
        let [batch, length, hidden] = input.dims();
        if let Some(padding) = padding {
            assert_shape!(padding, [batch, length]);
        }
        let width = hidden / self.heads;
        let flat = input.flatten::<2>(0, 1);
        let mut kept = vec![];
        let mut split = |projection: &Linear, heads| {
            let projected = apply_linear(projection, flat.clone());
            if trace.keeps_heads() {
                kept.push(projected.clone().reshape([batch, length, heads * width]));
            }
            projected
                .reshape([batch, length, heads, width])
                .swap_dims(1, 2)
        };
        let heads = [
            split(&self.query, self.heads),
            split(&self.key, self.key_value_heads),
            split(&self.value, self.key_value_heads),
        ];
        if let Ok([query, key, value]) = <[_; 3]>::try_from(kept) {
            trace.put_heads(HeadTrace {
                query,
                key,
                value,
                heads: self.heads,
                span: self.span,
                direction: self.direction,
            });
        }
        heads
    }

    /// The output `[B, T, D]` of the heads `[B, H, T, d]`.
    pub(super) fn merge(&self, context: Tensor<4>) -> Tensor<3> {
        let [batch, heads, length, width] = context.dims();
        let hidden = heads * width;
        let context = context.swap_dims(1, 2).reshape([batch * length, hidden]);
        apply_linear(&self.output, context).reshape([batch, length, hidden])
    }

    /// Keys or values `[B, G, T, d]`, repeated for the heads that share them: `[B, H, T, d]`.
    fn shared(&self, heads: Tensor<4>) -> Tensor<4> {
        let [batch, groups, length, width] = heads.dims();
        if groups == self.heads {
            return heads;
        }
        let expanded = [batch, groups, self.heads / groups, length, width];
        heads
            .unsqueeze_dim::<5>(2)
            .expand(expanded)
            .reshape([batch, self.heads, length, width])
    }

    /// The heads `[B, H, T, d]` of the last `T` of `S` positions, from keys and values of as many heads.
    fn attend(
        &self,
        query: Tensor<4>,
        key: Tensor<4>,
        value: Tensor<4>,
        padding: Option<&Tensor<2, Bool>>,
    ) -> Tensor<4> {
        let device = query.device();
        let drops = self.dropout.prob > 0.0 && self.dropout.training.is_enabled();
        let dropout = (device.is_autodiff() && drops).then(|| WeightDropout {
            prob: self.dropout.prob,
            seed: seed::draw(&device),
        });
        span_attention(query, key, value, padding, self.options(dropout))
    }

    fn options(&self, dropout: Option<WeightDropout>) -> SpanAttentionOptions {
        SpanAttentionOptions {
            span: self.span,
            direction: self.direction,
            scale: self.scale,
            dropout,
        }
    }
}

impl TextForm for AttentionSpec {
    const NAME: &'static str = "attention";
}

impl MixSpec for AttentionSpec {
    type Mixer = SpanAttention;

    fn init(&self, attention: &SpanAttentionConfig, device: &Device) -> SpanAttention {
        attention.init(device)
    }

    fn fits(&self, attention: &SpanAttentionConfig) -> Result<(), String> {
        attention.check()
    }

    fn reach(&self, span: Span) -> Reach {
        Reach {
            span: Some(span),
            is_summarised: false,
        }
    }
}

impl MixCache for LayerCache {
    fn select(&mut self, rows: &Tensor<1, Int>) {
        LayerCache::select(self, rows);
    }

    fn attention(&mut self) -> Option<&mut LayerCache> {
        Some(self)
    }
}

impl Mix for SpanAttention {
    type Cache = LayerCache;

    fn forward(&self, flow: Flow, cache: Option<&mut LayerCache>, trace: &mut Trace) -> Tensor<3> {
        let Flow { hidden, tokens, .. } = flow;
        let padding = tokens.padding.as_ref();
        match cache {
            None => self.forward(hidden, padding, trace),
            Some(cache) => self.forward_cached(hidden, padding, cache, trace),
        }
    }

    fn cache(&self) -> LayerCache {
        LayerCache::new(self.span)
    }

    /// The four projections, then `2 D` for each pair of a query and a key: scores and weighted sums.
    fn attention(&self) -> Option<&SpanAttention> {
        Some(self)
    }

    fn cost(&self, length: usize) -> usize {
        let projections = [&self.query, &self.key, &self.value, &self.output];
        let projections = projections.map(multiply_adds);
        let [hidden, _] = self.query.weight.dims();
        let pairs = self.span.pairs(self.direction, length) as usize;
        projections.iter().sum::<usize>() * length + 2 * hidden * pairs
    }
}

#[cfg(test)]
mod tests {
    use burn::{module::Param, tensor::Distribution};

    use super::*;
    use crate::trace::{Keep, Layers};

    const LENGTH: usize = 40;

    fn config() -> SpanAttentionConfig {
        SpanAttentionConfig::new(12, 4).with_initializer(Initializer::Normal {
            mean: 0.0,
            std: 0.5,
        })
    }

    fn random(device: &Device) -> Tensor<3> {
        Tensor::random([2, LENGTH, 12], Distribution::Normal(0.0, 1.0), device)
    }

    fn largest_difference(left: Tensor<3>, right: Tensor<3>) -> f32 {
        (left - right).abs().max().into_scalar()
    }

    #[test]
    fn a_mask_without_padding_changes_nothing() {
        let device = Device::default();
        let input = random(&device);
        let unpadded = Tensor::<2, Bool>::from_data([[false; LENGTH]; 2], &device);
        for direction in [Direction::Causal, Direction::Bidirectional] {
            let attention = config().with_direction(direction).init(&device);
            let without = attention.forward(input.clone(), None, &mut Trace::nothing());
            let with = attention.forward(input.clone(), Some(&unpadded), &mut Trace::nothing());
            assert!(largest_difference(without, with) < 1e-5);
        }
    }

    #[test]
    fn local_layers_that_reach_everything_equal_full_ones() {
        let device = Device::default();
        for direction in [Direction::Causal, Direction::Bidirectional] {
            let full = config().with_direction(direction).init(&device);
            let input = random(&device);
            let expected = full.forward(input.clone(), None, &mut Trace::nothing());
            for span in ["window:80", "block:40", "window:1+40"] {
                let span = span.parse().unwrap();
                let local = SpanAttention {
                    span,
                    ..full.clone()
                };
                let output = local.forward(input.clone(), None, &mut Trace::nothing());
                assert!(
                    largest_difference(output, expected.clone()) < 1e-5,
                    "{span}"
                );
            }
        }
    }

    #[test]
    fn shared_heads_equal_repeated_ones() {
        let device = Device::default();
        let grouped = config()
            .with_key_value_heads(Some(2))
            .with_bias(false)
            .init(&device);
        // Heads 0 and 1 share the first key and value head, heads 2 and 3 the second.
        let repeat = |linear: &Linear| {
            let spread = |columns: Tensor<2>| {
                let [rows, _] = columns.dims();
                let heads = columns.reshape([rows, 2, 1, 3]).repeat_dim(2, 2);
                heads.reshape([rows, 12])
            };
            let mut linear = linear.clone();
            linear.weight = linear.weight.map(spread);
            linear
        };
        let plain = SpanAttention {
            key: repeat(&grouped.key),
            value: repeat(&grouped.value),
            key_value_heads: 4,
            ..grouped.clone()
        };
        let input = random(&device);
        let difference = largest_difference(
            grouped.forward(input.clone(), None, &mut Trace::nothing()),
            plain.forward(input, None, &mut Trace::nothing()),
        );
        assert!(difference < 1e-5);
    }

    #[test]
    fn rotary_scores_depend_on_the_distance_alone() {
        let device = Device::default();
        let rotary = RotaryEncodingConfig::new(LENGTH, 4);
        let mut attention = SpanAttentionConfig::new(4, 1)
            .with_rotary(Some(rotary))
            .with_direction(Direction::Causal)
            .with_span("window:3".parse().unwrap())
            .init(&device);
        // Fixed numbers: with drawn ones a token may get a score so low that nothing of it is seen.
        let fixed = |first: i64, rows: usize| -> Tensor<2> {
            let numbers = Tensor::<1, Int>::arange(first..first + 4 * rows as i64, &device);
            numbers.float().sin().reshape([rows, 4])
        };
        for (layer, first) in [
            (&mut attention.query, 1),
            (&mut attention.key, 20),
            (&mut attention.value, 40),
            (&mut attention.output, 60),
        ] {
            layer.weight = Param::from_tensor(fixed(first, 4));
        }
        // The same token everywhere but one: all queries that see it from the same distance agree.
        let base: Tensor<3> = fixed(80, 1).unsqueeze();
        let other: Tensor<3> = fixed(90, 1).unsqueeze();
        let with_other_at = |place: usize| {
            let input = base.clone().repeat_dim(1, LENGTH);
            let input = input.slice_assign([0..1, place..place + 1, 0..4], other.clone());
            attention.forward(input, None, &mut Trace::nothing())
        };
        let (near, far) = (with_other_at(5), with_other_at(25));
        let after = |output: Tensor<3>, place: usize| output.slice([0..1, place + 1..place + 3]);
        let difference = largest_difference(after(near.clone(), 5), after(far.clone(), 25));
        assert!(difference < 1e-5, "{difference}");
        assert!(largest_difference(after(near, 5), after(far, 5)) > 1e-3);
    }

    #[test]
    fn tokens_get_no_gradient_from_other_blocks() {
        let device = Device::default().autodiff();
        let span = "block:8".parse().unwrap();
        for (span, reaches) in [(span, false), (Span::Full, true)] {
            let attention = config()
                .with_span(span)
                .with_direction(Direction::Causal)
                .init(&device);
            let input = random(&device).require_grad();
            let output = attention.forward(input.clone(), None, &mut Trace::nothing());
            // Position 20 lies in the block from 16 to 23.
            let gradients = output.slice([0..2, 20..21]).abs().sum().backward();
            let gradient = input.grad(&gradients).unwrap();
            let size = |range: std::ops::Range<usize>| {
                let part = gradient.clone().slice([0..2, range]);
                part.abs().max().into_scalar::<f32>()
            };
            assert!(size(16..21) > 0.0);
            assert_eq!(size(0..16) > 0.0, reaches);
            assert!(size(21..LENGTH) == 0.0);
        }
    }

    #[test]
    fn kept_heads_are_the_projections_without_rotary_positions() {
        let device = Device::default();
        let attention = SpanAttentionConfig::new(12, 2)
            .with_key_value_heads(Some(1))
            .with_rotary(Some(RotaryEncodingConfig::new(LENGTH, 6)))
            .with_direction(Direction::Causal)
            .with_initializer(config().initializer)
            .init(&device);
        let input = random(&device);
        let keep = Keep {
            heads: Layers::All,
            ..Keep::default()
        };
        let mut trace = Trace::new(keep.clone());
        attention.forward(input.clone(), None, &mut trace);
        let HeadTrace {
            query, key, value, ..
        } = &trace.heads[&0];
        let flat = input.clone().flatten::<2>(0, 1);
        let projections = [&attention.query, &attention.key, &attention.value];
        for (found, projection) in [query, key, value].into_iter().zip(projections) {
            let [_, width] = projection.weight.dims();
            let expected = apply_linear(projection, flat.clone()).reshape([2, LENGTH, width]);
            found.to_data().assert_eq(&expected.into_data(), true);
        }
        let mut cache = attention.cache();
        let mut step = Trace::new(keep);
        for part in [0..LENGTH - 3, LENGTH - 3..LENGTH] {
            let part = input.clone().slice_dim(1, part);
            attention.forward_cached(part, None, &mut cache, &mut step);
        }
        let new = &step.heads[&0];
        let pairs = [(query, &new.query), (key, &new.key), (value, &new.value)];
        for (whole, new) in pairs {
            let expected = whole.clone().slice_dim(1, LENGTH - 3..LENGTH);
            assert!(largest_difference(new.clone(), expected) < 1e-5);
        }
    }

    #[test]
    #[should_panic(expected = "3 key and value heads do not divide 4 heads")]
    fn heads_must_be_shared_evenly() {
        config()
            .with_key_value_heads(Some(3))
            .init(&Device::default());
    }
}
