//! Folders of decoders, opened by their `model_type`.
//!
//! What the configuration of an architecture cannot say stands in the key `kiln` of `config.json`:
//! `{"spans": ["full", "window:256", ..]}`, one for each layer from the bottom, `"mixers"` in the same way where
//! some layer is not attention, `"position_encoding": {"rotary": {"theta": 10000.0}}`, `"norm": "rms"` and
//! `"norm_placement": "both"` where a decoder is not normalised as the architecture says, `"gated": true` where its
//! feed-forward layers have gates, and `"experts"` with the name of a file that describes experts. The `model_type`
//! of such a folder begins with `kiln-`.

use std::{
    fmt, fs,
    path::{Path, PathBuf},
};

use burn::{
    module::{Module, ModuleVisitor, Param},
    prelude::*,
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{
    CONFIG_FILE, Checkpoint, FolderError, Keys, LoadReport, MODEL_TYPE, check_tokenizer,
    check_weight_forms, copy_tokenizer,
    format::Format,
    gpt_neo::GptNeo,
    gpt2::Gpt2,
    kept_weight_forms,
    kiln::{KILN, check_kiln_layers, check_layers, read_kiln, without_kiln_prefix, write_kiln},
    read_config, save_weights, set_dtype, write_config,
};
use crate::{
    decoder::{Decoder, DecoderConfig},
    feed_forward::{FeedForward, Mlp},
    file::FileError,
    mixer::MixerSpec,
    norm::{NormKind, NormPlacement},
    position::{PositionEncoding, PositionExtension},
    span::Span,
};

/// The architectures, one file each.
const FORMATS: [&dyn Format; 2] = [&Gpt2, &GptNeo];

/// The key of what the architecture cannot say.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct KilnKey {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    spans: Option<Vec<Span>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    mixers: Option<Vec<MixerSpec>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    position_encoding: Option<PositionEncoding>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    norm: Option<NormKind>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    norm_placement: Option<NormPlacement>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    gated: Option<bool>,
    /// The file with the experts' settings.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    experts: Option<String>,
    /// The forms of weights that are no plain matrices.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    weights: Vec<String>,
}

/// A decoder's configuration, with every key of `config.json` that we do not know, in their order.
#[derive(Clone)]
pub struct DecoderFolderConfig {
    /// The model.
    pub decoder: DecoderConfig,
    format: &'static dyn Format,
    experts: Option<String>,
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
    /// If there is no such architecture, it has not what the configuration asks for, or a mixer does not fit.
    pub fn new(model_type: &str, decoder: DecoderConfig) -> Result<Self, FolderError> {
        let format = format_of(model_type)
            .filter(|format| format.model_type() == model_type)
            .ok_or_else(|| FolderError::UnknownModelType {
                found: model_type.to_owned(),
                known: known(),
            })?;
        MixerSpec::check(&decoder.mixers, &decoder.attention())?;
        let json = Map::new();
        let config = Self {
            decoder,
            format,
            experts: None,
            json,
        };
        config.to_json(&config.decoder.spans, &config.decoder.mixers, vec![])?;
        Ok(config)
    }

    /// The architecture, `gpt2` or `gpt_neo`.
    pub fn model_type(&self) -> &'static str {
        self.format.model_type()
    }

    /// The file in the folder that describes the model's experts; `None` for a dense model.
    pub fn experts(&self) -> Option<&str> {
        self.experts.as_deref()
    }

    /// The configuration of a model whose experts this file describes, or of a dense one.
    pub fn with_experts(mut self, file: Option<&str>) -> Self {
        self.experts = file.map(str::to_owned);
        self
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
        let expected = format!(
            "{{\"spans\": [..]}} with a span for each of {layers} layers, {{\"mixers\": [..]}} with a \
             mixer for each, {{\"position_encoding\": ..}}, {{\"norm\": ..}}, {{\"norm_placement\": ..}}, \
             {{\"gated\": true}}, {{\"experts\": ..}}, {{\"weights\": [..]}}, or several of them"
        );
        let kiln: KilnKey = read_kiln(keys, &expected)?;
        if without_kiln_prefix(&found) != found && kiln == KilnKey::default() {
            return Err(keys.wrong(KILN, expected));
        }
        check_weight_forms(keys, &kiln.weights)?;
        check_kiln_layers(keys, kiln.spans.as_ref(), layers, &expected)?;
        check_kiln_layers(keys, kiln.mixers.as_ref(), layers, &expected)?;
        let mixers = MixerSpec::compact(kiln.mixers.unwrap_or_default());
        let spans = match kiln.spans {
            Some(spans) => spans,
            None => format.spans(keys, layers)?,
        };
        let family = format.read(keys, spans)?;
        let decoder = DecoderConfig {
            mixers,
            position_encoding: kiln.position_encoding.unwrap_or_default(),
            norm: kiln.norm.unwrap_or(family.norm),
            norm_placement: kiln.norm_placement.unwrap_or(family.norm_placement),
            gated: kiln.gated.unwrap_or(family.gated),
            ..family
        };
        check_theta(&decoder).map_err(|needed| keys.wrong(KILN, needed))?;
        MixerSpec::check(&decoder.mixers, &decoder.attention())
            .map_err(|error| keys.wrong(KILN, format!("mixers that fit: {error}")))?;
        Ok(Self {
            decoder,
            format,
            experts: kiln.experts,
            json,
        })
    }

    /// The keys to write for a model with these spans, mixers and forms of weights. Keys that we do not know stay.
    fn to_json(
        &self,
        spans: &[Span],
        mixers: &[MixerSpec],
        weights: Vec<String>,
    ) -> Result<Map<String, Value>, FolderError> {
        let mut json = self.json.clone();
        let foreign = |(field, needed): (&str, String)| FolderError::Foreign {
            model_type: self.model_type(),
            field: field.to_owned(),
            needed,
        };
        check_theta(&self.decoder).map_err(|needed| foreign(("position_encoding", needed)))?;
        let written = self.format.write(&self.decoder, &mut json);
        written.map_err(foreign)?;
        let said = self.format.write_spans(spans, &mut json);
        let encoding = self.decoder.position_encoding;
        let (norm, placement) = (self.decoder.norm, self.decoder.norm_placement);
        let kiln = KilnKey {
            spans: (!said).then(|| spans.to_vec()),
            mixers: Some(MixerSpec::compact(mixers.to_vec())).filter(|mixers| !mixers.is_empty()),
            position_encoding: Some(encoding).filter(|it| *it != PositionEncoding::Learned),
            norm: Some(norm).filter(|it| *it != NormKind::Layer),
            norm_placement: Some(placement).filter(|it| *it != NormPlacement::Pre),
            gated: Some(true).filter(|_| self.decoder.gated),
            experts: self.experts.clone(),
            weights,
        };
        write_kiln(&mut json, self.model_type(), &kiln);
        Ok(json)
    }
}

/// Checks the base of rotary positions, where a decoder has them; otherwise says what would be right.
fn check_theta(decoder: &DecoderConfig) -> Result<(), String> {
    match decoder.position_encoding {
        PositionEncoding::Rotary { theta } if !(theta.is_finite() && theta > 0.0) => {
            Err(format!("a finite `theta` above 0, not {theta}"))
        }
        _ => Ok(()),
    }
}

/// The architecture of a `model_type`, whether or not its spans are only Kiln's.
fn format_of(model_type: &str) -> Option<&'static dyn Format> {
    let name = without_kiln_prefix(model_type);
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
    longer: Option<LongerTable>,
    /// The mixers that the files have weights of.
    stored_mixers: Vec<MixerSpec>,
    may_start_mixers: bool,
}

/// What a table of learned positions becomes when it is loaded.
#[derive(Clone, Copy, Debug)]
struct LongerTable {
    /// Rows of the table in the files.
    stored: usize,
    /// Where the others come from.
    extension: PositionExtension,
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
    /// If it is missing or malformed, or asks for what is not supported, or if the tokenizer's files are
    /// pointers of Git LFS.
    pub fn open(dir: impl AsRef<Path>) -> Result<Self, FolderError> {
        let dir = dir.as_ref().to_owned();
        let config = DecoderFolderConfig::read(&dir.join(CONFIG_FILE))?;
        check_tokenizer(&dir)?;
        Ok(Self {
            dir,
            stored_mixers: config.decoder.mixers.clone(),
            config,
            longer: None,
            may_start_mixers: false,
        })
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
        check_layers(&self.dir, "spans", &spans, self.config.decoder.spans.len())?;
        self.config.decoder.spans = spans;
        Ok(self)
    }

    /// The same model with other mixers, one for each layer from the bottom. Weights that the files have not are
    /// an error of [`Self::load`], unless they may be newly initialised.
    ///
    /// # Errors
    ///
    /// If there are not as many mixers as layers, or one of them does not fit.
    pub fn with_mixers(
        mut self,
        mixers: Vec<MixerSpec>,
        may_start: bool,
    ) -> Result<Self, FolderError> {
        check_layers(
            &self.dir,
            "mixers",
            &mixers,
            self.config.decoder.spans.len(),
        )?;
        let attention = self.config.decoder.attention();
        MixerSpec::check(&mixers, &attention).map_err(|source| FolderError::Mixer {
            dir: self.dir.clone(),
            source,
        })?;
        self.config.decoder.mixers = MixerSpec::compact(mixers);
        self.may_start_mixers = may_start;
        Ok(self)
    }

    /// The same weights for inputs of `length` tokens. A model that has as many positions keeps what it
    /// has; otherwise its table becomes longer as it is loaded, or its rotations get another base, and
    /// the configuration says so.
    ///
    /// # Errors
    ///
    /// If the model has fewer positions and there is no extension, or one for the other kind of
    /// positions.
    pub fn with_length(
        mut self,
        length: usize,
        extension: Option<PositionExtension>,
    ) -> Result<Self, FolderError> {
        let decoder = &mut self.config.decoder;
        let before = decoder.positions;
        *decoder = match decoder.clone().extended(length, extension) {
            Ok(decoder) => decoder,
            Err(source) => {
                let dir = self.dir;
                return Err(FolderError::Positions { dir, source });
            }
        };
        if let Some(extension) = extension
            && decoder.position_encoding == PositionEncoding::Learned
            && decoder.positions > before
        {
            let stored = self.longer.map_or(before, |longer| longer.stored);
            self.longer = Some(LongerTable { stored, extension });
        }
        Ok(self)
    }

    /// The same weights with feed-forward layers that take `chunk` tokens at a time in training, as
    /// [`DecoderConfig::feed_forward_chunk`] says. Files do not keep it.
    ///
    /// # Panics
    ///
    /// If a chunk has no tokens.
    pub fn with_feed_forward_chunk(mut self, chunk: Option<usize>) -> Self {
        assert_ne!(chunk, Some(0), "a chunk of no tokens");
        self.config.decoder.feed_forward_chunk = chunk;
        self
    }

    /// The layers whose mixer is not that of the files.
    pub fn new_mixers(&self) -> Vec<usize> {
        MixerSpec::differing(&self.stored_mixers, &self.config.decoder.mixers)
    }

    /// Makes the model and loads its weights.
    ///
    /// # Errors
    ///
    /// If weights are missing, of the wrong shape or type, or a file of weights is damaged; weights of mixers may be
    /// missing where [`Self::with_mixers`] allows it.
    pub fn load(&self, device: &Device) -> Result<(Decoder, LoadReport), FolderError> {
        self.load_with(device, |_, dense| Ok(dense))
    }

    /// [`Self::load`] of a model with other feed-forward halves: `half` is given each layer's index and a
    /// dense half with fresh weights, and what it returns is filled from the files.
    ///
    /// # Errors
    ///
    /// As [`Self::load`], and those of `half`.
    pub fn load_with<F: FeedForward>(
        &self,
        device: &Device,
        half: impl FnMut(usize, Mlp) -> Result<F, FolderError>,
    ) -> Result<(Decoder<F>, LoadReport), FolderError> {
        let mut layout = self.config.format.layout();
        layout.new_mixers = self.new_mixers();
        let checkpoint = Checkpoint::open(&self.dir, layout)?;
        let config = &self.config.decoder;
        let stored = self.longer.map_or(config.positions, |longer| longer.stored);
        let stored = DecoderConfig {
            positions: stored,
            ..config.clone()
        };
        let mut model = stored.init(device).with_halves(half)?;
        let report = checkpoint.load(&mut model, device)?;
        let anew = report.anew();
        if !self.may_start_mixers && !anew.is_empty() {
            return Err(FolderError::UntrainedMixers {
                dir: self.dir.clone(),
                tensors: anew,
            });
        }
        if !anew.is_empty() {
            // Now, so that what they become does not depend on what the model is used for first.
            model.visit(&mut Draw);
        }
        if let Some(LongerTable { extension, .. }) = self.longer {
            let extended = model.extend_table(config.positions, extension);
            extended.map_err(|source| FolderError::Positions {
                dir: self.dir.clone(),
                source,
            })?;
        }
        Ok((model, report))
    }
}

/// Draws the weights that have not been drawn yet.
struct Draw;

impl ModuleVisitor for Draw {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        param.val();
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
pub fn save_decoder<F: FeedForward>(
    dir: &Path,
    model: &Decoder<F>,
    config: &DecoderFolderConfig,
    tokenizer: Option<&Path>,
) -> Result<(), FolderError> {
    let weights = kept_weight_forms(model);
    let mut json = config.to_json(&model.spans(), &model.stack.mixers(), weights)?;
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
