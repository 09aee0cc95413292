//! Encoders: classifiers and question answering.

mod prepare;

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use burn::{
    data::dataloader::DataLoader,
    module::Module,
    prelude::*,
    train::metric::{LossMetric, store::Direction},
};
use distill::{Batch, Epoch, Stage};
use masformer_core::{MixerSpec, Span};
use moebert_core::{
    bert::BertConfig,
    expert_files::ExpertFiles,
    heads::{BertModel, BertModelConfig, Head},
    pretrained::{Pretrained, PretrainedConfig, SaveOptions, has_adapters, save, save_adapter},
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
        loader::{GroupedLoader, TaskBatch},
        tokenizer::Tokenizer,
    },
    error::Error,
    graph::Fingerprints,
    interrupt::Stop,
    labels::load_fine_tuned,
    latency::latencies,
    learner::TaskLearner,
    metric::Scores,
    predict::predict,
    predictions::{Judgement, of_answer},
    problem::{Rule, Sequences},
    quality::Quality,
    recipe::{
        DataSplit, EncoderRecipe, ImportanceRecipe, ModelPlan, OfEncoders, RandomStudent,
        TrainRecipe,
    },
    record::Artifacts,
    table::{AttentionCost, Row},
    task_settings::TaskSettings,
};

/// A task of encoders with its data.
pub(super) struct Encoders<'a> {
    recipe: &'a EncoderRecipe,
    head: Head,
    tokenizer: Tokenizer,
    /// The folder that the tokenizer's files are in.
    tokenizer_dir: PathBuf,
    start: Start,
    train: Sequences,
    dev: Vec<(Sequences, Rule)>,
}

/// The model to begin with.
enum Start {
    /// A Hugging Face folder.
    Folder(PathBuf),
    /// Fresh weights, drawn from each seed.
    Fresh(Box<BertConfig>),
}

impl Encoders<'_> {
    fn save_options(&self) -> SaveOptions<'_> {
        SaveOptions {
            tokenizer: Some(&self.tokenizer_dir),
            labels: self.recipe.data.task.labels(),
            experts: None,
        }
    }
}

/// Whether a model is that of its folder but for adapters and its head: `lora` alone changed it, and trained no further
/// parts whole, which a folder of adapters does not hold.
fn has_adapters_alone(plan: &ModelPlan) -> bool {
    let further = |lora: &toml::Table| {
        let parts = lora.get("train").and_then(toml::Value::as_array);
        parts.is_some_and(|parts| !parts.is_empty())
    };
    let lora = plan.methods.get("lora");
    lora.is_some_and(|lora| !further(lora))
}

/// An architecture of another size.
fn sized(config: BertConfig, size: &RandomStudent) -> BertConfig {
    config
        .with_hidden_size(size.hidden)
        .with_num_hidden_layers(size.layers)
        .with_num_attention_heads(size.heads)
        .with_intermediate_size(size.width)
        .with_initializer_range(size.initializer_range)
        .with_hidden_dropout_prob(size.dropout)
        .with_attention_probs_dropout_prob(size.dropout)
}

impl Runnable for OfEncoders {
    type Inputs<'a> = prepare::Inputs<'a>;
    type Family<'a> = Encoders<'a>;

    fn read<'a>(
        recipe: &'a EncoderRecipe,
        options: &RunOptions,
        _: &Artifacts,
    ) -> Result<prepare::Inputs<'a>, Error> {
        prepare::read(recipe, &options.stop)
    }

    fn identity(
        recipe: &EncoderRecipe,
        inputs: &prepare::Inputs<'_>,
        fingerprints: &mut Fingerprints,
    ) -> Result<Identity, Error> {
        inputs.identity(recipe, fingerprints)
    }

    fn sizes(inputs: &prepare::Inputs<'_>) -> Sizes {
        inputs.sizes().clone()
    }

    fn sampled<'a>(
        recipe: &EncoderRecipe,
        inputs: Self::Inputs<'a>,
        _: &Path,
    ) -> Result<(Self::Inputs<'a>, Shares), Error> {
        Ok(inputs.sampled(recipe))
    }

    fn prepare<'a>(
        recipe: &'a EncoderRecipe,
        options: &RunOptions,
        artifacts: &Artifacts,
        inputs: prepare::Inputs<'a>,
    ) -> Result<Encoders<'a>, Error> {
        prepare::prepare(recipe, options, artifacts, inputs)
    }
}

impl Family for Encoders<'_> {
    type Learner = TaskLearner;
    type Folder = Pretrained;

    fn start(&self) -> Result<Option<(PathBuf, Pretrained)>, Error> {
        match &self.start {
            Start::Folder(dir) => Ok(Some((dir.clone(), Pretrained::open(dir)?))),
            Start::Fresh(_) => Ok(None),
        }
    }

    fn draw(&self, dir: &Path, size: Option<&RandomStudent>, device: &Device) -> Result<(), Error> {
        let start = match &self.start {
            Start::Folder(dir) => Pretrained::open(dir)?.config().clone(),
            Start::Fresh(config) => PretrainedConfig::new(config.as_ref().clone(), Head::Encoder),
        };
        let mut config = start.bert.clone();
        if let Some(size) = size {
            config = sized(config, size)
                .with_spans(vec![])
                .with_mixers(start.usual_mixers(size.layers));
        }
        let model = BertModelConfig::new(config.clone(), Head::Encoder).init(device);
        let config = start.of_same_family(config, Head::Encoder);
        Ok(save(dir, &model, &config, self.save_options())?)
    }

    fn open(&self, dir: &Path) -> Result<Pretrained, Error> {
        Ok(Pretrained::open(dir)?)
    }

    fn arrange(&self, mut folder: Pretrained, plan: &ModelPlan) -> Result<Pretrained, Error> {
        let layers = folder.config().bert.num_hidden_layers;
        if let Some(spans) = &plan.spans {
            folder = folder.with_spans(spans.spans(layers)?)?;
        }
        if let Some(mixers) = &plan.mixers {
            folder = folder.with_mixers(mixers.mixers(layers)?)?;
        }
        Ok(folder)
    }

    fn layers(&self, folder: &Pretrained) -> (Vec<Span>, Vec<MixerSpec>) {
        let bert = &folder.config().bert;
        let spans = if bert.spans.is_empty() {
            vec![Span::Full; bert.num_hidden_layers]
        } else {
            bert.spans.clone()
        };
        (spans, bert.mixers.clone())
    }

    fn experts<'a>(&self, folder: &'a Pretrained) -> Option<&'a ExpertFiles> {
        folder.experts()
    }

    fn load(
        &self,
        folder: &Pretrained,
        weights: Weights,
        progress: Progress,
        device: &Device,
    ) -> Result<TaskLearner, Error> {
        if weights == Weights::Trained {
            let (model, _) = load_fine_tuned(folder, self.recipe.data.task, device)?;
            return Ok(TaskLearner { model });
        }
        let (model, report) = folder.load(Some(self.head), device)?;
        if weights == Weights::Given && !report.is_exact() {
            progress.say(report.to_string().trim_end());
        }
        Ok(TaskLearner { model })
    }

    fn save(
        &self,
        dir: &Path,
        learner: TaskLearner,
        folder: &Pretrained,
        extras: Extras<'_>,
    ) -> Result<(), Error> {
        let model = learner.model;
        let device = model.devices().into_iter().next().unwrap_or_default();
        if let Some(base) = extras.base
            && has_adapters(&model)
            && has_adapters_alone(extras.plan)
            && folder.has_encoder(self.head, &device)?
        {
            let base = fs::canonicalize(base).map_err(|source| Error::file(base, source))?;
            let adapter = dir.with_file_name("adapter");
            save_adapter(
                &adapter,
                &model,
                folder.config(),
                Some(&base.to_string_lossy()),
            )?;
        }
        let mut config = folder.config().clone();
        if let Some(kept) = extras.kept {
            config.bert = config.bert.with_kept_layers(kept);
        }
        let options = SaveOptions {
            experts: extras.experts,
            ..self.save_options()
        };
        save(dir, &model, &config, options)?;
        Ok(TaskSettings::of_encoder(&self.recipe.data).write(dir)?)
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
    ) -> Result<Arc<dyn DataLoader<TaskBatch>>, Error> {
        let features = self.train.features.clone();
        let pad = self.tokenizer.pad_id();
        let loader = GroupedLoader::shuffled(features, recipe.batch_size, pad, seed, epoch, device);
        Ok(Arc::new(loader.map_err(DataError::from)?))
    }

    fn dev(
        &self,
        recipe: &TrainRecipe,
        device: &Device,
    ) -> Result<Arc<dyn DataLoader<TaskBatch>>, Error> {
        let features = self.dev[0].0.features.clone();
        let pad = self.tokenizer.pad_id();
        let loader = GroupedLoader::sorted(features, recipe.batch_size, pad, device);
        Ok(Arc::new(loader.map_err(DataError::from)?))
    }

    fn scoring(
        &self,
        recipe: &ImportanceRecipe,
        device: &Device,
    ) -> Result<Arc<dyn DataLoader<Batch<TaskLearner>>>, Error> {
        let sequences = match recipe.split {
            DataSplit::Train => &self.train,
            DataSplit::Dev => &self.dev[0].0,
        };
        let features = match recipe.samples {
            Some(samples) => sequences.first(samples),
            None => sequences.features.clone(),
        };
        let pad = self.tokenizer.pad_id();
        let loader = GroupedLoader::sorted(features, recipe.batch_size, pad, device);
        Ok(Arc::new(loader.map_err(DataError::from)?))
    }

    fn token_counts(&self, vocabulary: usize) -> Result<Vec<u64>, Error> {
        Ok(self.train.token_counts(vocabulary))
    }

    fn token_texts(&self) -> Result<TokenTexts<'_>, Error> {
        Ok(Box::new(|id| self.tokenizer.inner().id_to_token(id)))
    }

    fn metrics(&self, stage: Stage<TaskLearner>, recipe: &TrainRecipe) -> Stage<TaskLearner> {
        let quality = Quality::new(self.recipe.data.task.progress_metric());
        let stage = stage
            .metrics((LossMetric::new(),))
            .valid_metric(quality.clone());
        let stage = match quality.by_batch() {
            Some(quality) => stage.train_metric(quality),
            None => stage,
        };
        judge_epochs(stage, recipe, &quality, Direction::Highest)
    }

    fn judge(
        &self,
        learner: &TaskLearner,
        progress: Progress,
        stop: &Stop,
    ) -> Result<Judgement, Error> {
        let (mut scores, mut predictions) = (Scores::default(), vec![]);
        let mut examples = vec![];
        for (sequences, rule) in &self.dev {
            let features = &sequences.features;
            let bar = progress.bar("evaluate", features.len());
            let batch_size = self.recipe.train.batch_size;
            let pad = self.tokenizer.pad_id();
            let predicted = predict(learner, features, batch_size, pad, stop, |done, _| {
                bar.set_position(done as u64);
            })?;
            bar.finish_and_clear();
            let answers = sequences.answers(&predicted, rule)?;
            scores.extend(sequences.judge(&answers, rule)?);
            examples.push(sequences.examples(&answers, rule)?);
            let ids = sequences.ids();
            let answers = ids.iter().zip(&answers);
            for (id, answer) in answers {
                let mut prediction = of_answer(id, answer, rule);
                if !rule.suffix().is_empty() {
                    prediction["split"] = rule.suffix().trim_start_matches('_').into();
                }
                predictions.push(prediction);
            }
        }
        Ok(Judgement {
            scores,
            predictions,
            examples,
        })
    }

    fn length(&self) -> usize {
        self.recipe.latency.length
    }

    fn attention(&self, _folder: &Pretrained) -> Option<AttentionCost> {
        None
    }

    fn latencies(&self, learners: &[TaskLearner], stop: &Stop) -> Result<Vec<Vec<f64>>, Error> {
        let models: Vec<BertModel> = learners.iter().map(|it| it.model.clone()).collect();
        latencies(&models, &self.recipe.latency, stop)
    }

    /// The metric to compare by, then all others.
    fn columns(&self, rows: &[Row]) -> Vec<String> {
        let primary = self.recipe.data.task.primary_metric();
        let metrics = rows.iter().flat_map(|row| row.metrics.keys());
        let mut metrics: Vec<String> = metrics.cloned().collect();
        metrics.sort_unstable_by_key(|metric| (*metric != primary, metric.clone()));
        metrics.dedup();
        metrics
    }

    fn curve(&self) -> Curve {
        let metric = Quality::new(self.recipe.data.task.progress_metric()).title();
        Curve {
            label: format!("{}, validation", metric.to_lowercase()),
            metric,
            x: "optimiser steps",
            scale: 1,
        }
    }
}
