//! The structure of an expert model, before its weights are loaded.

use std::path::Path;

use burn::prelude::*;
use masformer_core::{MlpConfig, Stack};

use crate::{
    expert::ExpertLayer,
    expert_files::{ExpertFiles, SETTINGS_FILE, TENSORS_FILE},
    file::FileError,
    half::Half,
    router::{GateScale, Route, Router, RouterConfig, RouterShape, RouterSpec},
};

/// What a folder says of its expert layers.
pub(super) struct SavedExperts<'a> {
    pub(super) dir: &'a Path,
    /// The dense half that the experts were cut from.
    pub(super) dense: MlpConfig,
    /// Number of token ids `V`.
    pub(super) vocabulary: usize,
    pub(super) files: &'a ExpertFiles,
}

impl SavedExperts<'_> {
    /// Checks that the files are for a model of so many layers of this dense half.
    pub(super) fn check(&self, layers: usize) -> Result<(), FileError> {
        let settings = &self.files.settings;
        if settings.dense_width != self.dense.width {
            let expected = self.dense.width;
            let problem = format!("is {}; config.json says {expected}", settings.dense_width);
            return Err(self.wrong("dense_width", problem));
        }
        if let Some(layer) = settings.layers.iter().find(|layer| **layer >= layers) {
            return Err(self.wrong("layers", format!("names layer {layer} of {layers}")));
        }
        let fits = self.router_config()?.check(settings.experts);
        fits.map_err(|error| self.wrong("k", format!("is wrong: {error}")))
    }

    /// Experts with fresh weights and the saved routing table, where a layer has experts.
    pub(super) fn half(&self, layer: usize, device: &Device) -> Result<Option<Half>, FileError> {
        let settings = &self.files.settings;
        let Some(index) = settings.layers.iter().position(|&with| with == layer) else {
            return Ok(None);
        };
        let expert = MlpConfig {
            width: settings.expert_width,
            ..self.dense.clone()
        };
        Ok(Some(Half::Experts(ExpertLayer {
            experts: (0..settings.experts).map(|_| expert.init(device)).collect(),
            router: self.router(index, device)?,
        })))
    }

    /// Puts experts with fresh weights in the place of dense halves.
    pub(super) fn install(
        &self,
        stack: &mut Stack<Half>,
        device: &Device,
    ) -> Result<(), FileError> {
        for (index, layer) in stack.layers.iter_mut().enumerate() {
            if let Some(experts) = self.half(index, device)? {
                layer.feed_forward = experts;
            }
        }
        Ok(())
    }

    fn router_config(&self) -> Result<RouterConfig, FileError> {
        let settings = &self.files.settings;
        let spec: Result<RouterSpec, _> = settings.router.parse();
        let gate_scale = match &settings.gate_scale {
            Some(name) => serde_json::from_value(name.as_str().into())
                .map_err(|error| self.wrong("gate_scale", format!("is wrong: {error}")))?,
            None => GateScale::default(),
        };
        Ok(RouterConfig {
            spec: spec.map_err(|error| self.wrong("router", format!("is wrong: {error}")))?,
            k: settings.k,
            gate_scale,
            seed: 0,
        })
    }

    fn router(&self, index: usize, device: &Device) -> Result<Router, FileError> {
        let settings = &self.files.settings;
        let config = self.router_config()?;
        let shape = RouterShape {
            experts: settings.experts,
            hidden: self.dense.hidden,
            vocabulary: self.vocabulary,
            layer: settings.layers[index],
            // A table drawn from these is replaced by the saved one.
            token_counts: Some(&vec![0; self.vocabulary]),
        };
        let fresh = config.init(shape, device);
        let mut router =
            fresh.map_err(|error| self.wrong("router", format!("is wrong: {error}")))?;
        if router.table().is_some() {
            router.set_table(self.table(index)?);
        }
        Ok(router)
    }

    fn table(&self, index: usize) -> Result<&[usize], FileError> {
        let vocabulary = self.vocabulary;
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
