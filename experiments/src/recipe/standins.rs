//! Stand-ins until the real types are merged.
#![allow(missing_docs)]
use serde::{Deserialize, Serialize};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GlueTask {
    Cola,
    Sst2,
    Mrpc,
    Qqp,
    Stsb,
    Mnli,
    Qnli,
    Rte,
    Wnli,
}
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SquadVersion {
    V1,
    V2,
}
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NeuronOrder {
    #[default]
    Importance,
    Random,
    Inverse,
    Contiguous,
}
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LayerMap {
    #[default]
    All,
    Last,
}

impl std::str::FromStr for NeuronOrder {
    type Err = toml::de::Error;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::deserialize(toml::Value::from(text))
    }
}
