//! What all seeds share: data, tokenizer and the model to begin with, checked before any work starts.

use std::path::{Path, PathBuf};

use masformer_core::{Direction, MixerSpec};
use moebert_core::bert::BertConfig;
use serde_json::{Value, json};

use super::{
    super::{
        RunOptions,
        identity::Identity,
        nodes, open_dense,
        plan::Sizes,
        sample::{self, Shares},
        shapes::{self, Shape},
    },
    Encoders, Start, sized,
};
use crate::{
    data::{DataError, loader::check_fits, tokenizer::Tokenizer},
    error::Error,
    graph::{Fingerprint, Fingerprints, KeyError},
    hub,
    interrupt::Stop,
    labels::check_fine_tuned,
    problem::{Rule, Sequences, Source, Texts},
    recipe::{DataRecipe, EncoderModel, EncoderRecipe, ModelPlan, Origin, RandomModel},
    record::Artifacts,
};

/// What a run reads before it leaves anything on disk.
pub(in crate::run) struct Inputs<'a> {
    model: Model<'a>,
    data_dir: PathBuf,
    train: Texts,
    dev: Vec<(Texts, Rule)>,
    sizes: Sizes,
}

enum Model<'a> {
    Random(&'a RandomModel),
    Folder(Box<Checkpoint>),
}

/// A Hugging Face folder that fits the recipe.
struct Checkpoint {
    dir: PathBuf,
    config: BertConfig,
    tokenizer: Tokenizer,
}

impl Model<'_> {
    fn shape(&self) -> Shape {
        match self {
            Self::Random(random) => Shape::new(
                random.size().attention(Direction::Bidirectional),
                random.layers,
                random.width,
            ),
            Self::Folder(checkpoint) => checkpoint.shape(),
        }
    }
}

impl Checkpoint {
    fn shape(&self) -> Shape {
        Shape {
            spans: self.config.spans.clone(),
            mixers: self.config.mixers.clone(),
            ..Shape::new(
                self.config.attention(),
                self.config.num_hidden_layers,
                self.config.intermediate_size,
            )
        }
    }
}

/// Reads model and data, and checks that they and the recipe go together.
pub(in crate::run) fn read<'a>(
    recipe: &'a EncoderRecipe,
    stop: &Stop,
) -> Result<Inputs<'a>, Error> {
    let plan = recipe.plan();
    let mut starts = plan.iter().filter(|model| model.from == Origin::Start);
    let is_used = starts.any(|model| model.train.is_none());
    let folder = |dir| Ok::<_, Error>(Model::Folder(Box::new(checkpoint(recipe, dir, is_used)?)));
    let model = match &recipe.model {
        EncoderModel {
            random: Some(random),
            ..
        } => Model::Random(random),
        EncoderModel {
            hub: Some(name), ..
        } => folder(hub::model(name)?)?,
        EncoderModel { path, .. } => folder(path.clone().unwrap_or_default())?,
    };
    let length = recipe.latency.length;
    let multiply_adds = shapes::check(plan, &model.shape(), length, |student, dir| {
        other(recipe, student, dir, &model)
    })?;
    let data_dir = match (&recipe.data.path, &recipe.data.hub) {
        (Some(path), _) => path.clone(),
        (None, Some(name)) => hub::data(name)?,
        (None, None) => PathBuf::new(),
    };
    let source = Source::new(&recipe.data, &data_dir);
    let train = source.train()?;
    stop.check()?;
    let dev = source.dev()?;
    stop.check()?;
    let judged = dev.first().map(|(texts, _)| texts.len());
    let sizes = Sizes {
        multiply_adds,
        sequences: Some(train.len()),
        judged,
    };
    Ok(Inputs {
        model,
        data_dir,
        train,
        dev,
        sizes,
    })
}

/// The shape of a folder that a model of the plan starts from, which must read the same tokens as the recipe's model.
fn other(
    recipe: &EncoderRecipe,
    student: &ModelPlan,
    dir: &Path,
    model: &Model<'_>,
) -> Result<Shape, Error> {
    let named = |source| Error::OfModel {
        name: student.name.clone(),
        source,
    };
    let own = checkpoint(recipe, dir.to_owned(), student.train.is_none());
    let own = own.map_err(|error| named(error.into()))?;
    if let Model::Folder(model) = model
        && !own.tokenizer.has_vocabulary_of(&model.tokenizer)
    {
        let reason = "its vocabulary is not that of the model; all stages read the same tokens";
        return Err(named(reason.into()));
    }
    Ok(own.shape())
}

/// Opens a folder; one that is used as it is must have been fine-tuned on the task.
fn checkpoint(recipe: &EncoderRecipe, dir: PathBuf, is_used: bool) -> Result<Checkpoint, Error> {
    let pretrained = open_dense(&dir)?;
    if is_used {
        check_fine_tuned(&pretrained, recipe.data.task)?;
    }
    let config = pretrained.config().bert.clone();
    let tokenizer = Tokenizer::load(&dir).map_err(DataError::from)?;
    check_sizes(recipe, &dir, &config, &tokenizer)?;
    Ok(Checkpoint {
        dir,
        config,
        tokenizer,
    })
}

/// Refuses a model with fewer embeddings than its tokenizer has tokens, or fewer positions than the recipe asks for.
fn check_sizes(
    recipe: &EncoderRecipe,
    dir: &Path,
    config: &BertConfig,
    tokenizer: &Tokenizer,
) -> Result<(), Error> {
    tokenizer
        .check_fits(config.vocab_size)
        .map_err(DataError::from)?;
    let positions = config.max_position_embeddings;
    let lengths = [
        ("data.max_length", recipe.data.max_length()),
        ("latency.length", recipe.latency.length),
    ];
    match lengths.into_iter().find(|(_, length)| *length > positions) {
        None => Ok(()),
        Some((key, length)) => Err(Error::Positions {
            key,
            length,
            model: dir.to_owned(),
            positions,
        }),
    }
}

impl Inputs<'_> {
    /// What is known of models and data before anything is computed.
    pub(super) fn sizes(&self) -> &Sizes {
        &self.sizes
    }

    /// The first examples of each split, enough to time stages, and their shares of the splits.
    pub(super) fn sampled(mut self, recipe: &EncoderRecipe) -> (Self, Shares) {
        let batch = recipe.train.batch_size;
        let judged: usize = self.dev.iter().map(|(texts, _)| texts.len()).sum();
        let train = self.train.keep(sample::BATCHES * batch);
        let kept = self
            .dev
            .iter_mut()
            .map(|(texts, _)| texts.keep(sample::JUDGED * batch));
        let kept: Vec<f64> = kept.collect();
        let left: usize = self.dev.iter().map(|(texts, _)| texts.len()).sum();
        let shares = Shares {
            train,
            valid: kept.first().copied().unwrap_or(1.0),
            judged: left as f64 / judged.max(1) as f64,
        };
        (self, shares)
    }

    /// What the keys of stages must know.
    pub(super) fn identity(
        &self,
        recipe: &EncoderRecipe,
        fingerprints: &mut Fingerprints,
    ) -> Result<Identity, Error> {
        let content = |texts: &Texts| -> Result<Fingerprint, Error> {
            let bytes = serde_json::to_vec(texts).map_err(KeyError::from)?;
            Ok(Fingerprint::of(bytes))
        };
        let (model, fresh) = match &self.model {
            Model::Folder(checkpoint) => (
                Some(nodes::model(&checkpoint.dir, fingerprints)?),
                Value::Null,
            ),
            Model::Random(_) => (None, json!(recipe.model)),
        };
        let dev = self.dev.iter().map(|(texts, _)| content(texts));
        let dev = dev.collect::<Result<Vec<_>, _>>()?;
        let roles = dev.iter().map(|part| ("dev", *part));
        let data = DataRecipe {
            path: None,
            hub: None,
            ..recipe.data.clone()
        };
        Ok(Identity {
            train: content(&self.train)?,
            valid: dev[0],
            judged: Fingerprint::join(roles),
            is_judged_on_valid: true,
            model,
            fresh,
            reading: json!(data),
            training: Value::Null,
            judging: Value::Null,
            latency: Some(json!(recipe.latency)),
        })
    }
}

/// Makes everything that a seed needs of the inputs.
pub(in crate::run) fn prepare<'a>(
    recipe: &'a EncoderRecipe,
    options: &RunOptions,
    artifacts: &Artifacts,
    inputs: Inputs<'a>,
) -> Result<Encoders<'a>, Error> {
    let (tokenizer, tokenizer_dir, config, start) = match inputs.model {
        Model::Folder(checkpoint) => {
            let Checkpoint {
                dir,
                config,
                tokenizer,
            } = *checkpoint;
            (tokenizer, dir.clone(), config, Start::Folder(dir))
        }
        Model::Random(random) => {
            let dir = artifacts.folder("tokenizer")?;
            let tokenizer = trained_tokenizer(&inputs.train, random, artifacts, &dir)?;
            let config = fresh_config(&recipe.model, random, tokenizer.vocab_size())?;
            (
                tokenizer,
                dir,
                config.clone(),
                Start::Fresh(Box::new(config)),
            )
        }
    };
    let source = Source::new(&recipe.data, &inputs.data_dir);
    let sequences = |texts| -> Result<Sequences, Error> {
        options.stop.check()?;
        let sequences = source.features(texts, &tokenizer)?;
        check_fits(&sequences.features, &config).map_err(DataError::from)?;
        Ok(sequences)
    };
    let train = sequences(inputs.train)?;
    let dev = inputs
        .dev
        .into_iter()
        .map(|(texts, rule)| Ok((sequences(texts)?, rule)))
        .collect::<Result<Vec<_>, Error>>()?;
    options.stop.check()?;

    Ok(Encoders {
        recipe,
        head: recipe.data.task.head(),
        tokenizer,
        tokenizer_dir,
        start,
        train,
        dev,
    })
}

/// The tokenizer of a fresh model, trained on the training data once a run.
fn trained_tokenizer(
    texts: &Texts,
    random: &RandomModel,
    artifacts: &Artifacts,
    dir: &Path,
) -> Result<Tokenizer, Error> {
    if !artifacts.is_done("tokenizer")? {
        let tokenizer =
            Tokenizer::train(texts.lines(), random.vocabulary).map_err(DataError::from)?;
        tokenizer.save(dir).map_err(DataError::from)?;
        artifacts.finish("tokenizer")?;
    }
    Ok(Tokenizer::load(dir).map_err(DataError::from)?)
}

/// The architecture whose weights are drawn, under the spans and mixers of `[model]`.
fn fresh_config(
    model: &EncoderModel,
    random: &RandomModel,
    vocabulary: usize,
) -> Result<BertConfig, Error> {
    let spans = model.spans.as_ref().map(|spans| spans.spans(random.layers));
    let mixers = model
        .mixers
        .as_ref()
        .map(|mixers| mixers.mixers(random.layers));
    Ok(sized(BertConfig::new(), &random.size())
        .with_vocab_size(vocabulary)
        .with_max_position_embeddings(random.positions)
        .with_spans(spans.transpose()?.unwrap_or_default())
        .with_mixers(MixerSpec::compact(mixers.transpose()?.unwrap_or_default())))
}
