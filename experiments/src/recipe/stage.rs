//! `[stages]`: where a model starts, and what is done with it.

use std::{fmt, path::PathBuf};

use distill::Names;
use masformer_core::{MixerSchedule, SpanSchedule};
use moebert_core::keep_layers::KeepLayers;
use serde::{
    Deserialize, Deserializer, Serialize,
    de::{MapAccess, SeqAccess, Visitor, value},
};

use super::{RandomStudent, TrainOverrides};
use crate::methods::MethodTables;

/// The name of the recipe's `[model]` among the starts of stages.
pub(super) const FROM_MODEL: &str = "model";

/// A stage: a model that is made of another one and trained.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct StageRecipe {
    /// The stage that it starts from, or `model` (default), the recipe's `[model]`. With a `folder` or `random`, a stage
    /// that is named here is the teacher alone.
    pub from: Option<String>,
    /// The Hugging Face folder that it starts from instead, which has the vocabulary of the recipe's model.
    pub folder: Option<PathBuf>,
    /// The size of the fresh model that it starts from instead, which has the tokens and positions of the recipe's model.
    pub random: Option<RandomStudent>,
    /// The stage that its methods compare it with. Default: the stage that `from` names, if any.
    pub teacher: Option<String>,
    /// The layers that it keeps of its start, such as `every:2` or `2,4,6` (from 1). Absent: all.
    pub keep_layers: Option<KeepLayers>,
    /// What its layers attend to. Absent: what those of its start do.
    pub spans: Option<SpanSchedule>,
    /// What its layers mix tokens with. Absent: what those of its start do.
    pub mixers: Option<MixerSchedule>,
    /// What changes it and what it learns from.
    pub methods: StageMethods,
    /// Parts of it that stay as they are, by names such as `embeddings` or `layers.0`. Default: none.
    #[serde(skip_serializing_if = "Names::is_empty")]
    pub freeze: Names,
    /// The factor of the labels' loss; 0 learns from `methods` alone. Default 1.
    pub task: f64,
    /// What is different from `[train]`.
    pub train: TrainOverrides,
}

impl StageRecipe {
    /// Whether it starts from a model of its own, and not from that of a stage or of the recipe.
    pub(super) fn has_own_start(&self) -> bool {
        self.folder.is_some() || self.random.is_some()
    }
}

impl Default for StageRecipe {
    fn default() -> Self {
        Self {
            from: None,
            folder: None,
            random: None,
            teacher: None,
            keep_layers: None,
            spans: None,
            mixers: None,
            methods: StageMethods::default(),
            freeze: Names::default(),
            task: 1.0,
            train: TrainOverrides::default(),
        }
    }
}

/// The methods of a stage, as they are written.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum StageMethods {
    /// Their names; their settings are the shared ones.
    Names(Vec<String>),
    /// Their names, each with settings on top of the shared ones.
    Tables(MethodTables),
}

impl Default for StageMethods {
    fn default() -> Self {
        Self::Names(vec![])
    }
}

impl StageMethods {
    /// Each method with the settings that the stage has of its own.
    pub fn tables(&self) -> MethodTables {
        match self {
            Self::Names(names) => {
                let names = names.iter().cloned();
                names.map(|name| (name, toml::Table::new())).collect()
            }
            Self::Tables(tables) => tables.clone(),
        }
    }
}

impl<'de> Deserialize<'de> for StageMethods {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Written)
    }
}

/// Reads either form.
struct Written;

impl<'de> Visitor<'de> for Written {
    type Value = StageMethods;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of methods, or a table of methods with their settings")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<StageMethods, A::Error> {
        let names = Vec::deserialize(value::SeqAccessDeserializer::new(list))?;
        Ok(StageMethods::Names(names))
    }

    fn visit_map<A: MapAccess<'de>>(self, table: A) -> Result<StageMethods, A::Error> {
        let tables = MethodTables::deserialize(value::MapAccessDeserializer::new(table))?;
        Ok(StageMethods::Tables(tables))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn methods_are_names_or_tables_and_read_back() {
        let stage = |text: &str| toml::from_str::<StageRecipe>(text).unwrap();
        let names = stage("methods = [\"kd\", \"pkd\"]");
        let tables = stage("methods = { kd = {}, pkd = {} }");
        assert_eq!(names.methods.tables(), tables.methods.tables());
        for stage in [names, tables, stage("task = 0.5")] {
            let again = toml::to_string(&stage).unwrap();
            assert_eq!(toml::from_str::<StageRecipe>(&again).unwrap(), stage);
        }
        let wrong = toml::from_str::<StageRecipe>("methods = 3").unwrap_err();
        assert!(
            wrong.message().contains("a list of methods, or a table"),
            "{wrong}"
        );
    }
}
