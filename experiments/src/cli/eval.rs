//! `kiln eval`: the scores of a model on a task.

mod summary;

use std::{fmt, path::PathBuf, str::FromStr};

use clap::{Args, ValueEnum};
use distill::Ui;

use super::task_folder::TaskFolder;
use crate::{
    backend,
    data::{DataError, summary::SummarySplit},
    error::Error,
    interrupt::Stop,
    metric::Scores,
    nearest::hint,
    predict::predict,
    recipe::{DataSplit, Task},
    run::Progress,
};

/// Evaluate a model on a task: a BERT, dense or expert, or a decoder on summaries
///
/// Texts with summaries are JSON lines in the form of SCROLLS, objects with `input` and `output`, in
/// train.jsonl, validation.jsonl or dev.jsonl, and test.jsonl; lines with the same `id` are references
/// of one text. Scores are ROUGE F1, from 0 to 1.
#[derive(Debug, Args)]
pub struct EvalArgs {
    /// The model: a Hugging Face folder
    model: PathBuf,
    /// The task: a GLUE name such as sst2, squad, squad2, or summary
    #[arg(long)]
    task: EvalTask,
    /// The folder with the task's files
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// The split to evaluate on
    #[arg(long, value_enum, default_value_t = EvalSplit::Dev)]
    split: EvalSplit,
    /// Examples a batch; no effect on the scores [default: 4 for summary, 32 otherwise]
    #[arg(long)]
    batch_size: Option<usize>,
    /// Longest input in tokens, for summary with its output [default: 384 for squad and squad2, the
    /// positions of the model for summary, 128 otherwise]
    #[arg(long)]
    max_length: Option<usize>,
    /// The most tokens of a summary [default: 128]
    #[arg(long, value_name = "TOKENS")]
    max_new_tokens: Option<usize>,
    /// Search for the likeliest summary with this many hypotheses [default: 1, the likeliest token]
    #[arg(long)]
    beams: Option<usize>,
    /// What stands between text and summary [default: two line breaks and `TL;DR:`]
    #[arg(long, value_name = "TEXT")]
    separator: Option<String>,
    /// The device to compute on: one that `kiln devices` lists, or `remote:HOST:PORT`
    #[arg(long)]
    device: Option<String>,
}

/// What a model is evaluated on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum EvalTask {
    /// A task of a BERT.
    Bert(Task),
    /// Summaries of a decoder.
    Summary,
}

/// A part of the data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum EvalSplit {
    Train,
    #[value(alias = "validation")]
    Dev,
    Test,
}

/// No task has this name.
#[derive(Debug, thiserror::Error)]
#[error("unknown task `{name}`; {}", hint(name, &EvalTask::names().collect::<Vec<_>>()))]
struct UnknownTask {
    name: String,
}

impl EvalTask {
    const SUMMARY: &str = "summary";

    fn names() -> impl Iterator<Item = &'static str> {
        Task::all().map(Task::name).chain([Self::SUMMARY])
    }
}

impl FromStr for EvalTask {
    type Err = UnknownTask;

    fn from_str(name: &str) -> Result<Self, UnknownTask> {
        if name == Self::SUMMARY {
            return Ok(Self::Summary);
        }
        name.parse().map(Self::Bert).map_err(|_| UnknownTask {
            name: name.to_owned(),
        })
    }
}

impl fmt::Display for EvalTask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bert(task) => task.fmt(f),
            Self::Summary => f.write_str(Self::SUMMARY),
        }
    }
}

impl EvalSplit {
    fn of_summaries(self) -> SummarySplit {
        match self {
            Self::Train => SummarySplit::Train,
            Self::Dev => SummarySplit::Validation,
            Self::Test => SummarySplit::Test,
        }
    }

    /// The split of a task whose test data has no labels.
    fn with_labels(self) -> Result<DataSplit, DataError> {
        match self {
            Self::Train => Ok(DataSplit::Train),
            Self::Dev => Ok(DataSplit::Dev),
            Self::Test => Err(DataError::NoLabels),
        }
    }
}

/// Evaluates the model and prints its scores, one `name value` a line.
///
/// # Errors
/// The model or the data cannot be read.
pub fn run(args: EvalArgs) -> Result<(), Error> {
    let scores = match args.task {
        EvalTask::Bert(task) => bert_scores(&args, task)?,
        EvalTask::Summary => summary::scores(&args)?,
    };
    let lines = scores
        .iter()
        .map(|(name, score)| format!("{name} {score:.4}\n"));
    super::print(&lines.collect::<String>())
}

/// Examples a batch, where the command line does not say.
const BATCH_SIZE: usize = 32;

fn bert_scores(args: &EvalArgs, task: Task) -> Result<Scores, Error> {
    for (option, is_given) in [
        ("--max-new-tokens", args.max_new_tokens.is_some()),
        ("--beams", args.beams.is_some()),
        ("--separator", args.separator.is_some()),
    ] {
        if is_given {
            let problem = format!("`{option}` is for --task summary, not for {task}");
            return Err(Error::Usage(problem));
        }
    }
    let split = args.split.with_labels()?;
    let device = backend::open(args.device.as_deref())?;
    let stop = Stop::on_signals()?;
    let task = TaskFolder::open(&args.model, task, &args.data, args.max_length)?;
    let splits = task.splits(split)?;
    let learner = task.learner(&device)?;
    let progress = Progress::new(Ui::Plain);
    let mut scores = Scores::new();
    for (sequences, rule) in splits {
        let bar = progress.bar("evaluate", sequences.features.len());
        let predictions = predict(
            &learner,
            &sequences.features,
            args.batch_size.unwrap_or(BATCH_SIZE),
            task.tokenizer.pad_id(),
            &stop,
            |done, _| bar.set_position(done as u64),
        )?;
        bar.finish_and_clear();
        scores.extend(sequences.judge(&predictions, &rule).map_err(Error::from)?);
    }
    Ok(scores)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_task_is_read_back_and_an_unknown_one_named() {
        for name in EvalTask::names() {
            assert_eq!(name.parse::<EvalTask>().unwrap().to_string(), name);
        }
        let error = "sumary".parse::<EvalTask>().unwrap_err().to_string();
        assert_eq!(error, "unknown task `sumary`; did you mean `summary`?");
    }
}
