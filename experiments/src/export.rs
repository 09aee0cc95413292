//! Results in formats that other programs read: tables as CSV and Parquet, TensorBoard event files, runs of an MLflow server.

pub mod error;
pub mod event_folders;
pub mod follow;
pub mod long_table;
pub mod mlflow;
pub mod mlflow_runs;
pub mod predictions;
pub mod results_tables;
pub mod run_folder;
pub mod tensorboard;
pub mod trackio;
