//! What a command can fail with.

use std::io;

use std::path::{Path, PathBuf};

use burn::tensor::ExecutionError;
use distill::{LayerMapError, MethodError, StageError};
use masformer_core::{GenerateError, PromptError, ScheduleError, pretrained::FolderError};
use moebert_core::{
    adapt::AdaptError,
    file::FileError,
    heads::Head,
    importance::ImportanceError,
    partition::PartitionError,
    pretrained::{CONFIG_FILE, PretrainedError},
};

use crate::ablate::compare::CompareError;
use crate::backend::DeviceError;
use crate::chart::ChartError;
use crate::data::DataError;
use crate::export::error::ExportError;
use crate::graph::{FingerprintError, KeyError, StoreError};
use crate::hub::HubError;
use crate::one_line::one_line;
use crate::recipe::{RecipeError, Task};
use crate::record::RecordError;
use crate::report::{PageError, load::LoadError};
use crate::submit::{ShardError, SubmitError};

/// The stages that were not done because others failed.
fn not_done(blocked: &[String]) -> String {
    if blocked.is_empty() {
        return String::new();
    }
    format!("; not done, as they need these: {}", some(blocked, ", "))
}

/// So many items are listed.
const LISTED: usize = 3;

/// The first items of a list, and how many more there are.
fn some(items: &[String], separator: &str) -> String {
    let listed = items[..items.len().min(LISTED)].join(separator);
    match items.len().saturating_sub(LISTED) {
        0 => listed,
        more => format!("{listed}{separator}and {more} more"),
    }
}

/// The failure of a command. The program prints [`Error::line`] and ends with [`Error::exit_code`].
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The command line does not say what to do.
    #[error("{0}")]
    Usage(String),
    /// The recipe cannot be read, or asks for what cannot work.
    #[error(transparent)]
    Recipe(#[from] RecipeError),
    /// The arms of an ablation cannot be compared.
    #[error(transparent)]
    Compare(#[from] CompareError),
    /// A model is not shown to be as good as another one, within a margin.
    #[error("the model is not shown to be as good as the reference, within the margin")]
    NotAsGood,
    /// No scripts can be made that start workers.
    #[error(transparent)]
    Submit(#[from] SubmitError),
    /// The share of a worker is not known.
    #[error(transparent)]
    Shard(#[from] ShardError),
    /// The program that starts workers cannot be started itself.
    #[error("cannot start `{program}`, which would start the workers; {} is written", script.display())]
    Engine {
        /// The program.
        program: String,
        /// What it would have read.
        script: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A result that was run again is another one.
    #[error("the run does not agree with {}", path.display())]
    Disagrees {
        /// The earlier result.
        path: PathBuf,
    },
    /// The device is not there.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// The run folder cannot be read or written.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// The data cannot be read, batched or scored.
    #[error(transparent)]
    Data(#[from] DataError),
    /// Something of the hub cannot be had.
    #[error(transparent)]
    Hub(#[from] HubError),
    /// A model folder cannot be read or written.
    #[error(transparent)]
    Pretrained(#[from] PretrainedError),
    /// The folder of a decoder cannot be read or written.
    #[error(transparent)]
    Decoder(#[from] FolderError),
    /// Neurons cannot be assigned to experts.
    #[error(transparent)]
    Partition(#[from] PartitionError),
    /// A model of a run cannot begin or learn as the recipe says.
    #[error("`{name}`: {source}")]
    OfModel {
        /// The model.
        name: String,
        /// Why.
        source: MethodError,
    },
    /// The model has fewer positions than the recipe asks for.
    #[error(
        "`{key}` is {length}, and the model in {} has {positions} positions; \
         set {key}={positions} or less",
        model.display()
    )]
    Positions {
        /// The key of the recipe.
        key: &'static str,
        /// Its value, in tokens.
        length: usize,
        /// The model's folder.
        model: PathBuf,
        /// The longest input of the model in tokens.
        positions: usize,
    },
    /// A model cannot have the spans or mixers that the recipe gives it.
    #[error("model `{name}`: {source}")]
    Model {
        /// The model.
        name: String,
        /// Why.
        source: ScheduleError,
    },
    /// A model cannot have the experts that the recipe gives it.
    #[error("model `{name}`: {source}")]
    ModelExperts {
        /// The model.
        name: String,
        /// Why.
        source: PartitionError,
    },
    /// A decoder cannot have as many positions as the recipe asks for.
    #[error("`data.length` = {length} does not fit the model; see `model.extend`: {source}")]
    Length {
        /// Tokens of a sequence.
        length: usize,
        /// Why.
        source: FolderError,
    },
    /// A model cannot be split.
    #[error(transparent)]
    Adapt(#[from] AdaptError),
    /// Importance scores cannot be read or written.
    #[error(transparent)]
    Scores(#[from] ImportanceError),
    /// Neurons cannot be scored.
    #[error("cannot score the neurons")]
    Importance(#[source] MethodError),
    /// A training failed.
    #[error(transparent)]
    Training(#[from] StageError),
    /// A result cannot be read from its device.
    #[error("cannot read a result from the device")]
    Read(#[from] ExecutionError),
    /// A file cannot be read, written or understood.
    #[error(transparent)]
    Content(#[from] FileError),
    /// A run cannot be exported.
    #[error(transparent)]
    Export(#[from] ExportError),
    /// A picture cannot be drawn.
    #[error(transparent)]
    Chart(#[from] ChartError),
    /// A file or folder cannot be changed.
    #[error("{}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A model has expert layers where a dense one is needed.
    #[error(
        "{} has expert layers already; give the dense model that it was made of",
        path.display()
    )]
    Experts {
        /// The model's folder.
        path: PathBuf,
    },
    /// A model was not fine-tuned on the task.
    #[error(
        "{} is a model for {found}, and the task `{task}` needs one for {}; fine-tune it on the task first",
        path.display(), task.head()
    )]
    Head {
        /// The model's folder.
        path: PathBuf,
        /// The task.
        task: Task,
        /// What the model predicts.
        found: Head,
    },
    /// A model numbers the classes of the task in another order.
    #[error(
        "{}: labels are {found}; {task} needs {}",
        path.join(CONFIG_FILE).display(), task.labels().join(", ")
    )]
    Labels {
        /// The model's folder.
        path: PathBuf,
        /// The task.
        task: Task,
        /// The model's classes in their order.
        found: String,
    },
    /// The spans or mixers of the layers make no sense.
    #[error(transparent)]
    Spans(#[from] ScheduleError),
    /// A text cannot be continued.
    #[error("{name}: {problem}")]
    Prompt {
        /// Its file, or its number.
        name: String,
        /// Why.
        problem: PromptError,
    },
    /// Text cannot be generated.
    #[error(transparent)]
    Generate(#[from] GenerateError),
    /// A model that is used as it is would get mixers that nothing trained.
    #[error(
        "model `{name}`: its `mixers` give layer {layer} another mixer than it starts with, and it is not trained; set \
         `epochs` above 0, or leave out the mixers"
    )]
    UntrainedMixers {
        /// The model.
        name: String,
        /// The first such layer.
        layer: usize,
    },
    /// The layer map does not fit the depth of the models.
    #[error("model `{name}`: `layerwise.layers`: {source}")]
    LayerMap {
        /// The model.
        name: String,
        /// Why.
        source: LayerMapError,
    },
    /// A bench found cases that are worse than they were.
    #[error("worse than in {}: {cases}", path.display())]
    Worse {
        /// The earlier report.
        path: PathBuf,
        /// The cases.
        cases: String,
    },
    /// Two reports of benches have nothing in common.
    #[error("{} has none of these cases with the same work; it must be what this `kiln bench {bench}` printed with --json", path.display())]
    Incomparable {
        /// The earlier report.
        path: PathBuf,
        /// The bench that was run.
        bench: String,
    },
    /// Standard output could not be written.
    #[error("cannot write to standard output")]
    Output(#[source] io::Error),
    /// Interrupts cannot be watched for.
    #[error("cannot watch for interrupts")]
    Signals(#[source] io::Error),
    /// Stages of a run failed; those that do not depend on them are done.
    #[error("{}{}", some(failed, "; "), not_done(blocked))]
    Failed {
        /// One line for each.
        failed: Vec<String>,
        /// The stages that depend on them.
        blocked: Vec<String>,
        /// Whether all of them could not use their settings or files.
        is_bad_input: bool,
    },
    /// A stage panicked.
    #[error("internal error: {0} (please report)")]
    Panic(String),
    /// The first stages failed for the same reason.
    #[error(
        "the first {count} stages that ended failed for the same reason: {line}; --keep-going tries the others, too"
    )]
    SameCause {
        /// How many.
        count: usize,
        /// The line of the last one.
        line: String,
    },
    /// A process that worked for this one cannot go on.
    #[error("{message}")]
    Worker {
        /// What it said.
        message: String,
        /// Its exit code.
        code: u8,
    },
    /// No arm of a halving has a score.
    #[error("no arm of the halving has a score that is finite, so none is left to report")]
    NoSurvivors,
    /// A run folder cannot be reported.
    #[error(transparent)]
    Report(#[from] LoadError),
    /// A report cannot be written as a page.
    #[error(transparent)]
    Page(#[from] PageError),
    /// A store cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The content of a stage's files cannot be told.
    #[error(transparent)]
    Fingerprint(#[from] FingerprintError),
    /// The key of a stage cannot be computed.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The user interrupted the command, and it stopped where it can go on.
    #[error("stopped; run the same command again to resume")]
    Stopped {
        /// The exit code by the signal: 130 for SIGINT, 143 for SIGTERM.
        exit_code: u8,
    },
    /// The user interrupted a generation, and its text has been printed as far as it came.
    #[error("interrupted; the text is not complete")]
    Interrupted {
        /// As of [`Error::Stopped`].
        exit_code: u8,
    },
}

impl Error {
    /// A file that cannot be read or written.
    pub fn file(path: &Path, source: io::Error) -> Self {
        Self::File {
            path: path.to_owned(),
            source,
        }
    }

    /// The message and its causes, joined by `: ` and each of them once, on one line.
    pub fn line(&self) -> String {
        let mut line = self.to_string();
        let mut cause = std::error::Error::source(self);
        while let Some(error) = cause {
            let reason = error.to_string();
            // Some errors already end in what caused them.
            if !line.ends_with(&reason) {
                line = format!("{line}: {reason}");
            }
            cause = error.source();
        }
        one_line(&line)
    }

    /// The exit code of the program: 2, or 128 and the number of the signal that stopped it, as shells have it, or 1 where
    /// all went well and the answer is bad.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Worker { code, .. } => *code,
            Self::Worse { .. }
            | Self::NotAsGood
            | Self::SameCause { .. }
            | Self::NoSurvivors
            | Self::Disagrees { .. }
            | Self::Failed {
                is_bad_input: false,
                ..
            } => 1,
            Self::Stopped { exit_code } | Self::Interrupted { exit_code } => *exit_code,
            _ => 2,
        }
    }

    /// Whether the reader of standard output went away, as in `kiln devices | head -1`. That is no
    /// failure.
    pub fn is_closed_pipe(&self) -> bool {
        matches!(self, Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn causes_are_joined_on_one_line() {
        let error = Error::Output(io::Error::other("the disk\n  is full"));
        assert_eq!(
            error.line(),
            "cannot write to standard output: the disk is full"
        );
        assert_eq!(error.exit_code(), 2);
        assert!(!error.is_closed_pipe());
    }

    #[test]
    fn a_cause_that_the_message_names_is_not_repeated() {
        let missing = moebert_core::file::read(Path::new("nowhere")).unwrap_err();
        let line = Error::from(missing).line();
        assert_eq!(line.matches("os error").count(), 1, "{line}");
    }

    #[test]
    fn a_closed_pipe_is_told_from_other_failures() {
        assert!(Error::Output(io::ErrorKind::BrokenPipe.into()).is_closed_pipe());
    }
}
