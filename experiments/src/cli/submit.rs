//! `kiln submit`: workers of an ablation, started by an engine.

use std::{
    env, fs, io,
    num::NonZero,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use clap::Args;
use moebert_core::file;

use super::ablate::ArmsArgs;
use crate::{
    error::Error,
    record::check_is_run,
    submit::{Engine, Resources, Submission, engine, submission::text},
};

/// Start workers of an ablation on a cluster or on this machine
///
/// Each worker is `kiln ablate` with the same arguments; they divide the work through the store, which all of them must see.
/// The scripts are written to `submit` in the run folder. To go on after a stop, submit again, with any number of workers.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  kiln submit quickstart experts.order=importance,random --seeds 6 \\\n      --to slurm --workers 8 --cpus 4 --time 4h"
)]
pub struct SubmitArgs {
    /// What starts the workers: slurm, hq (`HyperQueue`), parallel (GNU parallel), ray or k8s (Kubernetes)
    #[arg(long, value_name = "ENGINE", value_parser = engine)]
    to: &'static dyn Engine,
    /// How many workers
    #[arg(long, value_name = "N")]
    workers: NonZero<usize>,
    /// Cores of each worker, and threads that it computes on
    #[arg(long, value_name = "N", default_value = "1")]
    cpus: NonZero<usize>,
    /// Memory of each worker, as in `8G` or `500M` [default: the engine's]
    #[arg(long, value_parser = memory)]
    memory: Option<NonZero<u64>>,
    /// How long each worker runs at most, as in `4h`, `30min` or `2d`; Slurm starts it again [default: the engine's]
    #[arg(long, value_parser = time)]
    time: Option<Duration>,
    /// Give each worker a share of the arms, which it does alone (`--shard` of `kiln ablate`)
    #[arg(long)]
    shard: bool,
    /// Show the script, and neither write nor start anything
    #[arg(long)]
    print: bool,
    #[command(flatten)]
    arms: ArmsArgs,
}

/// Starts the workers. Where the engine waits for them, its exit code is that of this program.
///
/// # Errors
/// The recipe or the ablation is wrong, the run folder cannot be used, or the engine cannot be started.
pub fn run(args: &SubmitArgs) -> Result<(), Error> {
    let out = args.arms.check()?;
    let folder = env::current_dir().map_err(|source| Error::file(Path::new("."), source))?;
    let submission = args.submission(&folder, &out)?;
    let scripts = args.to.files(&submission)?;
    if args.print {
        return super::print(&scripts[0].text);
    }
    if out.exists() {
        check_is_run(&out)?;
    }
    let submit = PathBuf::from(submission.file(""));
    fs::create_dir_all(&submit).map_err(|source| Error::file(&submit, source))?;
    for script in &scripts {
        let path = PathBuf::from(submission.file(script.name));
        keep_edited(&path, &script.text)?;
        file::write(&path, script.text.as_bytes())?;
    }
    let script = submission.file(scripts[0].name);
    start(&args.to.start(&submission), Path::new(&script))
}

impl SubmitArgs {
    fn submission(&self, folder: &Path, out: &Path) -> Result<Submission, Error> {
        let program =
            env::current_exe().map_err(|source| Error::file(Path::new("kiln"), source))?;
        let mut command = vec![text(&program)?, "ablate".to_owned()];
        if self.shard {
            command.extend(["--shard".to_owned(), format!("auto/{}", self.workers)]);
        }
        command.extend(self.arms.words(&folder.join(out), folder)?);
        let resources = Resources {
            cpus: self.cpus,
            memory: self.memory,
            time: self.time,
        };
        Ok(Submission::new(
            command,
            folder,
            out,
            self.workers,
            resources,
        )?)
    }
}

/// Renames a script that is there and differs: a person may have edited it.
fn keep_edited(path: &Path, text: &str) -> Result<(), Error> {
    let there = file::read_if_there(path)?;
    if there.is_none_or(|there| there == text.as_bytes()) {
        return Ok(());
    }
    let mut old = path.as_os_str().to_owned();
    old.push(".old");
    fs::rename(path, &old).map_err(|source| Error::file(Path::new(&old), source))
}

/// Becomes the program of the engine, so that signals and its exit code are its own.
#[cfg(unix)]
fn start(words: &[String], script: &Path) -> Result<(), Error> {
    use std::os::unix::process::CommandExt;

    let source = Command::new(&words[0]).args(&words[1..]).exec();
    Err(not_started(words, script, source))
}

/// Runs the program of the engine.
#[cfg(not(unix))]
fn start(words: &[String], script: &Path) -> Result<(), Error> {
    let status = Command::new(&words[0]).args(&words[1..]).status();
    let status = status.map_err(|source| not_started(words, script, source))?;
    std::process::exit(status.code().unwrap_or(1))
}

fn not_started(words: &[String], script: &Path, source: io::Error) -> Error {
    Error::Engine {
        program: words[0].clone(),
        script: script.to_owned(),
        source,
    }
}

/// A number and its unit.
fn number(text: &str) -> Option<(u64, &str)> {
    let end = text.find(|char: char| !char.is_ascii_digit())?;
    let (number, unit) = text.split_at(end);
    Some((number.parse().ok()?, unit))
}

/// Memory in MiB.
fn memory(text: &str) -> Result<NonZero<u64>, &'static str> {
    let mib = number(text).and_then(|(number, unit)| match unit {
        "M" => Some(number),
        "G" => number.checked_mul(1024),
        _ => None,
    });
    mib.and_then(NonZero::new)
        .ok_or("expected a number with M or G, as in 8G")
}

fn time(text: &str) -> Result<Duration, &'static str> {
    let seconds = number(text).and_then(|(number, unit)| match unit {
        "s" => Some(number),
        "min" => number.checked_mul(60),
        "h" => number.checked_mul(3600),
        "d" => number.checked_mul(24 * 3600),
        _ => None,
    });
    let seconds = seconds.filter(|seconds| *seconds > 0);
    seconds
        .map(Duration::from_secs)
        .ok_or("expected a number with s, min, h or d, as in 4h")
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::ablate::AblateArgs;

    #[derive(Debug, Parser)]
    struct Submit {
        #[command(flatten)]
        args: SubmitArgs,
    }

    #[derive(Debug, Parser)]
    struct Ablate {
        #[command(flatten)]
        args: AblateArgs,
    }

    /// The words after `kiln ablate` that workers are started with.
    fn words(line: &[&str]) -> Vec<String> {
        let fixed = ["kiln", "--to", "slurm", "--workers", "4"];
        let Submit { args } = Submit::try_parse_from([&fixed[..], line].concat()).unwrap();
        let submission = args.submission(Path::new("/work"), Path::new("runs/x"));
        submission.unwrap().command()[2..].to_vec()
    }

    #[test]
    fn workers_have_the_arguments_with_absolute_folders() {
        let line = "quickstart a.b=1,2 --seeds 3 --store s --metric f1 --margin=-1 --alpha 0.1 --shard --device flex \
                    --reference a.b=1 c=2";
        let line: Vec<&str> = line.split_whitespace().collect();
        let expected = "--shard auto/4 quickstart a.b=1,2 --out /work/runs/x --store /work/s --device flex --seeds 3 \
                        --metric f1 --margin=-1 --alpha 0.1 --reference a.b=1 c=2";
        assert_eq!(words(&line).join(" "), expected);
    }

    #[test]
    fn what_begins_with_a_dash_is_no_option() {
        let words = words(&["--store", "s", "--reference=-experts", "--", "-x.toml"]);
        assert_eq!(words[0], "./-x.toml");
        assert_eq!(words.last().unwrap(), "--reference=-experts");
        let ablate = Ablate::try_parse_from(["kiln".to_owned()].into_iter().chain(words));
        assert!(ablate.is_ok(), "{ablate:?}");
    }

    #[test]
    fn limits_have_units() {
        assert_eq!(memory("8G"), Ok(NonZero::new(8192).unwrap()));
        assert_eq!(memory("500M"), Ok(NonZero::new(500).unwrap()));
        for text in ["", "8", "0G", "G", "1.5G", "8g", "99999999999999999999G"] {
            assert!(memory(text).is_err(), "{text}");
        }
        assert_eq!(time("2d"), Ok(Duration::from_hours(48)));
        assert_eq!(time("90s"), Ok(Duration::from_secs(90)));
        for text in ["", "4", "0h", "h", "-1h", "1h30min", "99999999999999999d"] {
            assert!(time(text).is_err(), "{text}");
        }
    }
}
