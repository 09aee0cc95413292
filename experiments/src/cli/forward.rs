//! `kiln forward`: hidden states and logits for given token ids, file to file.

use std::path::PathBuf;

use clap::Args;

use crate::error::Error;

/// Run a model on token ids and write its outputs
///
/// In: `input_ids`, `attention_mask`, `token_type_ids`, int64 [B, T]. Out, in float32:
/// `hidden_states.0` to `hidden_states.L` [B, T, D], `pooled` [B, D], and `logits` when the model
/// has a head.
#[derive(Debug, Args)]
pub struct ForwardArgs {
    /// The model, dense or expert: a Hugging Face folder
    model: PathBuf,
    /// The token ids
    #[arg(long, value_name = "IDS.safetensors")]
    input: PathBuf,
    /// Where the outputs go
    #[arg(long, value_name = "OUT.safetensors")]
    output: PathBuf,
    /// The device to compute on; `kiln devices` lists them
    #[arg(long)]
    device: Option<String>,
}

/// Runs the model and writes its outputs.
///
/// # Errors
/// The model or the ids cannot be read, an id or a length is outside what the model knows, or the
/// outputs cannot be written.
pub fn run(args: ForwardArgs) -> Result<(), Error> {
    let _ = args;
    Err(Error::Usage("`kiln forward` is not here yet".to_owned()))
}
