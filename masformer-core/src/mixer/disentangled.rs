//! Disentangled attention: scores of contents and of relative positions.

use burn::{
    module::Module,
    nn::{Linear, LinearConfig},
    prelude::*,
    tensor::activation::softmax,
};
use serde::{Deserialize, Serialize};

use super::{Mix, MixSpec, Reach, SpanAttention, SpanAttentionConfig};
use crate::{
    cache::LayerCache,
    dropout::dropout,
    flow::Flow,
    linear::{apply_linear, zero_bias},
    relative::Relative,
    span::{Direction, Span},
    text_form::TextForm,
    trace::Trace,
};

/// What is scored by a pair that the span or padding hides.
const HIDDEN: f64 = -1e30;

/// `disentangled` in texts: [`Disentangled`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DisentangledSpec {
    /// Whether a query's content is scored with the position of the key. Default true.
    pub c2p: bool,
    /// Whether a key's content is scored with the position of the query. Default true.
    pub p2c: bool,
    /// Whether positions are projected by the layers of contents, and not by their own. Default true.
    pub shared: bool,
}

/// Disentangled attention (`DeBERTa`, arXiv 2006.03654, equation 4) over the layer's span, for encoders.
///
/// The score of a query `i` and a key `j` is
///
/// ```text
/// (Q_i K_j + Q_i Kr[c(i, j)] + K_j Qr[c(i, j)]) / sqrt(n d)
/// ```
///
/// where `Kr` and `Qr` are projections of the embeddings of relative positions ([`Relative`]), `c(i, j)` is the row of
/// `i - j`, heads are `d` wide, and `n` is the number of products: 3, or fewer without one of the two terms. The paper takes the
/// row of `j - i` in the last term, its public code and this one that of `i - j`.
#[derive(Module, Debug)]
pub struct Disentangled {
    /// Projections, heads and span.
    pub attention: SpanAttention,
    /// Projection of positions to queries, where contents have another one.
    pub position_query: Option<Linear>,
    /// Projection of positions to keys, where contents have another one.
    pub position_key: Option<Linear>,
    c2p: bool,
    p2c: bool,
}

impl Default for DisentangledSpec {
    fn default() -> Self {
        Self {
            c2p: true,
            p2c: true,
            shared: true,
        }
    }
}

impl TextForm for DisentangledSpec {
    const NAME: &'static str = "disentangled";
}

impl MixSpec for DisentangledSpec {
    type Mixer = Disentangled;

    fn init(&self, attention: &SpanAttentionConfig, device: &Device) -> Disentangled {
        let (hidden, heads) = (attention.hidden, attention.heads.max(1));
        let products = 1 + usize::from(self.c2p) + usize::from(self.p2c);
        let scale = ((hidden / heads * products) as f64).powf(-0.5);
        let own = |has_term: bool| {
            (has_term && !self.shared).then(|| {
                let config = LinearConfig::new(hidden, hidden)
                    .with_initializer(attention.initializer.clone());
                zero_bias(config.init(device))
            })
        };
        Disentangled {
            attention: attention.clone().with_scale(Some(scale)).init(device),
            position_query: own(self.p2c),
            position_key: own(self.c2p),
            c2p: self.c2p,
            p2c: self.p2c,
        }
    }

    fn fits(&self, attention: &SpanAttentionConfig) -> Result<(), String> {
        if attention.direction == Direction::Causal {
            return Err("its tokens see later ones, which a decoder's cannot".to_owned());
        }
        attention.check()
    }

    fn reads_relative(&self) -> bool {
        true
    }

    fn reach(&self, span: Span) -> Reach {
        Reach {
            span: Some(span),
            is_summarised: false,
        }
    }
}

impl Disentangled {
    /// Positions as the heads of queries or keys, transposed: `[1, H, d, R]`.
    fn positions(&self, own: Option<&Linear>, shared: &Linear, relative: &Relative) -> Tensor<4> {
        let projected = apply_linear(own.unwrap_or(shared), relative.embeddings.clone());
        let [rows, hidden] = projected.dims();
        let heads = self.attention.heads();
        projected
            .reshape([1, rows, heads, hidden / heads])
            .permute([0, 2, 3, 1])
    }

    /// The scores `[B, H, T, T]` of queries and keys `[B, H, T, d]`, before they are scaled.
    fn scores(&self, query: Tensor<4>, key: Tensor<4>, relative: &Relative) -> Tensor<4> {
        let mut scores = query.clone().matmul(key.clone().swap_dims(2, 3));
        let shape = scores.dims();
        let rows = relative.rows.clone();
        if self.c2p {
            let own = self.position_key.as_ref();
            let positions = self.positions(own, &self.attention.key, relative);
            let rows = rows.clone().unsqueeze_dim::<4>(1).expand(shape);
            scores = scores + query.matmul(positions).gather(3, rows);
        }
        if self.p2c {
            let own = self.position_query.as_ref();
            let positions = self.positions(own, &self.attention.query, relative);
            let rows = rows.swap_dims(1, 2).unsqueeze_dim::<4>(1).expand(shape);
            scores = scores + key.matmul(positions).gather(3, rows).swap_dims(2, 3);
        }
        scores
    }
}

/// The pairs `[B, H, T, T]` of a query and a key that the span or padding hides; `None` if neither can.
fn hidden_pairs(
    span: Span,
    padding: Option<&Tensor<2, Bool>>,
    shape: [usize; 4],
    device: &Device,
) -> Option<Tensor<4, Bool>> {
    let [batch, _, _, length] = shape;
    let far = (span != Span::Full).then(|| {
        let queries = 0..length;
        let pairs = queries.flat_map(|query| {
            (0..length).map(move |key| !span.sees(Direction::Bidirectional, query, key))
        });
        let pairs = TensorData::new(pairs.collect::<Vec<bool>>(), [1, 1, length, length]);
        Tensor::<4, Bool>::from_data(pairs, device).expand(shape)
    });
    let padded =
        padding.map(|padding| padding.clone().reshape([batch, 1, 1, length]).expand(shape));
    match (far, padded) {
        (Some(far), Some(padded)) => Some(far.bool_or(padded)),
        (far, padded) => far.or(padded),
    }
}

/// The attention `[B, T]` that keys receive by weights `[B, H, T, T]`: the mean over heads and the sum over real queries.
fn received(weights: Tensor<4>, padding: Option<&Tensor<2, Bool>>) -> Tensor<2> {
    let mut weights: Tensor<3> = weights.mean_dim(1).squeeze_dim(1);
    if let Some(padding) = padding {
        let queries = padding.clone().unsqueeze_dim::<3>(2);
        weights = weights
            .clone()
            .mask_fill(queries.expand(weights.dims()), 0.0);
    }
    weights.sum_dim(1).squeeze_dim(1)
}

impl Mix for Disentangled {
    type Cache = LayerCache;

    /// # Panics
    ///
    /// If there is a cache, or the model has no relative positions.
    fn forward(&self, flow: Flow, cache: Option<&mut LayerCache>, trace: &mut Trace) -> Tensor<3> {
        assert!(cache.is_none(), "disentangled attention has no steps");
        let Flow {
            hidden,
            tokens,
            relative,
            ..
        } = flow;
        let relative =
            relative.expect("a model with disentangled attention has relative positions");
        let padding = tokens.padding.as_ref();
        let [query, key, value] = self.attention.project(hidden, padding, trace);
        let scores = self.scores(query, key, &relative) * self.attention.scale();
        let hidden = hidden_pairs(
            self.attention.span(),
            padding,
            scores.dims(),
            &scores.device(),
        );
        let weights = match hidden {
            None => softmax(scores, 3),
            // A query that sees no key gives zeros.
            Some(hidden) => {
                softmax(scores.mask_fill(hidden.clone(), HIDDEN), 3).mask_fill(hidden, 0.0)
            }
        };
        if trace.needs_received() {
            trace.put_received(received(weights.clone().detach(), padding));
        }
        let weights = dropout(&self.attention.dropout, weights);
        self.attention.merge(weights.matmul(value))
    }

    fn cache(&self) -> LayerCache {
        LayerCache::new(self.attention.span())
    }

    fn attention(&self) -> Option<&SpanAttention> {
        Some(&self.attention)
    }

    /// Besides what attention costs, products with positions: for each of the terms, `D` for each pair of a token and one of the
    /// `2 T - 1` distances.
    fn cost(&self, length: usize) -> usize {
        let [hidden, _] = self.attention.query.weight.dims();
        let terms = usize::from(self.c2p) + usize::from(self.p2c);
        let distances = (2 * length).saturating_sub(1);
        self.attention.cost(length) + terms * hidden * length * distances
    }
}

#[cfg(test)]
mod tests {
    use burn::{nn::Initializer, tensor::Distribution};

    use super::*;
    use crate::{flow::Tokens, relative::RelativeConfig};

    const LENGTH: usize = 9;

    fn config() -> SpanAttentionConfig {
        SpanAttentionConfig::new(8, 2).with_initializer(initializer())
    }

    fn initializer() -> Initializer {
        Initializer::Normal {
            mean: 0.0,
            std: 0.5,
        }
    }

    fn flow(padded: usize, table: Initializer, device: &Device) -> Flow {
        let normal = Distribution::Normal(0.0, 1.0);
        let hidden = Tensor::random([2, LENGTH, 8], normal, device);
        let padding = [0..LENGTH, 0..LENGTH].map(|places| {
            let places = places.map(|place| place + padded >= LENGTH);
            places.collect::<Vec<_>>()
        });
        let padding = TensorData::new(padding.concat(), [2, LENGTH]);
        let relative = RelativeConfig::new().with_buckets(4).with_distances(8);
        let relative = relative.with_norm(false).init(8, 1e-7, 0.0, table, device);
        Flow {
            relative: Some(relative.forward(LENGTH)),
            ..Flow::new(
                hidden,
                Tokens::new(
                    Tensor::zeros([2, LENGTH], device),
                    Some(Tensor::from_data(padding, device)),
                ),
            )
        }
    }

    fn largest(difference: Tensor<3>) -> f32 {
        difference.abs().max().into_scalar()
    }

    #[test]
    fn without_positions_it_is_attention_of_another_scale_under_every_span() {
        let device = Device::default();
        for span in ["full", "window:4", "block:3", "window:1+4"] {
            let config = config().with_span(span.parse().unwrap());
            let flow = flow(2, Initializer::Zeros, &device);
            let mixer = DisentangledSpec::default().init(&config, &device);
            let found = Mix::forward(&mixer, flow.clone(), None, &mut Trace::nothing());
            let padding = flow.tokens.padding.as_ref();
            let nothing = &mut Trace::nothing();
            let expected = mixer.attention.forward(flow.hidden, padding, nothing);
            assert!(largest(found - expected) < 1e-5, "{span}");
        }
    }

    #[test]
    fn every_score_is_its_equation() {
        let device = Device::default();
        for (c2p, p2c, shared) in [
            (true, true, true),
            (true, true, false),
            (true, false, true),
            (false, true, false),
        ] {
            let spec = DisentangledSpec { c2p, p2c, shared };
            let mixer = spec.init(&config(), &device);
            let flow = flow(0, initializer(), &device);
            let relative = flow.relative.unwrap();
            let nothing = &mut Trace::nothing();
            let [query, key, _] = mixer.attention.project(flow.hidden, None, nothing);
            let found = mixer.scores(query.clone(), key.clone(), &relative);
            let project = |own: &Option<Linear>, shared: &Linear| {
                apply_linear(own.as_ref().unwrap_or(shared), relative.embeddings.clone())
            };
            let key_positions = project(&mixer.position_key, &mixer.attention.key);
            let query_positions = project(&mixer.position_query, &mixer.attention.query);
            let rows = relative.rows.clone().into_data().convert::<i64>();
            let rows: Vec<i64> = rows.iter::<i64>().collect();
            for (head, i, j) in [(0, 0, 8), (1, 3, 2), (1, 5, 5), (0, 8, 0)] {
                let vector = |heads: &Tensor<4>, place: usize| {
                    let places = [1..2, head..head + 1, place..place + 1, 0..4];
                    heads.clone().slice(places).reshape([4])
                };
                let row = rows[i * LENGTH + j] as usize;
                let position = |positions: &Tensor<2>| {
                    let columns = 4 * head..4 * (head + 1);
                    positions
                        .clone()
                        .slice([row..row + 1, columns])
                        .reshape([4])
                };
                let (query, key) = (vector(&query, i), vector(&key, j));
                let mut expected = query.clone().mul(key.clone()).sum();
                if c2p {
                    expected = expected + query.mul(position(&key_positions)).sum();
                }
                if p2c {
                    expected = expected + key.mul(position(&query_positions)).sum();
                }
                let places = [1..2, head..head + 1, i..i + 1, j..j + 1];
                let found = found.clone().slice(places).reshape([1]);
                let difference: f32 = (found - expected).abs().into_scalar();
                assert!(difference < 1e-4, "{spec:?} {head} {i} {j}: {difference}");
            }
        }
    }
}
