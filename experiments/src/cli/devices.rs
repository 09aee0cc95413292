//! `kiln devices`: what was compiled in, and what answers.

use clap::Args;

use crate::backend;
use crate::cli;
use crate::error::Error;
use crate::table::aligned;

/// List the devices that were compiled in, and whether they answer
#[derive(Debug, Args)]
pub struct DevicesArgs {}

/// Asks every device and prints the list.
///
/// # Errors
/// The list cannot be printed.
pub fn run(_args: &DevicesArgs) -> Result<(), Error> {
    let mut cells = vec![["device", "answers", ""].map(str::to_owned).to_vec()];
    for device in backend::survey() {
        let (answers, why) = match device.answer {
            Ok(()) => ("yes", String::new()),
            Err(reason) => ("no", reason),
        };
        let note = if device.default { "default" } else { "" };
        let note = [note, &why]
            .into_iter()
            .filter(|part| !part.is_empty())
            .collect::<Vec<_>>()
            .join("; ");
        cells.push(vec![device.name, answers.to_owned(), note]);
    }
    cli::print(&aligned(&cells))
}
