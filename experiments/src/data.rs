//! Data sets: from their files to padded batches.

pub mod example;
pub mod glue;
pub mod loader;
pub mod squad;
pub mod tokenizer;
pub mod tsv;
