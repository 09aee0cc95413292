//! Arms of run folders.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use masformer_core::nearest::hint;
use moebert_core::file;

use crate::{
    error::Error,
    examples::Examples,
    record::{MODELS, RECIPE, RESULTS, seed_folder},
    results::{ModelCost, Results, Status},
};

/// What a run folder says of one of its arms.
#[derive(Clone, Debug)]
pub struct RunArm {
    /// Its name, after that of the run folder where two arms of a comparison have one name.
    pub name: String,
    /// What it costs, where a seed is done.
    pub cost: Option<ModelCost>,
    /// The metrics of its run in the order of the table.
    pub metrics: Vec<String>,
    /// What its scores are made of, by seed and split.
    pub seeds: BTreeMap<u64, Vec<Examples>>,
    /// The keys of its recipe with their values.
    pub recipe: BTreeMap<String, toml::Value>,
}

impl RunArm {
    /// Opens `RUN:ARM`, or `RUN` where the run has one model alone.
    ///
    /// # Errors
    ///
    /// If there is no such run or arm, or a file of it cannot be read.
    pub fn open(text: &str) -> Result<Self, Error> {
        let (run, arm) = split(text);
        let results = Results::read(&run)?;
        let names: Vec<&str> = results.arms.iter().map(|arm| arm.name.as_str()).collect();
        let name = match (arm, names.as_slice()) {
            (Some(arm), names) if names.contains(&arm) => arm,
            (None, [only]) => only,
            (Some(arm), names) => {
                let (run, hint) = (run.display(), hint(arm, names));
                return Err(Error::Usage(format!("{run} has no model `{arm}`; {hint}")));
            }
            (None, names) => {
                let (run, names) = (run.display(), names.join(", "));
                let problem =
                    format!("{run} has several models; write {run}:NAME with one of {names}");
                return Err(Error::Usage(problem));
            }
        };
        let name = name.to_owned();
        let arm = results.arms.into_iter().find(|arm| arm.name == name);
        let (done, cost) = arm.map_or((vec![], None), |arm| (arm.seeds, arm.cost));
        let mut seeds = BTreeMap::new();
        for seed in done.iter().filter(|seed| seed.status == Status::Done) {
            let folder = seed_folder(&run.join(MODELS), &name, seed.seed).join("evaluate");
            seeds.insert(seed.seed, Examples::read(&folder)?);
        }
        Ok(Self {
            recipe: recipe(&run, &name)?,
            name,
            cost,
            metrics: results.metrics,
            seeds,
        })
    }
}

/// The run folder and the arm of a text, whose names may have colons.
fn split(text: &str) -> (PathBuf, Option<&str>) {
    let is_run = |path: &str| Path::new(path).join(RESULTS).exists();
    let colons = text.match_indices(':').map(|(place, _)| place);
    let split = colons.into_iter().find(|place| is_run(&text[..*place]));
    match split {
        Some(place) if !is_run(text) => (text[..place].into(), Some(&text[place + 1..])),
        _ => (text.into(), None),
    }
}

/// The keys of an arm's recipe, by the record of its run.
///
/// # Errors
///
/// If the record cannot be read, or is no recipe.
pub fn recipe(run: &Path, arm: &str) -> Result<BTreeMap<String, toml::Value>, Error> {
    let path = run.join(RECIPE);
    let text = String::from_utf8_lossy(&file::read(&path)?).into_owned();
    let mut table: toml::Table = text.parse().map_err(|error: toml::de::Error| {
        Error::Usage(format!(
            "{} is no recipe: {}",
            path.display(),
            error.message()
        ))
    })?;
    let mut keys = BTreeMap::new();
    let arms = table.remove("arms");
    add("", table.into(), &mut keys);
    let arms = arms
        .as_ref()
        .and_then(toml::Value::as_array)
        .into_iter()
        .flatten();
    let mut arms = arms.filter_map(toml::Value::as_table);
    let own = arms.find(|changes| changes.get("name").and_then(toml::Value::as_str) == Some(arm));
    if let Some(changes) = own {
        let mut changes = changes.clone();
        changes.remove("name");
        add("", changes.into(), &mut keys);
    }
    Ok(keys)
}

/// Adds the values of a table by their dotted keys.
fn add(above: &str, value: toml::Value, keys: &mut BTreeMap<String, toml::Value>) {
    match value {
        toml::Value::Table(table) if above.is_empty() || !table.is_empty() => {
            for (key, value) in table {
                let dot = if above.is_empty() { "" } else { "." };
                add(&format!("{above}{dot}{key}"), value, keys);
            }
        }
        value => drop(keys.insert(above.to_owned(), value)),
    }
}
