//! The program as a person meets it: whole runs, runs that are stopped, and mistakes.

mod ablate;
mod bad_input;
mod chain;
mod data_forms;
mod decoder_experts;
mod eval;
mod export;
mod failures;
mod generate;
mod halving;
mod kiln;
mod language;
mod layers;
mod manners;
mod methods;
mod mixers;
mod model_folders;
mod spans;
#[cfg(unix)]
mod stops;
#[cfg(unix)]
mod submit;
mod summary;
mod training;
