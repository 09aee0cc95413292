//! `kiln importance`: how much each hidden neuron matters to a fine-tuned model.

use std::path::PathBuf;

use burn::{data::dataloader::DataLoader, tensor::Device};
use clap::Args;
use distill::{Batch, Trainable, Ui};
use moebert_core::{
    importance::{Importance, ImportanceSource},
    layered::Layered,
};

use super::{decoder_task::DecoderTask, output, reading::ReadingArgs, task_folder::TaskFolder};
use crate::{
    backend,
    data::{DataError, language::LanguageLoader, loader::GroupedLoader},
    error::Error,
    interrupt::Stop,
    learner::language::LanguageLearner,
    recipe::{AnyTask, DataSplit, LanguageTask, Task},
    run::{Progress, open_dense, open_dense_decoder, score_neurons},
};

/// Score the feed-forward neurons of a fine-tuned model, a BERT or a decoder
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  kiln importance MODEL --task sst2 --data SST-2 \\\n      --output importance.safetensors"
)]
pub struct ImportanceArgs {
    /// The fine-tuned model: a Hugging Face folder
    model: PathBuf,
    /// The task: a GLUE name such as sst2, or squad, squad2, or of a decoder text, summary or recall
    #[arg(long)]
    task: AnyTask,
    /// The folder with the task's files; for text a file, or a folder of .txt files, in sequences of --max-length
    /// tokens; for recall the recipe that describes its sequences
    #[arg(long, value_name = "PATH")]
    data: PathBuf,
    /// The split to score on; text has none
    #[arg(long, value_enum, default_value_t = DataSplit::Train)]
    split: DataSplit,
    /// Score on this many examples or sequences only, from the start [default: all]
    #[arg(long, value_name = "COUNT", value_parser = super::at_least_1())]
    samples: Option<usize>,
    /// Examples per batch; does not affect the scores
    #[arg(long, default_value_t = 32, value_parser = super::at_least_1())]
    batch_size: usize,
    #[command(flatten)]
    reading: ReadingArgs,
    /// The device to compute on: one that `kiln devices` lists, or `remote:HOST:PORT`
    #[arg(long, env = "KILN_DEVICE")]
    device: Option<String>,
    /// The file for the scores: layers x neurons, float32
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
    let importance = match args.task {
        AnyTask::Encoder(task) => of_encoder(&args, task, &device, &stop)?,
        AnyTask::Decoder(task) => of_decoder(&args, task, &device, &stop)?,
    };
    let source = ImportanceSource {
        task: args.task.to_string(),
        split: args.split.name().to_owned(),
    };
    Ok(importance.save(&args.output, &source)?)
}

fn of_encoder(
    args: &ImportanceArgs,
    task: Task,
    device: &Device,
    stop: &Stop,
) -> Result<Importance, Error> {
    let pretrained = open_dense(&args.model)?;
    let data = args.reading.data(&pretrained, task, &args.data)?;
    let task = TaskFolder::open(pretrained, data)?;
    let sequences = task.splits(args.split)?.swap_remove(0).0;
    let features = match args.samples {
        Some(samples) => sequences.first(samples),
        None => sequences.features,
    };
    let pad = task.tokenizer.pad_id();
    let loader = GroupedLoader::sorted(features, args.batch_size, pad, device);
    let learner = task.learner(device)?;
    let sizes = learner.model.neurons();
    score(&learner, sizes, &loader.map_err(DataError::from)?, stop)
}

fn of_decoder(
    args: &ImportanceArgs,
    task: LanguageTask,
    device: &Device,
    stop: &Stop,
) -> Result<Importance, Error> {
    args.reading.check_windows(&task, false)?;
    let folder = open_dense_decoder(&args.model)?;
    let progress = Progress::new(Ui::Plain);
    let length = args.reading.max_length;
    let data = DecoderTask::open(&folder, task, &args.data, args.split, length, progress)?;
    let sequences = data.sequences.clone();
    let loader = LanguageLoader::in_order(sequences, args.batch_size, data.pad_id, device);
    let loader = loader.map_err(DataError::from)?.first(args.samples);
    let learner = LanguageLearner::to_judge(&super::load_decoder(&folder, device)?);
    let sizes = learner.model.neurons();
    score(&learner, sizes, &loader, stop)
}

/// [`score_neurons`] with a bar.
fn score<M: Trainable>(
    learner: &M,
    sizes: (usize, usize),
    loader: &dyn DataLoader<Batch<M>>,
    stop: &Stop,
) -> Result<Importance, Error> {
    let bar = Progress::new(Ui::Plain).bar("importance", loader.num_items());
    let importance = score_neurons(learner, sizes, loader, stop, |done, _| {
        bar.set_position(done as u64);
    })?;
    bar.finish_and_clear();
    Ok(importance)
}
