//! `kiln importance`: how much each hidden neuron matters to a fine-tuned model.

use std::path::PathBuf;

use clap::Args;

use crate::error::Error;
use crate::recipe::{ImportanceSplit, Task};

/// Score the feed-forward neurons of a fine-tuned model
#[derive(Debug, Args)]
pub struct ImportanceArgs {
    /// The fine-tuned model: a Hugging Face folder
    model: PathBuf,
    /// The task: a GLUE name such as sst2, or squad, squad2
    #[arg(long)]
    task: Task,
    /// The folder with the task's files
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// The split to score on
    #[arg(long, value_enum, default_value_t = ImportanceSplit::Train)]
    split: ImportanceSplit,
    /// Score on the first so many examples only [default: all]
    #[arg(long, value_name = "COUNT")]
    samples: Option<usize>,
    /// Examples a batch; no effect on the scores
    #[arg(long, default_value_t = 32)]
    batch_size: usize,
    /// Longest input in tokens
    #[arg(long, default_value_t = 128)]
    max_length: usize,
    /// The device to compute on; `kiln devices` lists them
    #[arg(long)]
    device: Option<String>,
    /// Where the scores go: layers x neurons, float32
    #[arg(long, value_name = "FILE.safetensors")]
    output: PathBuf,
}

/// Scores the neurons and writes them.
///
/// # Errors
/// The model or the data cannot be read, or the scores cannot be written.
pub fn run(args: ImportanceArgs) -> Result<(), Error> {
    let _ = args;
    Err(Error::Usage("`kiln importance` is not here yet".to_owned()))
}
