//! Models and data sets by their name on the Hugging Face hub, behind the feature `hub`.

use std::path::PathBuf;

/// Why something of the hub cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum HubError {
    /// kiln was built without the feature.
    #[error(
        "`{0}` is a name on the hub, and this kiln was built without the feature `hub`; give a folder instead"
    )]
    NotBuilt(String),
    /// The name has no owner.
    #[error("`{0}` is no name on the hub; names are `owner/name`")]
    Name(String),
    /// The download failed.
    #[cfg(feature = "hub")]
    #[error("cannot download `{name}` from the hub")]
    Download {
        /// The model or data set.
        name: String,
        /// What failed.
        source: hf_hub::HFError,
    },
}

/// The local folder of a model: `config.json`, weights and tokenizer, downloaded once.
///
/// # Errors
///
/// If the feature is off, there is no such model, or the download fails.
pub fn model(name: &str) -> Result<PathBuf, HubError> {
    let files = [
        "*.json",
        "*.safetensors",
        "pytorch_model.bin",
        "pytorch_model-*.bin",
        "vocab.txt",
    ];
    download(name, Kind::Model, &files)
}

/// The local folder of a data set's files, downloaded once.
///
/// # Errors
///
/// If the feature is off, there is no such data set, or the download fails.
pub fn data(name: &str) -> Result<PathBuf, HubError> {
    download(name, Kind::Data, &["*.tsv", "*.json", "*.txt"])
}

enum Kind {
    Model,
    Data,
}

#[cfg(feature = "hub")]
fn download(name: &str, kind: Kind, files: &[&str]) -> Result<PathBuf, HubError> {
    let (owner, short) = name
        .split_once('/')
        .ok_or_else(|| HubError::Name(name.to_owned()))?;
    let failed = |source| HubError::Download {
        name: name.to_owned(),
        source,
    };
    let client = hf_hub::HFClientSync::new().map_err(failed)?;
    let files = files.iter().map(ToString::to_string).collect::<Vec<_>>();
    match kind {
        Kind::Model => client
            .model(owner, short)
            .snapshot_download()
            .allow_patterns(files)
            .send(),
        Kind::Data => client
            .dataset(owner, short)
            .snapshot_download()
            .allow_patterns(files)
            .send(),
    }
    .map_err(failed)
}

#[cfg(not(feature = "hub"))]
fn download(name: &str, _: Kind, _: &[&str]) -> Result<PathBuf, HubError> {
    Err(if name.contains('/') {
        HubError::NotBuilt(name.to_owned())
    } else {
        HubError::Name(name.to_owned())
    })
}
