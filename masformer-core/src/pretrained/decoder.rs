//! Folders of decoders, opened by their `model_type`.
//!
//! Spans that the configuration of an architecture cannot say stand in the key `kiln` of
//! `config.json`, as `{"spans": ["full", "window:256", ..]}`, one for each layer from the bottom. The
//! `model_type` of such a folder begins with `kiln-`, because Transformers would take its weights and
//! compute something else.

use std::{
    fmt, fs,
    path::{Path, PathBuf},
};

use burn::prelude::*;
use serde_json::{Map, Value, json};

use super::{
    CONFIG_FILE, Checkpoint, FolderError, Keys, Layout, LoadReport, MODEL_TYPE, Names,
    copy_tokenizer, gpt_neo::GptNeo, gpt2::Gpt2, read_config, save_weights, set_dtype,
    write_config,
};
use crate::{
    activation::Activation,
    decoder::{Decoder, DecoderConfig},
    file::FileError,
    span::Span,
};

/// The architectures, one file each.
const FORMATS: [&dyn Format; 2] = [&Gpt2, &GptNeo];

/// The key of what only Kiln knows.
const KILN: &str = "kiln";
const SPANS: &str = "spans";
/// What the `model_type` of a folder begins with that only Kiln reads.
const KILN_PREFIX: &str = "kiln-";

/// A decoder architecture of Transformers: its keys of `config.json` and its names of weights.
pub(super) trait Format: Sync {
    /// The `model_type`.
    fn model_type(&self) -> &'static str;

    /// The number of layers.
    fn layers(&self, keys: Keys<'_>) -> Result<usize, FileError>;

    /// What each layer attends to, as the architecture's own keys say it.
    fn spans(&self, keys: Keys<'_>, layers: usize) -> Result<Vec<Span>, FileError>;

    /// The configuration that the keys describe, with these spans.
    fn read(&self, keys: Keys<'_>, spans: Vec<Span>) -> Result<DecoderConfig, FileError>;

    /// Writes a configuration into the keys, but for the spans.
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
}

/// A decoder's configuration, with every key of `config.json` that we do not know, in their order.
#[derive(Clone)]
pub struct DecoderFolderConfig {
    /// The model.
    pub decoder: DecoderConfig,
    format: &'static dyn Format,
    json: Map<String, Value>,
}

impl fmt::Debug for DecoderFolderConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DecoderFolderConfig")
            .field("model_type", &self.model_type())
            .field("decoder", &self.decoder)
            .finish_non_exhaustive()
    }
}

impl DecoderFolderConfig {
    /// The configuration of a model that was made here, to be saved as `model_type`: `gpt2` or
    /// `gpt_neo`.
    ///
    /// # Errors
    ///
    /// If there is no such architecture, or it has not what the configuration asks for.
    pub fn new(model_type: &str, decoder: DecoderConfig) -> Result<Self, FolderError> {
        let format = format_of(model_type)
            .filter(|format| format.model_type() == model_type)
            .ok_or_else(|| FolderError::UnknownModelType {
                found: model_type.to_owned(),
                known: known(),
            })?;
        let json = Map::new();
        let config = Self {
            decoder,
            format,
            json,
        };
        config.to_json(&config.decoder.spans)?;
        Ok(config)
    }

    /// The architecture, `gpt2` or `gpt_neo`.
    pub fn model_type(&self) -> &'static str {
        self.format.model_type()
    }

    /// Every key as it was read, in order.
    pub fn json(&self) -> &Map<String, Value> {
        &self.json
    }

    /// Reads `config.json`.
    ///
    /// # Errors
    ///
    /// If the file cannot be read, is no JSON object, or holds a value that is wrong or not
    /// supported; the error names the key.
    pub fn read(path: &Path) -> Result<Self, FileError> {
        let json = read_config(path)?;
        let keys = Keys { path, json: &json };
        let found: String = keys.get(MODEL_TYPE, String::new(), &known())?;
        let format = format_of(&found).ok_or_else(|| keys.wrong(MODEL_TYPE, known()))?;
        let layers = format.layers(keys)?;
        let spans = if found.starts_with(KILN_PREFIX) || json.contains_key(KILN) {
            kiln_spans(keys, layers)?
        } else {
            format.spans(keys, layers)?
        };
        let decoder = format.read(keys, spans)?;
        Ok(Self {
            decoder,
            format,
            json,
        })
    }

    /// The keys to write for a model with these spans. Keys that we do not know stay.
    fn to_json(&self, spans: &[Span]) -> Result<Map<String, Value>, FolderError> {
        let mut json = self.json.clone();
        json.insert(MODEL_TYPE.to_owned(), self.model_type().into());
        let written = self.format.write(&self.decoder, &mut json);
        written.map_err(|(field, needed)| FolderError::Foreign {
            model_type: self.model_type(),
            field,
            needed,
        })?;
        if self.format.write_spans(spans, &mut json) {
            json.shift_remove(KILN);
        } else {
            json.insert(KILN.to_owned(), json!({ SPANS: spans }));
            let model_type = format!("{KILN_PREFIX}{}", self.model_type());
            json.insert(MODEL_TYPE.to_owned(), model_type.into());
        }
        Ok(json)
    }
}

/// The spans of the key `kiln`.
fn kiln_spans(keys: Keys<'_>, layers: usize) -> Result<Vec<Span>, FileError> {
    let expected = format!("{{\"{SPANS}\": [..]}} with a span for each of {layers} layers");
    let kiln = keys.get(KILN, Map::new(), &expected)?;
    let spans = kiln.get(SPANS).cloned().unwrap_or_default();
    let spans: Vec<Span> = serde_json::from_value(spans)
        .map_err(|error| keys.wrong(KILN, format!("{expected}: {error}")))?;
    if spans.len() == layers {
        Ok(spans)
    } else {
        Err(keys.wrong(KILN, expected))
    }
}

/// The architecture of a `model_type`, whether or not its spans are only Kiln's.
fn format_of(model_type: &str) -> Option<&'static dyn Format> {
    let name = model_type.strip_prefix(KILN_PREFIX).unwrap_or(model_type);
    let mut formats = FORMATS.into_iter();
    formats.find(|format| format.model_type() == name)
}

/// The known values of `model_type`, for messages.
fn known() -> String {
    let names = FORMATS.map(|format| format!("\"{}\"", format.model_type()));
    names.join(" or ")
}

/// A folder of a decoder whose configuration has been read; its weights have not.
#[derive(Clone, Debug)]
pub struct DecoderFolder {
    dir: PathBuf,
    config: DecoderFolderConfig,
}

impl DecoderFolder {
    /// Whether a folder's `model_type` is that of a decoder.
    ///
    /// # Errors
    ///
    /// If its configuration cannot be read or is no JSON object.
    pub fn is_in(dir: impl AsRef<Path>) -> Result<bool, FileError> {
        let json = read_config(&dir.as_ref().join(CONFIG_FILE))?;
        let model_type = json.get(MODEL_TYPE).and_then(Value::as_str);
        Ok(model_type.is_some_and(|name| format_of(name).is_some()))
    }

    /// Reads the configuration of a folder.
    ///
    /// # Errors
    ///
    /// If it is missing or malformed, or asks for what is not supported.
    pub fn open(dir: impl AsRef<Path>) -> Result<Self, FolderError> {
        let dir = dir.as_ref().to_owned();
        let config = DecoderFolderConfig::read(&dir.join(CONFIG_FILE))?;
        Ok(Self { dir, config })
    }

    /// The folder.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The configuration.
    pub fn config(&self) -> &DecoderFolderConfig {
        &self.config
    }

    /// The same weights under other spans, one for each layer from the bottom.
    ///
    /// # Errors
    ///
    /// If there are not as many spans as layers.
    pub fn with_spans(mut self, spans: Vec<Span>) -> Result<Self, FolderError> {
        let layers = self.config.decoder.spans.len();
        if spans.len() != layers {
            return Err(FolderError::Spans {
                dir: self.dir,
                layers,
                spans: spans.len(),
            });
        }
        self.config.decoder.spans = spans;
        Ok(self)
    }

    /// Makes the model and loads its weights.
    ///
    /// # Errors
    ///
    /// If weights are missing, of the wrong shape or type, or a file of weights is damaged.
    pub fn load(&self, device: &Device) -> Result<(Decoder, LoadReport), FolderError> {
        let checkpoint = Checkpoint::open(&self.dir, self.config.format.layout())?;
        let mut model = self.config.decoder.init(device);
        let report = checkpoint.load(&mut model, device)?;
        Ok((model, report))
    }
}

/// Writes a decoder as a folder that [`DecoderFolder::open`] and, where `config.json` can say its
/// spans, Transformers read. The spans written are the model's own; the tokenizer is that of the
/// folder `tokenizer`, if any.
///
/// Every file appears whole or not at all. The configuration comes last, so that a folder that has
/// one has all the rest.
///
/// # Errors
///
/// If the architecture has not what the configuration asks for, or a file cannot be written.
pub fn save_decoder(
    dir: &Path,
    model: &Decoder,
    config: &DecoderFolderConfig,
    tokenizer: Option<&Path>,
) -> Result<(), FolderError> {
    let mut json = config.to_json(&model.spans())?;
    set_dtype(&mut json, model.token.weight.val().dtype());
    fs::create_dir_all(dir).map_err(|source| FileError::Write {
        path: dir.to_owned(),
        source,
    })?;
    save_weights(dir, model, &config.format.layout())?;
    if let Some(from) = tokenizer {
        copy_tokenizer(from, dir)?;
    }
    Ok(write_config(dir, &json)?)
}

const ACTIVATION: &str = "activation_function";
/// The names that Transformers has for activations; the first of each kind is written.
const ACTIVATIONS: [(&str, Activation); 3] = [
    ("gelu_new", Activation::GeluTanh),
    ("gelu_pytorch_tanh", Activation::GeluTanh),
    ("gelu", Activation::Gelu),
];

/// The activation of the feed-forward layers.
pub(super) fn read_activation(keys: Keys<'_>) -> Result<Activation, FileError> {
    let expected = "\"gelu_new\", \"gelu_pytorch_tanh\" or \"gelu\"";
    let found = keys.get(ACTIVATION, ACTIVATIONS[0].0.to_owned(), expected)?;
    let mut known = ACTIVATIONS.into_iter();
    known
        .find_map(|(name, activation)| (name == found).then_some(activation))
        .ok_or_else(|| keys.wrong(ACTIVATION, expected))
}

/// Names the activation, unless a name of it is there already.
pub(super) fn write_activation(activation: Activation, json: &mut Map<String, Value>) {
    let mut names = ACTIVATIONS
        .into_iter()
        .filter_map(|(name, it)| (it == activation).then_some(name));
    let is_named = json
        .get(ACTIVATION)
        .is_some_and(|found| names.clone().any(|name| found == name));
    if !is_named {
        json.insert(ACTIVATION.to_owned(), names.next().into());
    }
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
