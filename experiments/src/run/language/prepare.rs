//! What all models share: data, tokenizer and the model to begin with, checked before any work
//! starts.

use std::path::{Path, PathBuf};

use masformer_core::{DecoderConfig, PositionEncoding, Span, pretrained::DecoderFolder};

use super::super::{Progress, RunOptions};
use crate::{
    data::{DataError, text_tokenizer::TextTokenizer},
    error::Error,
    interrupt::Stop,
    language::{
        LanguageProblem,
        recall::RecallProblem,
        text::{TextFiles, TextLayout, TextProblem},
    },
    metric::perplexity::SlidingWindows,
    recipe::{LanguageRecipe, LanguageTask, RandomDecoder, TokenizerChoice},
    record::RunFolder,
};

/// Everything that a seed needs.
pub(super) struct Prepared<'a> {
    pub recipe: &'a LanguageRecipe,
    pub options: &'a RunOptions,
    pub folder: &'a RunFolder,
    pub progress: Progress,
    pub problem: Box<dyn LanguageProblem>,
    pub start: Start,
}

/// The model to begin with.
pub(super) enum Start {
    /// A folder, with the positions that the recipe asks for.
    Folder(Box<DecoderFolder>),
    /// Fresh weights, drawn from each seed; the spans are those of the first model.
    Fresh(DecoderConfig),
}

/// What a run reads before it leaves anything on disk: a mistake in the recipe must not leave a run
/// folder that refuses the right one.
pub(super) struct Inputs {
    checkpoint: Option<Checkpoint>,
    text: Option<TextFiles>,
}

struct Checkpoint {
    folder: DecoderFolder,
    tokenizer: TextTokenizer,
}

/// Reads model and data, and checks that they and the recipe go together.
pub(super) fn read(recipe: &LanguageRecipe, stop: &Stop) -> Result<Inputs, Error> {
    let checkpoint = match &recipe.model.path {
        Some(path) => Some(checkpoint(recipe, path)?),
        None => None,
    };
    let text = match (recipe.data.task, &recipe.data.path) {
        (LanguageTask::Text, Some(path)) => {
            let files = TextFiles::open(path, recipe.data.length, stop);
            Some(files.map_err(DataError::from)?)
        }
        _ => None,
    };
    stop.check()?;
    Ok(Inputs { checkpoint, text })
}

fn checkpoint(recipe: &LanguageRecipe, path: &Path) -> Result<Checkpoint, Error> {
    let folder = DecoderFolder::open(path)?;
    let config = &folder.config().decoder;
    let layers = config.spans.len();
    for model in &recipe.models {
        model.spans.spans(layers).map_err(|source| Error::Model {
            name: model.name.clone(),
            source,
        })?;
    }
    let tokenizer = TextTokenizer::load(path).map_err(DataError::from)?;
    tokenizer
        .check_fits(config.vocabulary)
        .map_err(DataError::from)?;
    let length = recipe.data.length;
    let folder = folder
        .with_length(length, recipe.model.extend)
        .map_err(|source| Error::Length { length, source })?;
    Ok(Checkpoint { folder, tokenizer })
}

/// Makes everything that a seed needs of the inputs.
pub(super) fn prepare<'a>(
    recipe: &'a LanguageRecipe,
    options: &'a RunOptions,
    folder: &'a RunFolder,
    inputs: Inputs,
) -> Result<Prepared<'a>, Error> {
    let progress = Progress::new(options.ui);
    let (checkpoint, tokenizer) = match inputs.checkpoint {
        Some(Checkpoint { folder, tokenizer }) => (Some(folder), Some(tokenizer)),
        None => (None, None),
    };
    let problem: Box<dyn LanguageProblem> = match (inputs.text, &recipe.data.recall) {
        (Some(files), _) => {
            let (tokenizer, dir) = match (tokenizer, &recipe.model.path) {
                (Some(tokenizer), Some(path)) => (tokenizer, path.clone()),
                _ => fresh_tokenizer(recipe, &files, folder, progress)?,
            };
            options.stop.check()?;
            let layout = TextLayout {
                length: recipe.data.length,
                documents: recipe.data.documents,
                windows: SlidingWindows::new(recipe.data.length, recipe.stride())
                    .map_err(|error| Error::Usage(error.to_string()))?,
            };
            let tokens = folder.stage_dir("tokens")?;
            Box::new(TextProblem::new(
                &files, tokenizer, dir, &tokens, layout, progress,
            )?)
        }
        (None, recall) => {
            let data = recall.clone().unwrap_or_default();
            let problem = RecallProblem::new(&data, recipe.data.length);
            Box::new(problem.map_err(DataError::from)?)
        }
    };
    options.stop.check()?;
    let start = match (checkpoint, &recipe.model.random) {
        (Some(folder), _) => Start::Folder(Box::new(folder)),
        (None, random) => {
            let random = random.as_ref().ok_or_else(|| {
                Error::Usage("the recipe has no model: add model.path or [model.random]".into())
            })?;
            let spans = recipe.models[0].spans.spans(random.layers)?;
            let length = recipe.data.length;
            Start::Fresh(fresh_config(random, problem.vocabulary(), length, spans))
        }
    };
    Ok(Prepared {
        recipe,
        options,
        folder,
        progress,
        problem,
        start,
    })
}

/// The tokenizer of a fresh model, made once a run, and its folder.
fn fresh_tokenizer(
    recipe: &LanguageRecipe,
    files: &TextFiles,
    folder: &RunFolder,
    progress: Progress,
) -> Result<(TextTokenizer, PathBuf), Error> {
    let dir = folder.stage_dir("tokenizer")?;
    if folder.done::<()>("tokenizer")?.is_none() {
        let tokenizer = match recipe.data.tokenizer.unwrap_or_default() {
            TokenizerChoice::Bytes => TextTokenizer::bytes(),
            TokenizerChoice::Bpe { vocabulary } => {
                progress.say(&format!("learning {vocabulary} tokens"));
                TextTokenizer::train(&files.train, vocabulary)
            }
        };
        let tokenizer = tokenizer.map_err(DataError::from)?;
        tokenizer.save(&dir).map_err(DataError::from)?;
        folder.finish("tokenizer", &())?;
    }
    Ok((TextTokenizer::load(&dir).map_err(DataError::from)?, dir))
}

fn fresh_config(
    random: &RandomDecoder,
    vocabulary: usize,
    length: usize,
    spans: Vec<Span>,
) -> DecoderConfig {
    DecoderConfig::new(
        vocabulary,
        random.positions.unwrap_or(length),
        random.hidden,
        random.heads,
        random.width,
        spans,
    )
    .with_embedding_dropout(random.dropout)
    .with_attention_dropout(random.dropout)
    .with_residual_dropout(random.dropout)
    .with_initializer_range(random.initializer_range)
    .with_position_encoding(match random.rotary {
        Some(theta) => PositionEncoding::Rotary { theta },
        None => PositionEncoding::Learned,
    })
}
