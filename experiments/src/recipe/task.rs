//! The tasks a recipe can name.

use std::fmt;
use std::str::FromStr;

use masformer_core::nearest::hint;
use serde::{Deserialize, Serialize};

use super::LanguageTask;
use crate::data::glue::{GlueTask, Split};
use crate::data::squad::SquadVersion;
use crate::metric::Metric;

/// What a model is trained and judged on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Task {
    /// One of the nine GLUE tasks, by its name: `cola`, `sst2`, `mrpc`, ...
    Glue(GlueTask),
    /// Span question answering: `squad` (1.1) or `squad2` (2.0, with questions that have no answer).
    Squad(SquadVersion),
    /// The language-understanding task that kiln makes itself, `synthetic`.
    Synthetic,
}

/// No task has this name.
#[derive(Debug, thiserror::Error)]
#[error("unknown task `{name}`; {hint}")]
pub struct UnknownTask {
    name: String,
    hint: String,
}

impl UnknownTask {
    /// The error for a name that is none of `tasks`.
    pub fn new(name: &str, tasks: &[&str]) -> Self {
        Self {
            name: name.to_owned(),
            hint: hint(name, tasks),
        }
    }
}

/// Every task that a recipe can name, those of language models included.
fn task_names() -> Vec<&'static str> {
    let language = LanguageTask::ALL.map(LanguageTask::name);
    Task::all().map(Task::name).chain(language).collect()
}

impl Task {
    /// Every task of an encoder.
    pub fn all() -> impl Iterator<Item = Self> {
        let others = [
            Self::Squad(SquadVersion::V1),
            Self::Squad(SquadVersion::V2),
            Self::Synthetic,
        ];
        GlueTask::ALL.into_iter().map(Self::Glue).chain(others)
    }

    /// The text form.
    pub fn name(self) -> &'static str {
        match self {
            Self::Glue(task) => task.name(),
            Self::Squad(SquadVersion::V1) => "squad",
            Self::Squad(SquadVersion::V2) => "squad2",
            Self::Synthetic => "synthetic",
        }
    }

    /// The names of the metrics whose parts are kept by example. A split that a folder need not have is named, too.
    pub fn metrics(self) -> Vec<String> {
        match self {
            Self::Glue(task) => {
                let splits = task.splits().into_iter();
                let splits = splits.filter(|split| *split != Split::Train && !split.is_test());
                let names = splits.flat_map(|split| {
                    let metrics = task.metrics().iter();
                    metrics.map(move |metric| format!("{}{}", metric.name(), split.metric_suffix()))
                });
                names.collect()
            }
            Self::Squad(version) => {
                let prefixes: &[&str] = match version {
                    SquadVersion::V1 => &[""],
                    SquadVersion::V2 => &["", "HasAns_", "NoAns_"],
                };
                let names = prefixes
                    .iter()
                    .flat_map(|prefix| ["exact", "f1"].map(|metric| format!("{prefix}{metric}")));
                names.collect()
            }
            Self::Synthetic => vec![Metric::Accuracy.name().to_owned()],
        }
    }

    /// The longest input in tokens, where nothing else is asked for.
    pub fn max_length(self) -> usize {
        match self {
            Self::Glue(_) | Self::Synthetic => 128,
            Self::Squad(_) => 384,
        }
    }
}

/// A task of an encoder or of a decoder, as commands take it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AnyTask {
    /// A task of a BERT.
    Encoder(Task),
    /// A task of a decoder.
    Decoder(LanguageTask),
}

impl FromStr for AnyTask {
    type Err = UnknownTask;

    fn from_str(name: &str) -> Result<Self, UnknownTask> {
        match name.parse() {
            Ok(task) => Ok(Self::Decoder(task)),
            Err(_) => name.parse().map(Self::Encoder),
        }
    }
}

impl fmt::Display for AnyTask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Encoder(task) => task.fmt(f),
            Self::Decoder(task) => task.fmt(f),
        }
    }
}

impl FromStr for Task {
    type Err = UnknownTask;

    fn from_str(name: &str) -> Result<Self, UnknownTask> {
        Self::all()
            .find(|task| task.name() == name)
            .ok_or_else(|| UnknownTask::new(name, &task_names()))
    }
}

impl TryFrom<String> for Task {
    type Error = UnknownTask;

    fn try_from(name: String) -> Result<Self, UnknownTask> {
        name.parse()
    }
}

impl From<Task> for String {
    fn from(task: Task) -> Self {
        task.name().to_owned()
    }
}

impl fmt::Display for Task {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_read_back() {
        assert_eq!(Task::all().count(), 12);
        for task in Task::all() {
            assert_eq!(task.name().parse::<Task>().expect("a known name"), task);
        }
    }

    #[test]
    fn every_task_of_both_kinds_is_read_back_and_an_unknown_one_named() {
        let decoder = LanguageTask::ALL.map(LanguageTask::name);
        for name in Task::all().map(Task::name).chain(decoder) {
            assert_eq!(name.parse::<AnyTask>().unwrap().to_string(), name);
        }
        let error = "sumary".parse::<AnyTask>().unwrap_err().to_string();
        assert_eq!(error, "unknown task `sumary`; did you mean `summary`?");
    }

    #[test]
    fn an_unknown_task_names_the_nearest_one() {
        let error = "sst-2".parse::<Task>().expect_err("the name has no dash");
        assert_eq!(
            error.to_string(),
            "unknown task `sst-2`; did you mean `sst2`?"
        );
    }
}
