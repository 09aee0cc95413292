//! A live view of a run, for any number of people on any machine that sees its folder and its store. It reads both and writes
//! nothing.
//!
//! [`Watch`] reads, and knows how far each stage is; a [`View`] of it is what programs get; [`frame`] makes lines of text of a
//! view; and [`screen`] and [`stream`] show them on a terminal and elsewhere.

mod estimates;
pub mod frame;
pub mod screen;
mod state;
pub mod stream;
mod text;
mod time_left;
mod view;

pub use self::{
    state::{Event, Watch},
    view::{ArmView, FailureView, RunningView, SeedView, View},
};

#[cfg(test)]
mod tests;
