//! The tasks a recipe can name.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::standins::{GlueTask, SquadVersion};
use crate::nearest::hint;

/// What a model is trained and judged on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Task {
    /// One of the nine GLUE tasks, by its name: `cola`, `sst2`, `mrpc`, ...
    Glue(GlueTask),
    /// Span question answering: `squad` (1.1) or `squad2` (2.0, with questions that have no
    /// answer).
    Squad(SquadVersion),
    /// The language-understanding task that kiln makes itself, `synthetic`.
    Synthetic,
}

/// Every task with its name.
const TASKS: [(&str, Task); 12] = [
    ("cola", Task::Glue(GlueTask::Cola)),
    ("sst2", Task::Glue(GlueTask::Sst2)),
    ("mrpc", Task::Glue(GlueTask::Mrpc)),
    ("qqp", Task::Glue(GlueTask::Qqp)),
    ("stsb", Task::Glue(GlueTask::Stsb)),
    ("mnli", Task::Glue(GlueTask::Mnli)),
    ("qnli", Task::Glue(GlueTask::Qnli)),
    ("rte", Task::Glue(GlueTask::Rte)),
    ("wnli", Task::Glue(GlueTask::Wnli)),
    ("squad", Task::Squad(SquadVersion::V1)),
    ("squad2", Task::Squad(SquadVersion::V2)),
    ("synthetic", Task::Synthetic),
];

/// The names of [`TASKS`], in the form that serde's errors want.
const NAMES: [&str; TASKS.len()] = {
    let mut names = [""; TASKS.len()];
    let mut index = 0;
    while index < names.len() {
        names[index] = TASKS[index].0;
        index += 1;
    }
    names
};

/// No task has this name.
#[derive(Debug, thiserror::Error)]
#[error("unknown task `{name}`; {}", hint(name, &NAMES))]
pub struct UnknownTask {
    name: String,
}

impl FromStr for Task {
    type Err = UnknownTask;

    fn from_str(name: &str) -> Result<Self, UnknownTask> {
        let found = TASKS.iter().find(|(known, _)| *known == name);
        found.map(|(_, task)| *task).ok_or_else(|| UnknownTask {
            name: name.to_owned(),
        })
    }
}

impl fmt::Display for Task {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = TASKS
            .iter()
            .find(|(_, task)| task == self)
            .map_or("", |(name, _)| name);
        f.write_str(name)
    }
}

impl Serialize for Task {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Task {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        name.parse()
            .map_err(|_| de::Error::unknown_variant(&name, &NAMES))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_read_back() {
        for (name, task) in TASKS {
            assert_eq!(task.to_string(), name);
            assert_eq!(name.parse::<Task>().expect("a known name"), task);
        }
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
