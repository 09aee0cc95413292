//! Ablations: the arms of a recipe, and what can be said about them.

pub mod arms;
pub mod compare;
pub mod interval;
pub mod latency_ratios;
pub mod run_arm;
pub mod statistics;
