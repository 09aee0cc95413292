//! The structure of an expert model, before its weights are loaded.

use std::path::Path;

use burn::prelude::*;
use masformer_core::MlpConfig;

use crate::{
    bert::{BertConfig, BertFeedForward},
    expert::ExpertLayer,
    expert_files::{ExpertFiles, SETTINGS_FILE, TENSORS_FILE},
    file::FileError,
    heads::BertModel,
    router::{GateScale, HashRouter, Router, RouterConfig, RouterKind, RouterShape},
};

/// What a folder says of its expert layers.
pub(super) struct SavedExperts<'a> {
    pub(super) dir: &'a Path,
    pub(super) config: &'a BertConfig,
    pub(super) files: &'a ExpertFiles,
}

impl SavedExperts<'_> {
    /// Puts expert layers with fresh weights and the saved routing tables in the place of dense
    /// layers.
    pub(super) fn install(&self, model: &mut BertModel, device: &Device) -> Result<(), FileError> {
        let (config, settings) = (self.config, &self.files.settings);
        if settings.dense_width != config.intermediate_size {
            let expected = config.intermediate_size;
            let problem = format!("is {}; config.json says {expected}", settings.dense_width);
            return Err(self.wrong("dense_width", problem));
        }
        let expert = MlpConfig::new(config.hidden_size, settings.expert_width)
            .with_dropout(config.hidden_dropout_prob)
            .with_norm_epsilon(config.layer_norm_eps)
            .with_activation(config.hidden_act)
            .with_initializer(config.initializer());
        for (index, &layer) in settings.layers.iter().enumerate() {
            let Some(replaced) = model.bert.stack.layers.get_mut(layer) else {
                let problem = format!("names layer {layer} of {}", config.num_hidden_layers);
                return Err(self.wrong("layers", problem));
            };
            replaced.feed_forward = BertFeedForward::Experts(ExpertLayer {
                experts: (0..settings.experts).map(|_| expert.init(device)).collect(),
                router: self.router(index, device)?,
            });
        }
        Ok(())
    }

    fn router(&self, index: usize, device: &Device) -> Result<Router, FileError> {
        let settings = &self.files.settings;
        let kind: Result<RouterKind, _> = settings.router.parse();
        let gate_scale = match &settings.gate_scale {
            Some(name) => serde_json::from_value(name.as_str().into())
                .map_err(|error| self.wrong("gate_scale", format!("is wrong: {error}")))?,
            None => GateScale::default(),
        };
        let config = RouterConfig {
            kind: kind.map_err(|error| self.wrong("router", format!("is wrong: {error}")))?,
            gate_scale,
            seed: 0,
        };
        let shape = RouterShape {
            experts: settings.experts,
            hidden: self.config.hidden_size,
            vocabulary: self.config.vocab_size,
            layer: settings.layers[index],
            // A table drawn from these is replaced by the saved one.
            token_counts: Some(&vec![0; self.config.vocab_size]),
        };
        let fresh = config.init(shape, device);
        match fresh.map_err(|error| self.wrong("router", format!("is wrong: {error}")))? {
            Router::Hash(_) => Ok(Router::Hash(HashRouter::new(self.table(index)?, device))),
            gate @ Router::Gate(_) => Ok(gate),
        }
    }

    fn table(&self, index: usize) -> Result<&[usize], FileError> {
        let vocabulary = self.config.vocab_size;
        let table = self
            .files
            .tables
            .as_ref()
            .map(|tables| tables[index].as_slice());
        table
            .filter(|table| table.len() == vocabulary)
            .ok_or_else(|| {
                let found = table.map_or(0, <[usize]>::len);
                FileError::entry(
                    &self.dir.join(TENSORS_FILE),
                    format!("layer.{}.table", self.files.settings.layers[index]),
                    format!("has {found} tokens; the vocabulary has {vocabulary}"),
                )
            })
    }

    fn wrong(&self, key: &str, problem: String) -> FileError {
        FileError::entry(&self.dir.join(SETTINGS_FILE), key, problem)
    }
}
