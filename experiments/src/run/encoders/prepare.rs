//! What all seeds share: data, tokenizer and the model to begin with, checked before any work starts.

use std::path::{Path, PathBuf};

use masformer_core::{MixerSpec, Span};
use moebert_core::bert::BertConfig;
use serde_json::{Value, json};

use super::{
    super::{RunOptions, identity::Identity, nodes, open_dense},
    Encoders, Start,
};
use crate::{
    data::{DataError, loader::check_fits, tokenizer::Tokenizer},
    error::Error,
    graph::{Fingerprint, Fingerprints, KeyError},
    hub,
    interrupt::Stop,
    labels::check_fine_tuned,
    problem::{Rule, Sequences, Source, Texts},
    recipe::{DataRecipe, ModelRecipe, RandomModel, Recipe, StudentRecipe},
    record::RunFolder,
};

/// What a run reads before it leaves anything on disk.
pub(in crate::run) struct Inputs<'a> {
    model: Model<'a>,
    spans: Option<Vec<Span>>,
    mixers: Option<Vec<MixerSpec>>,
    data_dir: PathBuf,
    train: Texts,
    dev: Vec<(Texts, Rule)>,
}

enum Model<'a> {
    Random(&'a RandomModel),
    Folder(Box<Checkpoint>),
}

impl Model<'_> {
    /// Number of transformer layers L.
    fn layers(&self) -> usize {
        match self {
            Self::Random(random) => random.layers,
            Self::Folder(checkpoint) => checkpoint.config.num_hidden_layers,
        }
    }
}

/// A Hugging Face folder that fits the recipe.
struct Checkpoint {
    dir: PathBuf,
    config: BertConfig,
    tokenizer: Tokenizer,
}

/// Reads model and data, and checks that they and the recipe go together.
pub(super) fn read<'a>(recipe: &'a Recipe, stop: &Stop) -> Result<Inputs<'a>, Error> {
    let model = match &recipe.model {
        ModelRecipe {
            random: Some(random),
            ..
        } => Model::Random(random),
        ModelRecipe {
            hub: Some(name), ..
        } => Model::Folder(Box::new(checkpoint(recipe, hub::model(name)?)?)),
        ModelRecipe { path, .. } => Model::Folder(Box::new(checkpoint(
            recipe,
            path.clone().unwrap_or_default(),
        )?)),
    };
    let depth = model.layers();
    let schedule = recipe.model.spans.as_ref();
    let spans = schedule.map(|schedule| schedule.spans(depth)).transpose();
    let spans = spans.map_err(Error::ModelSpans)?;
    let schedule = recipe.model.mixers.as_ref();
    let mixers = schedule.map(|schedule| schedule.mixers(depth)).transpose();
    let mixers = mixers.map_err(Error::ModelMixers)?;
    if let (Model::Folder(checkpoint), Some(mixers), true) =
        (&model, &mixers, recipe.teacher.fine_tuned)
        && let Some(layer) = MixerSpec::differing(&checkpoint.config.mixers, mixers).first()
    {
        return Err(Error::FineTunedMixers { layer: *layer });
    }
    for student in &recipe.students {
        check_student(recipe, student, &model)?;
    }
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
    Ok(Inputs {
        model,
        spans,
        mixers,
        data_dir,
        train,
        dev,
    })
}

/// Checks what a student begins with, and the hidden states that it is to match with its teacher's.
fn check_student(
    recipe: &Recipe,
    student: &StudentRecipe,
    teacher: &Model<'_>,
) -> Result<(), Error> {
    let depth = teacher.layers();
    let named = |source| Error::OfModel {
        name: student.name.clone(),
        source,
    };
    let own = match (&student.keep_layers, &student.model) {
        (Some(kept), _) => kept
            .indices(depth)
            .map_err(|error| named(error.into()))?
            .len(),
        (None, Some(dir)) => {
            let own = open_dense(dir)?.config().bert.clone();
            let tokenizer = Tokenizer::load(dir).map_err(DataError::from)?;
            check_sizes(recipe, dir, &own, &tokenizer).map_err(|error| named(error.into()))?;
            if let Model::Folder(checkpoint) = teacher
                && !tokenizer.has_vocabulary_of(&checkpoint.tokenizer)
            {
                let reason =
                    "its vocabulary is not that of the teacher; a student reads the same tokens";
                return Err(named(reason.into()));
            }
            own.num_hidden_layers
        }
        (None, None) => depth,
    };
    if student.distill {
        recipe.distill.layers.pairs(own, depth)?;
    }
    Ok(())
}

fn checkpoint(recipe: &Recipe, dir: PathBuf) -> Result<Checkpoint, Error> {
    let pretrained = open_dense(&dir)?;
    if recipe.teacher.fine_tuned {
        check_fine_tuned(&pretrained, recipe.data.task)?;
    }
    let config = pretrained.config().bert.clone();
    let tokenizer = Tokenizer::load(&dir).map_err(DataError::from)?;
    check_sizes(recipe, &dir, &config, &tokenizer)?;
    for student in recipe.expert_students() {
        let partition = recipe.student_experts(student).partition(0);
        partition
            .validate(config.intermediate_size)
            .map_err(|source| Error::Student {
                name: student.name.clone(),
                source,
            })?;
    }
    Ok(Checkpoint {
        dir,
        config,
        tokenizer,
    })
}

/// Refuses a model with fewer embeddings than its tokenizer has tokens, or fewer positions than the recipe asks for.
fn check_sizes(
    recipe: &Recipe,
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
    /// What the keys of stages must know.
    pub(super) fn identity(
        &self,
        recipe: &Recipe,
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
            Model::Random(random) => (None, json!(random)),
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
pub(super) fn prepare<'a>(
    recipe: &'a Recipe,
    options: &RunOptions,
    folder: &RunFolder,
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
            let dir = folder.stage_dir("tokenizer")?;
            let tokenizer = trained_tokenizer(&inputs.train, random, folder, &dir)?;
            let config = fresh_config(random, tokenizer.vocab_size())
                .with_spans(inputs.spans.clone().unwrap_or_default())
                .with_mixers(MixerSpec::compact(
                    inputs.mixers.clone().unwrap_or_default(),
                ));
            (tokenizer, dir, config.clone(), Start::Fresh(config))
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
