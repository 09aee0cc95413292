//! GPT-Neo: `config.json` and names of weights as in Transformers.
//!
//! Its layers are `global` or `local`, by turns unless the configuration says otherwise; scores are
//! not scaled, and queries, keys and values have no biases.

use std::num::NonZeroUsize;

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
        "transformer.h.{l}.attn.attention.q_proj.",
        "stack.layers.{l}.mixer.query.",
    ),
    (
        "transformer.h.{l}.attn.attention.k_proj.",
        "stack.layers.{l}.mixer.key.",
    ),
    (
        "transformer.h.{l}.attn.attention.v_proj.",
        "stack.layers.{l}.mixer.value.",
    ),
    (
        "transformer.h.{l}.attn.attention.out_proj.",
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

const LAYERS: &str = "attention_layers";
/// [`LAYERS`] as groups: names, and how often they are repeated.
const TYPES: &str = "attention_types";
const WINDOW: &str = "window_size";
const DEFAULT_WINDOW: NonZeroUsize = NonZeroUsize::new(256).unwrap();
const GLOBAL: &str = "global";
const LOCAL: &str = "local";

/// The architecture `gpt_neo`.
pub(super) struct GptNeo;

impl Format for GptNeo {
    fn model_type(&self) -> &'static str {
        "gpt_neo"
    }

    fn layers(&self, keys: Keys<'_>) -> Result<usize, FileError> {
        keys.size("num_layers", 24)
    }

    fn spans(&self, keys: Keys<'_>, layers: usize) -> Result<Vec<Span>, FileError> {
        let example = "groups such as [[[\"global\", \"local\"], 12]]";
        let groups = keys.get(TYPES, None, example)?.map(expand);
        let expected = format!("{layers} names, \"{GLOBAL}\" or \"{LOCAL}\"");
        let names: Option<Vec<String>> = keys.get(LAYERS, None, &expected)?;
        if let (Some(groups), Some(names)) = (&groups, &names)
            && groups != names
        {
            return Err(keys.wrong(LAYERS, format!("what `{TYPES}` says")));
        }
        let key = if names.is_some() { LAYERS } else { TYPES };
        let by_turns = || expand(vec![(vec![GLOBAL.to_owned(), LOCAL.to_owned()], 12)]);
        let names = names.or(groups).unwrap_or_else(by_turns);
        if names.len() != layers {
            return Err(keys.wrong(key, expected));
        }
        let width = keys.get(WINDOW, DEFAULT_WINDOW, "a whole number above 0")?;
        names
            .iter()
            .map(|name| match name.as_str() {
                GLOBAL => Ok(Span::Full),
                LOCAL => Ok(Span::Window { width, sinks: 0 }),
                _ => Err(keys.wrong(key, &expected)),
            })
            .collect()
    }

    fn read(&self, keys: Keys<'_>, spans: Vec<Span>) -> Result<DecoderConfig, FileError> {
        keys.check_fixed([("tie_word_embeddings", true.into())])?;
        let hidden = keys.size("hidden_size", 2048)?;
        Ok(DecoderConfig {
            vocabulary: keys.size("vocab_size", 50257)?,
            positions: keys.size("max_position_embeddings", 2048)?,
            hidden,
            heads: read_heads(keys, "num_heads", 16, hidden)?,
            width: read_width(keys, "intermediate_size", hidden)?,
            spans,
            mixers: vec![],
            position_encoding: PositionEncoding::Learned,
            activation: read_activation(keys)?,
            gated: false,
            attention_scale: Some(1.0),
            attention_bias: false,
            embedding_dropout: keys.probability("embed_dropout", 0.0)?,
            attention_dropout: keys.probability("attention_dropout", 0.0)?,
            residual_dropout: keys.probability("resid_dropout", 0.0)?,
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
        if config.attention_scale != Some(1.0) {
            return Err(("attention_scale", "1".to_owned()));
        }
        if config.attention_bias {
            return Err(("attention_bias", "false".to_owned()));
        }
        let mut set = |key: &str, value: Value| json.insert(key.to_owned(), value);
        set("architectures", json!(["GPTNeoForCausalLM"]));
        set("vocab_size", config.vocabulary.into());
        set("max_position_embeddings", config.positions.into());
        set("hidden_size", config.hidden.into());
        set("num_layers", config.spans.len().into());
        set("num_heads", config.heads.into());
        set("intermediate_size", written_width(config));
        set("embed_dropout", config.embedding_dropout.into());
        set("attention_dropout", config.attention_dropout.into());
        set("resid_dropout", config.residual_dropout.into());
        set("layer_norm_epsilon", config.norm_epsilon.into());
        set("initializer_range", config.initializer_range.into());
        write_activation(config.activation, json);
        Ok(())
    }

    fn write_spans(&self, spans: &[Span], json: &mut Map<String, Value>) -> bool {
        let Some((names, window)) = said(spans) else {
            for key in [LAYERS, TYPES] {
                json.shift_remove(key);
            }
            return false;
        };
        let types = json.get(TYPES).cloned();
        let is_said = types
            .and_then(|types| serde_json::from_value(types).ok())
            .is_some_and(|types| expand(types) == names);
        if !is_said {
            json.insert(TYPES.to_owned(), json!([[names, 1]]));
        }
        json.insert(LAYERS.to_owned(), json!(names));
        if let Some(window) = window {
            json.insert(WINDOW.to_owned(), window.get().into());
        }
        true
    }

    fn layout(&self) -> DecoderLayout {
        DecoderLayout {
            names: Names::new(NAMES, "transformer."),
            new_mixers: vec![],
            is_transposed: true,
            constants: &[
                ".attn.attention.bias",
                ".attn.attention.masked_bias",
                "lm_head.weight",
            ],
        }
    }
}

/// Groups of layers, spelled out.
fn expand(groups: Vec<(Vec<String>, usize)>) -> Vec<String> {
    let layers = groups.into_iter().flat_map(|(names, count)| {
        let repeated = std::iter::repeat_n(names, count);
        repeated.flatten()
    });
    layers.collect()
}

/// The names of layers, and the window of the local ones, where the configuration has room for
/// them: one window, without sinks.
fn said(spans: &[Span]) -> Option<(Vec<String>, Option<NonZeroUsize>)> {
    let mut window = None;
    let mut names = vec![];
    for span in spans {
        let name = match span {
            Span::Full => GLOBAL,
            Span::Window { width, sinks: 0 } if *window.get_or_insert(*width) == *width => LOCAL,
            Span::Window { .. } | Span::Block { .. } => return None,
        };
        names.push(name.to_owned());
    }
    Some((names, window))
}
