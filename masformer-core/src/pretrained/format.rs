//! What differs between decoder architectures: their keys of `config.json` and their names of weights.

use serde_json::{Map, Value};

use super::{Keys, Layout, Names, activations, is_of_mixers};
use crate::{activation::Activation, decoder::DecoderConfig, file::FileError, span::Span};

/// A decoder architecture of Transformers: its keys of `config.json` and its names of weights.
pub(super) trait Format: Sync {
    /// The `model_type`.
    fn model_type(&self) -> &'static str;

    /// The number of layers.
    fn layers(&self, keys: Keys<'_>) -> Result<usize, FileError>;

    /// What each layer attends to, as the architecture's own keys say it.
    fn spans(&self, keys: Keys<'_>, layers: usize) -> Result<Vec<Span>, FileError>;

    /// The configuration that the keys describe, with these spans and learned positions; norms and gates
    /// are those of the architecture.
    fn read(&self, keys: Keys<'_>, spans: Vec<Span>) -> Result<DecoderConfig, FileError>;

    /// Writes a configuration into the keys, but for the spans, the kind of positions, norms and gates.
    ///
    /// What the architecture does not have is an error: the field, and the value that it would need.
    fn write(
        &self,
        config: &DecoderConfig,
        json: &mut Map<String, Value>,
    ) -> Result<(), (&'static str, String)>;

    /// Writes the spans into the keys, if they can say them; otherwise leaves none there.
    fn write_spans(&self, spans: &[Span], json: &mut Map<String, Value>) -> bool;

    /// Where the weights lie in files.
    fn layout(&self) -> DecoderLayout;
}

/// Where the weights of a decoder lie in files.
pub(super) struct DecoderLayout {
    pub(super) names: Names,
    /// The layers whose mixer is not that of the files.
    pub(super) new_mixers: Vec<usize>,
    pub(super) is_transposed: bool,
    /// The endings of names that are not weights.
    pub(super) constants: &'static [&'static str],
}

impl Layout for DecoderLayout {
    const PART: &'static str = "decoder";

    fn names(&self) -> &Names {
        &self.names
    }

    fn is_transposed(&self) -> bool {
        self.is_transposed
    }

    fn is_embedding(&self, module: &str) -> bool {
        module.starts_with("token.") || module.starts_with("position.")
    }

    fn is_constant(&self, file: &str) -> bool {
        let mut endings = self.constants.iter();
        endings.any(|ending| file.ends_with(ending))
    }

    fn is_optional(&self, module: &str) -> bool {
        is_of_mixers(module, &self.new_mixers)
    }

    fn may_differ(&self, module: &str) -> bool {
        self.is_optional(module)
    }

    /// Routing tables have a file of their own.
    fn is_weight(&self, module: &str) -> bool {
        !module.ends_with(".router.table")
    }
}

/// The key that names the function of the feed-forward layers.
const ACTIVATION: &str = "activation_function";

/// The activation of the feed-forward layers.
pub(super) fn read_activation(keys: Keys<'_>) -> Result<Activation, FileError> {
    activations::read_activation(keys, ACTIVATION, Activation::GeluTanh)
}

/// Names the activation of the feed-forward layers.
pub(super) fn write_activation(activation: Activation, json: &mut Map<String, Value>) {
    activations::write_activation(json, ACTIVATION, activation);
}

/// The number of attention heads.
pub(super) fn read_heads(
    keys: Keys<'_>,
    key: &str,
    default: usize,
    hidden: usize,
) -> Result<usize, FileError> {
    let heads = keys.size(key, default)?;
    if hidden.is_multiple_of(heads) {
        Ok(heads)
    } else {
        Err(keys.wrong(key, format!("a divisor of the hidden size, {hidden}")))
    }
}

/// The feed-forward width where `key` may leave it at four times the hidden width.
pub(super) fn read_width(keys: Keys<'_>, key: &str, hidden: usize) -> Result<usize, FileError> {
    keys.size(key, 4 * hidden)
}

/// The value that [`read_width`] reads.
pub(super) fn written_width(config: &DecoderConfig) -> Value {
    if config.width == 4 * config.hidden {
        Value::Null
    } else {
        config.width.into()
    }
}
