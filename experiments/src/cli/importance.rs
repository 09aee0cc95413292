//! `kiln importance`: how much each hidden neuron matters to a fine-tuned model.

use std::path::PathBuf;

use clap::Args;
use distill::Ui;
use moebert_core::importance::ImportanceSource;

use super::{output, reading::ReadingArgs, task_folder::TaskFolder};
use crate::{
    backend,
    data::{DataError, loader::GroupedLoader},
    error::Error,
    interrupt::Stop,
    recipe::{DataSplit, Task},
    run::{Progress, open_dense, score_neurons},
};

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
    #[arg(long, value_enum, default_value_t = DataSplit::Train)]
    split: DataSplit,
    /// Score on the first so many examples only [default: all]
    #[arg(long, value_name = "COUNT", value_parser = super::at_least_1())]
    samples: Option<usize>,
    /// Examples a batch; no effect on the scores
    #[arg(long, default_value_t = 32, value_parser = super::at_least_1())]
    batch_size: usize,
    #[command(flatten)]
    reading: ReadingArgs,
    /// The device to compute on: one that `kiln devices` lists, or `remote:HOST:PORT`
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
    output::check_file("--output", &args.output, &[&args.model, &args.data])?;
    let device = backend::open(args.device.as_deref())?;
    let stop = Stop::on_signals()?;
    let pretrained = open_dense(&args.model)?;
    let data = args.reading.data(&pretrained, args.task, &args.data)?;
    let task = TaskFolder::open(pretrained, data)?;
    let sequences = task.splits(args.split)?.swap_remove(0).0;
    let features = match args.samples {
        Some(samples) => sequences.first(samples),
        None => sequences.features,
    };
    let bar = Progress::new(Ui::Plain).bar("importance", features.len());
    let pad = task.tokenizer.pad_id();
    let loader =
        GroupedLoader::sorted(features, args.batch_size, pad, &device).map_err(DataError::from)?;
    let learner = task.learner(&device)?;
    let importance = score_neurons(&learner, &loader, &stop, |done, _| {
        bar.set_position(done as u64);
    })?;
    bar.finish_and_clear();
    let source = ImportanceSource {
        task: args.task.to_string(),
        split: args.split.name().to_owned(),
    };
    Ok(importance.save(&args.output, &source)?)
}
