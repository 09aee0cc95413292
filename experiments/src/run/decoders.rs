//! Decoders: language models.

mod prepare;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use burn::{
    data::dataloader::DataLoader,
    prelude::*,
    train::metric::{AccuracyMetric, LossMetric, store::Direction as Better},
};
use distill::{Batch, Epoch, Method, Stage, callback::GrowingLength};
use masformer_core::{
    DecoderConfig, Direction, MixerSpec, Mixing, Span, SpanAttentionConfig,
    pretrained::DecoderFolderConfig,
};
use moebert_core::{
    expert_files::ExpertFiles,
    half,
    pretrained::{PretrainedDecoder, save_decoder},
};

use super::{
    Progress, RunOptions, Runnable,
    curves::Curve,
    family::{Extras, Family, TokenTexts, Weights},
    fit::judge_epochs,
    identity::Identity,
    plan::Sizes,
    sample::Shares,
};

use crate::{
    data::{
        DataError,
        language::{LanguageBatch, LanguageLoader, token_counts},
        packing::Documents,
        text_tokenizer::{END_OF_DOCUMENT, TextTokenizer},
    },
    error::Error,
    graph::Fingerprints,
    interrupt::Stop,
    language::{LanguageProblem, Watch},
    learner::language::LanguageLearner,
    predictions::Judgement,
    recipe::{
        DataSplit, DecoderRecipe, ImportanceRecipe, LanguageTask, ModelPlan, OfDecoders,
        RandomStudent, TrainRecipe,
    },
    record::Artifacts,
    table::{AttentionCost, Row},
    task_settings::TaskSettings,
};

/// The architecture that fresh models are saved as.
const MODEL_TYPE: &str = "gpt2";

/// A task of language models with its data.
pub(super) struct Decoders<'a> {
    recipe: &'a DecoderRecipe,
    problem: Box<dyn LanguageProblem>,
    start: Start,
}

/// The model to begin with.
enum Start {
    /// A folder, with the positions that the recipe asks for.
    Folder(Box<PretrainedDecoder>),
    /// Fresh weights, drawn from each seed; the spans are those of `[model]`, and all layers are attention.
    Fresh(DecoderConfig),
}

/// The architecture of a fresh decoder.
fn sized(
    size: &RandomStudent,
    vocabulary: usize,
    positions: usize,
    spans: Vec<Span>,
) -> DecoderConfig {
    DecoderConfig::new(
        vocabulary,
        positions,
        size.hidden,
        size.heads,
        size.width,
        spans,
    )
    .with_embedding_dropout(size.dropout)
    .with_attention_dropout(size.dropout)
    .with_residual_dropout(size.dropout)
    .with_initializer_range(size.initializer_range)
}

impl Runnable for OfDecoders {
    type Inputs<'a> = prepare::Inputs<'a>;
    type Family<'a> = Decoders<'a>;

    fn read<'a>(
        recipe: &'a DecoderRecipe,
        options: &RunOptions,
        artifacts: &Artifacts,
    ) -> Result<prepare::Inputs<'a>, Error> {
        prepare::read(recipe, options, artifacts)
    }

    fn identity(
        recipe: &DecoderRecipe,
        inputs: &prepare::Inputs<'_>,
        fingerprints: &mut Fingerprints,
    ) -> Result<Identity, Error> {
        inputs.identity(recipe, fingerprints)
    }

    fn sizes(inputs: &prepare::Inputs<'_>) -> Sizes {
        inputs.sizes().clone()
    }

    fn sampled<'a>(
        recipe: &DecoderRecipe,
        inputs: Self::Inputs<'a>,
        folder: &Path,
    ) -> Result<(Self::Inputs<'a>, Shares), Error> {
        inputs.sampled(recipe, folder)
    }

    fn prepare<'a>(
        recipe: &'a DecoderRecipe,
        options: &RunOptions,
        artifacts: &Artifacts,
        inputs: prepare::Inputs<'a>,
    ) -> Result<Decoders<'a>, Error> {
        prepare::prepare(recipe, options, artifacts, inputs)
    }
}

impl Family for Decoders<'_> {
    type Learner = LanguageLearner;
    type Folder = PretrainedDecoder;

    fn start(&self) -> Result<Option<(PathBuf, PretrainedDecoder)>, Error> {
        match &self.start {
            Start::Folder(folder) => Ok(Some((folder.dir().to_owned(), folder.as_ref().clone()))),
            Start::Fresh(_) => Ok(None),
        }
    }

    fn draw(&self, dir: &Path, size: Option<&RandomStudent>, device: &Device) -> Result<(), Error> {
        let start = match &self.start {
            Start::Folder(folder) => &folder.config().decoder,
            Start::Fresh(config) => config,
        };
        let config = match size {
            Some(size) => sized(
                size,
                start.vocabulary,
                start.positions,
                vec![Span::Full; size.layers],
            )
            .with_position_encoding(start.position_encoding),
            None => start.clone(),
        };
        let model = half::dense(config.init(device));
        let config = DecoderFolderConfig::new(MODEL_TYPE, config)?;
        let tokenizer = self.problem.tokenizer_dir();
        Ok(save_decoder(dir, &model, &config, None, tokenizer)?)
    }

    fn open(&self, dir: &Path) -> Result<PretrainedDecoder, Error> {
        Ok(PretrainedDecoder::open(dir)?)
    }

    fn arrange(
        &self,
        mut folder: PretrainedDecoder,
        plan: &ModelPlan,
    ) -> Result<PretrainedDecoder, Error> {
        let chunk = self.recipe.model.feed_forward_chunk;
        folder = folder.map(|folder| Ok(folder.with_feed_forward_chunk(chunk)))?;
        let layers = folder.config().decoder.spans.len();
        if let Some(spans) = &plan.spans {
            let spans = spans.spans(layers)?;
            folder = folder.map(|folder| folder.with_spans(spans))?;
        }
        if let Some(mixers) = &plan.mixers {
            let mixers = mixers.mixers(layers)?;
            folder = folder.map(|folder| folder.with_mixers(mixers, true))?;
        }
        Ok(folder)
    }

    fn layers(&self, folder: &PretrainedDecoder) -> (Vec<Span>, Vec<MixerSpec>) {
        let decoder = &folder.config().decoder;
        (decoder.spans.clone(), decoder.mixers.clone())
    }

    fn experts<'a>(&self, folder: &'a PretrainedDecoder) -> Option<&'a ExpertFiles> {
        folder.experts()
    }

    fn load(
        &self,
        folder: &PretrainedDecoder,
        _weights: Weights,
        progress: Progress,
        device: &Device,
    ) -> Result<LanguageLearner, Error> {
        let (model, report) = folder.load(device)?;
        if !report.is_exact() {
            progress.say(report.to_string().trim_end());
        }
        Ok(LanguageLearner::to_judge(&model))
    }

    fn save(
        &self,
        dir: &Path,
        learner: LanguageLearner,
        folder: &PretrainedDecoder,
        extras: Extras<'_>,
    ) -> Result<(), Error> {
        let tokenizer = self.problem.tokenizer_dir();
        save_decoder(
            dir,
            &learner.model,
            folder.config(),
            extras.experts,
            tokenizer,
        )?;
        if let Some(settings) = TaskSettings::of_decoder(self.recipe) {
            settings.write(dir)?;
        }
        Ok(())
    }

    fn task(&self) -> String {
        self.recipe.data.task.to_string()
    }

    fn train(
        &self,
        recipe: &TrainRecipe,
        seed: u64,
        epoch: Epoch,
        device: &Device,
    ) -> Result<Arc<dyn DataLoader<LanguageBatch>>, Error> {
        let loader = LanguageLoader::shuffled(
            self.problem.train(),
            recipe.batch_size,
            self.recipe.data.epoch,
            self.problem.pad_id(),
            (seed, epoch),
            device,
        );
        Ok(Arc::new(loader.map_err(DataError::from)?))
    }

    fn dev(
        &self,
        _recipe: &TrainRecipe,
        device: &Device,
    ) -> Result<Arc<dyn DataLoader<LanguageBatch>>, Error> {
        let batch_size = self.recipe.evaluate.batch_size;
        let pad = self.problem.pad_id();
        let loader = LanguageLoader::in_order(self.problem.dev(), batch_size, pad, device);
        Ok(Arc::new(loader.map_err(DataError::from)?))
    }

    fn scoring(
        &self,
        recipe: &ImportanceRecipe,
        device: &Device,
    ) -> Result<Arc<dyn DataLoader<Batch<LanguageLearner>>>, Error> {
        let sequences = match recipe.split {
            DataSplit::Train => self.problem.train(),
            DataSplit::Dev => self.problem.dev(),
        };
        let pad = self.problem.pad_id();
        let loader = LanguageLoader::in_order(sequences, recipe.batch_size, pad, device);
        let loader = loader.map_err(DataError::from)?;
        Ok(Arc::new(loader.first(recipe.samples)))
    }

    fn token_counts(&self, vocabulary: usize) -> Result<Vec<u64>, Error> {
        let counts = token_counts(self.problem.train().as_ref(), vocabulary);
        Ok(counts.map_err(DataError::from)?)
    }

    fn token_texts(&self) -> Result<TokenTexts<'_>, Error> {
        let Some(dir) = self.problem.tokenizer_dir() else {
            return Ok(Box::new(|_| None));
        };
        let tokenizer = TextTokenizer::load(dir).map_err(DataError::from)?;
        Ok(Box::new(move |id| {
            if id == tokenizer.end_id() {
                return Some(END_OF_DOCUMENT.to_owned());
            }
            let bytes = tokenizer.token_bytes(id);
            (!bytes.is_empty()).then(|| String::from_utf8_lossy(bytes).into_owned())
        }))
    }

    fn measured(&self, learner: LanguageLearner) -> LanguageLearner {
        LanguageLearner {
            answers: self.problem.has_answers(),
            ..learner
        }
    }

    fn callbacks(&self) -> Vec<Method<LanguageLearner>> {
        let grow = &self.recipe.grow;
        let growing = (!grow.is_empty()).then(|| GrowingLength::new(grow.clone()));
        let growing = growing.map(|callback| Method::Callback(Box::new(callback)));
        growing.into_iter().collect()
    }

    fn metrics(
        &self,
        stage: Stage<LanguageLearner>,
        recipe: &TrainRecipe,
    ) -> Stage<LanguageLearner> {
        let loss = LossMetric::new();
        let stage = if self.problem.has_answers() {
            stage.metrics((loss.clone(), AccuracyMetric::new()))
        } else {
            stage.metrics((loss.clone(),))
        };
        judge_epochs(stage, recipe, &loss, Better::Lowest)
    }

    fn judge(
        &self,
        learner: &LanguageLearner,
        progress: Progress,
        stop: &Stop,
    ) -> Result<Judgement, Error> {
        let watch = Watch {
            batch_size: self.recipe.evaluate.batch_size,
            progress,
            stop: stop.clone(),
        };
        self.problem.judge(&learner.model, &watch)
    }

    fn length(&self) -> usize {
        self.recipe.data.length
    }

    fn attention(&self, folder: &PretrainedDecoder) -> Option<AttentionCost> {
        let decoder = &folder.config().decoder;
        let layers = Mixing::of_layers(&decoder.spans, &decoder.mixers);
        let cost = Mixing::cost(&layers, Direction::Causal, self.length());
        let attention = SpanAttentionConfig::new(decoder.hidden, decoder.heads);
        let states = layers.iter().map(|layer| layer.mixer.state(&attention));
        Some(AttentionCost {
            attention_pairs: cost.pairs,
            attention_share: cost.share(),
            cached_positions: cost.cached_positions as u64,
            state_numbers: states.sum::<usize>() as u64,
        })
    }

    fn latencies(
        &self,
        _learners: &[LanguageLearner],
        _stop: &Stop,
    ) -> Result<Vec<Vec<f64>>, Error> {
        Ok(vec![])
    }

    fn columns(&self, _rows: &[Row]) -> Vec<String> {
        let columns = self.problem.columns().iter();
        columns.map(ToString::to_string).collect()
    }

    fn curve(&self) -> Curve {
        let (metric, label) = if self.problem.has_answers() {
            ("Accuracy", "right answers, validation (%)")
        } else {
            ("Loss", "validation loss (nats a token)")
        };
        let data = &self.recipe.data;
        let is_filled = data.task != LanguageTask::Summary && data.documents == Documents::Joined;
        let train = &self.recipe.train;
        Curve {
            metric: metric.to_owned(),
            label: label.to_owned(),
            x: if is_filled {
                "tokens trained on"
            } else {
                "tokens trained on, at most"
            },
            scale: train.batch_size * train.accumulate * data.length,
        }
    }
}
