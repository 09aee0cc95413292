//! `kiln eval`: the scores of a dense or expert model on a task.

use std::path::PathBuf;

use clap::Args;
use distill::Ui;

use super::task_folder::TaskFolder;
use crate::{
    backend,
    error::Error,
    interrupt::Stop,
    metric::Scores,
    predict::predict,
    recipe::{DataSplit, Task},
    run::Progress,
};

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
    #[arg(long, value_enum, default_value_t = DataSplit::Dev)]
    split: DataSplit,
    /// Examples a batch; no effect on the scores
    #[arg(long, default_value_t = 32)]
    batch_size: usize,
    /// Longest input in tokens [default: 384 for squad and squad2, 128 otherwise]
    #[arg(long)]
    max_length: Option<usize>,
    /// The device to compute on: one that `kiln devices` lists, or `remote:HOST:PORT`
    #[arg(long)]
    device: Option<String>,
}

/// Evaluates the model and prints its scores, one `name value` a line.
///
/// # Errors
/// The model or the data cannot be read.
pub fn run(args: EvalArgs) -> Result<(), Error> {
    let device = backend::open(args.device.as_deref())?;
    let stop = Stop::on_signals()?;
    let task = TaskFolder::open(&args.model, args.task, &args.data, args.max_length)?;
    let splits = task.splits(args.split)?;
    let learner = task.learner(&device)?;
    let progress = Progress::new(Ui::Plain);
    let mut scores = Scores::new();
    for (sequences, rule) in splits {
        let bar = progress.bar("evaluate", sequences.features.len());
        let predictions = predict(
            &learner,
            &sequences.features,
            args.batch_size,
            task.tokenizer.pad_id(),
            &stop,
            |done, _| bar.set_position(done as u64),
        )?;
        bar.finish_and_clear();
        scores.extend(sequences.judge(&predictions, &rule).map_err(Error::from)?);
    }
    let lines = scores
        .iter()
        .map(|(name, score)| format!("{name} {score:.4}\n"));
    super::print(&lines.collect::<String>())
}
