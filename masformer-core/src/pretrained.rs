//! Hugging Face folders: `config.json`, weights and tokenizer, in and out.

mod activations;
mod checkpoint;
mod decoder;
mod error;
mod format;
mod gpt2;
mod gpt_neo;
mod keys;
mod kiln;
mod names;
mod report;
mod tokenizer;
mod weight_files;
mod weight_forms;

pub use activations::{activation_named, read_activation, write_activation};
pub use checkpoint::{Checkpoint, Layout, save_weights};
pub use decoder::{DecoderFolder, DecoderFolderConfig, save_decoder};
pub use error::FolderError;
pub use keys::{Keys, MODEL_TYPE, read_config, set_dtype, write_config};
pub use kiln::{
    KILN, check_kiln_layers, check_layers, kiln_model_type, read_kiln, without_kiln_prefix,
    write_kiln,
};
pub use names::{Names, is_of_mixers};
pub use report::{LoadReport, Mismatch};
pub use tokenizer::{TOKENIZER_FILES, check_tokenizer, copy_tokenizer};
pub use weight_forms::{check_weight_forms, kept_weight_forms};

/// The configuration's file in a model folder.
pub const CONFIG_FILE: &str = "config.json";
