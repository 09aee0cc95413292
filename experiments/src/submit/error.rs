//! What can be wrong with a submission or a share.

use std::path::PathBuf;

/// Why no scripts can be made for a submission.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SubmitError {
    /// The command has no words.
    #[error("the command of the workers is empty")]
    NoCommand,
    /// A word of the command contains a null character, which no process can receive.
    #[error("argument {position} of the command contains a null character")]
    Nul {
        /// Where the word is; the program is 0.
        position: usize,
    },
    /// The time limit is shorter than a second.
    #[error("a time limit must be at least one second")]
    NoTime,
    /// A process cannot receive a path, or an engine cannot work with a folder.
    #[error("{} {problem}; use another", path.display())]
    Path {
        /// The path.
        path: PathBuf,
        /// What it contains.
        problem: &'static str,
    },
    /// No engine has this name.
    #[error("unknown engine `{name}`; expected one of {known}")]
    UnknownEngine {
        /// The name.
        name: String,
        /// The names of all engines, separated by commas.
        known: String,
    },
}

/// Why the share of a worker is not known.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ShardError {
    /// The text is no share.
    #[error("`{0}` is no share: expected i/n with 1 <= i <= n, `auto` or `auto/n`")]
    Format(String),
    /// No engine started this process.
    #[error(
        "`--shard auto` needs a number from Slurm, GNU parallel, HyperQueue, Ray or Kubernetes, and no variable has one; \
         use --shard i/n"
    )]
    NoEngine,
    /// Variables of two engines are set, as in GNU parallel within an array of Slurm.
    #[error("variables of both {first} and {second} are set; use --shard i/n")]
    TwoEngines {
        /// One engine.
        first: &'static str,
        /// Another.
        second: &'static str,
    },
    /// The engine does not tell its workers how many there are.
    #[error("the engine {engine} does not say how many workers there are; use --shard auto/n")]
    NoCount {
        /// The engine.
        engine: &'static str,
    },
    /// The number of the worker is above the number of workers.
    #[error("this is worker {number} of {engine}, and the share is for {count} workers")]
    OutOfRange {
        /// The engine.
        engine: &'static str,
        /// The number of the worker, from 1.
        number: usize,
        /// How many workers there are.
        count: usize,
    },
    /// A variable of an engine does not hold what it should.
    #[error("the variable {name} is `{value}`, not a number that the engine would set")]
    Variable {
        /// The variable.
        name: &'static str,
        /// Its value.
        value: String,
    },
}
