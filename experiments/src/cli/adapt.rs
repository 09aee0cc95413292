//! `kiln adapt`: a dense model becomes an expert model.

use std::path::PathBuf;

use clap::Args;
use moebert_core::partition::NeuronOrder;
use moebert_core::router::{GateScale, RouterKind};

use crate::error::Error;
use crate::recipe::Task;

/// Cut the feed-forward layers of a model into experts
#[derive(Debug, Args)]
pub struct AdaptArgs {
    /// The dense model: a Hugging Face folder
    model: PathBuf,
    /// Scores from `kiln importance`; needed for the orders importance and inverse
    #[arg(long, value_name = "FILE.safetensors")]
    importance: Option<PathBuf>,
    /// Experts a layer
    #[arg(long, default_value_t = 4)]
    experts: usize,
    /// Neurons an expert
    #[arg(long, default_value_t = 768)]
    width: usize,
    /// Most important neurons that every expert gets
    #[arg(long, default_value_t = 512)]
    shared: usize,
    /// Which neurons count as important: importance, random, inverse or contiguous
    #[arg(long, default_value = "importance")]
    order: NeuronOrder,
    /// Which tokens an expert sees: hash-random, hash-balance, gate-token or gate-sentence
    #[arg(long, default_value = "hash-random")]
    router: RouterKind,
    /// A gate's factor on the output: unit (leaves the starting point as it is) or probability
    #[arg(long, default_value = "unit", value_parser = gate_scale)]
    gate_scale: GateScale,
    /// Text whose tokens are counted for hash-balance: a folder with a GLUE task's files, with
    /// --task
    #[arg(long, value_name = "DIR", requires = "task")]
    data: Option<PathBuf>,
    /// The task that --data holds
    #[arg(long, requires = "data")]
    task: Option<Task>,
    /// Decides random orders, tables and gates
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// The folder of the expert model
    #[arg(long, value_name = "DIR")]
    output: PathBuf,
}

fn gate_scale(text: &str) -> Result<GateScale, &'static str> {
    let known = [GateScale::Unit, GateScale::Probability];
    known
        .into_iter()
        .find(|scale| scale.name() == text)
        .ok_or("expected unit or probability")
}

/// Adapts the model and saves it.
///
/// # Errors
/// The model or the scores cannot be read, the sizes do not fit, or the folder cannot be written.
pub fn run(args: AdaptArgs) -> Result<(), Error> {
    let _ = args;
    Err(Error::Usage("`kiln adapt` is not here yet".to_owned()))
}
