//! The stages of one seed. Each leaves its result in the run folder and is skipped when it is there.

mod experts;

use std::{collections::BTreeMap, path::Path, time::Instant};

use burn::train::metric::{AccuracyMetric, LossMetric, store::Direction as Better};
use distill::{Epoch, Method, Teacher, callback::GrowingLength};
use masformer_core::{
    Decoder, Direction, Mixing, SpanAttentionConfig, pretrained::DecoderFolderConfig, seed,
};
use moebert_core::{
    cost::Cost,
    half::{self, Half},
    pretrained::{PretrainedDecoder, save_decoder},
};
use serde::{Deserialize, Serialize};

use super::{
    super::{fit, fit::Training, stages},
    CHECKPOINT,
    prepare::{Prepared, Start},
};
use crate::{
    data::{DataError, language::LanguageLoader},
    error::Error,
    language::Watch,
    language_table::{ActiveCost, LanguageRow},
    learner::language::LanguageLearner,
    methods,
    metric::Scores,
    recipe::{ExpertsRecipe, SpanModel},
    task_settings::TaskSettings,
};

/// The architecture that fresh models are saved as.
const MODEL_TYPE: &str = "gpt2";

/// Trains and judges every model; one row each, and one for the checkpoint that they begin with.
pub(super) fn run(run: &Prepared<'_>, seed: u64) -> Result<Vec<LanguageRow>, Error> {
    Seed { run, seed }.rows()
}

struct Seed<'a> {
    run: &'a Prepared<'a>,
    seed: u64,
}

/// What a training says of itself when it is done.
#[derive(Serialize, Deserialize)]
struct Trained {
    seconds: f64,
}

impl Seed<'_> {
    fn rows(&self) -> Result<Vec<LanguageRow>, Error> {
        let start = self.start()?;
        let is_pretrained = matches!(self.run.start, Start::Folder(_));
        let has_experts = self
            .run
            .recipe
            .models
            .iter()
            .any(|model| model.experts.is_some());
        let row = |name: &str,
                   experts: Option<&ExpertsRecipe>,
                   folder: &PretrainedDecoder,
                   before,
                   metrics,
                   seconds| {
            let decoder = &folder.config().decoder;
            let length = self.run.recipe.data.length;
            let layers = Mixing::of_layers(&decoder.spans, &decoder.mixers);
            let attention_cost = Mixing::cost(&layers, Direction::Causal, length);
            let attention = SpanAttentionConfig::new(decoder.hidden, decoder.heads);
            let states = layers.iter().map(|layer| layer.mixer.state(&attention));
            let cost = Cost::of(&self.load(folder)?, length);
            Ok::<_, Error>(LanguageRow {
                name: name.to_owned(),
                seed: self.seed,
                spans: decoder.spans.clone(),
                mixers: decoder.mixers.clone(),
                metrics_before: before,
                metrics,
                parameters: cost.parameters as u64,
                attention_pairs: attention_cost.pairs,
                attention_share: attention_cost.share(),
                cached_positions: attention_cost.cached_positions as u64,
                state_numbers: states.sum::<usize>() as u64,
                active: has_experts.then(|| ActiveCost {
                    experts: experts.map(ToString::to_string),
                    parameters: cost.active_parameters as u64,
                    multiply_adds_per_token: cost.multiply_adds_per_token as u64,
                }),
                seconds,
            })
        };
        let mut rows = vec![];
        if is_pretrained {
            let scores = self.judge(CHECKPOINT, "evaluate", &start)?;
            rows.push(row(CHECKPOINT, None, &start, None, scores, None)?);
        }
        let mut models: BTreeMap<&str, PretrainedDecoder> = BTreeMap::new();
        for model in &self.run.recipe.models {
            let layers = start.config().decoder.spans.len();
            let spans = model.spans.spans(layers)?;
            let mut switched = start.clone().map(|folder| folder.with_spans(spans))?;
            if let Some(mixers) = &model.mixers {
                let mixers = mixers.decoder_mixers(layers)?;
                switched = switched.map(|folder| folder.with_mixers(mixers, true))?;
            }
            let experts = model.experts.as_ref();
            if let Some(experts) = experts {
                switched = self.split(model, experts, &switched)?;
            }
            let before = if is_pretrained {
                Some(self.judge(&model.name, "before", &switched)?)
            } else {
                None
            };
            let teacher = model.teacher.as_deref();
            let teacher = teacher.and_then(|name| models.get(name));
            let (trained, Trained { seconds }) = self.train(model, &switched, teacher)?;
            let after = self.judge(&model.name, "evaluate", &trained)?;
            let seconds = Some(seconds);
            rows.push(row(&model.name, experts, &trained, before, after, seconds)?);
            models.insert(&model.name, trained);
        }
        Ok(rows)
    }

    fn stage(&self, name: &str) -> String {
        format!("seed-{}/{name}", self.seed)
    }

    fn say(&self, text: &str) {
        let progress = self.run.progress;
        progress.say(&format!("seed {}: {text}", self.seed));
    }

    /// The model to begin with, in the form that the recipe trains it in.
    fn start(&self) -> Result<PretrainedDecoder, Error> {
        let chunk = self.run.recipe.model.feed_forward_chunk;
        let start = self.weights()?;
        Ok(start.map(|folder| Ok(folder.with_feed_forward_chunk(chunk)))?)
    }

    /// The weights to begin with. Fresh ones are the same under every schedule.
    fn weights(&self) -> Result<PretrainedDecoder, Error> {
        let config = match &self.run.start {
            Start::Folder(folder) => return Ok(folder.as_ref().clone()),
            Start::Fresh(config) => config,
        };
        let stage = self.stage("start");
        let dir = self.run.folder.stage_dir(&stage)?;
        if self.run.folder.done::<()>(&stage)?.is_none() {
            let device = &self.run.options.device;
            seed::seed(device, self.seed);
            let model = half::dense(config.init(device));
            let config = DecoderFolderConfig::new(MODEL_TYPE, config.clone())?;
            let tokenizer = self.run.problem.tokenizer_dir();
            save_decoder(&dir, &model, &config, None, tokenizer)?;
            self.run.folder.finish(&stage, &())?;
        }
        Ok(PretrainedDecoder::open(dir)?)
    }

    fn load(&self, folder: &PretrainedDecoder) -> Result<Decoder<Half>, Error> {
        if !folder.folder().new_mixers().is_empty() {
            // Those weights are drawn: the same ones each time.
            seed::seed(&self.run.options.device, self.seed);
        }
        let (model, report) = folder.load(&self.run.options.device)?;
        if !report.is_exact() {
            self.run.progress.say(report.to_string().trim_end());
        }
        Ok(model)
    }

    /// The trained model, and what its training took.
    fn train(
        &self,
        model: &SpanModel,
        start: &PretrainedDecoder,
        teacher: Option<&PretrainedDecoder>,
    ) -> Result<(PretrainedDecoder, Trained), Error> {
        let stage = self.stage(&model.name);
        let dir = self.run.folder.stage_dir(&stage)?;
        let (training, output) = (dir.join("training"), dir.join("model"));
        let trained = if let Some(trained) = self.run.folder.done(&stage)? {
            trained
        } else {
            self.say(&format!("training `{}`, {}", model.name, model.layers()));
            let clock = Instant::now();
            let learner = LanguageLearner {
                model: self.load(start)?,
                answers: self.run.problem.has_answers(),
            };
            let learner = self.fit(model, &training, learner, teacher)?;
            let tokenizer = self.run.problem.tokenizer_dir();
            let experts = start.experts();
            save_decoder(&output, &learner.model, start.config(), experts, tokenizer)?;
            if let Some(settings) = TaskSettings::of_decoder(self.run.recipe) {
                settings.write(&output)?;
            }
            let seconds = clock.elapsed().as_secs_f64();
            let trained = Trained { seconds };
            self.run.folder.finish(&stage, &trained)?;
            self.run.folder.gather_metrics()?;
            trained
        };
        stages::discard_checkpoints(&training)?;
        Ok((PretrainedDecoder::open(output)?, trained))
    }

    fn fit(
        &self,
        model: &SpanModel,
        directory: &Path,
        learner: LanguageLearner,
        teacher: Option<&PretrainedDecoder>,
    ) -> Result<LanguageLearner, Error> {
        let recipe = self.run.recipe;
        let label = format!("seed {} {}", self.seed, model.name);
        let mut methods = vec![];
        if !recipe.grow.is_empty() {
            let growing = GrowingLength::new(recipe.grow.clone());
            methods.push(Method::Callback(Box::new(growing)));
        }
        methods.extend(self.routers(&learner.model));
        let others = methods::make(&model.methods);
        methods.extend(others.map_err(|source| Error::OfModel {
            name: model.name.clone(),
            source: source.into(),
        })?);
        let follows = methods.iter().any(Method::needs_teacher);
        let train_recipe = recipe.train.with(&model.train);
        let training = Training {
            label: label.clone(),
            directory,
            recipe: train_recipe.clone(),
            checkpoint: recipe.checkpoint.clone(),
            seed: self.seed,
            task: model.task,
            methods,
        };
        let problem = &self.run.problem;
        let options = self.run.options;
        let epoch = Epoch::default();
        let train = LanguageLoader::shuffled(
            problem.train(),
            train_recipe.batch_size,
            recipe.data.epoch,
            problem.pad_id(),
            (self.seed, epoch.clone()),
            &options.device,
        );
        let dev = LanguageLoader::in_order(
            problem.dev(),
            recipe.evaluate.batch_size,
            problem.pad_id(),
            &options.device,
        );
        let stage = training.stage(
            options,
            epoch,
            train.map_err(DataError::from)?,
            dev.map_err(DataError::from)?,
        );
        let stage = match teacher.filter(|_| follows) {
            Some(folder) => {
                let learner = LanguageLearner::to_judge(&self.load(folder)?);
                stage.teacher(Teacher::new(&learner))
            }
            None => stage,
        };
        let loss = LossMetric::new();
        let stage = if problem.has_answers() {
            stage.metrics((loss.clone(), AccuracyMetric::new()))
        } else {
            stage.metrics((loss.clone(),))
        };
        let stage = fit::judge_epochs(stage, &train_recipe, &loss, Better::Lowest);
        fit::fit(stage, learner, &label, self.run.progress)
    }

    /// The scores of a model, as the stage `name/what`.
    fn judge(&self, name: &str, what: &str, folder: &PretrainedDecoder) -> Result<Scores, Error> {
        let stage = self.stage(&format!("{name}/{what}"));
        if let Some(scores) = self.run.folder.done(&stage)? {
            return Ok(scores);
        }
        self.say(&match what {
            "before" => format!("evaluating `{name}` before its training"),
            _ => format!("evaluating `{name}`"),
        });
        let watch = Watch {
            batch_size: self.run.recipe.evaluate.batch_size,
            progress: self.run.progress,
            stop: self.run.options.stop.clone(),
        };
        let scores = self.run.problem.judge(&self.load(folder)?, &watch)?;
        self.run.folder.finish(&stage, &scores)?;
        Ok(scores)
    }
}
