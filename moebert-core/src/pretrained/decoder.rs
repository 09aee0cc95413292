//! Folders of decoders, dense or with experts.

use std::{fs, path::Path};

use burn::prelude::*;
use masformer_core::{
    Decoder,
    pretrained::{self, DecoderFolder, DecoderFolderConfig, FolderError, LoadReport},
};

use super::{PretrainedError, experts::SavedExperts};
use crate::{
    expert_files::{ExpertFiles, SETTINGS_FILE},
    file::FileError,
    half::Half,
    layered::Layered,
};

/// A folder of a decoder whose configuration has been read; its weights have not.
#[derive(Clone, Debug)]
pub struct PretrainedDecoder {
    folder: DecoderFolder,
    experts: Option<ExpertFiles>,
}

impl PretrainedDecoder {
    /// Reads the configuration of a folder and, for an expert model, its expert files.
    ///
    /// # Errors
    ///
    /// If a file is missing or malformed, or the configuration asks for what is not supported.
    pub fn open(dir: impl AsRef<Path>) -> Result<Self, PretrainedError> {
        let folder = DecoderFolder::open(dir)?;
        let experts = folder.config().experts();
        let experts = experts
            .map(|_| ExpertFiles::load(folder.dir()))
            .transpose()?;
        let pretrained = Self { folder, experts };
        if let Some(saved) = pretrained.saved_experts() {
            saved.check(pretrained.config().decoder.spans.len())?;
        }
        Ok(pretrained)
    }

    /// The folder.
    pub fn dir(&self) -> &Path {
        self.folder.dir()
    }

    /// The configuration.
    pub fn config(&self) -> &DecoderFolderConfig {
        self.folder.config()
    }

    /// The expert files; `None` for a dense model.
    pub fn experts(&self) -> Option<&ExpertFiles> {
        self.experts.as_ref()
    }

    /// The folder without its experts.
    pub fn folder(&self) -> &DecoderFolder {
        &self.folder
    }

    /// The same model with a changed configuration, such as other spans or more positions.
    ///
    /// # Errors
    ///
    /// Those of `change`.
    pub fn map(
        self,
        change: impl FnOnce(DecoderFolder) -> Result<DecoderFolder, FolderError>,
    ) -> Result<Self, FolderError> {
        let folder = change(self.folder)?;
        Ok(Self { folder, ..self })
    }

    /// Makes the model and loads its weights.
    ///
    /// # Errors
    ///
    /// If weights are missing, of the wrong shape or type, or a file of weights is damaged.
    pub fn load(&self, device: &Device) -> Result<(Decoder<Half>, LoadReport), FolderError> {
        let saved = self.saved_experts();
        self.folder.load_with(device, |layer, dense| {
            let experts = saved.as_ref().map(|saved| saved.half(layer, device));
            Ok(experts.transpose()?.flatten().unwrap_or(Half::Dense(dense)))
        })
    }

    fn saved_experts(&self) -> Option<SavedExperts<'_>> {
        let files = self.experts.as_ref()?;
        let decoder = &self.config().decoder;
        Some(SavedExperts {
            dir: self.dir(),
            dense: decoder.mlp(),
            vocabulary: decoder.vocabulary,
            files,
        })
    }
}

/// Writes a decoder as a folder that [`PretrainedDecoder::open`] and, where it is dense and `config.json`
/// can say its spans, Transformers read. The spans written are the model's own; an expert model is saved
/// with its expert files, and the tokenizer is that of the folder `tokenizer`, if any.
///
/// Every file appears whole or not at all. The configuration comes last, so that a folder that has
/// one has all the rest.
///
/// # Errors
///
/// If the architecture has not what the configuration asks for, a file cannot be written, or expert files
/// are given for a dense model or lack for an expert model.
pub fn save_decoder(
    dir: &Path,
    model: &Decoder<Half>,
    config: &DecoderFolderConfig,
    experts: Option<&ExpertFiles>,
    tokenizer: Option<&Path>,
) -> Result<(), PretrainedError> {
    if model.has_experts() != experts.is_some() {
        return Err(PretrainedError::ExpertFiles);
    }
    if let Some(experts) = experts {
        fs::create_dir_all(dir).map_err(|source| FileError::Write {
            path: dir.to_owned(),
            source,
        })?;
        experts.save(dir)?;
    }
    let config = config.clone();
    let config = config.with_experts(experts.map(|_| SETTINGS_FILE));
    Ok(pretrained::save_decoder(dir, model, &config, tokenizer)?)
}
