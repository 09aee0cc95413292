//! `kiln eval`: the scores of a dense or expert model on a task.

use std::path::PathBuf;

use clap::Args;

use crate::error::Error;
use crate::recipe::Task;

/// Evaluate a dense or expert model on a task
#[derive(Debug, Args)]
pub struct EvalArgs {
    /// The model: a Hugging Face folder
    model: PathBuf,
    /// The task: a GLUE name such as sst2, or squad, squad2
    #[arg(long)]
    task: Task,
    /// The folder with the task's files
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// The split to evaluate on: train or dev
    #[arg(long, default_value = "dev")]
    split: String,
    /// Examples a batch; no effect on the scores
    #[arg(long, default_value_t = 32)]
    batch_size: usize,
    /// Longest input in tokens
    #[arg(long, default_value_t = 128)]
    max_length: usize,
    /// The device to compute on; `kiln devices` lists them
    #[arg(long)]
    device: Option<String>,
}

/// Evaluates the model and prints its scores.
///
/// # Errors
/// The model or the data cannot be read.
pub fn run(args: EvalArgs) -> Result<(), Error> {
    let _ = args;
    Err(Error::Usage("`kiln eval` is not here yet".to_owned()))
}
