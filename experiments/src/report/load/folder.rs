//! Where the stages of a run are: `arms/ARM/seed-S/STAGE` leads to the folder of a stage in the store.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use crate::{graph::Key, record::MODELS, results::ArmResults};

/// The folders of stages, by their keys.
#[derive(Debug, Default)]
pub struct Stages {
    by_key: BTreeMap<Key, PathBuf>,
}

impl Stages {
    /// Those that the links of a run folder lead to.
    pub fn of(run: &Path) -> Self {
        let mut stages = Self::default();
        for arm in children(&run.join(MODELS)) {
            for seed in children(&arm) {
                for link in children(&seed) {
                    stages.add(&seed, &link);
                }
            }
        }
        stages
    }

    /// A link, or a file with the path where there are no links.
    fn add(&mut self, folder: &Path, link: &Path) {
        let target = match fs::read_link(link) {
            Ok(target) => target,
            Err(_) => match fs::read_to_string(link) {
                Ok(text) => PathBuf::from(text.trim()),
                Err(_) => return,
            },
        };
        let name = target.file_name().and_then(|name| name.to_str());
        if let Some(Ok(key)) = name.map(str::parse) {
            self.by_key.insert(key, folder.join(&target));
        }
    }

    /// The folder of a stage of an arm with a seed, by what it is in the arm's folder.
    pub fn find(&self, arm: &ArmResults, seed: u64, stage: &str) -> Option<(&Key, &Path)> {
        let seed = arm.seeds.iter().find(|own| own.seed == seed)?;
        let key = seed.stages.get(stage)?;
        let (key, path) = self.by_key.get_key_value(key)?;
        Some((key, path))
    }

    /// All stages, by key.
    pub fn all(&self) -> impl Iterator<Item = (&Key, &Path)> {
        let stages = self.by_key.iter();
        stages.map(|(key, path)| (key, path.as_path()))
    }
}

/// What is in a folder, by name; nothing where there is none.
fn children(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
    paths.sort();
    paths
}
