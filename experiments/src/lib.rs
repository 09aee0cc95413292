//! The `kiln` program: recipes, data, runs and reports.

pub mod backend;
pub mod cli;
pub mod data;
pub mod error;
pub mod interrupt;
pub mod learner;
pub mod metric;
pub mod panics;
pub mod recipe;
pub mod record;
pub mod run;
pub mod table;

mod environment;
mod nearest;
