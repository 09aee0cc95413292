//! BERT (arXiv 1810.04805): embeddings, encoder and pooler.

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
    feed_forward::{apply_linear, zero_bias},
};

use crate::half::Half;

/// Configuration of [`Bert`], with the names and defaults of Hugging Face's `BertConfig`.
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
    /// Number of segments.
    #[config(default = 2)]
    pub type_vocab_size: usize,
    /// Dropout of embeddings and of both halves of a layer.
    #[config(default = 0.1)]
    pub hidden_dropout_prob: f64,
    /// Dropout of attention weights.
    #[config(default = 0.1)]
    pub attention_probs_dropout_prob: f64,
    /// Added to the variance in each layer normalisation.
    #[config(default = 1e-12)]
    pub layer_norm_eps: f64,
    /// Standard deviation of the weights at the start.
    #[config(default = 0.02)]
    pub initializer_range: f64,
    /// Whether the pooler (a dense layer with tanh on the first token) is there.
    #[config(default = true)]
    pub pooler: bool,
    /// What each of the `L` layers attends to, from the bottom; empty for `full` everywhere.
    #[config(default = "vec![]")]
    pub spans: Vec<Span>,
    /// What each of the `L` layers mixes tokens with, from the bottom; empty for attention everywhere.
    #[config(default = "vec![]")]
    pub mixers: Vec<MixerSpec>,
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

/// Sum of token, position and segment embeddings, normalised.
#[derive(Module, Debug)]
pub struct BertEmbeddings {
    /// Token embeddings `[V, D]`.
    pub word: Embedding,
    /// Position embeddings.
    pub position: Embedding,
    /// Segment embeddings.
    pub token_type: Embedding,
    /// Normalisation of the sum.
    pub norm: Norm,
    /// Dropout of the normalised sum.
    pub dropout: Dropout,
}

/// The BERT encoder.
#[derive(Module, Debug)]
pub struct Bert {
    /// Embeddings.
    pub embeddings: BertEmbeddings,
    /// `L` layers.
    pub stack: Stack<Half>,
    /// The pooler, where there is one.
    pub pooler: Option<Linear>,
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
        let embedding = |count| {
            EmbeddingConfig::new(count, self.hidden_size)
                .with_initializer(self.initializer())
                .init(device)
        };
        let embeddings = BertEmbeddings {
            word: embedding(self.vocab_size),
            position: embedding(self.max_position_embeddings),
            token_type: embedding(self.type_vocab_size),
            norm: NormConfig::new(self.hidden_size)
                .with_epsilon(self.layer_norm_eps)
                .init(device),
            dropout: DropoutConfig::new(self.hidden_dropout_prob).init(),
        };
        let config = |layer| {
            let span = self.spans.get(layer).copied().unwrap_or_default();
            LayerConfig::new(self.attention().with_span(span))
                .with_mixer(self.mixers.get(layer).cloned().unwrap_or_default())
                .with_dropout(self.hidden_dropout_prob)
                .with_norm_epsilon(self.layer_norm_eps)
        };
        let mlp = self.mlp();
        let layers = (0..self.num_hidden_layers)
            .map(|layer| config(layer).init(Half::Dense(mlp.init(device)), device))
            .collect();
        let pooler = self.pooler.then(|| {
            let config = LinearConfig::new(self.hidden_size, self.hidden_size)
                .with_initializer(self.initializer());
            zero_bias(config.init(device))
        });
        Bert {
            embeddings,
            stack: Stack { layers },
            pooler,
        }
    }
}

impl BertEmbeddings {
    /// Embeds a batch.
    ///
    /// # Shapes
    ///
    /// - input: `[B, T]`
    /// - output: `[B, T, D]`
    ///
    /// # Panics
    ///
    /// If the sequence is longer than the position table, or `token_type_ids` is not `[B, T]`.
    pub fn forward(&self, input: &BertInput) -> Tensor<3> {
        let [batch, length] = input.input_ids.dims();
        assert_shape!(input.token_type_ids, [batch, length]);
        let [positions, _] = self.position.weight.dims();
        assert!(
            length <= positions,
            "a sequence of {length} tokens is longer than the {positions} positions of the model"
        );
        let word = self.word.forward(input.input_ids.clone());
        let token_type = self.token_type.forward(input.token_type_ids.clone());
        let position = self.position.weight.val().slice([0..length]).unsqueeze();
        let sum = word + token_type + position;
        dropout(&self.dropout, self.norm.forward(sum))
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
    /// If the sequence is longer than the position table.
    pub fn forward(&self, input: &BertInput, trace: &mut Trace) -> BertOutput {
        let flow = Flow::new(
            self.embeddings.forward(input),
            Tokens::new(input.input_ids.clone(), input.padding.clone()),
        );
        let Flow { hidden, .. } = self.stack.forward(flow, None, trace);
        let pooled = self.pooler.as_ref().map(|pooler| {
            let first = hidden.clone().slice_dim(1, 0..1).squeeze_dim::<2>(1);
            apply_linear(pooler, first).tanh()
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
