//! A decoder's folder and the sequences of a task, as several commands take them.

use std::{env, path::Path, sync::Arc};

use burn::data::dataset::Dataset;
use moebert_core::pretrained::PretrainedDecoder;
use tempfile::TempDir;

use super::load_text_tokenizer;
use crate::{
    data::{
        DataError,
        corpus::Corpus,
        language::Sequence,
        packing::{Documents, Packing},
        summary::SummaryConfig,
    },
    error::Error,
    language::{
        LanguageProblem,
        recall::RecallProblem,
        summary::{SummaryFiles, SummaryProblem},
        text::tokenize,
    },
    recipe::{AnyRecipe, DataSplit, LanguageSource, LanguageTask},
    run::Progress,
    task_settings::TaskSettings,
};

/// The sequences of a task with what it takes to batch them.
pub(super) struct DecoderTask {
    pub sequences: Arc<dyn Dataset<Sequence>>,
    pub pad_id: u32,
    /// The tokens that sequences are read from, if they are in files.
    _tokens: Option<TempDir>,
}

impl DecoderTask {
    /// Reads the data of a task for a decoder: for text a file, or a folder of .txt files, in sequences of
    /// `length` tokens; for summaries a folder; for recall a recipe.
    ///
    /// Where no length is given, that of the run that made the model decides, or its positions.
    pub fn open(
        folder: &PretrainedDecoder,
        task: LanguageTask,
        data: &Path,
        split: DataSplit,
        length: Option<usize>,
        progress: Progress,
    ) -> Result<Self, Error> {
        let saved = TaskSettings::read(folder.dir(), task.name())?;
        let positions = folder.config().decoder.positions;
        let length = length.or(saved.max_length).unwrap_or(positions);
        match task {
            LanguageTask::Text => Self::text(folder, data, length, progress),
            LanguageTask::Summary => {
                check_length(folder, length)?;
                let mut config = SummaryConfig::new(length);
                if let Some(tokens) = saved.max_new_tokens {
                    config.max_new_tokens = tokens;
                }
                if let Some(separator) = saved.separator {
                    config.separator = separator;
                }
                let format = config.init(&load_text_tokenizer(folder)?);
                let format = format.map_err(DataError::from)?;
                let files = SummaryFiles::read(data).map_err(DataError::from)?;
                let problem = SummaryProblem::new(files, format, folder.dir().to_owned(), 1);
                Ok(Self::of(&problem.map_err(DataError::from)?, split))
            }
            LanguageTask::Recall => {
                let (problem, length) = recall_problem(data)?;
                check_length(folder, length)?;
                check_vocabulary(data, &problem, folder)?;
                Ok(Self::of(&problem, split))
            }
        }
    }

    fn text(
        folder: &PretrainedDecoder,
        data: &Path,
        length: usize,
        progress: Progress,
    ) -> Result<Self, Error> {
        check_length(folder, length)?;
        let tokenizer = load_text_tokenizer(folder)?;
        let corpus = Corpus::open(data).map_err(DataError::from)?;
        let tokens = tempfile::tempdir().map_err(|source| Error::file(&env::temp_dir(), source))?;
        let path = tokens.path().join("text");
        let file = tokenize(&path, &corpus, &tokenizer, progress).map_err(DataError::from)?;
        let packing = Packing::new(file, length, Documents::Joined).map_err(DataError::from)?;
        Ok(Self {
            sequences: Arc::new(packing),
            pad_id: tokenizer.end_id(),
            _tokens: Some(tokens),
        })
    }

    fn of(problem: &impl LanguageProblem, split: DataSplit) -> Self {
        Self {
            sequences: match split {
                DataSplit::Train => problem.train(),
                DataSplit::Dev => problem.dev(),
            },
            pad_id: problem.pad_id(),
            _tokens: None,
        }
    }
}

/// Checks that a model has positions for sequences of so many tokens.
fn check_length(folder: &PretrainedDecoder, length: usize) -> Result<(), Error> {
    let positions = folder.config().decoder.positions;
    if length <= positions {
        return Ok(());
    }
    let problem = format!(
        "sequences of {length} tokens: the model in {} has {positions} positions; give at most {positions}",
        folder.dir().display()
    );
    Err(Error::Usage(problem))
}

/// The task of a recipe for recall, and the tokens of its sequences.
///
/// # Errors
///
/// If the recipe cannot be read or is of another task.
pub(super) fn recall_problem(recipe: &Path) -> Result<(RecallProblem, usize), Error> {
    let source = recipe.to_string_lossy();
    if let AnyRecipe::Decoder(recipe) = AnyRecipe::load(&source, &[])?
        && let LanguageSource::Recall(data) = recipe.data.source()?
    {
        let length = recipe.data.length;
        let problem = RecallProblem::new(&data, length).map_err(DataError::from)?;
        return Ok((problem, length));
    }
    let problem = format!("{source} is a recipe of another task than recall");
    Err(Error::Usage(problem))
}

/// Checks that a model knows the tokens of a recipe for recall.
///
/// # Errors
///
/// If there are more of them.
pub(super) fn check_vocabulary(
    recipe: &Path,
    problem: &RecallProblem,
    folder: &PretrainedDecoder,
) -> Result<(), Error> {
    let (needed, known) = (problem.vocabulary(), folder.config().decoder.vocabulary);
    if needed <= known {
        return Ok(());
    }
    let problem = format!(
        "{} has {needed} tokens, and {} knows {known}: they do not belong together",
        recipe.display(),
        folder.dir().display()
    );
    Err(Error::Usage(problem))
}
