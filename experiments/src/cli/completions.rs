//! `kiln completions`: commands and options that a shell completes.

use clap::{Args, CommandFactory};
use clap_complete::{Shell, generate};

use super::Cli;
use crate::error::Error;

const EXAMPLE: &str = "\
Examples: complete commands and options from the next shell on
  kiln completions bash > ~/.local/share/bash-completion/completions/kiln
  kiln completions zsh > ~/.zfunc/_kiln    # a folder of $fpath
  kiln completions fish > ~/.config/fish/completions/kiln.fish";

/// Print what a shell reads to complete the commands and options of kiln
#[derive(Debug, Args)]
#[command(after_help = EXAMPLE)]
pub struct CompletionsArgs {
    /// The shell
    shell: Shell,
}

/// Prints the script.
///
/// # Errors
/// It cannot be written.
pub fn run(args: &CompletionsArgs) -> Result<(), Error> {
    super::print(&script(args.shell))
}

fn script(shell: Shell) -> String {
    let mut script = vec![];
    generate(shell, &mut Cli::command(), "kiln", &mut script);
    String::from_utf8_lossy(&script).into_owned()
}

#[cfg(test)]
mod tests {
    use std::{fs, process::Command};

    use clap::ValueEnum;

    use super::*;

    #[test]
    fn every_shell_knows_commands_and_options() {
        for shell in Shell::value_variants() {
            let script = script(*shell);
            for word in ["recipes", "ablate", "reference", "quiet"] {
                assert!(script.contains(word), "{shell}: {word}");
            }
        }
    }

    #[test]
    fn bash_understands_the_script() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("kiln");
        fs::write(&path, script(Shell::Bash)).unwrap();
        match Command::new("bash").arg("-n").arg(&path).output() {
            Ok(output) => {
                let errors = String::from_utf8_lossy(&output.stderr);
                assert!(output.status.success() && errors.is_empty(), "{errors}");
            }
            // A machine without bash.
            Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::NotFound),
        }
    }
}
