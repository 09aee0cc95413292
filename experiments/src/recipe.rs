//! Recipes: what a run does, as a typed TOML file.
//!
//! A recipe has stages, each a model that is made of another one and trained, and arms, each the recipe with some keys
//! changed. It is a file, or the name of one that ships with the program. Keys can be overridden on
//! the command line (`train.epochs=3`). Everything is checked before any work starts; a mistake is
//! answered with its file, line and key.

mod ablation;
mod arms;
mod decoder;
mod encoder;
mod extends;
mod families;
mod ignored;
mod importance;
mod integers;
mod keys;
mod load;
mod merge;
mod plan;
mod problems;
mod random;
mod schema;
mod shipped;
mod source;
mod stage;
mod stages;
mod task;
mod train;
mod validate;

use std::{
    borrow::Cow,
    path::{Path, PathBuf},
};

pub use crate::methods::experts::{ExpertsRecipe, RouterWeights};
pub use decoder::{
    DecoderModel, DecoderSource, EvaluateRecipe, LanguageData, LanguageSource, LanguageTask,
    OfDecoders, RandomDecoder, RecallData, SummaryData, TokenizerChoice,
};
pub use encoder::{
    DataRecipe, EncoderModel, LatencyRecipe, OfEncoders, RandomModel, SquadData, SyntheticData,
};
pub use families::AnyRecipe;
pub(crate) use families::of_any;
pub use importance::{DataSplit, ImportanceRecipe};
pub(crate) use plan::CHECKPOINT;
pub use plan::{ModelPlan, Origin};
pub use problems::Problem;
pub use random::RandomStudent;
pub use schema::{NoKeys, Part, Recipe, RecipeFamily, StartModel};
pub use shipped::{About, SHIPPED, about, shipped_names};
pub use stage::{StageMethods, StageRecipe};
pub use task::{AnyTask, Task, UnknownTask};
pub use train::{CheckpointRecipe, KeptEpoch, Tracking, TrainOverrides, TrainRecipe};

use masformer_core::nearest::nearest;

use crate::ablate::arms::Command;

/// Why a recipe cannot be run.
#[derive(Debug, thiserror::Error)]
pub enum RecipeError {
    /// There is no such file, and no shipped recipe of this name.
    #[error("no recipe `{name}`: there is no such file, and {hint}")]
    NotFound {
        /// The recipe as given.
        name: String,
        /// The nearest shipped name, or all of them.
        hint: String,
    },
    /// The file cannot be read.
    #[error("cannot read the recipe {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// An argument after the recipe is no override.
    #[error("`{0}` is no override; write key.path=value, as in train.epochs=3")]
    NoOverride(String),
    /// The text is not TOML, or not this schema.
    #[error("{place}: {reason}")]
    Schema {
        /// File and line, or the override.
        place: String,
        /// What is wrong and what would be right.
        reason: String,
    },
    /// A key is missing that others make necessary.
    #[error("`{key}` {reason}")]
    Missing {
        /// The dotted key.
        key: &'static str,
        /// What is missing and what would be right.
        reason: &'static str,
    },
    /// Values that cannot work.
    #[error("{}", problems.join("; "))]
    Invalid {
        /// One text a problem: file and line or override, key, reason.
        problems: Vec<String>,
    },
}

/// The recipe of an encoder.
pub type EncoderRecipe = Recipe<OfEncoders>;
/// The recipe of decoders.
pub type DecoderRecipe = Recipe<OfDecoders>;

impl AnyRecipe {
    /// Reads a recipe: the shipped one called `source`, or the file of that path, with `overrides`
    /// of the form `key.path=value` on top. A value is written as in TOML; what is no TOML value is
    /// taken as a string.
    ///
    /// # Errors
    /// There is no such recipe, it is not valid TOML, a key is unknown, or a value cannot work.
    pub fn load(source: &str, overrides: &[String]) -> Result<Self, RecipeError> {
        let (origin, text) = text_at(source, Path::new(source))?;
        load::parse(&origin, &text, overrides)
    }

    /// Reads a recipe as [`load`](Self::load) does, with the arms of an ablation: its own, those of its table `[ablate]`
    /// and those of the command line.
    ///
    /// # Errors
    /// As `load`, and if the ablation cannot be.
    pub fn load_ablation(source: &str, command: &Command) -> Result<Self, RecipeError> {
        let (origin, text) = text_at(source, Path::new(source))?;
        load::parse_ablation(&origin, &text, command)
    }
}

/// What a recipe is called in messages, and its text: the shipped one of this name, or the file.
fn text_at(source: &str, path: &Path) -> Result<(String, Cow<'static, str>), RecipeError> {
    if let Some((_, text)) = SHIPPED.iter().find(|(name, _)| *name == source) {
        return Ok((format!("recipe {source}"), Cow::Borrowed(text)));
    }
    let text = std::fs::read_to_string(path).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => {
            let names = SHIPPED.iter().map(|(name, _)| *name);
            let hint = match nearest(source, names) {
                Some(name) => format!("kiln ships `{name}`"),
                None => format!("kiln ships {}", shipped_names()),
            };
            RecipeError::NotFound {
                name: source.to_owned(),
                hint,
            }
        }
        _ => RecipeError::Read {
            path: path.to_owned(),
            source: error,
        },
    })?;
    Ok((path.display().to_string(), text.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The folders that the shipped recipes ask for.
    fn folders(name: &str) -> Vec<String> {
        let folders: &[&str] = match name {
            "quickstart" | "recall" | "recall-experts" | "compose" | "placement" => &[],
            "gutenberg" | "gutenberg-experts" | "placement-books" => &["data.path=books"],
            _ => &["model.path=model", "data.path=data"],
        };
        overrides(folders)
    }

    fn toml(recipe: &AnyRecipe) -> String {
        of_any!(recipe, recipe => toml::to_string(recipe)).expect("TOML")
    }

    fn overrides(list: &[&str]) -> Vec<String> {
        list.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn every_shipped_recipe_is_valid_and_survives_its_record() {
        for (name, _) in SHIPPED {
            let recipe = AnyRecipe::load(name, &folders(name))
                .unwrap_or_else(|error| panic!("{name}: {error}"));
            assert_eq!(recipe.name(), *name);
            let again =
                load::parse("recipe.toml", &toml(&recipe), &[]).expect("the record reads back");
            assert_eq!(again, recipe);
        }
    }

    #[test]
    fn every_shipped_ablation_has_arms() {
        let mut ablations = 0;
        for (name, text) in SHIPPED {
            if about(text).command == "ablate" {
                let command = Command::parse(&folders(name)).expect("overrides");
                let recipe = AnyRecipe::load_ablation(name, &command)
                    .unwrap_or_else(|error| panic!("{name}: {error}"));
                assert!(recipe.models().len() > 4, "{name}");
                ablations += 1;
            }
        }
        assert_eq!(ablations, 5);
    }

    #[test]
    fn a_shipped_recipe_says_which_overrides_it_wants() {
        let message = AnyRecipe::load("sst2", &[])
            .expect_err("no model, no data")
            .to_string();
        assert!(
            message.contains("model.path=FOLDER") && message.contains("data.path=FOLDER"),
            "{message}"
        );
    }

    #[test]
    fn a_misspelt_recipe_names_the_nearest_one() {
        let message = AnyRecipe::load("quikstart", &[])
            .expect_err("misspelt")
            .to_string();
        assert_eq!(
            message,
            "no recipe `quikstart`: there is no such file, and kiln ships `quickstart`"
        );
    }

    #[test]
    fn a_broken_file_is_named_with_its_line() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("mine.toml");
        std::fs::write(&path, "name = \"mine\"\n[train]\nepoch = 3\n").expect("written");
        let message = AnyRecipe::load(&path.display().to_string(), &[])
            .expect_err("epoch")
            .to_string();
        assert!(
            message
                .contains("mine.toml, line 3: unknown key `train.epoch`; did you mean `epochs`?"),
            "{message}"
        );
    }
}
