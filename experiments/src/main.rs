//! `kiln`: makes transformers cheaper and shows what each saving costs.

use std::io::Write;
use std::process::ExitCode;

use experiments::{cli, memory, panics, threads};

fn main() -> ExitCode {
    memory::keep_freed();
    panics::report_as_errors();
    if let Err(error) = threads::join_pool() {
        let _ = writeln!(std::io::stderr(), "kiln: error: {error}");
        return ExitCode::from(2);
    }
    match std::panic::catch_unwind(|| cli::main(std::env::args_os())) {
        Ok(Ok(())) => ExitCode::SUCCESS,
        Ok(Err(error)) if error.is_closed_pipe() => ExitCode::SUCCESS,
        Ok(Err(error)) => {
            // Nothing is left to tell when standard error is gone as well.
            let _ = writeln!(std::io::stderr(), "kiln: error: {}", error.line());
            ExitCode::from(error.exit_code())
        }
        Err(_) => ExitCode::from(2),
    }
}
