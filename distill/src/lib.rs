//! Training on burn-train's learners: callbacks, losses, layer maps, teachers and resumable stages.
//!
//! A [`Stage`] is the one entry point: it fits a model, writes whole checkpoints only and goes on from the newest one.
//! Methods plug in at three places, one file each: a [`Surgery`] changes the model before its training, an
//! [`Objective`] adds terms to the loss, and a [`Callback`] takes part in the loop. What objectives compute is in
//! [`loss`], as pure functions on tensors.

#![forbid(unsafe_code)]
#![cfg_attr(
    test,
    allow(clippy::disallowed_methods, reason = "tests compare numbers")
)]

pub mod callback;
pub mod checkpoint;
pub mod epoch;
pub mod error;
pub mod gauge;
pub mod importance;
pub mod layer_map;
pub mod left_parts;
pub mod loss;
pub mod model;
pub mod names;
pub mod objective;
pub mod optimizer;
pub mod schedule;
pub mod stage;
pub mod stand_in;
pub mod surgery;
pub mod teacher;
pub mod trainee;
pub mod ui;

mod best;
mod finite;
mod gradients;
mod layer_log;
mod metric_log;
mod outcome;
mod progress;
mod session;
mod strategy;
#[cfg(test)]
mod toy;

pub use callback::{Callback, CallbackState, Context};
pub use checkpoint::{
    CheckpointError, CheckpointEvery, CheckpointEveryError, CheckpointRequest, Checkpoints,
    Position,
};
pub use epoch::Epoch;
pub use error::{MethodError, StageError};
pub use gauge::Gauge;
pub use layer_log::LayerLine;
pub use layer_map::{LayerMap, LayerMapError};
pub use left_parts::LeftParts;
pub use model::{Batch, Output, Shape, Signals, Step, TaskLoss, Trainable};
pub use names::{Names, UnknownName};
pub use objective::{Given, LayerValues, Objective, Terms};
pub use optimizer::Adam;
pub use outcome::Outcome;
pub use progress::Progress;
pub use schedule::Schedule;
pub use stage::{Fitted, Method, Stage, StageConfig};
pub use stand_in::StandIn;
pub use surgery::Surgery;
pub use teacher::{SignalSource, Teacher, WithoutAutodiff};
pub use trainee::Trainee;
pub use ui::Ui;
