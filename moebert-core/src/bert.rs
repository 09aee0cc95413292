//! BERT (arXiv 1810.04805): embeddings, encoder and pooler, and what encoders of its kind do otherwise.

use burn::{
    config::Config,
    module::Module,
    nn::{Dropout, DropoutConfig, Embedding, EmbeddingConfig, Initializer, Linear, LinearConfig},
    prelude::*,
    tensor::assert_shape,
};
use masformer_core::{
    Activation, Flow, LayerConfig, MixerSpec, MlpConfig, Norm, NormConfig, Span,
    SpanAttentionConfig, Stack, Tokens, Trace,
    dropout::dropout,
    linear::{apply_linear, zero_bias},
    relative::{RelativeConfig, RelativePositions},
};
use serde::{Deserialize, Serialize};

use crate::half::Half;

/// Configuration of [`Bert`], with the names and defaults of Hugging Face's `BertConfig`. Fields that it has not say
/// what other encoders do otherwise; their defaults are what BERT does.
#[derive(Config, Debug, PartialEq)]
pub struct BertConfig {
    /// Number of token ids `V`.
    #[config(default = 30522)]
    pub vocab_size: usize,
    /// Hidden width `D`.
    #[config(default = 768)]
    pub hidden_size: usize,
    /// Number of layers `L`.
    #[config(default = 12)]
    pub num_hidden_layers: usize,
    /// Number of attention heads `H`; divides `hidden_size`.
    #[config(default = 12)]
    pub num_attention_heads: usize,
    /// Feed-forward width `F`.
    #[config(default = 3072)]
    pub intermediate_size: usize,
    /// The function between the two matrices of a feed-forward layer.
    #[config(default = "Activation::Gelu")]
    pub hidden_act: Activation,
    /// The longest sequence.
    #[config(default = 512)]
    pub max_position_embeddings: usize,
    /// Number of segments; with 0, the model has no segment embeddings and does not tell segments apart.
    #[config(default = 2)]
    pub type_vocab_size: usize,
    /// Width of the embeddings, which a linear layer then takes to `hidden_size`; `None` for `hidden_size` itself,
    /// without that layer.
    #[config(default = "None")]
    pub embedding_size: Option<usize>,
    /// How positions are counted.
    #[config(default = "PositionCount::All")]
    pub position_count: PositionCount,
    /// Dropout of embeddings and of both halves of a layer.
    #[config(default = 0.1)]
    pub hidden_dropout_prob: f64,
    /// Dropout of what mixers return; `None` for `hidden_dropout_prob`.
    #[config(default = "None")]
    pub mixer_dropout: Option<f64>,
    /// Dropout of attention weights.
    #[config(default = 0.1)]
    pub attention_probs_dropout_prob: f64,
    /// Added to the variance in each layer normalisation.
    #[config(default = 1e-12)]
    pub layer_norm_eps: f64,
    /// Standard deviation of the weights at the start.
    #[config(default = 0.02)]
    pub initializer_range: f64,
    /// Whether the pooler (a dense layer with an activation on the first token) is there.
    #[config(default = true)]
    pub pooler: bool,
    /// The activation of the pooler.
    #[config(default = "PoolerActivation::Tanh")]
    pub pooler_activation: PoolerActivation,
    /// Dropout of the first token before the pooler; `None` for that before the head.
    #[config(default = "Some(0.0)")]
    pub pooler_dropout: Option<f64>,
    /// Dropout before a head that reads the pooler; `None` for `hidden_dropout_prob`.
    #[config(default = "None")]
    pub head_dropout: Option<f64>,
    /// What each of the `L` layers attends to, from the bottom; empty for `full` everywhere.
    #[config(default = "vec![]")]
    pub spans: Vec<Span>,
    /// What each of the `L` layers mixes tokens with, from the bottom; empty for attention everywhere.
    #[config(default = "vec![]")]
    pub mixers: Vec<MixerSpec>,
    /// The relative positions that mixers read, in a model with a mixer that reads them; `None` for those of `DeBERTa-v3`.
    #[config(default = "None")]
    pub relative: Option<RelativeConfig>,
}

/// How the positions of tokens are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PositionCount {
    /// Every token counts, padding too, from row 0 of the position table.
    All,
    /// They are not counted: the model has no position table.
    None,
    /// Tokens other than padding count, from the row after this id; padding has the row of its id.
    AfterPadding {
        /// The id of the padding token.
        id: usize,
    },
}

/// The activation of a pooler.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PoolerActivation {
    /// The hyperbolic tangent.
    Tanh,
    /// One that feed-forward layers have as well.
    #[serde(untagged)]
    Other(Activation),
}

/// A batch of token sequences.
#[derive(Clone, Debug)]
pub struct BertInput {
    /// Token ids `[B, T]`.
    pub input_ids: Tensor<2, Int>,
    /// Segment ids `[B, T]`.
    pub token_type_ids: Tensor<2, Int>,
    /// Padding `[B, T]`, true where a position is padding; `None` where there is none.
    pub padding: Option<Tensor<2, Bool>>,
}

/// What the encoder returns.
#[derive(Clone, Debug)]
pub struct BertOutput {
    /// The last hidden state `[B, T, D]`.
    pub hidden: Tensor<3>,
    /// The pooled first token `[B, D]`, where the model has a pooler.
    pub pooled: Option<Tensor<2>>,
}

/// Sum of token, position and segment embeddings, normalised, at the width `D` of the hidden states.
#[derive(Module, Debug)]
pub struct BertEmbeddings {
    /// Token embeddings `[V, D]`, or narrower ones.
    pub word: Embedding,
    /// Position embeddings, where the model has absolute positions.
    pub position: Option<Embedding>,
    /// Segment embeddings, where the model has segments.
    pub token_type: Option<Embedding>,
    /// Normalisation of the sum.
    pub norm: Norm,
    /// Dropout of the normalised sum.
    pub dropout: Dropout,
    /// The layer from narrower embeddings to `D`.
    pub project: Option<Linear>,
    #[module(skip)]
    position_count: PositionCount,
}

/// The BERT encoder.
#[derive(Module, Debug)]
pub struct Bert {
    /// Embeddings.
    pub embeddings: BertEmbeddings,
    /// The relative positions that all layers share, where a mixer reads them.
    pub relative: Option<RelativePositions>,
    /// `L` layers.
    pub stack: Stack<Half>,
    /// The pooler, where there is one.
    pub pooler: Option<Linear>,
    /// Dropout of the first token before the pooler.
    pub pooler_dropout: Dropout,
    /// The activation of the pooler.
    #[module(skip)]
    pub pooler_activation: PoolerActivation,
}

impl PositionCount {
    /// Rows of the position table that come before that of the first token.
    fn before(self) -> usize {
        match self {
            Self::All | Self::None => 0,
            Self::AfterPadding { id } => id + 1,
        }
    }
}

impl PoolerActivation {
    fn forward(self, input: Tensor<2>) -> Tensor<2> {
        match self {
            Self::Tanh => input.tanh(),
            Self::Other(activation) => activation.forward(input),
        }
    }
}

impl BertConfig {
    /// How every weight starts.
    pub(crate) fn initializer(&self) -> Initializer {
        Initializer::Normal {
            mean: 0.0,
            std: self.initializer_range,
        }
    }

    /// Span attention as every layer would have it, but for its span.
    pub fn attention(&self) -> SpanAttentionConfig {
        SpanAttentionConfig::new(self.hidden_size, self.num_attention_heads)
            .with_dropout(self.attention_probs_dropout_prob)
            .with_initializer(self.initializer())
    }

    /// The dense feed-forward half of each layer.
    pub fn mlp(&self) -> MlpConfig {
        MlpConfig::new(self.hidden_size, self.intermediate_size)
            .with_dropout(self.hidden_dropout_prob)
            .with_norm_epsilon(self.layer_norm_eps)
            .with_activation(self.hidden_act)
            .with_initializer(self.initializer())
    }

    /// Rows of the position table.
    pub(crate) fn position_rows(&self) -> usize {
        self.position_count.before() + self.max_position_embeddings
    }

    /// Dropout before a head that reads the pooler.
    pub(crate) fn before_head(&self) -> f64 {
        self.head_dropout.unwrap_or(self.hidden_dropout_prob)
    }

    /// A linear layer to the hidden width, as it starts.
    fn to_hidden(&self, from: usize, device: &Device) -> Linear {
        let config = LinearConfig::new(from, self.hidden_size).with_initializer(self.initializer());
        zero_bias(config.init(device))
    }

    fn embeddings(&self, device: &Device) -> BertEmbeddings {
        let width = self.embedding_size.unwrap_or(self.hidden_size);
        let embedding = |count| {
            EmbeddingConfig::new(count, width)
                .with_initializer(self.initializer())
                .init(device)
        };
        BertEmbeddings {
            word: embedding(self.vocab_size),
            position: (self.position_count != PositionCount::None)
                .then(|| embedding(self.position_rows())),
            token_type: (self.type_vocab_size > 0).then(|| embedding(self.type_vocab_size)),
            norm: NormConfig::new(width)
                .with_epsilon(self.layer_norm_eps)
                .init(device),
            dropout: DropoutConfig::new(self.hidden_dropout_prob).init(),
            project: self
                .embedding_size
                .map(|width| self.to_hidden(width, device)),
            position_count: self.position_count,
        }
    }

    /// Makes a dense model with fresh weights on a device.
    ///
    /// # Panics
    ///
    /// If there are spans or mixers, but not one for each layer.
    pub fn init(&self, device: &Device) -> Bert {
        let layers = self.num_hidden_layers;
        for (what, given) in [("spans", self.spans.len()), ("mixers", self.mixers.len())] {
            assert!(
                given == 0 || given == layers,
                "{given} {what} for {layers} layers"
            );
        }
        let embeddings = self.embeddings(device);
        let reads_relative = self.mixers.iter().any(MixerSpec::reads_relative);
        let relative = reads_relative.then(|| {
            self.relative
                .clone()
                .unwrap_or_else(RelativeConfig::new)
                .init(
                    self.hidden_size,
                    self.layer_norm_eps,
                    self.hidden_dropout_prob,
                    self.initializer(),
                    device,
                )
        });
        let config = |layer| {
            let span = self.spans.get(layer).copied().unwrap_or_default();
            LayerConfig::new(self.attention().with_span(span))
                .with_mixer(self.mixers.get(layer).cloned().unwrap_or_default())
                .with_dropout(self.mixer_dropout.unwrap_or(self.hidden_dropout_prob))
                .with_norm_epsilon(self.layer_norm_eps)
        };
        let mlp = self.mlp();
        let layers = (0..self.num_hidden_layers)
            .map(|layer| config(layer).init(Half::Dense(mlp.init(device)), device))
            .collect();
        let pooler_dropout = self.pooler_dropout.unwrap_or(self.before_head());
        Bert {
            embeddings,
            relative,
            stack: Stack { layers },
            pooler: self
                .pooler
                .then(|| self.to_hidden(self.hidden_size, device)),
            pooler_dropout: DropoutConfig::new(pooler_dropout).init(),
            pooler_activation: self.pooler_activation,
        }
    }
}

impl BertEmbeddings {
    /// Width `D` of the hidden states.
    pub fn width(&self) -> usize {
        let last = self
            .project
            .as_ref()
            .map_or(&self.word.weight, |project| &project.weight);
        last.dims()[1]
    }

    /// Embeds a batch.
    ///
    /// # Shapes
    ///
    /// - input: `[B, T]`
    /// - output: `[B, T, D]`
    ///
    /// # Panics
    ///
    /// If the sequence is longer than the model has positions, or `token_type_ids` is not `[B, T]`.
    pub fn forward(&self, input: &BertInput) -> Tensor<3> {
        let [batch, length] = input.input_ids.dims();
        let mut sum = self.word.forward(input.input_ids.clone());
        if let Some(token_type) = &self.token_type {
            assert_shape!(input.token_type_ids, [batch, length]);
            sum = sum + token_type.forward(input.token_type_ids.clone());
        }
        if let Some(position) = &self.position {
            sum = sum + self.positions(position, &input.input_ids);
        }
        let sum = dropout(&self.dropout, self.norm.forward(sum));
        match &self.project {
            None => sum,
            Some(project) => {
                let width = self.width();
                apply_linear(project, sum.flatten(0, 1)).reshape([batch, length, width])
            }
        }
    }

    /// The position embeddings of tokens with these ids `[B, T]`: `[B, T, D]`, or `[1, T, D]` where they are the same
    /// in all rows.
    fn positions(&self, table: &Embedding, ids: &Tensor<2, Int>) -> Tensor<3> {
        let [_, length] = ids.dims();
        let [rows, _] = table.weight.dims();
        let positions = rows - self.position_count.before();
        assert!(
            length <= positions,
            "a sequence of {length} tokens is longer than the {positions} positions of the model"
        );
        match self.position_count {
            PositionCount::All | PositionCount::None => {
                table.weight.val().slice([0..length]).unsqueeze()
            }
            PositionCount::AfterPadding { id } => {
                let real = ids.clone().not_equal_elem(id as i64).int();
                table.forward(real.clone().cumsum(1) * real + id as i64)
            }
        }
    }
}

impl Bert {
    /// What each layer attends to, from the bottom.
    pub fn spans(&self) -> Vec<Span> {
        self.stack.spans()
    }

    /// Encodes a batch; `trace` keeps the intermediates it was made for.
    ///
    /// # Shapes
    ///
    /// - input: `[B, T]`
    /// - hidden: `[B, T, D]`; pooled: `[B, D]`
    ///
    /// # Panics
    ///
    /// As [`BertEmbeddings::forward`].
    pub fn forward(&self, input: &BertInput, trace: &mut Trace) -> BertOutput {
        let [_, length] = input.input_ids.dims();
        let relative = self.relative.as_ref();
        let flow = Flow {
            relative: relative.map(|relative| relative.forward(length)),
            ..Flow::new(
                self.embeddings.forward(input),
                Tokens::new(input.input_ids.clone(), input.padding.clone()),
            )
        };
        let Flow { hidden, .. } = self.stack.forward(flow, None, trace);
        let pooled = self.pooler.as_ref().map(|pooler| {
            let first = hidden.clone().slice_dim(1, 0..1).squeeze_dim::<2>(1);
            let first = dropout(&self.pooler_dropout, first);
            self.pooler_activation.forward(apply_linear(pooler, first))
        });
        BertOutput { hidden, pooled }
    }
}

#[cfg(test)]
mod tests {
    use masformer_core::{Keep, Layers};

    use super::*;

    fn tiny() -> BertConfig {
        BertConfig::new()
            .with_vocab_size(11)
            .with_hidden_size(8)
            .with_num_hidden_layers(2)
            .with_num_attention_heads(2)
            .with_intermediate_size(16)
            .with_max_position_embeddings(6)
    }

    fn input(ids: [[i32; 4]; 2], padding: [[bool; 4]; 2], device: &Device) -> BertInput {
        let input_ids = Tensor::<2, Int>::from_data(ids, device);
        BertInput {
            token_type_ids: input_ids.zeros_like(),
            input_ids,
            padding: Some(Tensor::from_data(padding, device)),
        }
    }

    #[test]
    fn trace_keeps_embedding_output_and_every_layer() {
        let device = Device::default();
        let bert = tiny().init(&device);
        let input = input([[1, 2, 3, 4], [5, 6, 7, 8]], [[false; 4]; 2], &device);
        let mut trace = Trace::new(Keep {
            hidden: Layers::All,
            ..Keep::default()
        });
        let output = bert.forward(&input, &mut trace);
        assert_eq!(trace.hidden.len(), 3);
        trace.hidden[&2]
            .to_data()
            .assert_eq(&output.hidden.into_data(), true);
    }

    #[test]
    fn padding_does_not_reach_real_tokens() {
        let device = Device::default();
        let bert = tiny().init(&device);
        let padding = [[false, false, true, true], [false; 4]];
        let forward = |ids| {
            let output = bert.forward(&input(ids, padding, &device), &mut Trace::nothing());
            output.hidden.slice([0..1, 0..2])
        };
        let one = forward([[1, 2, 3, 4], [5, 6, 7, 8]]);
        let other = forward([[1, 2, 9, 10], [5, 6, 7, 8]]);
        assert!((one - other).abs().max().into_scalar::<f32>() < 1e-6);
    }

    /// The largest difference in the real tokens' hidden states from those of full attention.
    fn difference(spans: &[&str]) -> f32 {
        let device = Device::default();
        let full = tiny().with_initializer_range(0.5).init(&device);
        let spans = spans.iter().map(|span| span.parse().unwrap()).collect();
        let mut local = tiny().with_spans(spans).init(&device);
        // The same weights: spans have none.
        local = local.load_record(full.clone().into_record());
        let padding = [[false, false, false, true], [false; 4]];
        let input = input([[1, 2, 3, 4], [5, 6, 7, 8]], padding, &device);
        let hidden = |bert: &Bert| bert.forward(&input, &mut Trace::nothing()).hidden;
        let difference = (hidden(&full) - hidden(&local)).abs();
        let padding = Tensor::<2, Bool>::from_data(padding, &device).unsqueeze_dim::<3>(2);
        difference
            .mask_fill(padding.expand([2, 4, 8]), 0.0)
            .max()
            .into_scalar()
    }

    #[test]
    fn spans_that_reach_everything_are_full_attention() {
        assert_eq!(difference(&["full", "full"]).to_bits(), 0);
        for local in ["window:8", "block:4", "window:1+4"] {
            assert!(difference(&["full", local]) < 1e-5, "{local}");
            assert!(difference(&[local, local]) < 1e-5, "{local}");
        }
        assert!(difference(&["full", "window:2"]) > 1e-3);
    }

    #[test]
    #[should_panic(expected = "1 spans for 2 layers")]
    fn spans_are_one_a_layer() {
        tiny().with_spans(vec![Span::Full]).init(&Device::default());
    }

    #[test]
    fn positions_are_counted_after_padding_wherever_it_is() {
        let device = Device::default();
        let count = PositionCount::AfterPadding { id: 1 };
        let embeddings = tiny().with_position_count(count).init(&device).embeddings;
        let table = embeddings.position.as_ref().unwrap();
        assert_eq!(table.weight.dims(), [8, 8]);
        let ids = Tensor::<2, Int>::from_data([[4, 5, 6, 1], [1, 1, 4, 5]], &device);
        let rows = [[2, 3, 4, 1], [1, 1, 2, 3]];
        let rows = Tensor::<2, Int>::from_data(rows, &device);
        let expected = table.forward(rows).into_data();
        embeddings
            .positions(table, &ids)
            .into_data()
            .assert_eq(&expected, true);
    }

    #[test]
    fn narrow_embeddings_without_segments_become_as_wide_as_the_layers() {
        let device = Device::default();
        let config = tiny().with_embedding_size(Some(4)).with_type_vocab_size(0);
        let bert = config.init(&device);
        assert_eq!(bert.embeddings.word.weight.dims(), [11, 4]);
        assert_eq!(bert.embeddings.width(), 8);
        let input = input([[1, 2, 3, 4], [5, 6, 7, 8]], [[false; 4]; 2], &device);
        let output = bert.forward(&input, &mut Trace::nothing());
        assert_eq!(output.hidden.dims(), [2, 4, 8]);
        // Segments are not told apart.
        let other = BertInput {
            token_type_ids: input.token_type_ids.ones_like(),
            ..input
        };
        let other = bert.forward(&other, &mut Trace::nothing()).hidden;
        other
            .into_data()
            .assert_eq(&output.hidden.into_data(), true);
    }

    #[test]
    #[should_panic(expected = "longer than the 6 positions")]
    fn too_long_a_sequence_names_the_limit() {
        let device = Device::default();
        let input_ids = Tensor::<2, Int>::zeros([1, 7], &device);
        let input = BertInput {
            token_type_ids: input_ids.clone(),
            input_ids,
            padding: None,
        };
        tiny().init(&device).forward(&input, &mut Trace::nothing());
    }
}
