//! The `kiln` program: recipes, data, runs and reports.

pub mod backend;
pub mod cli;
mod environment;
pub mod error;
pub mod interrupt;
mod nearest;
pub mod panics;
pub mod recipe;
pub mod record;
pub mod run;
pub mod table;
