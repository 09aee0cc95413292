//! Data sets: from their files to padded batches.

pub mod corpus;
pub mod error;
pub mod example;
pub mod glue;
pub mod language;
pub mod loader;
pub mod packing;
pub mod recall;
pub mod squad;
pub mod summary;
pub mod synthetic;
pub mod text_tokenizer;
pub mod token_file;
pub mod tokenizer;
pub mod tsv;
pub mod unreadable;

mod byte_order_mark;
mod json;

pub use error::DataError;
