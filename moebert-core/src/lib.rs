//! moebert-core

pub mod expert_files;
pub mod file;
pub mod importance;
pub mod partition;
mod tensor_file;
