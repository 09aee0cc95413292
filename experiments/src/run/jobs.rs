//! What the stages of a run do.

mod continued;
mod layers;
mod model;

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use burn::data::dataloader::DataLoader;
use distill::{Batch, Epoch, Fitted, LeftParts, Method, Teacher};
use masformer_core::{MixerSpec, Span, seed};
use moebert_core::{
    cost::Cost,
    file,
    importance::{Importance, ImportanceSource},
    layered::Layered,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use self::{
    continued::copy_training,
    model::{Begun, Model, Split, kept_layers},
};
use super::{
    Run, expert_plan,
    family::{Extras, Family, Weights},
    fit::{Training, fit},
    learning::methods,
    nodes::{Job, ModelKeys, SeedKeys},
    sample::Sample,
    score_neurons,
};
use crate::{
    error::Error,
    examples::Examples,
    export::follow::Follower,
    graph::{Key, KeyError, PROGRESS, Store, StoreError},
    metric::Scores,
    predictions::{Judgement, PREDICTIONS, lines},
    recipe::{ExpertsRecipe, KeptEpoch, ModelPlan, Origin, Tracking, TrainRecipe},
    record::seed_folder,
    table::AttentionCost,
    warning::warn,
};

/// The folder of a model in that of a stage.
const MODEL: &str = "model";
/// The folder of a training in that of a stage.
const TRAINING: &str = "training";
/// The file of what the objectives of a training leave for later ones, in the folder of a stage.
const LEFT: &str = "left.safetensors";
/// The file of importance scores in the folder of a stage.
const IMPORTANCE: &str = "importance.safetensors";

/// Where stages are that others read.
pub(super) trait Shelf {
    /// The folder of a stage.
    fn stage(&self, key: &Key) -> PathBuf;

    /// Whether a stage is there.
    fn has(&self, key: &Key) -> Result<bool, StoreError>;

    /// The time in seconds that a stage took, if it is known.
    fn seconds(&self, key: &Key) -> Result<Option<f64>, StoreError>;
}

impl Shelf for Store {
    fn stage(&self, key: &Key) -> PathBuf {
        self.stage(key)
    }

    fn has(&self, key: &Key) -> Result<bool, StoreError> {
        self.is_done(key)
    }

    fn seconds(&self, key: &Key) -> Result<Option<f64>, StoreError> {
        self.seconds(key)
    }
}

/// Does the stages of one seed.
pub(super) struct Jobs<'a, F: Family> {
    pub run: &'a Run<'a, F>,
    pub shelf: &'a dyn Shelf,
    pub keys: &'a SeedKeys,
    /// What is passed of the data where a stage is only timed; all if none.
    pub sample: Option<&'a Sample>,
}

/// What a stage gives besides its files.
pub(super) struct Made {
    pub result: Value,
    /// The time of earlier attempts that this one went on from.
    pub earlier: Duration,
}

/// The scores of a model, and what it costs.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Judged {
    pub scores: Scores,
    pub spans: Vec<Span>,
    pub mixers: Vec<MixerSpec>,
    pub parameters: u64,
    pub active_parameters: u64,
    pub multiply_adds_per_token: u64,
    pub attention: Option<AttentionCost>,
}

/// The data of a training.
type Data<F> = Arc<dyn DataLoader<Batch<<F as Family>::Learner>>>;

impl<F: Family> Jobs<'_, F> {
    /// Does a stage, whose files go into a folder.
    pub fn work(&self, job: Job, dir: &Path) -> Result<Made, Error> {
        let title = title(self.run.plan, self.keys.seed, job);
        self.run.progress.say(&title);
        let plan = |index: usize| &self.run.plan[index];
        let result = match job {
            Job::Start => self.draw(None, dir)?,
            Job::Draw(index) => self.draw(Some(index), dir)?,
            Job::Importance(index) => self.score(plan(index), dir)?,
            Job::Before(index) => {
                let (learner, model) = self.untrained(index)?;
                self.judge(&learner, &model, dir)?
            }
            Job::Train(index) => return self.train(index, None, dir),
            Job::Rung(index, place) => return self.train(index, Some(place), dir),
            Job::Evaluate(index) => {
                let (learner, model) = self.trained(index)?;
                let judged = self.judge(&learner, &model, dir)?;
                self.look_inside(plan(index), &learner, dir)?;
                judged
            }
            Job::Measure => self.measure()?,
        };
        Ok(Made {
            result,
            earlier: Duration::ZERO,
        })
    }

    /// A model of the plan in the structure that it is trained in, before that.
    pub fn untrained(&self, index: usize) -> Result<(F::Learner, Model<F>), Error> {
        let model = self.arranged(&self.run.plan[index])?;
        Ok((self.begin(index, &model)?.split()?, model))
    }

    /// A model of the plan, which is there.
    pub fn trained(&self, index: usize) -> Result<(F::Learner, Model<F>), Error> {
        let model = self.model(&self.run.plan[index])?;
        Ok((self.load(&model)?, model))
    }

    /// Draws the weights to begin with, or those of one model of the plan.
    fn draw(&self, index: Option<usize>, dir: &Path) -> Result<Value, Error> {
        let device = &self.run.options.device;
        let size = match index.map(|index| &self.run.plan[index].from) {
            Some(Origin::Random(size)) => Some(size),
            _ => None,
        };
        seed::seed(device, self.keys.seed);
        self.run.family.draw(&dir.join(MODEL), size, device)?;
        Ok(Value::Null)
    }

    /// The folder of a model that a stage made.
    fn made(&self, key: &Key, weights: Weights) -> Result<Model<F>, Error> {
        let stage = self.shelf.stage(key);
        let (dir, left) = (stage.join(MODEL), stage.join(LEFT));
        Ok(Model {
            folder: self.run.family.open(&dir)?,
            weights,
            dir: Some(dir),
            left: left.is_file().then_some(left),
        })
    }

    /// What a model of the plan begins with.
    fn origin(&self, plan: &ModelPlan) -> Result<Model<F>, Error> {
        match &plan.from {
            Origin::Model(name) => self.model(self.plan(name)),
            Origin::Folder(dir) => {
                let folder = self.run.family.open(dir)?;
                Ok(Model::given(folder, dir.clone()))
            }
            Origin::Random(_) => {
                let key = self.keys_of(plan).drawn.as_ref();
                let key = key.expect("a model of random weights has a stage that draws them");
                self.made(key, Weights::Drawn)
            }
            Origin::Start => match (&self.keys.start, self.run.family.start()?) {
                (None, Some((dir, folder))) => Ok(Model::given(folder, dir)),
                (Some(key), _) => self.made(key, Weights::Drawn),
                (None, None) => unreachable!("weights are drawn where there is no folder"),
            },
        }
    }

    /// A model of the plan, which is there.
    fn model(&self, plan: &ModelPlan) -> Result<Model<F>, Error> {
        match &self.keys_of(plan).train {
            Some(key) => self.made(key, Weights::Trained),
            None => Ok(self.arranged(plan)?.trained()),
        }
    }

    fn place(&self, name: &str) -> usize {
        let place = self.run.plan.iter().position(|plan| plan.name == name);
        place.expect("a recipe is refused if a model follows from one that is not there")
    }

    fn plan(&self, name: &str) -> &ModelPlan {
        &self.run.plan[self.place(name)]
    }

    fn keys_of(&self, plan: &ModelPlan) -> &ModelKeys {
        &self.keys.models[self.place(&plan.name)]
    }

    /// What a model of the plan begins with, under its spans and mixers.
    fn arranged(&self, plan: &ModelPlan) -> Result<Model<F>, Error> {
        let model = self.origin(plan)?;
        let is_changed = plan.spans.is_some() || plan.mixers.is_some();
        Ok(Model {
            folder: self.run.family.arrange(model.folder, plan)?,
            dir: model.dir.filter(|_| !is_changed),
            ..model
        })
    }

    /// The model of a folder, in evaluation form. Weights that the folder has not are the same each time.
    fn load(&self, model: &Model<F>) -> Result<F::Learner, Error> {
        let Run {
            family,
            options,
            progress,
            ..
        } = self.run;
        seed::seed(&options.device, self.keys.seed);
        family.load(&model.folder, model.weights, *progress, &options.device)
    }

    /// The model that a training begins with, its feed-forward layers yet to be split.
    fn begin(&self, index: usize, model: &Model<F>) -> Result<Begun<F>, Error> {
        let plan = &self.run.plan[index];
        let (learner, kept) = kept_layers(plan, self.load(model)?)?;
        let recipe = plan.experts.as_ref();
        let split = recipe.map(|recipe| self.partition(recipe, index, &learner));
        let is_as_it_was = kept.is_none() && split.is_none();
        Ok(Begun {
            learner,
            folder: model.folder.clone(),
            kept,
            base: model.dir.clone().filter(|_| is_as_it_was),
            split: split.transpose()?,
        })
    }

    /// Which neurons each expert of a model gets.
    fn partition(
        &self,
        recipe: &ExpertsRecipe,
        index: usize,
        dense: &F::Learner,
    ) -> Result<Split, Error> {
        let importance = match &self.keys.models[index].importance {
            Some(key) => Some(Importance::load(&self.shelf.stage(key).join(IMPORTANCE))?.0),
            None => None,
        };
        let balances = recipe.router.kind().counts_tokens;
        let counts = balances.then(|| self.run.family.token_counts(dense.vocabulary()));
        let counts = counts.transpose()?;
        let (scores, sizes) = (importance.as_ref(), dense.neurons());
        Ok(Split {
            plan: expert_plan(recipe, scores, sizes, counts.as_deref(), self.keys.seed)?,
            importance,
            dense_width: sizes.1,
        })
    }

    /// The importance scores of the neurons that a model begins with.
    fn score(&self, plan: &ModelPlan, dir: &Path) -> Result<Value, Error> {
        let Run {
            family,
            options,
            progress,
            ..
        } = self.run;
        let (dense, _) = kept_layers(plan, self.load(&self.arranged(plan)?)?)?;
        let recipe = self.run.importance;
        let loader = family.scoring(recipe, &options.device)?;
        let loader = match self.sample {
            Some(sample) => sample.train(loader, 1),
            None => loader,
        };
        let bar = progress.bar("importance", loader.num_items());
        let sizes = dense.neurons();
        let importance =
            score_neurons(&dense, sizes, loader.as_ref(), &options.stop, |done, _| {
                bar.set_position(done as u64);
            })?;
        bar.finish_and_clear();
        let source = ImportanceSource {
            task: family.task(),
            split: recipe.split.name().to_owned(),
        };
        importance.save(&dir.join(IMPORTANCE), &source)?;
        Ok(Value::Null)
    }

    /// Trains a model, or does one of the rungs of its training.
    fn train(&self, index: usize, rung: Option<usize>, dir: &Path) -> Result<Made, Error> {
        let family = &self.run.family;
        let plan = &self.run.plan[index];
        let rungs = &self.keys.models[index].rungs;
        let stop_after = rung.map(|place| rungs[place].epochs);
        let training = dir.join(TRAINING);
        let mut of_others = Duration::ZERO;
        if let Some(place) = rung.and_then(|place| place.checked_sub(1)) {
            let before = &rungs[place].key;
            copy_training(&self.shelf.stage(before).join(TRAINING), &training)?;
            let seconds = self.shelf.seconds(before)?.unwrap_or_default();
            of_others = Duration::try_from_secs_f64(seconds).unwrap_or_default();
        }
        let model = self.arranged(plan)?;
        let begun = self.begin(index, &model)?;
        let left = model.left(&self.run.options.device)?;
        let Fitted {
            model: learner,
            left,
            earlier,
            ..
        } = self.fit(plan, stop_after, &training, &begun, left)?;
        if !left.is_empty() {
            left.save(&dir.join(LEFT))?;
        }
        let experts = match (&begun.split, &plan.experts) {
            (Some(split), Some(recipe)) => Some(split.files(&learner, recipe)?),
            _ => family.experts(&begun.folder).cloned(),
        };
        let extras = Extras {
            plan,
            kept: begun.kept.as_deref(),
            experts: experts.as_ref(),
            base: begun.base.as_deref(),
        };
        family.save(&dir.join(MODEL), learner, &begun.folder, extras)?;
        let epochs = plan.train.as_ref().map(|train| train.epochs);
        if stop_after.is_none() || stop_after == epochs {
            // The model is saved, and nothing goes on from its checkpoints.
            let checkpoints = training.join("checkpoints");
            fs::remove_dir_all(&checkpoints).map_err(|source| Error::file(&checkpoints, source))?;
        }
        Ok(Made {
            result: Value::Null,
            earlier: earlier.saturating_sub(of_others),
        })
    }

    fn fit(
        &self,
        plan: &ModelPlan,
        stop_after: Option<usize>,
        directory: &Path,
        begun: &Begun<F>,
        left: LeftParts,
    ) -> Result<Fitted<F::Learner>, Error> {
        let Run {
            family,
            options,
            progress,
            ..
        } = self.run;
        let recipe = &self.recipe(plan);
        let device = &options.device;
        let label = format!("seed {} {}", self.keys.seed, plan.name);
        let epoch = Epoch::default();
        let [train, dev] = self.data(recipe, &epoch)?;
        let training = Training {
            label: &label,
            directory,
            progress: &directory.with_file_name(PROGRESS),
            recipe,
            stop_after,
            checkpoint: self.run.checkpoint,
            seed: self.keys.seed,
            task: plan.task,
            freeze: &plan.freeze,
        };
        let split = begun.split.as_ref().map(|split| &split.plan);
        let methods = methods(family, plan, &begun.learner, split)?;
        let follows = methods.iter().any(Method::needs_teacher);
        let stage = training.stage(options, epoch, train, dev);
        let stage = stage.methods(methods).left_of_student(left);
        let stage = match plan.teacher.as_ref().filter(|_| follows) {
            Some(name) => {
                let model = self.model(self.plan(name))?;
                let left = model.left(device)?;
                let teacher = Teacher::new(&self.load(&model)?);
                stage.teacher(teacher).left_of_teacher(left)
            }
            None => stage,
        };
        let stage = family.metrics(stage, recipe);
        let learner = family.measured(begun.learner.clone());
        let _follower = self.follow(plan, directory);
        fit(stage, learner, &label, *progress, &options.stop)
    }

    /// How a model is trained; for one epoch where it is only timed.
    fn recipe(&self, plan: &ModelPlan) -> TrainRecipe {
        let recipe = plan.train.clone().unwrap_or_default();
        match self.sample {
            None => recipe,
            Some(_) => TrainRecipe {
                epochs: 1,
                keep: KeptEpoch::Last,
                early_stopping: None,
                ..recipe
            },
        }
    }

    /// The data to train on and to validate on.
    fn data(&self, recipe: &TrainRecipe, epoch: &Epoch) -> Result<[Data<F>; 2], Error> {
        let Run {
            family, options, ..
        } = self.run;
        let device = &options.device;
        let train = family.train(recipe, self.keys.seed, epoch.clone(), device)?;
        let dev = family.dev(recipe, device)?;
        Ok(match self.sample {
            Some(sample) => [sample.train(train, recipe.accumulate), sample.dev(dev)],
            None => [train, dev],
        })
    }

    /// Writes a training for the program that follows it, as long as the result is kept.
    fn follow(&self, plan: &ModelPlan, directory: &Path) -> Option<Follower> {
        let Run {
            tracking, options, ..
        } = self.run;
        let is_asked = tracking.contains(&Tracking::Tensorboard);
        is_asked.then(|| {
            let models = options.out.join("tensorboard");
            let folder = seed_folder(&models, &plan.name, self.keys.seed);
            Follower::start(directory.join("metrics.jsonl"), folder, warn)
        })
    }

    /// The scores of a model, and what it costs.
    pub fn judge(
        &self,
        learner: &F::Learner,
        model: &Model<F>,
        dir: &Path,
    ) -> Result<Value, Error> {
        let Run {
            family,
            options,
            progress,
            ..
        } = self.run;
        let Judgement {
            scores,
            predictions,
            examples,
        } = family.judge(learner, *progress, &options.stop)?;
        file::write(&dir.join(PREDICTIONS), lines(predictions).as_bytes())?;
        Examples::write(&examples, dir)?;
        let cost = Cost::of(learner, family.length());
        let (spans, mixers) = family.layers(&model.folder);
        let judged = Judged {
            scores,
            spans,
            mixers,
            parameters: cost.parameters as u64,
            active_parameters: cost.active_parameters as u64,
            multiply_adds_per_token: cost.multiply_adds_per_token as u64,
            attention: family.attention(&model.folder),
        };
        Ok(serde_json::to_value(judged).map_err(KeyError::from)?)
    }

    /// The times of passes of every model that is judged in milliseconds, all of them measured in turns.
    fn measure(&self) -> Result<Value, Error> {
        let Run {
            family, options, ..
        } = self.run;
        let judged = self.keys.judged().map(|place| &self.run.plan[place]);
        let learners = judged.map(|plan| self.load(&self.model(plan)?));
        let learners = learners.collect::<Result<Vec<_>, _>>()?;
        let latencies = family.latencies(&learners, &options.stop)?;
        Ok(serde_json::to_value(latencies).map_err(KeyError::from)?)
    }
}

/// What a person reads of a stage.
pub(super) fn title(plan: &[ModelPlan], seed: u64, job: Job) -> String {
    let name = |index: usize| &plan[index].name;
    let legend = |index: usize| {
        let legend = plan[index].legend.iter();
        let legend = legend.map(|legend| format!(", {legend}"));
        legend.collect::<String>()
    };
    let what = match job {
        Job::Start => "drawing weights".to_owned(),
        Job::Draw(index) => format!("drawing the weights of `{}`", name(index)),
        Job::Importance(index) => {
            let owner = match &plan[index].from {
                Origin::Model(name) => name,
                _ => name(index),
            };
            format!("scoring the neurons of `{owner}`")
        }
        Job::Before(index) => format!("evaluating `{}` before its training", name(index)),
        Job::Train(index) => format!("training `{}`{}", name(index), legend(index)),
        Job::Rung(index, place) => {
            let rung = place + 1;
            let (name, legend) = (name(index), legend(index));
            format!("training `{name}` up to the end of rung {rung}{legend}")
        }
        Job::Evaluate(index) => format!("evaluating `{}`", name(index)),
        Job::Measure => "measuring latency".to_owned(),
    };
    format!("seed {seed}: {what}")
}
