//! Hugging Face folders: `config.json`, weights and tokenizer, in and out.
//!
//! A dense model is written as Transformers writes it. Where some layer does not attend to everything,
//! the key `kiln` of `config.json` has `{"spans": ["full", "window:128", ..]}`, one for each layer from
//! the bottom, and the `model_type` is the family's behind `kiln-`, such as `kiln-bert`. Where some layer is not attention, it
//! has `"mixers"` in the same way, and the weights of other mixers have names such as `bert.encoder.layer.{l}.mixer.` and what follows
//! in the mixer.
//!
//! An expert model has, besides, what [`expert_files`](crate::expert_files) describes, in the key `kiln`
//! the name of a file of it, `{"experts": "experts.json"}`, and the `model_type` `kiln-moebert` if it is a BERT. In each layer, its
//! weights have the family's names behind `experts.{e}.`; those of a BERT are
//!
//! | name | shape |
//! |---|---|
//! | `bert.encoder.layer.{l}.experts.{e}.intermediate.dense.weight` | `[d_e, D]` |
//! | `bert.encoder.layer.{l}.experts.{e}.output.dense.weight` | `[D, d_e]` |
//! | `bert.encoder.layer.{l}.experts.{e}.output.LayerNorm.weight` | `[D]` |
//! | `bert.encoder.layer.{l}.router.gate.weight` (gates only) | `[E, D]` |
//!
//! A decoder with experts is a folder of its architecture ([`masformer_core::pretrained`]) with the same
//! files and the same key; its `model_type` is `kiln-gpt2` or `kiln-gpt_neo`, and its experts are named
//! like its dense feed-forward half, with `experts.{e}.` after the layer: `transformer.h.0.experts.3.ln_2.weight`.

use std::{
    fs,
    path::{Path, PathBuf},
};

use burn::prelude::*;
use masformer_core::{
    MixerSpec, Span,
    pretrained::{
        Checkpoint, FolderError, KILN, Keys, check_layers, check_tokenizer, copy_tokenizer,
        kept_weight_forms, save_weights, write_config,
    },
};

use crate::{
    expert_files::ExpertFiles,
    file::FileError,
    heads::{BertModel, BertModelConfig, Head},
    layered::Layered,
    structure,
};

mod adapter;
mod bert;
mod config;
mod deberta_v2;
mod decoder;
#[cfg(test)]
mod decoder_tests;
mod distilbert;
mod electra;
mod error;
mod experts;
mod family;
mod head;
mod roberta;
#[cfg(test)]
mod tests;

pub use adapter::{ADAPTER_CONFIG, has_adapters, load_adapter, save_adapter};
pub use config::{PretrainedConfig, tokenizer_class};
pub use decoder::{PretrainedDecoder, save_decoder};
pub use error::PretrainedError;
pub use masformer_core::pretrained::{CONFIG_FILE, LoadReport, Mismatch, TOKENIZER_FILES};

use experts::SavedExperts;
use family::{EncoderLayout, POOLER_WEIGHT};
use head::head_of_weights;

/// A model folder whose configuration has been read; its weights have not.
#[derive(Clone, Debug)]
pub struct Pretrained {
    dir: PathBuf,
    config: PretrainedConfig,
    experts: Option<ExpertFiles>,
    /// The mixers that the files have weights of.
    stored_mixers: Vec<MixerSpec>,
}

/// What [`save`] writes besides configuration and weights.
#[derive(Clone, Copy, Debug, Default)]
pub struct SaveOptions<'a> {
    /// The expert files; needed for a model with expert layers.
    pub experts: Option<&'a ExpertFiles>,
    /// The folder whose [`TOKENIZER_FILES`] are copied, as far as it has them.
    pub tokenizer: Option<&'a Path>,
    /// The names of the classes, in their order; empty leaves the names of the configuration.
    pub labels: &'a [&'a str],
}

impl Pretrained {
    /// Reads the configuration of a folder and, for an expert model, its expert files. Where the
    /// configuration names no class of Transformers that is known, the weights tell what the head is.
    ///
    /// # Errors
    ///
    /// If a file is missing or malformed, or the configuration asks for what is not supported.
    pub fn open(dir: impl AsRef<Path>) -> Result<Self, PretrainedError> {
        let dir = dir.as_ref().to_owned();
        let path = dir.join(CONFIG_FILE);
        let mut config = PretrainedConfig::read(&path)?;
        check_tokenizer(&dir)?;
        if !config.names_head() {
            let family = config.family();
            let layout = EncoderLayout::new(family, Head::Encoder, true);
            let weights = Checkpoint::open(&dir, layout)?;
            let keys = Keys {
                path: &path,
                json: config.json(),
            };
            let head = head_of_weights(keys, family, &weights, config.bert.hidden_size)?;
            config = config.with_head(head);
        }
        let experts = config
            .has_experts()
            .then(|| ExpertFiles::load(&dir))
            .transpose()?;
        let pretrained = Self {
            dir,
            stored_mixers: config.bert.mixers.clone(),
            config,
            experts,
        };
        if let Some(saved) = pretrained.saved_experts() {
            saved.check(pretrained.config.bert.num_hidden_layers)?;
        }
        Ok(pretrained)
    }

    fn saved_experts(&self) -> Option<SavedExperts<'_>> {
        let files = self.experts.as_ref()?;
        Some(SavedExperts {
            dir: &self.dir,
            dense: self.config.bert.mlp(),
            vocabulary: self.config.bert.vocab_size,
            files,
        })
    }

    /// The folder.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The configuration.
    pub fn config(&self) -> &PretrainedConfig {
        &self.config
    }

    /// The expert files; `None` for a dense model.
    pub fn experts(&self) -> Option<&ExpertFiles> {
        self.experts.as_ref()
    }

    /// The same weights under other spans, one for each layer from the bottom.
    ///
    /// # Errors
    ///
    /// If there are not as many spans as layers.
    pub fn with_spans(mut self, spans: Vec<Span>) -> Result<Self, PretrainedError> {
        check_layers(
            &self.dir,
            "spans",
            &spans,
            self.config.bert.num_hidden_layers,
        )?;
        self.config.bert.spans = spans;
        Ok(self)
    }

    /// The same model with other mixers, one for each layer from the bottom. Weights that the files have not
    /// are newly initialised in [`Self::load`] and are an error of [`Self::load_whole`].
    ///
    /// # Errors
    ///
    /// If there are not as many mixers as layers, or one of them does not fit.
    pub fn with_mixers(mut self, mixers: Vec<MixerSpec>) -> Result<Self, PretrainedError> {
        check_layers(
            &self.dir,
            "mixers",
            &mixers,
            self.config.bert.num_hidden_layers,
        )?;
        let attention = self.config.bert.attention();
        MixerSpec::check(&mixers, &attention).map_err(|source| FolderError::Mixer {
            dir: self.dir.clone(),
            source,
        })?;
        self.config.bert.mixers = MixerSpec::compact(mixers);
        Ok(self)
    }

    /// The layers whose mixer is not that of the files.
    pub fn new_mixers(&self) -> Vec<usize> {
        MixerSpec::differing(&self.stored_mixers, &self.config.bert.mixers)
    }

    /// Makes the model with the head of a task (`None`: the one the folder was saved for) and loads
    /// its weights.
    ///
    /// A head or pooler that the checkpoint lacks is newly initialised, and so are a head of another shape
    /// where `head` is not the folder's own, and mixers that the folder has no weights of; the report names them.
    ///
    /// # Errors
    ///
    /// If weights are missing, of the wrong shape or type, or a file of weights is damaged.
    pub fn load(
        &self,
        head: Option<Head>,
        device: &Device,
    ) -> Result<(BertModel, LoadReport), PretrainedError> {
        let head = head.unwrap_or(self.config.head());
        let mut layout = EncoderLayout::new(self.config.family(), head, head == self.config.head());
        layout.new_mixers = self.new_mixers();
        let checkpoint = Checkpoint::open(&self.dir, layout)?;
        let has_pooler = checkpoint.contains(POOLER_WEIGHT);
        let bert = self.config.bert.clone().with_pooler(has_pooler);
        let mut model = BertModelConfig::new(bert, head).init(device);
        if let Some(saved) = self.saved_experts() {
            saved.install(&mut model.bert.stack, device)?;
        }
        structure::read(self.config.structure(), &mut model.bert.stack).map_err(|problem| {
            let path = self.dir.join(CONFIG_FILE);
            FolderError::from(FileError::entry(&path, KILN, problem))
        })?;
        let report = checkpoint.load(&mut model, device)?;
        Ok((model, report))
    }

    /// Whether the folder has all weights of its model with a head, but for those of the head itself.
    ///
    /// # Errors
    ///
    /// As [`Self::load`].
    pub fn has_encoder(&self, head: Head, device: &Device) -> Result<bool, PretrainedError> {
        let (_, report) = self.load(Some(head), device)?;
        let layout = EncoderLayout::new(self.config.family(), head, false);
        let mut anew = report.anew().into_iter();
        Ok(anew.all(|name| !layout.is_of_encoder(&name)))
    }

    /// [`Self::load`] for a model that is to be used as it is: no part of it may be newly initialised.
    ///
    /// # Errors
    ///
    /// As [`Self::load`], and if the checkpoint lacks weights of the head or the pooler.
    pub fn load_whole(
        &self,
        head: Option<Head>,
        device: &Device,
    ) -> Result<(BertModel, LoadReport), PretrainedError> {
        let (model, report) = self.load(head, device)?;
        let (dir, tensors) = (self.dir.clone(), report.anew());
        if tensors.is_empty() {
            Ok((model, report))
        } else if self.new_mixers().is_empty() {
            Err(PretrainedError::Untrained { dir, tensors })
        } else {
            Err(FolderError::UntrainedMixers { dir, tensors }.into())
        }
    }
}

/// Writes a model folder that [`Pretrained::open`] and, for a dense model with full attention,
/// Transformers read. The spans written are the model's own.
///
/// Every file appears whole or not at all. The configuration comes last, so that a folder that has
/// one has all the rest.
///
/// # Errors
///
/// If the family of the configuration has not what the model is, a file cannot be written, or expert files are given for a
/// dense model or lack for an expert model.
pub fn save(
    dir: &Path,
    model: &BertModel,
    config: &PretrainedConfig,
    options: SaveOptions<'_>,
) -> Result<(), PretrainedError> {
    let has_experts = model.has_experts();
    if has_experts != options.experts.is_some() {
        return Err(PretrainedError::ExpertFiles);
    }
    let dtype = model.bert.embeddings.word.weight.val().dtype();
    let (spans, mixers) = (model.bert.spans(), model.bert.stack.mixers());
    let structure = structure::write(&model.bert.stack);
    let config = config
        .clone()
        .with_structure(structure)
        .with_weights(kept_weight_forms(model));
    let json = config.to_json(
        model.head_kind(),
        options.labels,
        &spans,
        &mixers,
        has_experts,
        dtype,
    );
    config.check_said(&json)?;
    fs::create_dir_all(dir).map_err(|source| FileError::Write {
        path: dir.to_owned(),
        source,
    })?;
    let layout = EncoderLayout::new(config.family(), model.head_kind(), true);
    save_weights(dir, model, &layout)?;
    if let Some(experts) = options.experts {
        experts.save(dir)?;
    }
    if let Some(source) = options.tokenizer {
        copy_tokenizer(source, dir)?;
    }
    Ok(write_config(dir, &json)?)
}
