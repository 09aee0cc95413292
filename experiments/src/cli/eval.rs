//! `kiln eval`: the scores of a model on a task.

mod encoder;
mod predictions;
mod recall;
mod summary;
mod text;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use clap::{Args, ValueEnum};
use distill::Ui;
use moebert_core::pretrained::PretrainedDecoder;
use serde_json::{Map, json};

use super::{reading::ReadingArgs, variant::VariantArgs};
use crate::{
    ablate::{
        compare::JudgedArm,
        interval::interval_of,
        statistics::{Alpha, Interval},
    },
    error::Error,
    examples::Examples,
    interrupt::Stop,
    language::Watch,
    metric::{Scores, shown},
    predictions::Judgement,
    recipe::{AnyTask, LanguageTask, Task},
    run::Progress,
    task_settings::TaskSettings,
    warning::warn,
};

const EXAMPLES: &str = "\
Examples:
  kiln eval MODEL --task sst2 --data SST-2 --predictions sst2.tsv
  kiln eval MODEL --task text --data BOOKS/test";

/// Evaluate a model on a task: a BERT, dense or expert, or a decoder on text, summaries or recall
///
/// Text is judged by perplexity and bits per byte, in all and by the position in its document, in windows
/// that slide over it. Texts with summaries are JSON lines in the form of SCROLLS, objects with `input`
/// and `output`, in train.jsonl, validation.jsonl or dev.jsonl, and test.jsonl; lines with the same `id`
/// are references of one text. Their scores are ROUGE F1, from 0 to 1, and the perplexity of the
/// references. After a score stands its 95 % interval over the examples.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct EvalArgs {
    /// The model: a Hugging Face folder
    model: PathBuf,
    /// The task: a GLUE name such as sst2, squad, squad2, or of a decoder text, summary or recall
    #[arg(long)]
    task: AnyTask,
    /// The folder with the task's files; for text a file, or a folder of .txt files; for recall the recipe
    /// that describes its sequences, as a file or by name
    #[arg(long, value_name = "PATH")]
    data: PathBuf,
    /// The split to evaluate on; text and recall have none [default: dev]
    #[arg(long, value_enum)]
    split: Option<EvalSplit>,
    /// Examples per batch; does not affect the scores [default: 4 for summary, 8 for text, 32 otherwise]
    #[arg(long, value_parser = super::at_least_1())]
    batch_size: Option<usize>,
    #[command(flatten)]
    reading: ReadingArgs,
    /// For squad and squad2: the maximum number of tokens in an answer [default: that of the run that made the model, or 30]
    #[arg(long, value_name = "TOKENS", value_parser = super::at_least_1())]
    max_answer_length: Option<usize>,
    /// For text: tokens between the starts of two windows of --max-length tokens [default: that of the run
    /// that made the model, or half of them]
    #[arg(long, value_name = "TOKENS")]
    stride: Option<usize>,
    /// The maximum number of tokens in a summary [default: that of the run that made the model, or 128]
    #[arg(long, value_name = "TOKENS")]
    max_new_tokens: Option<usize>,
    /// Search for the likeliest summary with this many hypotheses [default: that of the run that made the model, or
    /// 1, the likeliest token]
    #[arg(long)]
    beams: Option<usize>,
    /// The text between input and summary [default: that of the run that made the model, or two line breaks and
    /// `TL;DR:`]
    #[arg(long, value_name = "TEXT")]
    separator: Option<String>,
    /// Write the answer to every example: as .tsv in GLUE's submission form, as .json in that of `SQuAD`, as .jsonl
    /// with probabilities, or summaries. Further parts of the split go to files of
    /// their own, such as `FILE_mismatched.tsv` for MNLI
    #[arg(long, value_name = "FILE")]
    predictions: Option<PathBuf>,
    /// Print the scores as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    variant: VariantArgs,
    /// The device to compute on: one that `kiln devices` lists, or `remote:HOST:PORT`
    #[arg(long, env = "KILN_DEVICE")]
    device: Option<String>,
}

/// A part of the data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum EvalSplit {
    Train,
    #[value(alias = "validation")]
    Dev,
    Test,
}

/// Evaluates the model and prints its scores, one `name value [low, high]` a line.
///
/// # Errors
/// The model or the data cannot be read.
pub fn run(args: EvalArgs) -> Result<(), Error> {
    args.check_options()?;
    let judged = match args.task {
        AnyTask::Encoder(task) => encoder::judged(&args, task)?,
        AnyTask::Decoder(LanguageTask::Text) => text::judged(&args)?,
        AnyTask::Decoder(LanguageTask::Summary) => summary::judged(&args)?,
        AnyTask::Decoder(LanguageTask::Recall) => recall::judged(&args)?,
    };
    let scores = judged.with_intervals();
    if args.json {
        let metrics = scores.iter().map(|(name, score, interval)| {
            let (low, high) = interval.map(|it| (it.low, it.high)).unzip();
            let score = json!({ "value": score, "low": low, "high": high });
            (name.clone(), score)
        });
        super::print_json(&json!({
            "task": args.task.to_string(),
            "alpha": Alpha::default(),
            "metrics": metrics.collect::<Map<_, _>>(),
        }))?;
    } else {
        let lines = scores.iter().map(|(name, score, interval)| {
            let ends = interval.map(|it| format!(" [{}, {}]", shown(it.low), shown(it.high)));
            format!("{name} {}{}\n", shown(*score), ends.unwrap_or_default())
        });
        super::print(&lines.collect::<String>())?;
    }
    if scores.iter().any(|(_, score, _)| score.is_nan()) {
        warn("a correlation is not defined where all predictions, or all labels, are the same");
    }
    Ok(())
}

/// What a model scores on a task, and what its scores are made of.
#[derive(Default)]
struct Judged {
    scores: Scores,
    examples: Vec<Examples>,
}

impl From<Judgement> for Judged {
    fn from(judgement: Judgement) -> Self {
        Self {
            scores: judgement.scores,
            examples: judgement.examples,
        }
    }
}

impl Judged {
    /// The scores with their intervals over the examples, where these say what a score is made of.
    fn with_intervals(self) -> Vec<(String, f64, Option<Interval>)> {
        let arm = JudgedArm {
            seeds: BTreeMap::from([(0, self.examples)]),
            ..JudgedArm::new("")
        };
        let scores = self.scores.into_iter().map(|(name, score)| {
            let interval = interval_of(&arm, &name, Alpha::default());
            (name, score, interval.ok().flatten())
        });
        scores.collect()
    }
}

impl EvalArgs {
    /// Refuses options that mean nothing for the task.
    fn check_options(&self) -> Result<(), Error> {
        let is = |task| self.task == AnyTask::Decoder(task);
        let (is_text, is_summary, is_recall) = (
            is(LanguageTask::Text),
            is(LanguageTask::Summary),
            is(LanguageTask::Recall),
        );
        let is_squad = matches!(self.task, AnyTask::Encoder(Task::Squad(_)));
        self.reading.check_windows(&self.task, is_squad)?;
        for (option, is_given, fits) in [
            ("--split", self.split.is_some(), !is_text && !is_recall),
            (
                "--max-length",
                self.reading.max_length.is_some(),
                !is_recall,
            ),
            (
                "--max-answer-length",
                self.max_answer_length.is_some(),
                is_squad,
            ),
            (
                "--predictions",
                self.predictions.is_some(),
                !is_text && !is_recall,
            ),
            ("--stride", self.stride.is_some(), is_text),
            (
                "--max-new-tokens",
                self.max_new_tokens.is_some(),
                is_summary,
            ),
            ("--beams", self.beams.is_some(), is_summary),
            ("--separator", self.separator.is_some(), is_summary),
        ] {
            if is_given && !fits {
                let problem = format!("`{option}` cannot go with --task {}", self.task);
                return Err(Error::Usage(problem));
            }
        }
        Ok(())
    }

    fn split(&self) -> EvalSplit {
        self.split.unwrap_or(EvalSplit::Dev)
    }

    /// The folder of a decoder for inputs of --max-length tokens, or those of the run that made it, or as long as
    /// it has positions; this length; and what else that run read its task by.
    fn decoder(&self) -> Result<(PretrainedDecoder, usize, TaskSettings), Error> {
        let folder = self.variant.decoder(&self.model)?;
        let saved = TaskSettings::read(&self.model, &self.task.to_string())?;
        let positions = folder.config().decoder.positions;
        let length = self.reading.max_length.or(saved.max_length);
        let length = length.unwrap_or(positions);
        Ok((self.variant.lengthen(folder, length)?, length, saved))
    }

    /// What the command reads, and must not write over.
    fn inputs(&self) -> [&Path; 2] {
        [&self.model, &self.data]
    }

    /// How the work is watched, which may be asked for once; `batch_size` is the default.
    fn watch(&self, batch_size: usize) -> Result<Watch, Error> {
        Ok(Watch {
            batch_size: self.batch_size.unwrap_or(batch_size),
            progress: Progress::new(Ui::Plain),
            stop: Stop::on_signals()?,
        })
    }
}
