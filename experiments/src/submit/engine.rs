//! What an engine is.

use std::fmt::Debug;

use super::{
    error::{ShardError, SubmitError},
    submission::Submission,
    worker::{Variables, Worker},
};

/// A program that starts processes on one or many machines.
pub trait Engine: Debug + Sync {
    /// Its name in `--to NAME`, and the first part of the names of its files.
    fn name(&self) -> &'static str;

    /// The files that start the workers, the first of which [`start`](Self::start) uses.
    ///
    /// # Errors
    /// The engine cannot write into the run folder.
    fn files(&self, submission: &Submission) -> Result<Vec<Script>, SubmitError>;

    /// The command that starts the workers, once the files are in `RUN/submit`; program and arguments.
    fn start(&self, submission: &Submission) -> Vec<String>;

    /// The number of the worker that this process is; none if the engine did not start it.
    ///
    /// # Errors
    /// A variable of the engine does not hold a number.
    fn worker(&self, variables: Variables<'_>) -> Result<Option<Worker>, ShardError>;
}

/// A file of an engine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Script {
    /// Its name in `RUN/submit`.
    pub name: &'static str,
    /// Its content.
    pub text: String,
}
