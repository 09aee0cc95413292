//! GPT-2: `config.json` and names of weights as in Transformers.
//!
//! Its linear layers are `Conv1D`, whose weights are `[in, out]` as ours are, and one of them makes
//! queries, keys and values together.

use serde_json::{Map, Value, json};

use super::{
    Keys, Names,
    format::{
        DecoderLayout, Format, read_activation, read_heads, read_width, write_activation,
        written_width,
    },
};
use crate::{
    decoder::DecoderConfig,
    file::FileError,
    norm::{NormKind, NormPlacement},
    position::PositionEncoding,
    span::Span,
};

/// Names in files and in the model, `{l}` a layer.
const NAMES: [(&str, &str); 15] = [
    ("transformer.wte.", "token."),
    ("transformer.wpe.", "position."),
    ("transformer.h.{l}.ln_1.", "stack.layers.{l}.mixer_norm."),
    (
        "transformer.h.{l}.attn.c_attn.",
        "stack.layers.{l}.mixer.query.",
    ),
    (
        "transformer.h.{l}.attn.c_attn.",
        "stack.layers.{l}.mixer.key.",
    ),
    (
        "transformer.h.{l}.attn.c_attn.",
        "stack.layers.{l}.mixer.value.",
    ),
    (
        "transformer.h.{l}.attn.c_proj.",
        "stack.layers.{l}.mixer.output.",
    ),
    (
        "transformer.h.{l}.ln_1_out.",
        "stack.layers.{l}.mixer_output_norm.",
    ),
    // Of any other mixer than attention.
    ("transformer.h.{l}.mixer.", "stack.layers.{l}.mixer."),
    (
        "transformer.h.{l}.ln_2.",
        "stack.layers.{l}.feed_forward.norm.",
    ),
    (
        "transformer.h.{l}.ln_2_out.",
        "stack.layers.{l}.feed_forward.output_norm.",
    ),
    (
        "transformer.h.{l}.mlp.c_fc.",
        "stack.layers.{l}.feed_forward.inner.",
    ),
    (
        "transformer.h.{l}.mlp.c_gate.",
        "stack.layers.{l}.feed_forward.gate.",
    ),
    (
        "transformer.h.{l}.mlp.c_proj.",
        "stack.layers.{l}.feed_forward.outer.",
    ),
    ("transformer.ln_f.", "norm."),
];

/// The architecture `gpt2`.
pub(super) struct Gpt2;

impl Format for Gpt2 {
    fn model_type(&self) -> &'static str {
        "gpt2"
    }

    fn layers(&self, keys: Keys<'_>) -> Result<usize, FileError> {
        keys.size("n_layer", 12)
    }

    fn spans(&self, _keys: Keys<'_>, layers: usize) -> Result<Vec<Span>, FileError> {
        Ok(vec![Span::Full; layers])
    }

    fn read(&self, keys: Keys<'_>, spans: Vec<Span>) -> Result<DecoderConfig, FileError> {
        keys.check_fixed([
            ("add_cross_attention", false.into()),
            ("scale_attn_by_inverse_layer_idx", false.into()),
            ("tie_word_embeddings", true.into()),
        ])?;
        let is_scaled = keys.get("scale_attn_weights", true, "true or false")?;
        let hidden = keys.size("n_embd", 768)?;
        Ok(DecoderConfig {
            vocabulary: keys.size("vocab_size", 50257)?,
            positions: keys.size("n_positions", 1024)?,
            hidden,
            heads: read_heads(keys, "n_head", 12, hidden)?,
            width: read_width(keys, "n_inner", hidden)?,
            spans,
            mixers: vec![],
            position_encoding: PositionEncoding::Learned,
            activation: read_activation(keys)?,
            gated: false,
            attention_scale: (!is_scaled).then_some(1.0),
            attention_bias: true,
            embedding_dropout: keys.probability("embd_pdrop", 0.1)?,
            attention_dropout: keys.probability("attn_pdrop", 0.1)?,
            residual_dropout: keys.probability("resid_pdrop", 0.1)?,
            feed_forward_chunk: None,
            norm: NormKind::default(),
            norm_placement: NormPlacement::Pre,
            norm_epsilon: keys.positive("layer_norm_epsilon", 1e-5)?,
            initializer_range: keys.positive("initializer_range", 0.02)?,
        })
    }

    fn write(
        &self,
        config: &DecoderConfig,
        json: &mut Map<String, Value>,
    ) -> Result<(), (&'static str, String)> {
        let is_scaled = match config.attention_scale {
            None => true,
            Some(1.0) => false,
            Some(_) => return Err(("attention_scale", "1 / sqrt(D / H), or 1".to_owned())),
        };
        if !config.attention_bias {
            return Err(("attention_bias", "true".to_owned()));
        }
        // An older name of the same number.
        let has_context = json.contains_key("n_ctx");
        let mut set = |key: &str, value: Value| json.insert(key.to_owned(), value);
        if has_context {
            set("n_ctx", config.positions.into());
        }
        set("architectures", json!(["GPT2LMHeadModel"]));
        set("vocab_size", config.vocabulary.into());
        set("n_positions", config.positions.into());
        set("n_embd", config.hidden.into());
        set("n_layer", config.spans.len().into());
        set("n_head", config.heads.into());
        set("n_inner", written_width(config));
        set("embd_pdrop", config.embedding_dropout.into());
        set("attn_pdrop", config.attention_dropout.into());
        set("resid_pdrop", config.residual_dropout.into());
        set("layer_norm_epsilon", config.norm_epsilon.into());
        set("initializer_range", config.initializer_range.into());
        set("scale_attn_weights", is_scaled.into());
        write_activation(config.activation, json);
        Ok(())
    }

    fn write_spans(&self, spans: &[Span], _json: &mut Map<String, Value>) -> bool {
        spans.iter().all(|span| *span == Span::Full)
    }

    fn layout(&self) -> DecoderLayout {
        DecoderLayout {
            names: Names::new(NAMES, "transformer."),
            new_mixers: vec![],
            is_transposed: false,
            constants: &[".attn.bias", ".attn.masked_bias", "lm_head.weight"],
        }
    }
}
