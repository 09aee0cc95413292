//! A decoder language model: layers, pre-norm by default, each with its own attention span.

mod read;

use burn::{
    config::Config,
    module::{Module, Param},
    nn::{Dropout, DropoutConfig, Embedding, EmbeddingConfig, Initializer, RotaryEncodingConfig},
    prelude::*,
    tensor::assert_shape,
};

use crate::{
    activation::Activation,
    cache::{Eviction, LayerCache},
    dropout::dropout,
    feed_forward::{FeedForward, Mlp, MlpConfig},
    flow::{Flow, Tokens},
    layer::LayerConfig,
    mixer::{MixCache, MixerCache, MixerSpec, SpanAttentionConfig},
    norm::{Norm, NormConfig, NormKind, NormPlacement},
    position::{PositionEncoding, PositionError, PositionExtension},
    span::{Direction, Span},
    stack::Stack,
    trace::Trace,
};

/// Configuration of [`Decoder`]; the defaults are those of GPT-2.
#[derive(Config, Debug, PartialEq)]
pub struct DecoderConfig {
    /// Number of token ids `V`.
    pub vocabulary: usize,
    /// The longest sequence: the rows of the table of learned positions, or of rotations.
    pub positions: usize,
    /// Hidden width `D`.
    pub hidden: usize,
    /// Number of attention heads `H`; divides `hidden`.
    pub heads: usize,
    /// Feed-forward width `F`.
    pub width: usize,
    /// What each of the `L` layers attends to, from the bottom.
    pub spans: Vec<Span>,
    /// What each layer mixes tokens with, from the bottom; empty for attention everywhere.
    #[config(default = "vec![]")]
    pub mixers: Vec<MixerSpec>,
    /// How it knows the order of its tokens.
    #[config(default = "PositionEncoding::Learned")]
    pub position_encoding: PositionEncoding,
    /// The function between the matrices of the feed-forward layers.
    #[config(default = "Activation::GeluTanh")]
    pub activation: Activation,
    /// Whether the feed-forward layers have gates: see [`MlpConfig::gated`].
    #[config(default = false)]
    pub gated: bool,
    /// The factor on the attention scores; `None` for `1 / sqrt(D / H)`.
    #[config(default = "None")]
    pub attention_scale: Option<f64>,
    /// Whether the projections to queries, keys and values have biases.
    #[config(default = true)]
    pub attention_bias: bool,
    /// Dropout of the embeddings.
    #[config(default = 0.1)]
    pub embedding_dropout: f64,
    /// Dropout of attention weights.
    #[config(default = 0.1)]
    pub attention_dropout: f64,
    /// Dropout of both halves of a layer, before their residual connections.
    #[config(default = 0.1)]
    pub residual_dropout: f64,
    /// Tokens in a chunk of the feed-forward layers, whose activations the backward pass computes
    /// again; `None` to keep them, which is faster. Gated layers keep them.
    #[config(default = "None")]
    pub feed_forward_chunk: Option<usize>,
    /// How hidden states are normalised.
    #[config(default = "NormKind::Layer")]
    pub norm: NormKind,
    /// Where both halves of a layer are normalised.
    #[config(default = "NormPlacement::Pre")]
    pub norm_placement: NormPlacement,
    /// Added to the variance in each normalisation.
    #[config(default = 1e-5)]
    pub norm_epsilon: f64,
    /// Standard deviation of the weights at the start.
    #[config(default = 0.02)]
    pub initializer_range: f64,
}

/// A batch of token sequences.
#[derive(Clone, Debug)]
pub struct DecoderInput {
    /// Token ids `[B, T]`.
    pub input_ids: Tensor<2, Int>,
    /// Padding `[B, T]`, true where a position is padding; `None` where there is none. It may be on
    /// either side.
    pub padding: Option<Tensor<2, Bool>>,
}

/// What the decoder returns.
#[derive(Clone, Debug)]
pub struct DecoderOutput {
    /// The hidden state after the last normalisation `[B, T, D]`.
    pub hidden: Tensor<3>,
    /// The score of each token id as the next one `[B, T, V]`.
    pub logits: Tensor<3>,
}

/// What a decoder keeps of the tokens before: see [`Decoder::step`].
#[derive(Clone, Debug)]
pub struct DecoderCache {
    /// One for each layer, from the bottom.
    pub layers: Vec<MixerCache>,
    /// Number of positions so far.
    length: usize,
    /// Padding among them `[B, 1]`; `None` where there is none.
    padded: Option<Tensor<2, Int>>,
    /// What is kept, if not all.
    eviction: Option<Eviction>,
}

impl DecoderCache {
    /// Number of positions so far.
    pub fn length(&self) -> usize {
        self.length
    }

    /// The most pairs of a key and a value that a layer has held at once for one sequence.
    pub fn peak(&mut self) -> usize {
        let peaks = self.attention().map(|layer| layer.peak());
        peaks.max().unwrap_or(0)
    }

    /// The keys and values of the layers that keep any.
    fn attention(&mut self) -> impl Iterator<Item = &mut LayerCache> {
        self.layers.iter_mut().filter_map(MixCache::attention)
    }

    /// The position of the next token, as the layers count them.
    fn next_place(&mut self) -> usize {
        if self.eviction.is_none() {
            return self.length;
        }
        let places = self.attention().map(|layer| layer.kept());
        places.max().unwrap_or(0)
    }

    /// Takes the sequences `rows` `[R]` of the batch, in that order and as often as they are named.
    pub fn select(&mut self, rows: &Tensor<1, Int>) {
        for layer in &mut self.layers {
            layer.select(rows);
        }
        let padded = self.padded.take();
        self.padded = padded.map(|padded| padded.select(0, rows.clone()));
    }
}

/// The decoder of GPT-2 and GPT-Neo, with feed-forward halves of one kind. Its head is its token
/// embedding.
#[derive(Module, Debug)]
pub struct Decoder<F: FeedForward = Mlp> {
    /// Token embeddings `[V, D]`.
    pub token: Embedding,
    /// Position embeddings, where they are learned.
    pub position: Option<Embedding>,
    /// Dropout of the sum of both.
    pub dropout: Dropout,
    /// `L` layers.
    pub stack: Stack<F>,
    /// Normalisation of the last layer's output, wherever the layers have theirs.
    pub norm: Norm,
    positions: usize,
}

impl DecoderConfig {
    /// The configuration with `length` positions, or its own if they are more: see
    /// [`PositionEncoding::extended`].
    ///
    /// # Errors
    ///
    /// If the positions cannot be extended so.
    pub fn extended(
        mut self,
        length: usize,
        how: Option<PositionExtension>,
    ) -> Result<Self, PositionError> {
        let width = self.hidden / self.heads;
        let encoding = self.position_encoding;
        self.position_encoding = encoding.extended(how, self.positions, length, width)?;
        self.positions = self.positions.max(length);
        Ok(self)
    }

    fn initializer(&self) -> Initializer {
        Initializer::Normal {
            mean: 0.0,
            std: self.initializer_range,
        }
    }

    /// The feed-forward half of each layer.
    pub fn mlp(&self) -> MlpConfig {
        MlpConfig::new(self.hidden, self.width)
            .with_dropout(self.residual_dropout)
            .with_norm(self.norm)
            .with_norm_epsilon(self.norm_epsilon)
            .with_norm_placement(self.norm_placement)
            .with_activation(self.activation)
            .with_gated(self.gated)
            .with_chunk(self.feed_forward_chunk)
            .with_initializer(self.initializer())
    }

    /// Span attention as every layer would have it, but for its span.
    pub fn attention(&self) -> SpanAttentionConfig {
        let rotary = match self.position_encoding {
            PositionEncoding::Learned => None,
            PositionEncoding::Rotary { theta } => {
                let width = self.hidden / self.heads;
                Some(RotaryEncodingConfig::new(self.positions, width).with_theta(theta))
            }
        };
        SpanAttentionConfig::new(self.hidden, self.heads)
            .with_direction(Direction::Causal)
            .with_scale(self.attention_scale)
            .with_bias(self.attention_bias)
            .with_rotary(rotary)
            .with_dropout(self.attention_dropout)
            .with_initializer(self.initializer())
    }

    /// Makes a model with fresh weights on a device.
    ///
    /// # Panics
    ///
    /// If a mixer does not fit ([`MixerSpec::check`]), or there are mixers, but not one for each layer.
    pub fn init(&self, device: &Device) -> Decoder {
        let initializer = self.initializer();
        let embedding = |count| {
            EmbeddingConfig::new(count, self.hidden)
                .with_initializer(initializer.clone())
                .init(device)
        };
        let (attention, mlp) = (self.attention(), self.mlp());
        let (layers, given) = (self.spans.len(), self.mixers.len());
        assert!(
            given == 0 || given == layers,
            "{given} mixers for {layers} layers"
        );
        let layer = |(index, &span): (usize, &Span)| {
            LayerConfig::new(attention.clone().with_span(span))
                .with_mixer(self.mixers.get(index).cloned().unwrap_or_default())
                .with_dropout(self.residual_dropout)
                .with_norm(self.norm)
                .with_norm_epsilon(self.norm_epsilon)
                .with_norm_placement(self.norm_placement)
                .init(mlp.init(device), device)
        };
        Decoder {
            token: embedding(self.vocabulary),
            position: attention
                .rotary
                .is_none()
                .then(|| embedding(self.positions)),
            dropout: DropoutConfig::new(self.embedding_dropout).init(),
            stack: Stack {
                layers: self.spans.iter().enumerate().map(layer).collect(),
            },
            norm: NormConfig::new(self.hidden)
                .with_kind(self.norm)
                .with_epsilon(self.norm_epsilon)
                .init(device),
            positions: self.positions,
        }
    }
}

impl<F: FeedForward> Decoder<F> {
    /// The decoder with other feed-forward halves: see [`Stack::with_halves`].
    ///
    /// # Errors
    ///
    /// Those of `half`.
    pub fn with_halves<G: FeedForward, E>(
        self,
        half: impl FnMut(usize, F) -> Result<G, E>,
    ) -> Result<Decoder<G>, E> {
        Ok(Decoder {
            token: self.token,
            position: self.position,
            dropout: self.dropout,
            stack: self.stack.with_halves(half)?,
            norm: self.norm,
            positions: self.positions,
        })
    }

    /// What each layer attends to, from the bottom.
    pub fn spans(&self) -> Vec<Span> {
        self.stack.spans()
    }

    /// Gives the table of learned positions, where there is one, `length` rows.
    pub(crate) fn extend_table(
        &mut self,
        length: usize,
        how: PositionExtension,
    ) -> Result<(), PositionError> {
        if let Some(table) = &mut self.position {
            let rows = how.extend(table.weight.val(), length)?;
            table.weight = Param::from_tensor(rows.detach());
            self.positions = length;
        }
        Ok(())
    }

    /// The longest sequence.
    pub fn positions(&self) -> usize {
        self.positions
    }

    /// Number of token ids `V`.
    pub fn vocabulary(&self) -> usize {
        self.token.weight.dims()[0]
    }

    /// Hidden states and logits; `trace` keeps the intermediates it was made for.
    ///
    /// The hidden states of the trace are those of Transformers: the embeddings, the output of each
    /// layer but the last, and the last one's after the last normalisation.
    ///
    /// # Shapes
    ///
    /// - input: `[B, T]`
    /// - hidden: `[B, T, D]`; logits: `[B, T, V]`
    ///
    /// # Panics
    ///
    /// If the sequence is longer than the positions of the model, or the padding is not `[B, T]`.
    pub fn forward(&self, input: &DecoderInput, trace: &mut Trace) -> DecoderOutput {
        let hidden = self.hidden(input, trace);
        let logits = self.logits(hidden.clone());
        DecoderOutput { hidden, logits }
    }

    /// [`Self::forward`] without logits, for a loss that takes them a part of the positions at a time.
    ///
    /// # Shapes
    ///
    /// - input: `[B, T]`
    /// - output: `[B, T, D]`
    ///
    /// # Panics
    ///
    /// As [`Self::forward`].
    pub fn hidden(&self, input: &DecoderInput, trace: &mut Trace) -> Tensor<3> {
        let flow = self.embed(input, 0, None);
        let flow = self.stack.forward(flow, None, trace);
        let hidden = self.norm.forward(flow.hidden);
        if let Some(last) = trace.hidden.get_mut(&trace.layers()) {
            *last = hidden.clone();
        }
        hidden
    }

    /// An empty cache for this model.
    pub fn cache(&self) -> DecoderCache {
        DecoderCache {
            layers: self.stack.caches(),
            length: 0,
            padded: None,
            eviction: None,
        }
    }

    /// An empty cache in which full layers keep what a policy chooses, for [`Self::read`].
    ///
    /// The position of a pair is then its place in the cache, in all layers: that is the same for windows and blocks,
    /// and moves sinks next to the window, as `StreamingLLM` does (arXiv 2309.17453). So a text may be longer than
    /// the positions of the model.
    ///
    /// # Panics
    ///
    /// If the model has learned positions.
    pub fn evicting_cache(&self, eviction: &Eviction) -> DecoderCache {
        assert!(
            self.position.is_none(),
            "pairs with learned positions cannot move up"
        );
        let mut cache = self.cache();
        for layer in cache.attention() {
            layer.evict_by(eviction);
        }
        cache.eviction = Some(eviction.clone());
        cache
    }

    /// Reads the tokens that follow those in the cache, which takes them in: a prompt first, then one
    /// token after the other. Hidden states are those of [`Self::hidden`] over all tokens so far.
    ///
    /// Sequences of different lengths are padded on the left of the prompt.
    ///
    /// # Shapes
    ///
    /// - input: `[B, T]`, the new tokens alone
    /// - output: `[B, T, D]`
    ///
    /// # Panics
    ///
    /// If the positions so far are more than the model has, or the padding is not `[B, T]`.
    pub fn step(&self, input: &DecoderInput, cache: &mut DecoderCache) -> Tensor<3> {
        let start = cache.next_place();
        let flow = self.embed(input, start, cache.padded.as_ref());
        let caches = Some(cache.layers.as_mut_slice());
        let flow = self.stack.forward(flow, caches, &mut Trace::nothing());
        let [_, length] = input.input_ids.dims();
        cache.length += length;
        if let Some(padding) = &input.padding {
            let padded = padding.clone().int().sum_dim(1);
            cache.padded = Some(match cache.padded.take() {
                Some(before) => before + padded,
                None => padded,
            });
        }
        self.norm.forward(flow.hidden)
    }

    /// The score of each token id as the next one.
    ///
    /// # Shapes
    ///
    /// - hidden: `[B, T, D]`, of any part of the positions
    /// - output: `[B, T, V]`
    pub fn logits(&self, hidden: Tensor<3>) -> Tensor<3> {
        let [batch, length, _] = hidden.dims();
        let head = self.token.weight.val();
        let [vocabulary, _] = head.dims();
        hidden
            .flatten::<2>(0, 1)
            .matmul(head.transpose())
            .reshape([batch, length, vocabulary])
    }

    /// The embeddings of tokens that follow `start` others, of which `padded` `[B, 1]` were padding.
    fn embed(&self, input: &DecoderInput, start: usize, padded: Option<&Tensor<2, Int>>) -> Flow {
        let [batch, length] = input.input_ids.dims();
        let end = start + length;
        assert!(
            end <= self.positions,
            "a sequence of {end} tokens is longer than the {} positions of the model",
            self.positions
        );
        if let Some(padding) = &input.padding {
            assert_shape!(padding, [batch, length]);
        }
        let token = self.token.forward(input.input_ids.clone());
        let sum = match (&self.position, &input.padding, padded) {
            (None, ..) => token,
            (Some(table), None, None) => token + table.weight.val().slice([start..end]).unsqueeze(),
            (Some(table), padding, padded) => {
                let ids = match padding {
                    Some(padding) => position_ids(padding),
                    None => Tensor::arange(0..length as i64, &token.device())
                        .unsqueeze::<2>()
                        .expand([batch, length]),
                };
                let before = match padded {
                    Some(padded) => padded.clone().neg() + start as i64,
                    None => Tensor::full([batch, 1], start as i64, &token.device()),
                };
                token + table.forward(ids + before)
            }
        };
        Flow::new(
            dropout(&self.dropout, sum),
            Tokens::new(input.input_ids.clone(), input.padding.clone()),
        )
    }
}

/// The number of real tokens before each token, as Transformers counts positions where sequences are
/// padded on the left; padding before the first token has position 0.
///
/// # Shapes
///
/// - padding and output: `[B, T]`
fn position_ids(padding: &Tensor<2, Bool>) -> Tensor<2, Int> {
    let real = padding.clone().bool_not().int();
    (real.cumsum(1) - 1).clamp_min(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::{Keep, Layers};

    fn tiny(spans: &[&str]) -> DecoderConfig {
        let spans = spans.iter().map(|span| span.parse().unwrap()).collect();
        DecoderConfig::new(11, 8, 8, 2, 16, spans).with_initializer_range(0.5)
    }

    fn input(ids: [i32; 6]) -> DecoderInput {
        DecoderInput {
            input_ids: Tensor::from_data([ids], &Device::default()),
            padding: None,
        }
    }

    /// The largest difference of each position's logits.
    fn differences(model: &Decoder, one: &DecoderInput, other: &DecoderInput) -> Vec<f32> {
        let logits = |input| model.forward(input, &mut Trace::nothing()).logits;
        let difference = (logits(one) - logits(other)).abs().max_dim(2);
        difference.into_data().iter().collect()
    }

    #[test]
    fn a_token_reaches_what_the_spans_allow() {
        let (one, other) = (input([1, 2, 3, 4, 5, 6]), input([1, 9, 3, 4, 5, 6]));
        let rotary = PositionEncoding::Rotary { theta: 1e4 };
        for encoding in [PositionEncoding::Learned, rotary] {
            for (spans, reached) in [
                (["full", "full"], [1, 2, 3, 4, 5].as_slice()),
                (["window:2", "window:2"], &[1, 2, 3]),
                (["block:3", "block:3"], &[1, 2]),
                (["block:3", "full"], &[1, 2, 3, 4, 5]),
            ] {
                let config = tiny(&spans).with_position_encoding(encoding);
                let model = config.init(&Device::default());
                assert_eq!(model.spans(), config.spans);
                let found = differences(&model, &one, &other);
                for (position, difference) in found.into_iter().enumerate() {
                    let reaches = difference > 1e-5;
                    assert_eq!(reaches, reached.contains(&position), "{spans:?} {position}");
                }
            }
        }
    }

    #[test]
    fn positions_are_counted_from_the_first_real_token() {
        let padding = [
            [true, true, false, false],
            [false, false, true, true],
            [false; 4],
        ];
        let padding = Tensor::from_data(padding, &Device::default());
        let expected = [[0, 0, 0, 1], [0, 1, 1, 1], [0, 1, 2, 3]];
        let found: Vec<i64> = position_ids(&padding).into_data().iter().collect();
        assert_eq!(found, expected.concat());
    }

    #[test]
    fn padding_on_the_left_changes_nothing() {
        let device = Device::default();
        let model = tiny(&["full", "window:2"]).init(&device);
        let alone = DecoderInput {
            input_ids: Tensor::from_data([[3, 4, 5]], &device),
            padding: None,
        };
        let padded = DecoderInput {
            padding: Some(Tensor::from_data(
                [[true, true, true, false, false, false]],
                &device,
            )),
            ..input([0, 7, 0, 3, 4, 5])
        };
        let logits = |input| model.forward(input, &mut Trace::nothing()).logits;
        let difference = logits(&alone) - logits(&padded).slice([0..1, 3..6]);
        assert!(difference.abs().max().into_scalar::<f32>() < 1e-5);
    }

    #[test]
    fn steps_equal_the_whole_at_every_edge() {
        let device = Device::default();
        let spans = ["full", "window:4", "block:5", "window:3+2"];
        let rotary = PositionEncoding::Rotary { theta: 1e4 };
        let ids: Vec<i32> = (0..48).map(|place| place * 7 % 11).collect();
        let ids = Tensor::<2, Int>::from_data(TensorData::new(ids, [2, 24]), &device);
        let left: Vec<bool> = (0..48).map(|place| place < 6).collect();
        let left = Tensor::<2, Bool>::from_data(TensorData::new(left, [2, 24]), &device);
        for encoding in [PositionEncoding::Learned, rotary] {
            let config = DecoderConfig {
                positions: 24,
                ..tiny(&spans).with_position_encoding(encoding)
            };
            let model = config.init(&device);
            for padding in [None, Some(left.clone())] {
                let part = |range: std::ops::Range<usize>| DecoderInput {
                    input_ids: ids.clone().slice_dim(1, range.clone()),
                    padding: padding
                        .clone()
                        .filter(|_| range.start < 9)
                        .map(|padding| padding.slice_dim(1, range)),
                };
                let whole = model.hidden(&part(0..24), &mut Trace::nothing());
                // A prompt, two tokens at once, then one by one over the edges of every span.
                let mut cache = model.cache();
                let mut ranges = vec![0..9, 9..11];
                ranges.extend((11..24).map(|start| start..start + 1));
                for range in ranges {
                    let step = model.step(&part(range.clone()), &mut cache);
                    let expected = whole.clone().slice_dim(1, range.clone());
                    // The values at padded positions are undefined.
                    let rows = if range.start == 0 { 1..2 } else { 0..2 };
                    let difference = (step - expected).slice_dim(0, rows).abs().max();
                    let difference = difference.into_scalar::<f32>();
                    assert!(difference < 1e-5, "{difference} at {range:?}");
                    for (layer, span) in cache.layers.iter().zip(&config.spans) {
                        let MixerCache::Attention(layer) = layer else {
                            panic!("every layer is attention");
                        };
                        assert_eq!(layer.seen(), range.end);
                        assert!(layer.kept() <= span.cached_positions(range.end));
                    }
                }
                assert_eq!(cache.length(), 24);
            }
        }
    }

    #[test]
    fn selected_sequences_go_on_by_themselves() {
        let device = Device::default();
        let model = tiny(&["full", "window:2"]).init(&device);
        let prompt = |rows: &[[i32; 3]]| DecoderInput {
            input_ids: Tensor::from_data(TensorData::new(rows.concat(), [rows.len(), 3]), &device),
            padding: None,
        };
        let next = |ids: &[i32]| DecoderInput {
            input_ids: Tensor::from_data(TensorData::new(ids.to_vec(), [ids.len(), 1]), &device),
            padding: None,
        };
        let mut both = model.cache();
        model.step(&prompt(&[[1, 2, 3], [4, 5, 6]]), &mut both);
        both.select(&Tensor::from_data([1, 1, 0], &device));
        let together = model.step(&next(&[7, 8, 7]), &mut both);
        for (row, (prompt_ids, id)) in [([4, 5, 6], 7), ([4, 5, 6], 8), ([1, 2, 3], 7)]
            .into_iter()
            .enumerate()
        {
            let mut alone = model.cache();
            model.step(&prompt(&[prompt_ids]), &mut alone);
            let expected = model.step(&next(&[id]), &mut alone);
            let difference = together.clone().slice_dim(0, row..row + 1) - expected;
            assert!(difference.abs().max().into_scalar::<f32>() < 1e-5);
        }
    }

    #[test]
    fn the_last_hidden_state_of_the_trace_is_normalised() {
        let model = tiny(&["full", "full"]).init(&Device::default());
        let mut trace = Trace::new(Keep {
            hidden: Layers::All,
            ..Keep::default()
        });
        let output = model.forward(&input([1, 2, 3, 4, 5, 6]), &mut trace);
        assert_eq!(trace.hidden.len(), 3);
        let last = trace.hidden[&2].to_data();
        last.assert_eq(&output.hidden.to_data(), true);
        let part = model.logits(output.hidden.slice([0..1, 2..4]));
        let difference = part - output.logits.slice([0..1, 2..4]);
        assert!(difference.abs().max().into_scalar::<f32>() < 1e-5);
    }

    #[test]
    #[should_panic(expected = "9 tokens is longer than the 8 positions")]
    fn too_long_a_sequence_names_the_limit() {
        let device = Device::default();
        let input = DecoderInput {
            input_ids: Tensor::zeros([1, 9], &device),
            padding: None,
        };
        let model = tiny(&["full"]).init(&device);
        model.hidden(&input, &mut Trace::nothing());
    }
}
