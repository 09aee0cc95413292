//! The `kiln` program: recipes, data, runs and reports.

pub mod data;
pub mod metric;
