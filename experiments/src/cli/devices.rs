//! `kiln devices`: what was compiled in, and what answers.

use clap::Args;
use serde_json::json;

use crate::backend;
use crate::cli;
use crate::error::Error;
use crate::table::aligned;

/// List the devices that were compiled in, and whether they answer
#[derive(Debug, Args)]
#[command(after_help = "Example: the devices, for programs\n  kiln devices --json")]
pub struct DevicesArgs {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Asks every device and prints the list.
///
/// # Errors
/// The list cannot be printed.
pub fn run(args: &DevicesArgs) -> Result<(), Error> {
    if args.json {
        let devices = backend::survey().into_iter().map(|device| {
            json!({
                "name": device.name,
                "answers": device.answer.is_ok(),
                "reason": device.answer.err(),
                "default": device.default,
            })
        });
        return cli::print_json(&devices.collect::<Vec<_>>());
    }
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
