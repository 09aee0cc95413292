//! The `kiln` program: recipes, data, runs and reports.

pub mod ablate;
pub mod backend;
pub mod bench;
pub mod chart;
pub mod cli;
pub mod data;
pub mod error;
pub mod examples;
pub mod graph;
pub mod hub;
pub mod interrupt;
pub mod labels;
pub mod language;
pub mod latency;
pub mod learner;
pub mod memory;
pub mod methods;
pub mod metric;
pub mod panics;
pub mod predict;
pub mod predictions;
pub mod problem;
pub mod quality;
pub mod recipe;
pub mod record;
pub mod results;
pub mod run;
pub mod summarize;
pub mod table;
pub mod task_settings;
pub mod threads;
pub mod workers;

mod environment;
mod one_line;
mod stdout;
mod warning;
