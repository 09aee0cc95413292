//! Why a stage ends without a model.

use std::{io, path::PathBuf, sync::Arc};

use burn::train::TrainingError;

use crate::{CheckpointError, UnknownName};

/// Any error of a method; the stage adds the method's name.
pub type MethodError = Box<dyn std::error::Error + Send + Sync>;

/// Why a stage ended without a model.
#[derive(Debug, thiserror::Error)]
pub enum StageError {
    /// A setting that cannot work.
    #[error("{key} is {value}; it must be {rule}")]
    Config {
        /// The setting.
        key: &'static str,
        /// Its value.
        value: String,
        /// What would be right.
        rule: &'static str,
    },
    /// Two methods of one name and form.
    #[error("two methods are named `{0}`; names must differ, saved state goes by them")]
    DuplicateMethod(String),
    /// Two values of one name on the dashboard.
    #[error(
        "two values of the training are shown as `{0}`; names must differ, `metrics.jsonl` goes by them"
    )]
    DuplicateMetric(String),
    /// A method failed.
    #[error("method `{name}`: {source}")]
    Method {
        /// The method.
        name: String,
        /// Its error.
        source: MethodError,
    },
    /// An objective needs a teacher, and the stage has none.
    #[error("method `{0}` compares a student with a teacher; give the stage a teacher")]
    NoTeacher(&'static str),
    /// A part that is to be frozen is not in the model.
    #[error("cannot freeze: {0}")]
    Freeze(#[from] UnknownName),
    /// The loss depends on no parameter.
    #[error("the loss depends on no trainable parameter, so there is nothing to train")]
    Untrainable,
    /// A number became infinite or undefined. The checkpoints before it stay.
    #[error("{what} is not finite in epoch {epoch}, step {step}; first not finite: {place}")]
    NotFinite {
        /// The loss, the gradient or the parameters.
        what: &'static str,
        /// The epoch, from 1.
        epoch: usize,
        /// The optimiser step in the whole training, from 1.
        step: usize,
        /// The first layer or parameter whose values are not finite.
        place: String,
    },
    /// The best epoch's model is to be kept, and no epoch is the best.
    #[error(
        "there is no best epoch to keep: `{metric}` of the validation was finite in none of those that \
         were judged; keep the last epoch instead"
    )]
    NoBest {
        /// What epochs are judged by.
        metric: String,
    },
    /// The model of the best epoch, which is to be kept, is gone or damaged.
    #[error("the model of the best epoch, {epoch}, is missing or damaged: {source}")]
    BestLost {
        /// The epoch, from 1.
        epoch: usize,
        /// Its checkpoint.
        source: CheckpointError,
    },
    /// A checkpoint cannot be written or read. The checkpoints before it stay.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// The training was stopped from outside; the checkpoints stay and `fit` goes on from them.
    #[error("interrupted in epoch {epoch}{}", reason.as_ref().map(|r| format!(": {r}")).unwrap_or_default())]
    Interrupted {
        /// The epoch that was not finished.
        epoch: usize,
        /// The reason that was given.
        reason: Option<String>,
    },
    /// burn-train stopped with an error: data that cannot be read, a metric that cannot be computed.
    #[error("training stopped: {0}")]
    Training(Arc<TrainingError>),
    /// A file of the stage cannot be read or written.
    #[error("{}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What went wrong.
        source: io::Error,
    },
}

impl StageError {
    /// An error of the method of this name.
    pub(crate) fn method(name: &str, source: MethodError) -> Self {
        Self::Method {
            name: name.to_owned(),
            source,
        }
    }
}

impl From<TrainingError> for StageError {
    fn from(error: TrainingError) -> Self {
        Self::Training(Arc::new(error))
    }
}
