//! The run folder: everything a run leaves behind, and what lets it go on after a stop.
//!
//! ```text
//! recipe.toml        the recipe as resolved, written once
//! environment.json   program, machine and command line of every start
//! metrics.jsonl      the metrics of every finished training, one JSON object per line
//! artifacts/         the tokenizer and the tokens of the run's own data, in 1/ and so on those of arms that change them
//! start/seed-S       links to the weights that were drawn
//! arms/NAME/seed-S/  links to the stages of a model in the store
//! stages.json        the keys of all stages
//! arms.json          the arms and their stages
//! halving.json       how a halving chose among the arms of an ablation
//! results.json       the table for programs, and results.md for people
//! timings.json       what stages and forward passes took
//! results.parquet    and results.csv, comparisons and timings of both forms: the same as tables
//! curves.svg         validation while training
//! submit/            scripts that start workers, and their logs
//! ```

mod artifacts;
mod difference;
mod link;
mod stale;

use std::collections::BTreeMap;
use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use moebert_core::file::{self, FileError};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use crate::{environment::Environment, graph::Key};

pub use artifacts::Artifacts;

/// The recipe of a run, in its folder.
pub(crate) const RECIPE: &str = "recipe.toml";
/// Where it was run.
pub(crate) const ENVIRONMENT: &str = "environment.json";
/// What its models got, and what the arms of an ablation show.
pub(crate) const RESULTS: &str = "results.json";
/// What it consists of.
pub(crate) const ARMS: &str = "arms.json";
/// How a halving chose among the arms of an ablation.
pub(crate) const HALVING: &str = "halving.json";
/// What was measured in its trainings.
pub(crate) const METRICS: &str = "metrics.jsonl";
/// What it took.
pub(crate) const TIMINGS: &str = "timings.json";
/// The folder of links to stages, by model and seed.
pub(crate) const MODELS: &str = "arms";
const LOCK: &str = ".lock";
/// The folder of scripts that start workers, which may be there before the run is.
const SUBMIT: &str = "submit";
/// The keys of the stages of a run, in its folder.
const STAGES: &str = "stages.json";

/// Why a run folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// A file or folder cannot be read or made.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// `read`, `write`, ...
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file of the run cannot be written.
    #[error(transparent)]
    File(#[from] FileError),
    /// The folder holds other things than a run.
    #[error("{} is no run folder, it holds `{found}`; choose another --out", path.display())]
    NoRun {
        /// The folder.
        path: PathBuf,
        /// Something that a run did not put there.
        found: String,
    },
    /// The folder holds a run of another recipe.
    #[error(
        "{} holds a run of another recipe, which differs in {}; choose another --out",
        path.display(),
        differences.join(", ")
    )]
    OtherRecipe {
        /// The run folder.
        path: PathBuf,
        /// One text a key: its value there and here.
        differences: Vec<String>,
    },
    /// A file of the run does not hold what kiln wrote.
    #[error("{} is damaged; delete it to do that part again", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// An open run folder. Until [`release`](Self::release) and after [`hold`](Self::hold), this process alone writes in it.
#[derive(Debug)]
pub struct RunFolder {
    path: PathBuf,
    /// Held for its lock alone.
    lock: Option<File>,
}

impl RunFolder {
    /// Makes the folder `path` for a run of `recipe`, or opens it to go on with that run. While another process prepares
    /// data in it, this waits; `wait` is called now and then.
    ///
    /// # Errors
    /// The folder holds a run of another recipe or other things, is damaged, or cannot be written; those of `wait`.
    pub fn open<R: Serialize + DeserializeOwned, E: From<RecordError>>(
        path: &Path,
        recipe: &R,
        environment: Environment,
        wait: impl FnMut() -> Result<(), E>,
    ) -> Result<Self, E> {
        fs::create_dir_all(path).map_err(io_error("make the folder", path))?;
        check_is_run(path)?;
        let lock = lock(path, wait)?;
        stale::delete(path).map_err(io_error("clean up", path))?;
        keep_recipe(path, recipe)?;
        add_environment(&path.join(ENVIRONMENT), environment)?;
        Ok(Self {
            path: path.to_owned(),
            lock: Some(lock),
        })
    }

    /// Lets other processes prepare data in the folder, or find it prepared.
    pub fn release(&mut self) {
        self.lock = None;
    }

    /// Waits until no other process writes in the folder; `wait` is called now and then.
    ///
    /// # Errors
    /// The folder cannot be locked; those of `wait`.
    pub fn hold<E: From<RecordError>>(
        &mut self,
        wait: impl FnMut() -> Result<(), E>,
    ) -> Result<(), E> {
        if self.lock.is_none() {
            self.lock = Some(lock(&self.path, wait)?);
        }
        Ok(())
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes `metrics.jsonl`: the lines of trainings, each with its `stage`, which is named beside its file.
    ///
    /// # Errors
    /// The metrics of a training cannot be read, or the file cannot be written.
    pub fn gather_metrics(&self, trainings: &[(String, PathBuf)]) -> Result<(), RecordError> {
        let mut lines = String::new();
        for (stage, path) in trainings {
            let text = fs::read_to_string(path).map_err(io_error("read", path))?;
            for line in text.lines() {
                let mut entry = Map::from_iter([("stage".to_owned(), json!(stage))]);
                let fields: Map<String, Value> =
                    serde_json::from_str(line).map_err(damaged(path))?;
                entry.extend(fields);
                lines += &Value::Object(entry).to_string();
                lines.push('\n');
            }
        }
        self.write_text(METRICS, &lines)
    }

    /// Writes a JSON file into the folder.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write_json(&self, name: &str, value: &impl Serialize) -> Result<(), RecordError> {
        write_json(&self.path.join(name), value)
    }

    /// Links a path in the folder to that of a stage.
    ///
    /// # Errors
    /// The link cannot be made.
    pub fn link(&self, path: &Path, target: &Path) -> Result<(), RecordError> {
        let path = self.path.join(path);
        let folder = path.parent().unwrap_or(&self.path);
        fs::create_dir_all(folder).map_err(io_error("make the folder", folder))?;
        link::make(&path, target).map_err(io_error("write", &path))
    }

    /// Writes `stages.json`, the keys of all stages.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write_stages(&self, stages: &[Key]) -> Result<(), RecordError> {
        write_json(
            &self.path.join(STAGES),
            &BTreeMap::from([("stages", stages)]),
        )
    }

    /// Writes the text file `name` into the folder.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write_text(&self, name: &str, text: &str) -> Result<(), RecordError> {
        Ok(file::write(&self.path.join(name), text.as_bytes())?)
    }
}

/// Letters of a folder's name that come from a name that is none.
const CUT: usize = 60;

/// The folder of a model with a seed, below that of all models.
pub fn seed_folder(models: &Path, model: &str, seed: u64) -> PathBuf {
    models.join(folder_of(model)).join(format!("seed-{seed}"))
}

/// The name of the folder of a model with this name: the name itself if it is plain, otherwise its first letters, with `_`
/// for what a folder should not have, and 8 digits that no other name has.
pub fn folder_of(name: &str) -> String {
    let is_kept = |char: &char| char.is_alphanumeric() || "._=+-".contains(*char);
    let is_plain = name.chars().all(|char| is_kept(&char)) && !name.starts_with('.');
    if is_plain && name.chars().count() <= CUT {
        return name.to_owned();
    }
    let cut = name.chars().take(CUT);
    let cut: String = cut
        .map(|char| if is_kept(&char) { char } else { '_' })
        .collect();
    let digest = Sha256::digest(name);
    let digits = digest.iter().take(4).map(|byte| format!("{byte:02x}"));
    let digits: String = digits.collect();
    format!("{}-{digits}", cut.trim_start_matches('.'))
}

fn write_json<T: Serialize>(path: &Path, value: &T) -> Result<(), RecordError> {
    let mut text =
        serde_json::to_vec_pretty(value).map_err(|error| io_error("write", path)(error.into()))?;
    text.push(b'\n');
    Ok(file::write(path, &text)?)
}

/// The keys of the stages of the run in a folder; `None` if there is none.
///
/// # Errors
/// Their file cannot be read or is damaged.
pub(crate) fn stages(run: &Path) -> Result<Option<Vec<Key>>, RecordError> {
    let path = run.join(STAGES);
    let Some(bytes) = file::read_if_there(&path)? else {
        return Ok(None);
    };
    let mut stages: BTreeMap<String, Vec<Key>> =
        serde_json::from_slice(&bytes).map_err(damaged(&path))?;
    Ok(stages.remove("stages"))
}

/// Whether a folder is that of a run.
pub(crate) fn is_run(folder: &Path) -> bool {
    [RECIPE, ENVIRONMENT]
        .iter()
        .all(|file| folder.join(file).exists())
}

/// Refuses a folder that holds anything but a run: a run deletes what it takes for its own leftovers.
pub(crate) fn check_is_run(folder: &Path) -> Result<(), RecordError> {
    if is_run(folder) {
        return Ok(());
    }
    for entry in fs::read_dir(folder).map_err(io_error("read", folder))? {
        let entry = entry.map_err(io_error("read", folder))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        // What a run has that was killed, or is writing them now.
        let is_of_run = [RECIPE, ENVIRONMENT, LOCK, SUBMIT].contains(&name.as_str());
        if !is_of_run && !file::is_temporary(&name) {
            return Err(RecordError::NoRun {
                path: folder.to_owned(),
                found: name,
            });
        }
    }
    Ok(())
}

fn lock<E: From<RecordError>>(
    folder: &Path,
    mut wait: impl FnMut() -> Result<(), E>,
) -> Result<File, E> {
    let path = folder.join(LOCK);
    let file = File::create(&path).map_err(io_error("write", &path))?;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) => wait()?,
            Err(TryLockError::Error(error)) => return Err(io_error("lock", &path)(error).into()),
        }
        thread::sleep(Duration::from_millis(100));
    }
}

/// Writes `recipe.toml`, or makes sure that the one that is there says the same.
fn keep_recipe<R: Serialize + DeserializeOwned>(
    folder: &Path,
    recipe: &R,
) -> Result<(), RecordError> {
    let path = folder.join(RECIPE);
    let here = toml::to_string(recipe)
        .map_err(|error| io_error("write", &path)(io::Error::other(error)))?;
    let there = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Ok(file::write(&path, here.as_bytes())?);
        }
        Err(error) => return Err(io_error("read", &path)(error)),
    };
    // A record from before a key has what the key's default stands for.
    let completed = toml::from_str::<R>(&there).ok();
    let completed = completed.and_then(|recipe| toml::to_string(&recipe).ok());
    let there = completed.unwrap_or(there);
    let differences = difference::between(&there, &here).map_err(damaged(&path))?;
    if differences.is_empty() {
        if there != here {
            file::write(&path, here.as_bytes())?;
        }
        Ok(())
    } else {
        Err(RecordError::OtherRecipe {
            path: folder.to_owned(),
            differences,
        })
    }
}

fn add_environment(path: &Path, environment: Environment) -> Result<(), RecordError> {
    let mut starts: Vec<Environment> = match fs::read(path) {
        Ok(bytes) => serde_json::from_slice(&bytes).map_err(damaged(path))?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        Err(error) => return Err(io_error("read", path)(error)),
    };
    starts.push(environment);
    write_json(path, &starts)
}

fn io_error(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> RecordError {
    let path = path.to_owned();
    move |source| RecordError::Io {
        action,
        path,
        source,
    }
}

fn damaged<E: std::error::Error + Send + Sync + 'static>(
    path: &Path,
) -> impl FnOnce(E) -> RecordError {
    let path = path.to_owned();
    move |source| RecordError::Damaged {
        path,
        source: Box::new(source),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recipe::{AnyRecipe, EncoderRecipe};

    fn recipe(overrides: &[&str]) -> EncoderRecipe {
        let overrides: Vec<String> = overrides.iter().map(ToString::to_string).collect();
        match AnyRecipe::load("quickstart", &overrides) {
            Ok(AnyRecipe::Encoder(recipe)) => *recipe,
            other => panic!("quickstart is a valid recipe of experts, not {other:?}"),
        }
    }

    fn open(path: &Path, recipe: &EncoderRecipe) -> Result<RunFolder, RecordError> {
        let busy = || Err(io_error("wait for", path)(io::ErrorKind::WouldBlock.into()));
        RunFolder::open(
            path,
            recipe,
            Environment::capture("flex", &recipe.seeds),
            busy,
        )
    }

    #[test]
    fn folders_are_plain_and_those_of_two_names_differ() {
        assert_eq!(folder_of("no-distillation"), "no-distillation");
        assert_eq!(folder_of("student-größe"), "student-größe");
        let names = [
            "order=random shared=0",
            "order=random/shared=0",
            ".",
            "..",
            " ",
        ];
        let folders = names.map(folder_of);
        assert!(
            folders[0].starts_with("order=random_shared=0-"),
            "{folders:?}"
        );
        for (index, folder) in folders.iter().enumerate() {
            assert!(
                !folder.starts_with('.') && !folder.contains(['/', ' ']),
                "{folder}"
            );
            assert!(!folders[..index].contains(folder), "{folder}");
        }
        let long = folder_of(&"é/x".repeat(40));
        assert_eq!(long.chars().count(), 60 + 9);
    }

    #[test]
    fn each_start_is_recorded() {
        let folder = tempfile::tempdir().expect("a folder");
        drop(open(folder.path(), &recipe(&[])).expect("new"));
        drop(open(folder.path(), &recipe(&[])).expect("the same recipe"));
        let starts: Vec<Environment> = serde_json::from_slice(
            &fs::read(folder.path().join("environment.json")).expect("read"),
        )
        .expect("JSON");
        assert_eq!(starts.len(), 2);
    }

    #[test]
    fn another_recipe_is_refused_with_the_keys_that_differ() {
        let folder = tempfile::tempdir().expect("a folder");
        drop(open(folder.path(), &recipe(&["train.epochs=2"])).expect("new"));
        let other = recipe(&["train.epochs=3", "importance.samples=9"]);
        let message = open(folder.path(), &other)
            .expect_err("another recipe")
            .to_string();
        assert!(
            message.contains("`train.epochs` (2 there, 3 here)"),
            "{message}"
        );
        assert!(
            message.contains("`importance.samples` (absent there, 9 here)"),
            "{message}"
        );
        assert!(message.contains("choose another --out"), "{message}");
    }

    #[test]
    fn a_folder_with_other_things_is_left_alone() {
        let folder = tempfile::tempdir().expect("a folder");
        let notes = folder.path().join("notes.txt");
        for others in [vec!["notes.txt"], vec!["notes.txt", RECIPE]] {
            for other in others {
                fs::write(folder.path().join(other), "mine").expect("written");
            }
            let message = open(folder.path(), &recipe(&[]))
                .expect_err("no run")
                .to_string();
            assert!(
                message.ends_with("it holds `notes.txt`; choose another --out"),
                "{message}"
            );
        }
        assert!(!folder.path().join(LOCK).exists() && notes.exists());
        // A run that was killed at once.
        fs::remove_file(notes).expect("removed");
        fs::remove_file(folder.path().join(RECIPE)).expect("removed");
        for left in [LOCK, ".tmpA1b2"] {
            fs::write(folder.path().join(left), "").expect("written");
        }
        open(folder.path(), &recipe(&[])).expect("it goes on");
    }

    #[test]
    fn a_record_from_before_a_key_goes_on_with_its_default() {
        let folder = tempfile::tempdir().expect("a folder");
        drop(open(folder.path(), &recipe(&[])).expect("new"));
        let path = folder.path().join(RECIPE);
        let record = fs::read_to_string(&path).expect("read");
        let older = record.replacen("keep = \"last\"\n", "", 1);
        assert_ne!(older, record);
        fs::write(&path, older).expect("written");
        drop(open(folder.path(), &recipe(&[])).expect("the same recipe"));
        let message = open(folder.path(), &recipe(&["train.keep=best"]))
            .expect_err("another recipe")
            .to_string();
        assert!(
            message.contains("`train.keep` (\"last\" there, \"best\" here)"),
            "{message}"
        );
    }

    #[test]
    fn one_process_at_a_time_prepares_data() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut first = open(folder.path(), &recipe(&[])).expect("new");
        let waited = open(folder.path(), &recipe(&[]));
        assert!(matches!(
            waited,
            Err(RecordError::Io {
                action: "wait for",
                ..
            })
        ));
        first.release();
        assert!(open(folder.path(), &recipe(&[])).is_ok());
    }

    #[test]
    fn metrics_of_all_trainings_are_gathered_with_their_stage() {
        let folder = tempfile::tempdir().expect("a folder");
        let run = open(folder.path(), &recipe(&[])).expect("opened");
        let trainings = [("seed-1/random", 2), ("seed-1/teacher", 1)].map(|(stage, value)| {
            let path = folder.path().join(format!("{value}.jsonl"));
            fs::write(&path, format!("{{\"step\":{value}}}\n")).expect("written");
            (stage.to_owned(), path)
        });
        for _ in 0..2 {
            run.gather_metrics(&trainings).expect("gathered");
            let text = fs::read_to_string(folder.path().join("metrics.jsonl")).expect("there");
            let expected = "{\"stage\":\"seed-1/random\",\"step\":2}\n\
                            {\"stage\":\"seed-1/teacher\",\"step\":1}\n";
            assert_eq!(text, expected);
        }
    }
}
