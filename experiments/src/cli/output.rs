//! Where a command may write: over nothing that it reads, and over no model.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use moebert_core::{
    file,
    pretrained::{CONFIG_FILE, TOKENIZER_FILES},
};
use same_file::Handle;

use crate::{
    error::Error,
    record::{ARMS, ENVIRONMENT, HALVING, RECIPE, RESULTS, TIMINGS, is_run},
    task_settings::TASK_FILE,
};

/// The beginnings and ends of the names that weights and experts have in a model's folder.
const WEIGHT_FILES: [(&str, &str); 9] = [
    ("model", ".safetensors"),
    ("pytorch_model", ".bin"),
    ("adapter_model", ".safetensors"),
    ("adapter_model", ".bin"),
    ("adapter_config", ".json"),
    ("experts", ".safetensors"),
    ("experts", ".json"),
    ("tf_model", ".h5"),
    ("flax_model", ".msgpack"),
];

/// Checks, before any work, that the file of a result can be written and is none of the `inputs`: files, folders
/// of data, and folders of models, whose files keep what they hold.
///
/// # Errors
///
/// If the file is an input, under whatever name or link, or a file of a model's or a run's folder, or would be one,
/// or cannot be written.
pub(super) fn check_file(option: &str, output: &Path, inputs: &[&Path]) -> Result<(), Error> {
    if let Some(what) = taken(output, inputs).map_err(|source| Error::file(output, source))? {
        let output = output.display();
        return Err(Error::Usage(format!(
            "`{option}`: {output} is {what}; choose another path"
        )));
    }
    Ok(file::check_writable(output)?)
}

/// [`check_file`] for the folder of a new model, which must not hold one yet.
///
/// # Errors
///
/// If the folder is an input or holds a model.
pub(super) fn check_model_dir(option: &str, output: &Path, inputs: &[&Path]) -> Result<(), Error> {
    let holds = |problem: &str| {
        let output = output.display();
        Error::Usage(format!(
            "`{option}`: {output} {problem}; choose another folder"
        ))
    };
    let files = match fs::read_dir(output) {
        Ok(entries) => entries.collect::<io::Result<Vec<_>>>(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(vec![]),
        Err(error) => Err(error),
    };
    let files = files.map_err(|source| Error::file(output, source))?;
    if files.iter().any(|entry| is_of_model(&entry.path())) {
        return Err(holds("holds a model already"));
    }
    let is_input = |input: &&Path| same_file::is_same_file(input, output).unwrap_or(false);
    if inputs.iter().any(is_input) {
        return Err(holds("is what the command reads"));
    }
    Ok(())
}

/// What stands at the path that must stay, or what a file there would be, if it may not be written.
fn taken(output: &Path, inputs: &[&Path]) -> io::Result<Option<&'static str>> {
    let folder = match output.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    };
    // A new file would be read as a part of the model, too.
    if is_of_model(output) && folder.join(CONFIG_FILE).exists() {
        return Ok(Some("a file of a model"));
    }
    let found = match Handle::from_path(output) {
        Ok(found) => found,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    if output.is_file() && is_of_run(&std::path::absolute(output)?) {
        return Ok(Some("a file of a run"));
    }
    for input in inputs {
        let is_model = input.join(CONFIG_FILE).exists();
        for file in files(input) {
            let is_same = || Handle::from_path(&file).is_ok_and(|file| file == found);
            if (!is_model || is_of_model(&file)) && file.is_file() && is_same() {
                return Ok(Some("what the command reads"));
            }
        }
    }
    Ok(None)
}

/// What a run writes into its folder, its artifacts among it.
const RUN_FILES: [&str; 16] = [
    RECIPE,
    ENVIRONMENT,
    ARMS,
    "artifacts",
    HALVING,
    "comparisons.csv",
    "comparisons.parquet",
    "curves.svg",
    "metrics.jsonl",
    RESULTS,
    "results.csv",
    "results.md",
    "results.parquet",
    TIMINGS,
    "timings.csv",
    "timings.parquet",
];

/// Whether a file, its path from the root, is what a run wrote into its folder.
fn is_of_run(path: &Path) -> bool {
    path.ancestors().skip(1).any(|run| {
        let first = path
            .strip_prefix(run)
            .ok()
            .and_then(|rest| rest.iter().next());
        first.is_some_and(|first| RUN_FILES.iter().any(|file| first == *file)) && is_run(run)
    })
}

/// Whether a file has the name of one that makes up a model: configuration, weights, experts or tokenizer.
fn is_of_model(path: &Path) -> bool {
    let Some(name) = path.file_name().and_then(|name| name.to_str()) else {
        return false;
    };
    let is_weights = |(start, end): &(&str, &str)| {
        let rest = name
            .strip_prefix(start)
            .and_then(|rest| rest.strip_suffix(end));
        // `model-00001-of-00002`, and the index of such parts.
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
    };
    [CONFIG_FILE, TASK_FILE].contains(&name)
        || TOKENIZER_FILES.contains(&name)
        || WEIGHT_FILES.iter().any(is_weights)
        || name.ends_with(".index.json")
}

/// The files of an input: itself, or those in it. What cannot be listed is told when it is read.
fn files(input: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(input) else {
        let file = input.exists().then(|| input.to_owned());
        return file.into_iter().collect();
    };
    let files = entries.flatten().flat_map(|entry| {
        let path = entry.path();
        // A link to a folder may lead back here.
        match entry.file_type() {
            Ok(kind) if kind.is_symlink() && path.is_dir() => vec![],
            _ => files(&path),
        }
    });
    files.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A model in `model`, data in `data`, and links to files of both.
    fn folder() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for file in [
            "model/config.json",
            "model/model.safetensors",
            "model/importance.safetensors",
            "data/parts/dev.tsv",
            "other/notes.txt",
        ] {
            let path = folder.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, file).unwrap();
        }
        folder
    }

    fn refusal(folder: &Path, output: &str) -> Option<String> {
        let inputs = ["model", "data", "absent"].map(|input| folder.join(input));
        let inputs: Vec<&Path> = inputs.iter().map(PathBuf::as_path).collect();
        let checked = check_file("--output", &folder.join(output), &inputs);
        checked.err().map(|error| error.line())
    }

    #[test]
    fn inputs_and_models_are_kept() {
        let folder = folder();
        let told = |output| refusal(folder.path(), output).unwrap();
        assert!(
            told("model/model.safetensors").ends_with("is a file of a model; choose another path")
        );
        assert!(
            told("data/parts/dev.tsv").ends_with("is what the command reads; choose another path")
        );
        assert!(told("data/../data/parts/dev.tsv").contains("is what the command reads"));
        assert!(told("data").contains("cannot write"));
        fs::write(folder.path().join("model").join(TASK_FILE), "{}").unwrap();
        assert!(told("model/kiln_task.json").contains("is a file of a model"));
    }

    #[test]
    fn models_get_no_new_parts_and_runs_keep_their_files() {
        let folder = folder();
        let told = |output: &str| refusal(folder.path(), output);
        for part in [
            "pytorch_model.bin",
            "experts.json",
            "tokenizer.json",
            TASK_FILE,
        ] {
            let part = format!("model/{part}");
            assert!(
                told(&part).unwrap().contains("is a file of a model"),
                "{part}"
            );
        }
        assert_eq!(told("other/tokenizer.json"), None);
        for file in [
            RECIPE,
            ENVIRONMENT,
            TIMINGS,
            "artifacts/stage/done.json",
            "mine.tsv",
        ] {
            let path = folder.path().join("run").join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, file).unwrap();
        }
        for file in [
            "run/recipe.toml",
            "run/timings.json",
            "run/artifacts/stage/done.json",
        ] {
            assert!(told(file).unwrap().contains("is a file of a run"), "{file}");
        }
        assert_eq!(told("run/mine.tsv"), None);
        assert_eq!(told("run/new.safetensors"), None);
    }

    #[cfg(unix)]
    #[test]
    fn links_to_inputs_are_inputs() {
        let folder = folder();
        let at = |name: &str| folder.path().join(name);
        std::os::unix::fs::symlink(at("model/config.json"), at("soft.json")).unwrap();
        fs::hard_link(at("data/parts/dev.tsv"), at("hard.tsv")).unwrap();
        for link in ["soft.json", "hard.tsv"] {
            let told = refusal(folder.path(), link).unwrap();
            assert!(told.contains("is what the command reads"), "{told}");
        }
    }

    #[test]
    fn other_files_may_be_written_and_written_again() {
        let folder = folder();
        for output in [
            "new.safetensors",
            "model/importance.safetensors",
            "model/new.safetensors",
            "data/new.tsv",
            "other/notes.txt",
        ] {
            assert_eq!(refusal(folder.path(), output), None);
        }
    }

    #[test]
    fn a_model_gets_a_folder_of_its_own() {
        let folder = folder();
        let at = |name: &str| folder.path().join(name);
        let (model, data) = (at("model"), at("data"));
        let check = |output: &str| check_model_dir("--output", &at(output), &[&model, &data]);
        assert!(check("new").is_ok() && check("other").is_ok());
        let told = check("model").unwrap_err().line();
        assert!(
            told.ends_with("holds a model already; choose another folder"),
            "{told}"
        );
        fs::remove_file(at("model/config.json")).unwrap();
        assert!(check("model").is_err(), "its weights are there");
        let told = check("data").unwrap_err().line();
        assert!(told.contains("is what the command reads"), "{told}");
    }
}
