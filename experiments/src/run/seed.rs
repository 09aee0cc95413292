//! The models of one seed: each is trained and judged, and what is done is found in the run folder.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    time::Instant,
};

use distill::{
    Epoch, Method, Teacher, loss::Padding, objective::RouterLosses, surgery::ExpertPartition,
};
use masformer_core::seed;
use moebert_core::{
    cost::Cost,
    expert_files::ExpertFiles,
    importance::{Importance, ImportanceSource},
    keep_layers::keep_layers,
    layered::Layered,
    router::{
        RouterKind,
        gate::{BALANCE, BALANCE_WITH_PADDING},
        top_k::Z,
    },
};
use serde::{Deserialize, Serialize};

use super::{
    Run, expert_files, expert_plan,
    family::{Extras, Family, Weights},
    fit::{Training, fit},
    score_neurons,
};
use crate::{
    error::Error,
    learner::ExpertPlan,
    methods,
    metric::Scores,
    recipe::{ExpertsRecipe, ModelPlan, Origin, TrainRecipe},
    table::Row,
};

/// Makes and judges every model of the plan; one row each.
pub(super) fn run<F: Family>(run: &Run<'_, F>, seed: u64) -> Result<Vec<Row>, Error> {
    Seed { run, seed }.rows()
}

struct Seed<'a, F: Family> {
    run: &'a Run<'a, F>,
    seed: u64,
}

/// A model that is there.
struct Model<F: Family> {
    folder: F::Folder,
    weights: Weights,
    /// The folder on disk, where it holds the model as it is.
    dir: Option<PathBuf>,
}

/// A model before its training.
struct Begun<F: Family> {
    learner: F::Learner,
    folder: F::Folder,
    /// The layers that are left of the folder's.
    kept: Option<Vec<usize>>,
    /// The folder on disk, if the model is exactly that.
    base: Option<PathBuf>,
    split: Option<Split>,
}

/// How the feed-forward layers of a model are split.
struct Split {
    plan: ExpertPlan,
    importance: Option<Importance>,
    dense_width: usize,
}

/// What a training says of itself when it is done.
#[derive(Serialize, Deserialize)]
struct Trained {
    seconds: f64,
}

impl<F: Family> Seed<'_, F> {
    fn rows(&self) -> Result<Vec<Row>, Error> {
        let start = self.start()?;
        let plans = &self.run.plan;
        let mut models: BTreeMap<&str, Model<F>> = BTreeMap::new();
        let mut rows = vec![];
        for plan in plans {
            let origin = match &plan.from {
                Origin::Start => start.clone(),
                Origin::Model(name) => models[name.as_str()].clone(),
                Origin::Folder(dir) => self.given(self.run.family.open(dir)?, dir),
            };
            let arranged = self.arrange(origin, plan)?;
            let before = plan
                .judge_before
                .then(|| self.judge(plan, "before", || self.begin(plan, &arranged)?.split()));
            let before = before.transpose()?;
            let (model, seconds) = match &plan.train {
                Some(recipe) => {
                    let teacher = plan.teacher.as_ref().map(|name| &models[name.as_str()]);
                    let (model, trained) = self.train(plan, recipe, &arranged, teacher)?;
                    (model, Some(trained.seconds))
                }
                None => (arranged.trained(), None),
            };
            let metrics = self.judge(plan, "evaluate", || self.load(&model))?;
            rows.push(self.row(plan, &model, (before, metrics), seconds)?);
            models.insert(&plan.name, model);
        }
        if let Some(latencies) =
            self.latencies(plans.iter().map(|plan| &models[plan.name.as_str()]))?
        {
            for (row, latency) in rows.iter_mut().zip(latencies) {
                row.latency_ms = Some(latency);
            }
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

    fn given(&self, folder: F::Folder, dir: &Path) -> Model<F> {
        Model {
            folder,
            weights: Weights::Given,
            dir: Some(dir.to_owned()),
        }
    }

    /// The model to begin with. Drawn weights are the same whatever they are arranged as.
    fn start(&self) -> Result<Model<F>, Error> {
        let Run {
            family,
            folder,
            options,
            ..
        } = self.run;
        if let Some((dir, folder)) = family.start()? {
            return Ok(self.given(folder, &dir));
        }
        let stage = self.stage("start");
        let dir = folder.stage_dir(&stage)?;
        if folder.done::<()>(&stage)?.is_none() {
            seed::seed(&options.device, self.seed);
            family.draw(&dir, &options.device)?;
            folder.finish(&stage, &())?;
        }
        Ok(Model {
            folder: family.open(&dir)?,
            weights: Weights::Drawn,
            dir: Some(dir),
        })
    }

    /// A model under the spans and mixers of a plan.
    fn arrange(&self, model: Model<F>, plan: &ModelPlan) -> Result<Model<F>, Error> {
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
        seed::seed(&options.device, self.seed);
        family.load(&model.folder, model.weights, *progress, &options.device)
    }

    /// The model that a training begins with, its feed-forward layers yet to be split.
    fn begin(&self, plan: &ModelPlan, model: &Model<F>) -> Result<Begun<F>, Error> {
        let mut learner = self.load(model)?;
        let mut kept = None;
        if let Some(layers) = &plan.keep_layers {
            let (depth, _) = learner.neurons();
            let indices = layers.indices(depth).map_err(|source| Error::OfModel {
                name: plan.name.clone(),
                source: source.into(),
            })?;
            learner = keep_layers(learner, &indices);
            kept = (indices.len() < depth).then_some(indices);
        }
        let split = plan
            .experts
            .is_some()
            .then(|| self.partition(plan, &learner));
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
    fn partition(&self, plan: &ModelPlan, dense: &F::Learner) -> Result<Split, Error> {
        let recipe = plan.experts.clone().unwrap_or_default();
        let importance = recipe
            .order
            .needs_importance()
            .then(|| self.importance(plan, dense));
        let importance = importance.transpose()?;
        let balances = recipe.router == RouterKind::HashBalance;
        let counts = balances.then(|| self.run.family.token_counts(dense.vocabulary()));
        let counts = counts.transpose()?;
        let sizes = dense.neurons();
        Ok(Split {
            plan: expert_plan(
                &recipe,
                importance.as_ref(),
                sizes,
                counts.as_deref(),
                self.seed,
            )?,
            importance,
            dense_width: sizes.1,
        })
    }

    /// The importance scores of the neurons of a dense model. Models that begin as the same one share them.
    fn importance(&self, plan: &ModelPlan, dense: &F::Learner) -> Result<Importance, Error> {
        let Run {
            family,
            folder,
            options,
            progress,
            ..
        } = self.run;
        let is_arranged =
            plan.spans.is_some() || plan.mixers.is_some() || plan.keep_layers.is_some();
        let owner = match &plan.from {
            Origin::Model(name) if !is_arranged => name,
            _ => &plan.name,
        };
        let stage = self.stage(&format!("{owner}/importance"));
        let path = folder.stage_dir(&stage)?.join("importance.safetensors");
        if folder.done::<()>(&stage)?.is_none() {
            self.say(&format!("scoring the neurons of `{owner}`"));
            let recipe = &self.run.importance;
            let loader = family.scoring(recipe, &options.device)?;
            let bar = progress.bar("importance", loader.num_items());
            let sizes = dense.neurons();
            let importance =
                score_neurons(dense, sizes, loader.as_ref(), &options.stop, |done, _| {
                    bar.set_position(done as u64);
                })?;
            bar.finish_and_clear();
            let source = ImportanceSource {
                task: family.task(),
                split: recipe.split.name().to_owned(),
            };
            importance.save(&path, &source)?;
            folder.finish(&stage, &())?;
        }
        Ok(Importance::load(&path)?.0)
    }

    /// The trained model, and what its training took.
    fn train(
        &self,
        plan: &ModelPlan,
        recipe: &TrainRecipe,
        origin: &Model<F>,
        teacher: Option<&Model<F>>,
    ) -> Result<(Model<F>, Trained), Error> {
        let Run { family, folder, .. } = self.run;
        let stage = self.stage(&plan.name);
        let dir = folder.stage_dir(&stage)?;
        let (training, output) = (dir.join("training"), dir.join("model"));
        let trained = if let Some(trained) = folder.done(&stage)? {
            trained
        } else {
            let legend = plan.legend.iter().map(|legend| format!(", {legend}"));
            self.say(&format!(
                "training `{}`{}",
                plan.name,
                legend.collect::<String>()
            ));
            let clock = Instant::now();
            let begun = self.begin(plan, origin)?;
            let learner = self.fit(plan, recipe, &training, &begun, teacher)?;
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
            family.save(&output, learner, &begun.folder, extras)?;
            let seconds = clock.elapsed().as_secs_f64();
            let trained = Trained { seconds };
            folder.finish(&stage, &trained)?;
            folder.gather_metrics()?;
            trained
        };
        discard_checkpoints(&training)?;
        let model = Model {
            folder: family.open(&output)?,
            weights: Weights::Trained,
            dir: Some(output),
        };
        Ok((model, trained))
    }

    fn fit(
        &self,
        plan: &ModelPlan,
        recipe: &TrainRecipe,
        directory: &Path,
        begun: &Begun<F>,
        teacher: Option<&Model<F>>,
    ) -> Result<F::Learner, Error> {
        let Run {
            family,
            options,
            progress,
            ..
        } = self.run;
        let device = &options.device;
        let label = format!("seed {} {}", self.seed, plan.name);
        let epoch = Epoch::default();
        let train = family.train(recipe, self.seed, epoch.clone(), device)?;
        let dev = family.dev(recipe, device)?;
        let training = Training {
            label: &label,
            directory,
            recipe,
            checkpoint: self.run.checkpoint,
            seed: self.seed,
            task: plan.task,
        };
        let methods = methods(family, plan, begun)?;
        let follows = methods.iter().any(Method::needs_teacher);
        let stage = training.stage(options, epoch, train, dev).methods(methods);
        let stage = match teacher.filter(|_| follows) {
            Some(model) => stage.teacher(Teacher::new(&self.load(model)?)),
            None => stage,
        };
        let stage = family.metrics(stage, recipe);
        let learner = family.measured(begun.learner.clone());
        fit(stage, learner, &label, *progress)
    }

    /// The scores of a model, as the stage `name/what`.
    fn judge(
        &self,
        plan: &ModelPlan,
        what: &str,
        learner: impl FnOnce() -> Result<F::Learner, Error>,
    ) -> Result<Scores, Error> {
        let Run {
            family,
            folder,
            options,
            progress,
            ..
        } = self.run;
        let stage = self.stage(&format!("{}/{what}", plan.name));
        if let Some(scores) = folder.done(&stage)? {
            return Ok(scores);
        }
        let moment = if what == "before" {
            " before its training"
        } else {
            ""
        };
        self.say(&format!("evaluating `{}`{moment}", plan.name));
        let scores = family.judge(&learner()?, *progress, &options.stop)?;
        folder.finish(&stage, &scores)?;
        Ok(scores)
    }

    fn row(
        &self,
        plan: &ModelPlan,
        model: &Model<F>,
        (metrics_before, metrics): (Option<Scores>, Scores),
        seconds: Option<f64>,
    ) -> Result<Row, Error> {
        let family = &self.run.family;
        let cost = Cost::of(&self.load(model)?, family.length());
        let (spans, mixers) = family.layers(&model.folder);
        Ok(Row {
            name: plan.name.clone(),
            seed: self.seed,
            spans,
            mixers,
            experts: plan.experts.as_ref().map(ToString::to_string),
            metrics_before,
            metrics,
            parameters: cost.parameters as u64,
            active_parameters: cost.active_parameters as u64,
            multiply_adds_per_token: cost.multiply_adds_per_token as u64,
            attention: family.attention(&model.folder),
            latency_ms: None,
            seconds,
        })
    }

    /// The latency of each model in milliseconds, all of them measured in turns.
    fn latencies<'a>(
        &self,
        models: impl Iterator<Item = &'a Model<F>>,
    ) -> Result<Option<Vec<f64>>, Error>
    where
        F: 'a,
    {
        let Run {
            family,
            folder,
            options,
            ..
        } = self.run;
        let stage = self.stage("latency");
        if let Some(latencies) = folder.done(&stage)? {
            return Ok(Some(latencies));
        }
        if !family.has_latency() {
            return Ok(None);
        }
        self.say("measuring latency");
        let learners = models
            .map(|model| self.load(model))
            .collect::<Result<Vec<_>, _>>()?;
        let latencies = family.latencies(&learners, &options.stop)?;
        folder.finish(&stage, &latencies)?;
        Ok(Some(latencies))
    }
}

impl<F: Family> Clone for Model<F> {
    fn clone(&self) -> Self {
        Self {
            folder: self.folder.clone(),
            weights: self.weights,
            dir: self.dir.clone(),
        }
    }
}

impl<F: Family> Model<F> {
    /// The model, to be used as it is.
    fn trained(self) -> Self {
        Self {
            weights: Weights::Trained,
            ..self
        }
    }
}

impl<F: Family> Begun<F> {
    /// The model in the structure that it is trained in.
    fn split(self) -> Result<F::Learner, Error> {
        match self.split {
            Some(split) => Ok(split.plan.split(self.learner)?),
            None => Ok(self.learner),
        }
    }
}

impl Split {
    /// What is saved beside the weights.
    fn files(&self, model: &impl Layered, recipe: &ExpertsRecipe) -> Result<ExpertFiles, Error> {
        let importance = self.importance.clone();
        expert_files(model, &self.plan, recipe, self.dense_width, importance)
    }
}

/// The methods of a training, in the order in which they change the model and add to the loss.
fn methods<F: Family>(
    family: &F,
    plan: &ModelPlan,
    begun: &Begun<F>,
) -> Result<Vec<Method<F::Learner>>, Error> {
    let mut methods = vec![];
    if let Some(split) = &begun.split {
        let experts = ExpertPartition::new(split.plan.clone());
        methods.push(Method::Surgery(Box::new(experts)));
    }
    if let Some(losses) = routers(plan, &begun.learner) {
        methods.push(Method::Objective(Box::new(losses)));
    }
    methods.extend(family.callbacks());
    let others = methods::make(&plan.methods).map_err(|source| Error::OfModel {
        name: plan.name.clone(),
        source: source.into(),
    })?;
    methods.extend(others);
    Ok(methods)
}

/// What the routers of a model add to its loss; none for a dense model.
fn routers(plan: &ModelPlan, model: &impl Layered) -> Option<RouterLosses> {
    let (is_gate, takes_several) = if let Some(experts) = &plan.experts {
        (experts.router.is_gate(), experts.router.takes_several())
    } else {
        let layers = model.stack().layers.iter();
        let mut experts = layers.filter_map(|layer| layer.feed_forward.experts());
        let router = &experts.next()?.router;
        (router.gate().is_some(), router.experts_per_token() > 1)
    };
    let weights = &plan.routers;
    let mut losses = RouterLosses::default();
    // A table has no balance loss, and nothing of it to show.
    if is_gate {
        let name = match weights.padding {
            Padding::Exclude => BALANCE,
            Padding::Include => BALANCE_WITH_PADDING,
        };
        losses = losses.with(name, "Balance loss", weights.balance);
    }
    if takes_several {
        losses = losses.with(Z, "Router z-loss", weights.z);
    }
    Some(losses)
}

/// Deletes the checkpoints of a training that is done, also where a kill came between the two.
fn discard_checkpoints(training: &Path) -> Result<(), Error> {
    let checkpoints = training.join("checkpoints");
    if checkpoints.exists() {
        fs::remove_dir_all(&checkpoints).map_err(|source| Error::file(&checkpoints, source))?;
    }
    Ok(())
}
