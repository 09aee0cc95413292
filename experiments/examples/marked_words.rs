//! Writes made-up texts whose summaries are the words marked in them, to train and evaluate on:
//!
//!     cargo run --release --example marked_words -- FOLDER

use std::{env, path::Path, process::ExitCode};

use experiments::data::summary::{MarkedWords, SummarySplit};

const TASK: MarkedWords = MarkedWords {
    seed: 1,
    words: 120,
    marked: 4,
};

fn main() -> ExitCode {
    let Some(folder) = env::args_os().nth(1) else {
        eprintln!("give a folder to write to");
        return ExitCode::from(2);
    };
    let counts = [
        (SummarySplit::Train, 4000),
        (SummarySplit::Validation, 200),
        (SummarySplit::Test, 200),
    ];
    match TASK.write(Path::new(&folder), &counts) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::from(2)
        }
    }
}
