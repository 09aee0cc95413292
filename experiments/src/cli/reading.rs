//! How the texts of a task are read, as several commands take it.

use std::{fmt::Display, path::Path};

use clap::Args;
use moebert_core::pretrained::Pretrained;

use crate::{
    data::squad::windows::SPECIAL_TOKENS,
    error::Error,
    recipe::{DataRecipe, SquadData, Task},
    task_settings::TaskSettings,
};

/// Lengths in tokens. Where the command line says nothing, the run that made the model decides, or the task as far
/// as the model has positions.
#[derive(Args, Clone, Debug, Default, PartialEq)]
pub(super) struct ReadingArgs {
    /// Longest input in tokens (`eval --task summary`: with its output) [default: that of the run that made the
    /// model, or as many as the model has positions, for a BERT at most 384 for squad and squad2 and 128 otherwise]
    #[arg(long, value_name = "TOKENS", value_parser = super::at_least_1())]
    pub max_length: Option<usize>,
    /// For squad and squad2: tokens that two windows of a long passage share [default: that of the run that made the
    /// model, or 128, or fewer where the model has few positions]
    #[arg(long, value_name = "TOKENS")]
    pub doc_stride: Option<usize>,
    /// For squad and squad2: questions are cut to this many tokens [default: that of the run that made the model, or
    /// 64, or fewer where the model has few positions]
    #[arg(long, value_name = "TOKENS", value_parser = super::at_least_1())]
    pub max_query_length: Option<usize>,
}

impl ReadingArgs {
    /// The task's data in `path`, to be read by a model.
    ///
    /// # Errors
    ///
    /// If an option means nothing for the task, the model has fewer positions than it asks for, or the saved
    /// settings cannot be read.
    pub fn data(
        &self,
        pretrained: &Pretrained,
        task: Task,
        path: &Path,
    ) -> Result<DataRecipe, Error> {
        let saved = TaskSettings::read(pretrained.dir(), task.name())?;
        let positions = pretrained.config().bert.max_position_embeddings;
        if let Some(length) = self.max_length.filter(|length| *length > positions) {
            let problem = format!(
                "`--max-length` {length}: the model in {} has {positions} positions; give at most {positions}",
                pretrained.dir().display()
            );
            return Err(Error::Usage(problem));
        }
        let max_length = self.max_length.or(saved.max_length);
        let max_length = max_length.unwrap_or(task.max_length()).min(positions);
        self.check_windows(&task, matches!(task, Task::Squad(_)))?;
        let squad = match task {
            Task::Squad(_) => Some(self.squad(&saved, max_length)),
            Task::Glue(_) | Task::Synthetic => None,
        };
        Ok(DataRecipe {
            path: Some(path.to_owned()),
            max_length: Some(max_length),
            squad,
            ..DataRecipe::new(task)
        })
    }

    /// Refuses the options of windows for a task without passages.
    ///
    /// # Errors
    ///
    /// If one is given.
    pub fn check_windows(&self, task: &dyn Display, has_passages: bool) -> Result<(), Error> {
        let options = [
            ("--doc-stride", self.doc_stride),
            ("--max-query-length", self.max_query_length),
        ];
        let given = options.into_iter().find(|(_, value)| value.is_some());
        match given {
            Some((option, _)) if !has_passages => {
                let problem = format!("`{option}` cannot go with --task {task}");
                Err(Error::Usage(problem))
            }
            _ => Ok(()),
        }
    }

    /// The windows of passages: as told, or as saved, or the usual ones where they fit.
    fn squad(&self, saved: &TaskSettings, max_length: usize) -> SquadData {
        let usual = SquadData::default();
        let windows = saved.of_length(max_length);
        let stride = self
            .doc_stride
            .or(windows.and_then(|saved| saved.doc_stride));
        let query = self
            .max_query_length
            .or(windows.and_then(|saved| saved.max_query_length));
        let mut squad = SquadData {
            doc_stride: stride.unwrap_or(usual.doc_stride),
            max_query_length: query.unwrap_or(usual.max_query_length),
            max_answer_length: saved.max_answer_length.unwrap_or(usual.max_answer_length),
        };
        if !squad.windows(max_length).has_room(SPECIAL_TOKENS) {
            // A quarter of a window for what it shares with the next one, and half for the question.
            let room = max_length.saturating_sub(SPECIAL_TOKENS);
            squad.doc_stride = stride.unwrap_or(squad.doc_stride.min(room / 4));
            squad.max_query_length = query.unwrap_or(squad.max_query_length.min(room / 2));
        }
        squad
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn windows(args: &ReadingArgs, max_length: usize) -> (usize, usize) {
        let squad = args.squad(&TaskSettings::default(), max_length);
        (squad.doc_stride, squad.max_query_length)
    }

    #[test]
    fn windows_fit_the_model_unless_told_otherwise() {
        let told = |doc_stride, max_query_length| ReadingArgs {
            max_length: None,
            doc_stride,
            max_query_length,
        };
        assert_eq!(windows(&told(None, None), 384), (128, 64));
        assert_eq!(windows(&told(None, None), 196), (128, 64));
        assert_eq!(windows(&told(None, None), 195), (48, 64));
        assert_eq!(windows(&told(None, None), 64), (15, 30));
        assert_eq!(windows(&told(Some(16), None), 64), (16, 30));
        assert_eq!(windows(&told(None, Some(20)), 64), (15, 20));
        assert_eq!(windows(&told(Some(200), Some(90)), 64), (200, 90));
        assert_eq!(windows(&told(None, None), 2), (0, 0));
    }

    #[test]
    fn windows_of_a_run_are_those_of_its_length() {
        let saved = TaskSettings {
            max_length: Some(384),
            doc_stride: Some(200),
            ..TaskSettings::default()
        };
        let stride = |length| ReadingArgs::default().squad(&saved, length).doc_stride;
        assert_eq!((stride(384), stride(128)), (200, 31));
    }
}
