//! What all seeds share: data, tokenizer and the model to begin with, checked before any work starts.

use std::path::{Path, PathBuf};

use moebert_core::{bert::BertConfig, heads::Task as Head, pretrained::Pretrained};

use super::{Progress, RunOptions};
use crate::{
    data::{DataError, loader::check_lengths, tokenizer::Tokenizer},
    error::Error,
    hub,
    problem::{Rule, Sequences, Source, Texts},
    recipe::{RandomModel, Recipe},
    record::RunFolder,
};

/// Everything that a seed needs.
pub(super) struct Prepared<'a> {
    pub recipe: &'a Recipe,
    pub options: &'a RunOptions,
    pub folder: &'a RunFolder,
    pub progress: Progress,
    pub head: Head,
    pub tokenizer: Tokenizer,
    /// The folder that the tokenizer's files are in.
    pub tokenizer_dir: PathBuf,
    pub start: Start,
    pub train: Sequences,
    pub dev: Vec<(Sequences, Rule)>,
    /// How often each token id occurs in the training data.
    pub token_counts: Vec<u64>,
}

/// The model to begin with.
pub(super) enum Start {
    /// A Hugging Face folder.
    Folder(PathBuf),
    /// Fresh weights, drawn from each seed.
    Fresh(BertConfig),
}

pub(super) fn prepare<'a>(
    recipe: &'a Recipe,
    options: &'a RunOptions,
    folder: &'a RunFolder,
) -> Result<Prepared<'a>, Error> {
    let progress = Progress::new(options.ui);
    let data_dir = match (&recipe.data.path, &recipe.data.hub) {
        (Some(path), _) => path.clone(),
        (None, Some(name)) => hub::data(name)?,
        (None, None) => PathBuf::new(),
    };
    let source = Source::new(&recipe.data, &data_dir);
    let train = source.train()?;
    let dev = source.dev()?;

    let (tokenizer, tokenizer_dir, start) = if let Some(random) = &recipe.model.random {
        let dir = folder.stage_dir("tokenizer")?;
        let tokenizer = trained_tokenizer(&train, random, folder, &dir)?;
        let config = fresh_config(random, tokenizer.vocab_size());
        (tokenizer, dir, Start::Fresh(config))
    } else {
        let dir = match (&recipe.model.path, &recipe.model.hub) {
            (Some(path), _) => path.clone(),
            (None, Some(name)) => hub::model(name)?,
            (None, None) => PathBuf::new(),
        };
        let tokenizer = Tokenizer::load(&dir).map_err(DataError::from)?;
        (tokenizer, dir.clone(), Start::Folder(dir))
    };
    let config = match &start {
        Start::Fresh(config) => config.clone(),
        Start::Folder(dir) => Pretrained::open(dir)?.config().bert.clone(),
    };
    tokenizer
        .check_fits(config.vocab_size)
        .map_err(DataError::from)?;
    for student in &recipe.students {
        let experts = recipe.student_experts(student);
        experts.partition(0).validate(config.intermediate_size)?;
    }
    let sequences = |texts| -> Result<Sequences, DataError> {
        let sequences = source.features(texts, &tokenizer)?;
        check_lengths(&sequences.features, config.max_position_embeddings)?;
        Ok(sequences)
    };
    let train = sequences(train)?;
    let dev = dev
        .into_iter()
        .map(|(texts, rule)| Ok((sequences(texts)?, rule)))
        .collect::<Result<Vec<_>, DataError>>()?;

    let token_counts = train.token_counts(config.vocab_size);
    Ok(Prepared {
        recipe,
        options,
        folder,
        progress,
        head: recipe.data.task.head(),
        tokenizer,
        tokenizer_dir,
        start,
        train,
        dev,
        token_counts,
    })
}

/// The tokenizer of a fresh model, trained on the training data once a run.
fn trained_tokenizer(
    texts: &Texts,
    random: &RandomModel,
    folder: &RunFolder,
    dir: &Path,
) -> Result<Tokenizer, Error> {
    if folder.done::<()>("tokenizer")?.is_none() {
        let tokenizer =
            Tokenizer::train(texts.lines(), random.vocabulary).map_err(DataError::from)?;
        tokenizer.save(dir).map_err(DataError::from)?;
        folder.finish("tokenizer", &())?;
    }
    Ok(Tokenizer::load(dir).map_err(DataError::from)?)
}

fn fresh_config(random: &RandomModel, vocabulary: usize) -> BertConfig {
    BertConfig::new()
        .with_vocab_size(vocabulary)
        .with_hidden_size(random.hidden)
        .with_num_hidden_layers(random.layers)
        .with_num_attention_heads(random.heads)
        .with_intermediate_size(random.width)
        .with_max_position_embeddings(random.positions)
        .with_initializer_range(random.initializer_range)
        .with_hidden_dropout_prob(random.dropout)
        .with_attention_probs_dropout_prob(random.dropout)
}
