//! Training on burn-train's learners: callbacks, losses, layer maps, teachers and resumable stages.
//!
//! A [`Stage`] is the one entry point: it fits a model, fires [`Callback`]s on the way, writes whole
//! checkpoints only and goes on from the newest one. Methods are callbacks, one a file, in
//! [`callbacks`]; what they compute is in [`loss`], as pure functions on tensors.

#![forbid(unsafe_code)]
#![cfg_attr(
    test,
    allow(clippy::disallowed_methods, reason = "tests compare numbers")
)]

pub mod callback;
pub mod callbacks;
pub mod checkpoint;
pub mod epoch;
pub mod error;
pub mod gauge;
pub mod layer_map;
pub mod loss;
pub mod optimizer;
pub mod schedule;
pub mod stage;
pub mod teacher;
pub mod ui;

mod best;
mod finite;
mod gradients;
mod metric_log;
mod outcome;
mod strategy;
#[cfg(test)]
mod toy;

pub use callback::{
    Batch, Callback, CallbackError, CallbackModel, Context, Output, SignalSource, Signals, Step,
};
pub use checkpoint::{CheckpointError, Checkpoints};
pub use epoch::Epoch;
pub use error::StageError;
pub use gauge::Gauge;
pub use layer_map::{LayerMap, LayerMapError};
pub use optimizer::Adam;
pub use outcome::Outcome;
pub use schedule::Schedule;
pub use stage::{Fitted, Stage, StageConfig};
pub use teacher::{Teacher, WithoutAutodiff};
pub use ui::Ui;
