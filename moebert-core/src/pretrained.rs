//! Hugging Face folders: `config.json`, weights and tokenizer, in and out.
//!
//! A dense model is written as Transformers writes it. An expert model has, besides, what
//! [`expert_files`](crate::expert_files) describes, and in `config.json` the key `kiln` and the
//! `model_type` `kiln-moebert`; its weights are named
//!
//! | name | shape |
//! |---|---|
//! | `bert.encoder.layer.{l}.experts.{e}.intermediate.dense.weight` | `[d_e, D]` |
//! | `bert.encoder.layer.{l}.experts.{e}.output.dense.weight` | `[D, d_e]` |
//! | `bert.encoder.layer.{l}.experts.{e}.output.LayerNorm.weight` | `[D]` |
//! | `bert.encoder.layer.{l}.router.gate.weight` (gates only) | `[E, D]` |

use std::{
    collections::HashMap,
    fs, io, mem,
    path::{Path, PathBuf},
};

use burn::{
    prelude::*,
    store::{
        ApplyError, ApplyResult, BurnToPyTorchAdapter, FloatCastAdapter, ModuleAdapter,
        ModuleSnapshot, PathFilter, PyTorchToBurnAdapter, SafetensorsStore,
    },
};

use crate::{
    bert::BertFeedForward,
    expert_files::ExpertFiles,
    file::{self, FileError},
    heads::{BertModel, BertModelConfig, Task},
};

mod config;
mod error;
mod experts;
mod names;
mod report;
#[cfg(test)]
mod tests;
mod weight_files;

pub use config::PretrainedConfig;
pub use error::PretrainedError;
pub use report::{LoadReport, Mismatch};

use experts::SavedExperts;
use names::Names;

/// The configuration's file in a model folder.
pub const CONFIG_FILE: &str = "config.json";
/// The files of a tokenizer, which are carried over when a model is saved.
pub const TOKENIZER_FILES: [&str; 4] = [
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "vocab.txt",
];

/// A model folder whose configuration has been read; its weights have not.
#[derive(Clone, Debug)]
pub struct Pretrained {
    dir: PathBuf,
    config: PretrainedConfig,
    experts: Option<ExpertFiles>,
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

/// Where a tensor comes from.
struct Origin {
    path: PathBuf,
    name: String,
    shape: Vec<usize>,
}

impl Origin {
    fn unusable(&self, problem: String) -> PretrainedError {
        PretrainedError::Tensor {
            path: self.path.clone(),
            tensor: self.name.clone(),
            problem,
        }
    }
}

impl Pretrained {
    /// Reads the configuration of a folder and, for an expert model, its expert files.
    ///
    /// # Errors
    ///
    /// If a file is missing or malformed, or the configuration asks for what is not supported.
    pub fn open(dir: impl AsRef<Path>) -> Result<Self, PretrainedError> {
        let dir = dir.as_ref().to_owned();
        let config = PretrainedConfig::read(&dir.join(CONFIG_FILE))?;
        let experts = config
            .has_experts()
            .then(|| ExpertFiles::load(&dir))
            .transpose()?;
        Ok(Self {
            dir,
            config,
            experts,
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

    /// Makes the model with the head of a task (`None`: the one the folder was saved for) and loads
    /// its weights.
    ///
    /// A head or pooler that the checkpoint lacks starts anew, and so does a head of another shape
    /// where `task` is not the folder's own; the report names both.
    ///
    /// # Errors
    ///
    /// If weights are missing, of the wrong shape or type, or a file of weights is damaged.
    pub fn load(
        &self,
        task: Option<Task>,
        device: &Device,
    ) -> Result<(BertModel, LoadReport), PretrainedError> {
        let task = task.unwrap_or(self.config.task());
        let names = Names::new(task);
        let mut tensors = vec![];
        let mut origins = HashMap::new();
        for stored in weight_files::read(&self.dir)? {
            let (path, mut tensor) = (stored.path, stored.tensor);
            if names::is_constant(&tensor.name) {
                continue;
            }
            let in_model = names.in_model(&tensor.name);
            let origin = Origin {
                path,
                name: mem::replace(&mut tensor.name, in_model.clone()),
                shape: tensor.shape.to_vec(),
            };
            origins.insert(in_model, origin);
            tensors.push(tensor);
        }
        let has_pooler = origins.contains_key(names::POOLER_WEIGHT);
        let bert = self.config.bert.clone().with_pooler(has_pooler);
        let mut model = BertModelConfig::new(bert, task).init(device);
        if let Some(files) = &self.experts {
            let saved = SavedExperts {
                dir: &self.dir,
                config: &self.config.bert,
                files,
            };
            saved.install(&mut model, device)?;
        }
        let float = device.settings().float_dtype.into();
        let adapter = PyTorchToBurnAdapter.chain(FloatCastAdapter::to(float));
        let result = model.apply(tensors, None, Some(Box::new(adapter)), true);
        let report = self.report(result, task, &names, &origins)?;
        Ok((model, report))
    }

    /// [`Self::load`] for a model that is to be used as it is: nothing of it may start anew.
    ///
    /// # Errors
    ///
    /// As [`Self::load`], and if the checkpoint lacks weights of the head or the pooler.
    pub fn load_whole(
        &self,
        task: Option<Task>,
        device: &Device,
    ) -> Result<(BertModel, LoadReport), PretrainedError> {
        let (model, report) = self.load(task, device)?;
        let mismatched = report.mismatched.iter().map(|mismatch| &mismatch.name);
        let anew: Vec<String> = report.missing.iter().chain(mismatched).cloned().collect();
        if anew.is_empty() {
            Ok((model, report))
        } else {
            Err(PretrainedError::Untrained {
                dir: self.dir.clone(),
                tensors: anew,
            })
        }
    }

    /// Says what became of each tensor; `origins` has every name that the store knows.
    fn report(
        &self,
        result: ApplyResult,
        task: Task,
        names: &Names,
        origins: &HashMap<String, Origin>,
    ) -> Result<LoadReport, PretrainedError> {
        let mut report = LoadReport::default();
        for error in result.errors {
            match error {
                ApplyError::ShapeMismatch {
                    path: module,
                    expected,
                    ..
                } => {
                    let origin = &origins[&module];
                    let mismatch = Mismatch {
                        name: origin.name.clone(),
                        found: origin.shape.clone(),
                        expected: names::shape_in_file(&module, &expected),
                    };
                    if task == self.config.task() || !names::is_head(&module) {
                        return Err(PretrainedError::Shape {
                            path: origin.path.clone(),
                            mismatch,
                        });
                    }
                    report.mismatched.push(mismatch);
                }
                ApplyError::DTypeMismatch { path, found, .. } => {
                    return Err(origins[&path].unusable(format!("it holds {found:?}, not floats")));
                }
                ApplyError::AdapterError { path, message }
                | ApplyError::LoadError { path, message } => {
                    return Err(origins[&path].unusable(message));
                }
            }
        }
        let (optional, needed): (Vec<_>, Vec<_>) = result
            .missing
            .into_iter()
            .map(|(module, _)| module)
            .filter(|module| names::is_weight(module))
            .partition(|module| names::is_optional(module));
        let in_file =
            |modules: Vec<String>| modules.iter().map(|name| names.in_file(name)).collect();
        if !needed.is_empty() {
            return Err(PretrainedError::Missing {
                dir: self.dir.clone(),
                tensors: in_file(needed),
            });
        }
        report.missing = in_file(optional);
        let unused = result.unused.iter();
        report.unexpected = unused.map(|module| origins[module].name.clone()).collect();
        Ok(report)
    }
}

/// Writes a model folder that [`Pretrained::open`] and, for a dense model, Transformers read.
///
/// Every file appears whole or not at all. The configuration comes last, so that a folder that has
/// one has all the rest.
///
/// # Errors
///
/// If a file cannot be written, or expert files are given for a dense model or lack for an expert
/// model.
pub fn save(
    dir: &Path,
    model: &BertModel,
    config: &PretrainedConfig,
    options: SaveOptions<'_>,
) -> Result<(), PretrainedError> {
    let layers = &model.bert.layers;
    let has_experts = layers
        .iter()
        .any(|layer| matches!(layer.feed_forward, BertFeedForward::Experts(_)));
    if has_experts != options.experts.is_some() {
        return Err(PretrainedError::ExpertFiles);
    }
    fs::create_dir_all(dir).map_err(|source| FileError::Write {
        path: dir.to_owned(),
        source,
    })?;
    save_weights(&dir.join(weight_files::SAFETENSORS), model)?;
    if let Some(experts) = options.experts {
        experts.save(dir)?;
    }
    if let Some(source) = options.tokenizer {
        copy_tokenizer(source, dir)?;
    }
    let dtype = model.bert.embeddings.word.weight.val().dtype();
    let json = config.to_json(model.task(), options.labels, has_experts, dtype);
    let path = dir.join(CONFIG_FILE);
    match serde_json::to_string_pretty(&json) {
        Ok(text) => Ok(file::write(&path, (text + "\n").as_bytes())?),
        Err(source) => Err(FileError::Json { path, source }.into()),
    }
}

fn save_weights(path: &Path, model: &BertModel) -> Result<(), PretrainedError> {
    let mut store = SafetensorsStore::from_bytes(None)
        .clear_metadata()
        .metadata("format", "pt")
        .filter(PathFilter::from_predicate(|name, _| names::is_weight(name)))
        .with_to_adapter(BurnToPyTorchAdapter)
        .skip_enum_variants(true)
        .remap(Names::new(model.task()).export());
    let bytes = model
        .save_into(&mut store)
        .and_then(|()| store.get_bytes())
        .map_err(|source| PretrainedError::WriteWeights {
            path: path.to_owned(),
            source: source.into(),
        })?;
    // The store's own files can be read by their owner alone.
    Ok(file::write(path, &bytes)?)
}

fn copy_tokenizer(from: &Path, to: &Path) -> Result<(), FileError> {
    for name in TOKENIZER_FILES {
        match file::read(&from.join(name)) {
            Ok(bytes) => file::write(&to.join(name), &bytes)?,
            Err(FileError::Read { source, .. }) if source.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
