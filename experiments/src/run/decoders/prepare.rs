//! What all models share: data, tokenizer and the model to begin with, checked before any work
//! starts.

use std::path::{Path, PathBuf};

use masformer_core::{DecoderConfig, Direction, PositionEncoding, Span};
use moebert_core::pretrained::PretrainedDecoder;
use serde_json::{Value, json};

use super::{
    super::{
        Progress, RunOptions,
        identity::Identity,
        nodes,
        plan::Sizes,
        sample::{self, Shares},
        shapes::{self, Shape},
    },
    Decoders, Start, sized,
};
use crate::{
    data::{
        DataError, summary::SummaryConfig, text_tokenizer::TextTokenizer, tokenizer::TokenizerError,
    },
    error::Error,
    graph::{Fingerprint, Fingerprints, KeyError, Source},
    language::{
        LanguageProblem,
        recall::RecallProblem,
        summary::{SummaryFiles, SummaryProblem},
        text::{TextFiles, TextLayout, TextProblem},
    },
    metric::perplexity::SlidingWindows,
    recipe::{
        DecoderRecipe, DecoderSource, EvaluateRecipe, LanguageData, LanguageSource, ModelPlan,
        RandomDecoder, RecallData, TokenizerChoice,
    },
    record::Artifacts,
};

/// The stage of token files.
const TOKENS: &str = "tokens";

/// What a run reads before it leaves anything on disk.
pub(in crate::run) struct Inputs<'a> {
    model: Model<'a>,
    data: Data,
    sizes: Sizes,
}

enum Model<'a> {
    Folder(Box<Checkpoint>),
    Fresh(&'a RandomDecoder),
}

struct Checkpoint {
    folder: PretrainedDecoder,
    tokenizer: TextTokenizer,
}

/// The data of a task.
enum Data {
    Text(TextFiles, SlidingWindows),
    Summary(SummaryFiles, SummaryConfig),
    Recall(RecallProblem),
}

/// Reads model and data, and checks that they and the recipe go together.
pub(in crate::run) fn read<'a>(
    recipe: &'a DecoderRecipe,
    options: &RunOptions,
    artifacts: &Artifacts,
) -> Result<Inputs<'a>, Error> {
    let model = match recipe.model.source()? {
        DecoderSource::Folder(path) => Model::Folder(Box::new(checkpoint(recipe, path)?)),
        DecoderSource::Fresh(random) => Model::Fresh(random),
    };
    let multiply_adds = check_plan(recipe, &model)?;
    let length = recipe.data.length;
    let data = match recipe.data.source()? {
        LanguageSource::Text(path) => text(
            path,
            length,
            recipe.stride(),
            &artifacts.path(TOKENS),
            options,
        ),
        LanguageSource::Summary(path, data) => summaries(path, data.config(length), &model),
        LanguageSource::Recall(data) => recall(&data, length),
    };
    options.stop.check()?;
    let data = data?;
    let sizes = Sizes {
        multiply_adds,
        sequences: data.sequences(recipe),
        judged: None,
    };
    Ok(Inputs { model, data, sizes })
}

fn checkpoint(recipe: &DecoderRecipe, path: &Path) -> Result<Checkpoint, Error> {
    let (folder, tokenizer) = open(path)?;
    let length = recipe.data.length;
    let folder = folder
        .map(|folder| folder.with_length(length, recipe.model.extend))
        .map_err(|source| Error::Length { length, source })?;
    Ok(Checkpoint { folder, tokenizer })
}

/// A folder and its tokenizer, whose tokens all have embeddings.
fn open(path: &Path) -> Result<(PretrainedDecoder, TextTokenizer), Error> {
    let folder = PretrainedDecoder::open(path)?;
    let tokenizer = TextTokenizer::load(path).map_err(DataError::from)?;
    tokenizer
        .check_fits(folder.config().decoder.vocabulary)
        .map_err(DataError::from)?;
    Ok((folder, tokenizer))
}

/// Checks that the models of the plan fit each other. Returns the multiply-adds of each for one token.
fn check_plan(recipe: &DecoderRecipe, model: &Model<'_>) -> Result<Vec<f64>, Error> {
    let start = match model {
        Model::Folder(checkpoint) => shape(&checkpoint.folder),
        Model::Fresh(random) => Shape::new(
            random.size().attention(Direction::Causal),
            random.layers,
            random.width,
        ),
    };
    shapes::check(recipe.plan(), &start, recipe.data.length, |student, dir| {
        other(recipe, student, dir, model)
    })
}

fn shape(folder: &PretrainedDecoder) -> Shape {
    let config = &folder.config().decoder;
    Shape {
        spans: config.spans.clone(),
        mixers: config.mixers.clone(),
        matrices: if config.gated { 3 } else { 2 },
        experts: folder.experts().map(|_| folder.dir().to_owned()),
        ..Shape::new(config.attention(), config.spans.len(), config.width)
    }
}

/// The shape of a folder that a model of the plan starts from, which must read the same tokens as the recipe's model.
fn other(
    recipe: &DecoderRecipe,
    student: &ModelPlan,
    dir: &Path,
    model: &Model<'_>,
) -> Result<Shape, Error> {
    let (folder, tokenizer) = open(dir)?;
    let (length, positions) = (recipe.data.length, folder.config().decoder.positions);
    if length > positions {
        return Err(Error::Positions {
            key: "data.length",
            length,
            model: dir.to_owned(),
            positions,
        });
    }
    let fingerprint = |tokenizer: &TextTokenizer| tokenizer.fingerprint().map_err(DataError::from);
    if let Model::Folder(model) = model
        && fingerprint(&tokenizer)? != fingerprint(&model.tokenizer)?
    {
        let reason = "its tokenizer is not that of the model; all stages read the same tokens";
        return Err(Error::OfModel {
            name: student.name.clone(),
            source: reason.into(),
        });
    }
    Ok(shape(&folder))
}

fn text(
    path: &Path,
    length: usize,
    stride: usize,
    tokens: &Path,
    options: &RunOptions,
) -> Result<Data, DataError> {
    let windows = SlidingWindows::new(length, stride)?;
    let files = TextFiles::open(path, length, tokens, &options.stop)?;
    Ok(Data::Text(files, windows))
}

fn summaries(path: &Path, config: SummaryConfig, model: &Model<'_>) -> Result<Data, DataError> {
    if let Model::Folder(checkpoint) = model {
        config.init(&checkpoint.tokenizer)?;
    }
    Ok(Data::Summary(SummaryFiles::read(path)?, config))
}

fn recall(data: &RecallData, length: usize) -> Result<Data, DataError> {
    Ok(Data::Recall(RecallProblem::new(data, length)?))
}

impl Inputs<'_> {
    /// What is known of models and data before anything is computed.
    pub(super) fn sizes(&self) -> &Sizes {
        &self.sizes
    }

    /// The first of each split, enough to time stages, and their shares of the splits. Text is written into `folder`.
    pub(super) fn sampled(
        self,
        recipe: &DecoderRecipe,
        folder: &Path,
    ) -> Result<(Self, Shares), Error> {
        let [train, judged] = [
            sample::BATCHES * recipe.train.batch_size,
            sample::JUDGED * recipe.evaluate.batch_size,
        ];
        let (data, shares) = match self.data {
            Data::Text(files, windows) => {
                let (files, shares) = files
                    .sampled(folder, recipe.data.length * sample::JUDGED)
                    .map_err(DataError::from)?;
                (Data::Text(files, windows), shares)
            }
            Data::Summary(files, config) => {
                let (files, shares) = files.sampled(train, sample::SUMMARIES);
                (Data::Summary(files, config), shares)
            }
            Data::Recall(problem) => {
                let (problem, shares) = problem.sampled(judged);
                (Data::Recall(problem), shares)
            }
        };
        // Epochs that are a part of the data have their number of sequences in any case.
        let train = match recipe.data.epoch {
            Some(_) => 1.0,
            None => shares.train,
        };
        let inputs = Self { data, ..self };
        Ok((inputs, Shares { train, ..shares }))
    }

    /// What the keys of stages must know.
    pub(super) fn identity(
        &self,
        recipe: &DecoderRecipe,
        fingerprints: &mut Fingerprints,
    ) -> Result<Identity, Error> {
        let (model, fresh) = match &self.model {
            Model::Folder(checkpoint) => {
                let dir = checkpoint.folder.dir();
                (Some(nodes::model(dir, fingerprints)?), Value::Null)
            }
            Model::Fresh(_) => {
                let tokenizer = recipe.data.tokenizer;
                (
                    None,
                    json!({ "model": recipe.model, "tokenizer": tokenizer, "length": recipe.data.length }),
                )
            }
        };
        let [train, valid, judged] = self.data.content(fingerprints)?;
        let data = LanguageData {
            path: None,
            ..recipe.data.clone()
        };
        let judging = EvaluateRecipe {
            batch_size: 1,
            ..recipe.evaluate.clone()
        };
        Ok(Identity {
            train,
            valid,
            judged,
            is_judged_on_valid: valid == judged && !matches!(self.data, Data::Recall(_)),
            model,
            fresh,
            reading: json!({ "data": data, "extend": recipe.model.extend }),
            training: json!(recipe.grow),
            judging: json!(judging),
            latency: None,
        })
    }
}

impl Data {
    /// Sequences to train on, where that is known before text becomes tokens.
    fn sequences(&self, recipe: &DecoderRecipe) -> Option<usize> {
        match self {
            Self::Text(..) => None,
            Self::Summary(files, _) => Some(files.train.len()),
            Self::Recall(_) => recipe.data.recall.as_ref().map(|recall| recall.train),
        }
    }

    /// The content of the data to train on, to validate on and to judge by. What recall is made of is in the recipe.
    fn content(&self, fingerprints: &mut Fingerprints) -> Result<[Fingerprint; 3], Error> {
        match self {
            Self::Text(files, _) => {
                let judged = files.test.as_ref().unwrap_or(&files.valid);
                let [train, valid, judged] = [&files.train, &files.valid, judged].map(|corpus| {
                    let documents = corpus.documents().iter();
                    let sources = documents.map(|document| Source::File {
                        role: "text",
                        path: document.path(),
                    });
                    fingerprints.of(&sources.collect::<Vec<_>>())
                });
                Ok([train?, valid?, judged?])
            }
            Self::Summary(files, _) => {
                let judged = files.test.as_ref().unwrap_or(&files.validation);
                let [train, valid, judged] =
                    [&files.train, &files.validation, judged].map(|examples| {
                        let bytes = serde_json::to_vec(examples).map_err(KeyError::from)?;
                        Ok::<_, Error>(Fingerprint::of(bytes))
                    });
                Ok([train?, valid?, judged?])
            }
            Self::Recall(_) => Ok([Fingerprint::of(""); 3]),
        }
    }
}

/// Makes everything that a seed needs of the inputs.
pub(in crate::run) fn prepare<'a>(
    recipe: &'a DecoderRecipe,
    options: &RunOptions,
    artifacts: &Artifacts,
    inputs: Inputs<'_>,
) -> Result<Decoders<'a>, Error> {
    let progress = Progress::new(options.ui);
    let Inputs { model, data, .. } = inputs;
    let tokenizer = |learn: &Learn<'_>| -> Result<(TextTokenizer, PathBuf), Error> {
        let tokenizer = match &model {
            Model::Folder(checkpoint) => {
                let dir = checkpoint.folder.dir().to_owned();
                (checkpoint.tokenizer.clone(), dir)
            }
            Model::Fresh(_) => fresh_tokenizer(recipe, artifacts, progress, learn)?,
        };
        options.stop.check()?;
        Ok(tokenizer)
    };
    let problem: Box<dyn LanguageProblem> = match data {
        Data::Text(files, windows) => {
            let (tokenizer, dir) = tokenizer(&|size| TextTokenizer::train(&files.train, size))?;
            let layout = TextLayout {
                length: recipe.data.length,
                documents: recipe.data.documents,
                windows,
            };
            let tokens = artifacts.folder(TOKENS)?;
            let problem = TextProblem::new(&files, tokenizer, dir, &tokens, layout, progress);
            Box::new(problem?)
        }
        Data::Summary(files, config) => {
            let (tokenizer, dir) = tokenizer(&|size| files.train_tokenizer(size))?;
            let format = config.init(&tokenizer).map_err(DataError::from)?;
            let problem = SummaryProblem::new(files, format, dir, recipe.beams());
            Box::new(problem.map_err(DataError::from)?)
        }
        Data::Recall(problem) => Box::new(problem),
    };
    options.stop.check()?;
    let start = match model {
        Model::Folder(checkpoint) => Start::Folder(Box::new(checkpoint.folder)),
        Model::Fresh(random) => {
            let spans = recipe
                .model
                .spans
                .clone()
                .unwrap_or_default()
                .spans(random.layers)?;
            let length = recipe.data.length;
            Start::Fresh(fresh_config(random, problem.vocabulary(), length, spans))
        }
    };
    Ok(Decoders {
        recipe,
        problem,
        start,
    })
}

/// Learns a vocabulary of at most so many tokens from the training text.
type Learn<'a> = dyn Fn(usize) -> Result<TextTokenizer, TokenizerError> + 'a;

/// The tokenizer of a fresh model, made once a run, and its folder.
fn fresh_tokenizer(
    recipe: &DecoderRecipe,
    artifacts: &Artifacts,
    progress: Progress,
    learn: &Learn<'_>,
) -> Result<(TextTokenizer, PathBuf), Error> {
    let dir = artifacts.folder("tokenizer")?;
    if !artifacts.is_done("tokenizer")? {
        let tokenizer = match recipe.data.tokenizer.unwrap_or_default() {
            TokenizerChoice::Bytes => TextTokenizer::bytes(),
            TokenizerChoice::Bpe { vocabulary } => {
                progress.say(&format!("learning {vocabulary} tokens"));
                learn(vocabulary)
            }
        };
        let tokenizer = tokenizer.map_err(DataError::from)?;
        tokenizer.save(&dir).map_err(DataError::from)?;
        artifacts.finish("tokenizer")?;
    }
    Ok((TextTokenizer::load(&dir).map_err(DataError::from)?, dir))
}

fn fresh_config(
    random: &RandomDecoder,
    vocabulary: usize,
    length: usize,
    spans: Vec<Span>,
) -> DecoderConfig {
    let positions = random.positions.unwrap_or(length);
    let config = sized(&random.size(), vocabulary, positions, spans);
    config.with_position_encoding(match random.rotary {
        Some(theta) => PositionEncoding::Rotary { theta },
        None => PositionEncoding::Learned,
    })
}
