//! Workers of an ablation on a cluster: the scripts and manifests that start them, and the share of one worker.
//!
//! An [`Engine`] starts N copies of one command. The copies divide the work through the store, so an engine has no
//! dependencies and no results: all copies may be killed, and any number started elsewhere. Nothing here writes a file
//! or starts a process: it returns texts and command lines.

pub mod engine;
pub mod engines;
pub mod error;
pub mod hq;
pub mod k8s;
mod literal;
pub mod parallel;
pub mod ray;
pub mod shard;
mod shell;
pub mod slurm;
pub mod submission;
#[cfg(test)]
mod testing;
pub mod worker;

pub use engine::{Engine, Script};
pub use engines::engine;
pub use error::{ShardError, SubmitError};
pub use shard::{Shard, ShardArg};
pub use submission::{Resources, Submission};
