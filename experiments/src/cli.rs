//! The command line: one file per command.

pub mod ablate;
pub mod adapt;
pub mod bench;
pub mod compare;
pub mod completions;
mod decoder_task;
pub mod devices;
pub mod eval;
pub mod export;
pub mod forward;
pub mod generate;
pub mod importance;
pub mod methods;
mod output;
pub mod plan;
pub mod prune;
mod reading;
pub mod recipes;
pub mod report;
pub mod reproduce;
pub mod run;
pub mod spans;
pub mod submit;
mod task_folder;
mod variant;
pub mod watch;

use std::ffi::OsString;

use burn::tensor::Device;
use clap::builder::RangedU64ValueParser;
use clap::error::ErrorKind;
use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};
use masformer_core::{Decoder, pretrained::LoadReport};
use moebert_core::half::Half;
use moebert_core::heads::BertModel;
use moebert_core::pretrained::{Pretrained, PretrainedDecoder};
use serde::Serialize;

use crate::data::{DataError, text_tokenizer::TextTokenizer};
use crate::error::Error;
use crate::one_line::one_line;
use crate::quiet::be_quiet;
use crate::stdout::print;
use crate::terminal::columns;

/// Makes transformers cheaper and shows what each saving costs.
#[derive(Debug, Parser)]
#[command(
    name = "kiln",
    version,
    arg_required_else_help = true,
    after_help = "Example: the whole pipeline in a few minutes, without a download\n  kiln run quickstart"
)]
struct Cli {
    /// Tell nothing of the work on standard error, but for warnings and errors
    #[arg(long, global = true)]
    quiet: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Run(run::RunArgs),
    Ablate(ablate::AblateArgs),
    Submit(submit::SubmitArgs),
    Compare(compare::CompareArgs),
    Export(export::ExportArgs),
    Report(report::ReportArgs),
    Watch(watch::WatchArgs),
    Reproduce(reproduce::ReproduceArgs),
    Plan(plan::PlanArgs),
    Prune(prune::PruneArgs),
    Importance(importance::ImportanceArgs),
    Adapt(adapt::AdaptArgs),
    Eval(eval::EvalArgs),
    Forward(forward::ForwardArgs),
    Generate(generate::GenerateArgs),
    Spans(spans::SpansArgs),
    Recipes(recipes::RecipesArgs),
    Methods(methods::MethodsArgs),
    Bench(bench::BenchArgs),
    Devices(devices::DevicesArgs),
    Completions(completions::CompletionsArgs),
}

/// Runs the command that `arguments` name; the first one is the program's own name.
///
/// # Errors
/// The arguments make no sense, or the command fails.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> Result<(), Error> {
    let command = Cli::command().term_width(columns());
    let matches = command.try_get_matches_from(ablate::with_reference(arguments));
    let cli = match matches.and_then(|matches| Cli::from_arg_matches(&matches)) {
        Ok(cli) => cli,
        Err(error) => return explain(&error),
    };
    if cli.quiet {
        be_quiet();
    }
    match cli.command {
        Command::Run(args) => run::run(args),
        Command::Ablate(args) => ablate::run(args),
        Command::Submit(args) => submit::run(&args),
        Command::Compare(args) => compare::run(&args),
        Command::Export(args) => export::run(&args),
        Command::Report(args) => report::run(&args),
        Command::Watch(args) => watch::run(&args),
        Command::Reproduce(args) => reproduce::run(args),
        Command::Plan(args) => plan::run(args),
        Command::Prune(args) => prune::run(&args),
        Command::Importance(args) => importance::run(args),
        Command::Adapt(args) => adapt::run(args),
        Command::Eval(args) => eval::run(args),
        Command::Forward(args) => forward::run(args),
        Command::Generate(args) => generate::run(&args),
        Command::Spans(args) => spans::run(&args),
        Command::Recipes(args) => recipes::run(&args),
        Command::Methods(args) => methods::run(&args),
        Command::Bench(args) => bench::run(&args),
        Command::Devices(args) => devices::run(&args),
        Command::Completions(args) => completions::run(&args),
    }
}

/// Prints one JSON document.
fn print_json(value: &impl Serialize) -> Result<(), Error> {
    // What is printed has plain keys, and numbers and texts have a form.
    let json = serde_json::to_string_pretty(value).unwrap_or_default();
    print(&(json + "\n"))
}

/// For numbers that make no sense as 0.
fn at_least_1() -> RangedU64ValueParser<usize> {
    RangedU64ValueParser::new().range(1..)
}

/// The model of a folder, which must have been trained for its task. Weights that have no place in it
/// are named on the standard error.
fn load(pretrained: &Pretrained, device: &Device) -> Result<BertModel, Error> {
    let (model, report) = pretrained.load_whole(None, device)?;
    tell_of(&report);
    Ok(model)
}

/// The decoder of a folder. Weights that have no place in it are named on the standard error.
fn load_decoder(folder: &PretrainedDecoder, device: &Device) -> Result<Decoder<Half>, Error> {
    let (model, report) = folder.load(device)?;
    tell_of(&report);
    Ok(model)
}

/// Says on the standard error how a checkpoint and a model differ.
fn tell_of(report: &LoadReport) {
    if !report.is_exact() {
        eprintln!("{report}");
    }
}

/// The tokenizer of a decoder's folder.
fn load_text_tokenizer(folder: &PretrainedDecoder) -> Result<TextTokenizer, Error> {
    let tokenizer = TextTokenizer::load(folder.dir()).map_err(DataError::from)?;
    let fits = tokenizer.check_fits(folder.config().decoder.vocabulary);
    fits.map_err(DataError::from)?;
    Ok(tokenizer)
}

/// Help and version are answers; anything else is an error on one line, without clap's page of
/// usage.
fn explain(error: &clap::Error) -> Result<(), Error> {
    let text = error.render().to_string();
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => print(&text),
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => Err(Error::Usage(
            "no command given; `kiln --help` lists them".to_owned(),
        )),
        _ => {
            let told: Vec<String> = text
                .split("\n\n")
                .map(one_line)
                .filter(|part| !part.starts_with("Usage:") && !part.starts_with("For more"))
                .collect();
            let told = told.join("; ");
            Err(Error::Usage(told.trim_start_matches("error: ").to_owned()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(arguments: &[&str]) -> String {
        let arguments = ["kiln"].iter().chain(arguments).map(OsString::from);
        main(arguments)
            .expect_err("the command line is wrong")
            .line()
    }

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }

    /// Every command with its path, that of commands of commands among them.
    fn commands(command: &clap::Command, path: &str, found: &mut Vec<(String, clap::Command)>) {
        let path = format!("{path} {}", command.get_name());
        found.push((path.trim_start().to_owned(), command.clone()));
        for sub in command.get_subcommands() {
            if sub.get_name() != "help" {
                commands(sub, &path, found);
            }
        }
    }

    #[test]
    fn help_ends_with_an_example_and_fits_into_80_columns() {
        let mut root = Cli::command().term_width(80);
        root.build();
        let mut found = vec![];
        commands(&root, "", &mut found);
        assert!(found.len() > 20);
        for (path, command) in found {
            let help = command.term_width(80).render_long_help().to_string();
            let example = help.rsplit("\n\n").next().unwrap_or_default();
            assert!(example.starts_with("Example"), "{path}: {example}");
            assert!(example.contains("\n  kiln "), "{path}: {example}");
            // Clap does not wrap the usage.
            for line in help.lines().filter(|line| !line.starts_with("Usage: ")) {
                assert!(line.chars().count() <= 80, "{path}: {line}");
            }
        }
    }

    #[test]
    fn mistakes_are_told_on_one_line() {
        assert_eq!(refusal(&[]), "no command given; `kiln --help` lists them");
        let message = refusal(&["run", "quickstart", "--devic", "flex"]);
        assert!(
            message.starts_with("unexpected argument '--devic' found; ")
                && message.contains("'--device'"),
            "{message}"
        );
        assert!(
            !message.contains("Usage") && !message.contains('\n'),
            "{message}"
        );
        let message = refusal(&["run"]);
        assert_eq!(
            message,
            "the following required arguments were not provided: <RECIPE>"
        );
        assert!(refusal(&["rnu"]).starts_with("unrecognized subcommand 'rnu'"));
    }

    #[test]
    fn a_bad_recipe_and_a_bad_device_are_refused_before_any_work() {
        assert!(
            refusal(&["run", "quickstart", "train.epoch=3"]).contains("did you mean `epochs`?")
        );
        assert!(
            refusal(&["run", "quickstart", "--device", "gpuu"])
                .starts_with("unknown device `gpuu`")
        );
    }
}
