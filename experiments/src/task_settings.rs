//! How the run that made a model read its task, kept beside the model: what `kiln eval` takes where the command line
//! says nothing.

use std::path::Path;

use moebert_core::file::{self, FileError};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::recipe::{DataRecipe, DecoderRecipe, LanguageTask, Task};

/// The file in a model's folder.
pub const TASK_FILE: &str = "kiln_task.json";

/// The keys of [`TASK_FILE`], called as the options of `kiln eval`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TaskSettings {
    /// The task.
    pub task: String,
    /// Longest input in tokens.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_length: Option<usize>,
    /// Tokens that neighbouring windows of a passage share.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub doc_stride: Option<usize>,
    /// Tokens that a question is cut to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_query_length: Option<usize>,
    /// Longest answer in tokens.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_answer_length: Option<usize>,
    /// The most tokens of a summary.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_new_tokens: Option<usize>,
    /// What stands between text and summary.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub separator: Option<String>,
    /// Hypotheses of the search for a summary.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub beams: Option<usize>,
    /// Tokens between the beginnings of two windows of text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stride: Option<usize>,
}

impl TaskSettings {
    /// How a run of an encoder reads its task.
    pub fn of_encoder(data: &DataRecipe) -> Self {
        let is_squad = matches!(data.task, Task::Squad(_));
        let squad = is_squad.then(|| data.squad.clone().unwrap_or_default());
        Self {
            task: data.task.to_string(),
            max_length: Some(data.max_length()),
            doc_stride: squad.as_ref().map(|squad| squad.doc_stride),
            max_query_length: squad.as_ref().map(|squad| squad.max_query_length),
            max_answer_length: squad.as_ref().map(|squad| squad.max_answer_length),
            ..Self::default()
        }
    }

    /// How a run of decoders reads its task; `None` for recall, which the recipe itself describes.
    pub fn of_decoder(recipe: &DecoderRecipe) -> Option<Self> {
        let data = &recipe.data;
        let settings = Self {
            task: data.task.to_string(),
            max_length: Some(data.length),
            ..Self::default()
        };
        match data.task {
            LanguageTask::Recall => None,
            LanguageTask::Text => Some(Self {
                stride: Some(recipe.stride()),
                ..settings
            }),
            LanguageTask::Summary => {
                let summary = data.summary.clone().unwrap_or_default();
                Some(Self {
                    max_new_tokens: Some(summary.max_new_tokens),
                    separator: Some(summary.separator),
                    beams: Some(recipe.beams()),
                    ..settings
                })
            }
        }
    }

    /// The settings in a model's folder for a task; none where it has none, or those of another task.
    ///
    /// # Errors
    ///
    /// If the file cannot be read or is not of its form.
    pub fn read(dir: &Path, task: &str) -> Result<Self, FileError> {
        let path = dir.join(TASK_FILE);
        let Some(bytes) = file::read_if_there(&path)? else {
            return Ok(Self::default());
        };
        let malformed = |source| FileError::Json {
            path: path.clone(),
            source,
        };
        let settings: Value = serde_json::from_slice(&bytes).map_err(malformed)?;
        // Those of other tasks may have any form.
        if settings["task"] == task {
            serde_json::from_value(settings).map_err(malformed)
        } else {
            Ok(Self::default())
        }
    }

    /// These settings, if they are of inputs of `length` tokens: windows and their strides are those of one
    /// length.
    pub fn of_length(&self, length: usize) -> Option<&Self> {
        Some(self).filter(|settings| settings.max_length == Some(length))
    }

    /// Writes the file into a model's folder.
    ///
    /// # Errors
    ///
    /// If it cannot be written.
    pub fn write(&self, dir: &Path) -> Result<(), FileError> {
        let path = dir.join(TASK_FILE);
        match serde_json::to_string_pretty(self) {
            Ok(text) => file::write(&path, format!("{text}\n").as_bytes()),
            Err(source) => Err(FileError::Json { path, source }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::squad::SquadVersion;

    #[test]
    fn settings_come_back_for_their_task_alone() {
        let folder = tempfile::tempdir().unwrap();
        let read = |task| TaskSettings::read(folder.path(), task);
        assert_eq!(read("squad").unwrap(), TaskSettings::default());
        let settings = TaskSettings::of_encoder(&DataRecipe::new(Task::Squad(SquadVersion::V1)));
        assert_eq!(settings.doc_stride, Some(128));
        settings.write(folder.path()).unwrap();
        assert_eq!(read("squad").unwrap(), settings);
        assert_eq!(read("squad2").unwrap(), TaskSettings::default());
        let write = |text| std::fs::write(folder.path().join(TASK_FILE), text).unwrap();
        write(r#"{"task": "other", "shape": 3}"#);
        assert_eq!(read("squad").unwrap(), TaskSettings::default());
        write(r#"{"task": "squad", "lenght": 3}"#);
        let error = read("squad").unwrap_err().to_string();
        assert!(
            error.contains("kiln_task.json: unknown field `lenght`"),
            "{error}"
        );
    }
}
