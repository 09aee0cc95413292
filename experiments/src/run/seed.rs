//! The stages of one seed. Each leaves its result in the run folder and is skipped when it is there.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Instant,
};

use distill::{
    LayerMap, Method, Teacher,
    loss::Padding,
    objective::{Layerwise, RouterLosses},
    surgery::ExpertPartition,
};
use masformer_core::seed;
use moebert_core::{
    cost::Cost,
    heads::{BertModel, BertModelConfig, Head},
    importance::{Importance, ImportanceSource},
    keep_layers::keep_layers,
    layered::Layered,
    pretrained::{Pretrained, PretrainedConfig, SaveOptions, has_adapters, save, save_adapter},
    router::{
        gate::{BALANCE, BALANCE_WITH_PADDING},
        top_k::Z,
    },
};
use serde_json::{Value, json};

use super::{
    TEACHER, expert_files, expert_plan,
    fit::Training,
    prepare::{Prepared, Start},
    score_neurons,
    stages::discard_checkpoints,
};
use crate::{
    data::{DataError, loader::GroupedLoader},
    error::Error,
    labels::load_fine_tuned,
    latency::latencies,
    learner::{ExpertPlan, TaskLearner},
    methods,
    metric::Scores,
    predict::predict,
    recipe::{DataSplit, StudentRecipe},
    table::Row,
    task_settings::TaskSettings,
};

/// Runs the stages of one seed; one row for the teacher and one for each student.
pub(super) fn run(run: &Prepared<'_>, seed: u64) -> Result<Vec<Row>, Error> {
    Seed { run, seed }.rows()
}

struct Seed<'a> {
    run: &'a Prepared<'a>,
    seed: u64,
}

/// A stage that trains a model.
struct TrainingStage {
    name: String,
    /// The folder of checkpoints and metrics.
    training: PathBuf,
    /// The folder of the trained model.
    output: PathBuf,
    done: bool,
}

/// What a student begins with.
struct Beginning {
    learner: TaskLearner,
    config: PretrainedConfig,
    /// The folder of exactly this model, but for its head, where there is one: what adapters can be given with.
    folder: Option<PathBuf>,
}

/// Whether `lora` trains parts of a student whole that a folder of adapters does not hold.
fn trains_further_parts(student: &StudentRecipe) -> bool {
    let lora = student
        .methods
        .get("lora")
        .and_then(|lora| lora.get("train"));
    lora.and_then(toml::Value::as_array)
        .is_some_and(|parts| !parts.is_empty())
}

impl Seed<'_> {
    fn rows(&self) -> Result<Vec<Row>, Error> {
        let start = self.start()?;
        let teacher = self.teacher(&start)?;
        let importance = self.importance(&teacher)?;
        let mut models = vec![(TEACHER, teacher.clone())];
        for (student, pairs) in self.run.recipe.students.iter().zip(&self.run.layers) {
            let experts = student.has_experts();
            let plan = experts.then(|| self.partition(student, &teacher, importance.as_ref()));
            let plan = plan.transpose()?;
            let model =
                self.distil(student, pairs, &teacher, plan.as_ref(), importance.as_ref())?;
            models.push((&student.name, model));
        }
        let latencies = self.latencies(&models)?;
        models
            .iter()
            .zip(latencies)
            .map(|((name, model), latency_ms)| {
                let (metrics, cost) = self.evaluate(name, model)?;
                Ok(Row {
                    name: (*name).to_owned(),
                    seed: self.seed,
                    metrics,
                    parameters: cost.parameters as u64,
                    active_parameters: cost.active_parameters as u64,
                    multiply_adds_per_token: cost.multiply_adds_per_token as u64,
                    latency_ms,
                })
            })
            .collect()
    }

    fn stage(&self, name: &str) -> String {
        format!("seed-{}/{name}", self.seed)
    }

    fn say(&self, text: &str) {
        self.run
            .progress
            .say(&format!("seed {}: {text}", self.seed));
    }

    /// The folder of the dense model to begin with.
    fn start(&self) -> Result<PathBuf, Error> {
        let config = match &self.run.start {
            Start::Folder(dir) => return Ok(dir.clone()),
            Start::Fresh(config) => config,
        };
        let stage = self.stage("start");
        let dir = self.run.folder.stage_dir(&stage)?;
        if self.run.folder.done::<()>(&stage)?.is_none() {
            let device = &self.run.options.device;
            seed::seed(device, self.seed);
            let model = BertModelConfig::new(config.clone(), Head::Encoder).init(device);
            let config = PretrainedConfig::new(config.clone(), Head::Encoder);
            save(&dir, &model, &config, self.save_options())?;
            self.run.folder.finish(&stage, &())?;
        }
        Ok(dir)
    }

    fn save_options(&self) -> SaveOptions<'_> {
        SaveOptions {
            tokenizer: Some(&self.run.tokenizer_dir),
            labels: self.run.recipe.data.task.labels(),
            experts: None,
        }
    }

    /// The folder of the fine-tuned dense model.
    fn teacher(&self, start: &Path) -> Result<PathBuf, Error> {
        if self.run.recipe.teacher.fine_tuned {
            return Ok(start.to_owned());
        }
        let stage = self.training_stage(TEACHER)?;
        if stage.done {
            return Ok(stage.output);
        }
        self.say("fine-tuning the teacher");
        let clock = Instant::now();
        let device = &self.run.options.device;
        seed::seed(device, self.seed);
        let pretrained = self.open(start)?;
        let (model, report) = pretrained.load(Some(self.run.head), device)?;
        if matches!(self.run.start, Start::Folder(_)) && !report.is_exact() {
            self.run.progress.say(report.to_string().trim_end());
        }
        let learner = Training {
            label: format!("seed {} teacher", self.seed),
            directory: &stage.training,
            recipe: self.run.recipe.teacher_train(),
            checkpoint: self.run.recipe.checkpoint.clone(),
            seed: self.seed,
            task: 1.0,
            methods: vec![],
        }
        .fit(self.run, TaskLearner { model }, None)?;
        let options = self.save_options();
        save(&stage.output, &learner.model, pretrained.config(), options)?;
        TaskSettings::of_encoder(&self.run.recipe.data).write(&stage.output)?;
        let seconds = clock.elapsed().as_secs_f64();
        self.finish_training(stage, &json!({ "seconds": seconds }))
    }

    /// Opens the folders of a training.
    fn training_stage(&self, name: &str) -> Result<TrainingStage, Error> {
        let name = self.stage(name);
        let dir = self.run.folder.stage_dir(&name)?;
        let training = dir.join("training");
        let done = self.run.folder.done::<Value>(&name)?.is_some();
        if done {
            discard_checkpoints(&training)?;
        }
        Ok(TrainingStage {
            name,
            training,
            output: dir.join("model"),
            done,
        })
    }

    /// Marks a training as done; the saved model, whose folder is returned, replaces its checkpoints.
    fn finish_training(&self, stage: TrainingStage, result: &Value) -> Result<PathBuf, Error> {
        self.run.folder.finish(&stage.name, result)?;
        self.run.folder.gather_metrics()?;
        discard_checkpoints(&stage.training)?;
        Ok(stage.output)
    }

    /// The importance scores of the teacher's neurons, where a student's order needs them.
    fn importance(&self, teacher: &Path) -> Result<Option<Importance>, Error> {
        let recipe = self.run.recipe;
        let needed = recipe
            .expert_students()
            .any(|student| recipe.student_experts(student).order.needs_importance());
        if !needed {
            return Ok(None);
        }
        let stage = self.stage("importance");
        let path = self
            .run
            .folder
            .stage_dir(&stage)?
            .join("importance.safetensors");
        if self.run.folder.done::<()>(&stage)?.is_none() {
            self.say("scoring the teacher's neurons");
            let sequences = match recipe.importance.split {
                DataSplit::Train => &self.run.train,
                DataSplit::Dev => &self.run.dev[0].0,
            };
            let features = match recipe.importance.samples {
                Some(samples) => sequences.first(samples),
                None => sequences.features.clone(),
            };
            let learner = self.learner(teacher)?;
            let loader = GroupedLoader::sorted(
                features.clone(),
                recipe.importance.batch_size,
                self.run.tokenizer.pad_id(),
                &self.run.options.device,
            )
            .map_err(DataError::from)?;
            let bar = self.run.progress.bar("importance", features.len());
            let importance = score_neurons(
                &learner,
                learner.model.neurons(),
                &loader,
                &self.run.options.stop,
                |done, _| {
                    bar.set_position(done as u64);
                },
            )?;
            bar.finish_and_clear();
            let source = ImportanceSource {
                task: recipe.data.task.to_string(),
                split: recipe.importance.split.name().to_owned(),
            };
            importance.save(&path, &source)?;
            self.run.folder.finish(&stage, &())?;
        }
        let (importance, _) = Importance::load(&path)?;
        Ok(Some(importance))
    }

    /// A model's folder; the one to begin with under the spans and mixers of the recipe.
    fn open(&self, dir: &Path) -> Result<Pretrained, Error> {
        let mut pretrained = Pretrained::open(dir)?;
        if !matches!(&self.run.start, Start::Folder(start) if start == dir) {
            return Ok(pretrained);
        }
        if let Some(spans) = &self.run.spans {
            pretrained = pretrained.with_spans(spans.clone())?;
        }
        if let Some(mixers) = &self.run.mixers {
            pretrained = pretrained.with_mixers(mixers.clone())?;
        }
        Ok(pretrained)
    }

    fn learner(&self, dir: &Path) -> Result<TaskLearner, Error> {
        let device = &self.run.options.device;
        let task = self.run.recipe.data.task;
        let (model, _) = load_fine_tuned(&self.open(dir)?, task, device)?;
        Ok(TaskLearner { model })
    }

    /// Which neurons each expert of a student owns.
    fn partition(
        &self,
        student: &StudentRecipe,
        teacher: &Path,
        importance: Option<&Importance>,
    ) -> Result<ExpertPlan, Error> {
        let stage = self.stage(&format!("{}/partition", student.name));
        if let Some(plan) = self.run.folder.done(&stage)? {
            return Ok(plan);
        }
        let config = Pretrained::open(teacher)?.config().bert.clone();
        let plan = expert_plan(
            &self.run.recipe.student_experts(student),
            importance,
            (config.num_hidden_layers, config.intermediate_size),
            Some(&self.run.token_counts),
            self.seed,
        )?;
        self.run.folder.finish(&stage, &plan)?;
        Ok(plan)
    }

    /// What a student begins with.
    fn student_start(
        &self,
        student: &StudentRecipe,
        teacher_dir: &Path,
        teacher: &TaskLearner,
    ) -> Result<Beginning, Error> {
        if let Some(dir) = &student.model {
            let pretrained = Pretrained::open(dir)?;
            let (model, report) = pretrained.load(Some(self.run.head), &self.run.options.device)?;
            if !report.is_exact() {
                self.run.progress.say(report.to_string().trim_end());
            }
            // The head is saved with adapters; any other weight that the folder lacks would be missing beside them.
            let is_whole = report.anew().iter().all(|name| !name.starts_with("bert."));
            return Ok(Beginning {
                learner: TaskLearner { model },
                config: pretrained.config().clone(),
                folder: is_whole.then(|| dir.clone()),
            });
        }
        let mut config = Pretrained::open(teacher_dir)?.config().clone();
        let mut model = teacher.model.clone();
        let layers = config.bert.num_hidden_layers;
        if let Some(kept) = &student.keep_layers {
            let kept = kept.indices(config.bert.num_hidden_layers);
            let kept = kept.map_err(|source| Error::OfModel {
                name: student.name.clone(),
                source: source.into(),
            })?;
            config.bert = config.bert.with_kept_layers(&kept);
            model = keep_layers(model, &kept);
        }
        let is_changed = self.run.spans.is_some() || self.run.mixers.is_some();
        let is_teacher = !student.has_experts()
            && config.bert.num_hidden_layers == layers
            && !(self.run.recipe.teacher.fine_tuned && is_changed);
        Ok(Beginning {
            learner: TaskLearner { model },
            config,
            folder: is_teacher.then(|| teacher_dir.to_owned()),
        })
    }

    /// The folder of a trained student.
    fn distil(
        &self,
        student: &StudentRecipe,
        pairs: &[(usize, usize)],
        teacher_dir: &Path,
        plan: Option<&ExpertPlan>,
        importance: Option<&Importance>,
    ) -> Result<PathBuf, Error> {
        let stage = self.training_stage(&format!("{}/distil", student.name))?;
        if stage.done {
            return Ok(stage.output);
        }
        self.say(&format!("training the student `{}`", student.name));
        if student.distill {
            let map = &self.run.recipe.distill.layers;
            let pairs = LayerMap::Explicit(pairs.to_vec());
            self.say(&format!("layer map {map}: {pairs}"));
        }
        let clock = Instant::now();
        seed::seed(&self.run.options.device, self.seed);
        let teacher = self.learner(teacher_dir)?;
        let (_, dense_width) = teacher.model.neurons();
        let start = self.student_start(student, teacher_dir, &teacher)?;
        let methods = self.methods(student, plan)?;
        let follows = methods.iter().any(Method::needs_teacher);
        let teacher = follows.then(|| Teacher::new(&teacher));
        let learner = Training {
            label: format!("seed {} {}", self.seed, student.name),
            directory: &stage.training,
            recipe: self.run.recipe.student_train(),
            checkpoint: self.run.recipe.checkpoint.clone(),
            seed: self.seed,
            task: student.task,
            methods,
        }
        .fit(self.run, start.learner, teacher)?;
        if let Some(base) = start.folder
            && has_adapters(&learner.model)
            && !trains_further_parts(student)
        {
            let base = fs::canonicalize(&base).map_err(|source| Error::file(&base, source))?;
            let adapter = stage.output.with_file_name("adapter");
            save_adapter(&adapter, &learner.model, Some(&base.to_string_lossy()))?;
        }
        let recipe = self.run.recipe.student_experts(student);
        let importance = importance
            .filter(|_| recipe.order.needs_importance())
            .cloned();
        let files =
            plan.map(|plan| expert_files(&learner.model, plan, &recipe, dense_width, importance));
        let files = files.transpose()?;
        let options = SaveOptions {
            experts: files.as_ref(),
            ..self.save_options()
        };
        save(&stage.output, &learner.model, &start.config, options)?;
        TaskSettings::of_encoder(&self.run.recipe.data).write(&stage.output)?;
        let seconds = clock.elapsed().as_secs_f64();
        let layers = student.distill.then_some(pairs);
        let result = json!({ "seconds": seconds, "layers": layers });
        self.finish_training(stage, &result)
    }

    /// The methods that take part in a student's training.
    fn methods(
        &self,
        student: &StudentRecipe,
        plan: Option<&ExpertPlan>,
    ) -> Result<Vec<Method<TaskLearner>>, Error> {
        let recipe = &self.run.recipe.distill;
        let mut methods = vec![];
        if let Some(plan) = plan {
            methods.push(Method::Surgery(Box::new(ExpertPartition::new(
                plan.clone(),
            ))));
            methods.push(Method::Objective(Box::new(self.routers(student))));
        }
        if student.distill {
            methods.push(Method::Objective(Box::new(Layerwise {
                weight: recipe.lambda,
                layers: recipe.layers.clone(),
                padding: recipe.padding,
                logits: recipe.logits,
                temperature: recipe.temperature,
            })));
        }
        let others = methods::make(&student.methods);
        methods.extend(others.map_err(|source| Error::OfModel {
            name: student.name.clone(),
            source: source.into(),
        })?);
        Ok(methods)
    }

    /// What the routers of a student add to its loss.
    fn routers(&self, student: &StudentRecipe) -> RouterLosses {
        let recipe = &self.run.recipe.distill;
        // A table has no balance loss, and nothing of it to show.
        let router = self.run.recipe.student_experts(student).router;
        let mut losses = RouterLosses::default();
        if router.is_gate() {
            let name = match recipe.padding {
                Padding::Exclude => BALANCE,
                Padding::Include => BALANCE_WITH_PADDING,
            };
            losses = losses.with(name, "Balance loss", recipe.balance);
        }
        if router.takes_several() {
            losses = losses.with(Z, "Router z-loss", recipe.z);
        }
        losses
    }

    /// The scores of a saved model on every split to judge on, and what the model costs.
    fn evaluate(&self, name: &str, dir: &Path) -> Result<(Scores, Cost), Error> {
        let stage = self.stage(&format!("{name}/evaluate"));
        let learner = self.learner(dir)?;
        let cost = Cost::of(&learner.model, self.run.recipe.latency.length);
        if let Some(scores) = self.run.folder.done(&stage)? {
            return Ok((scores, cost));
        }
        self.say(&format!("evaluating `{name}`"));
        let mut scores = Scores::default();
        for (sequences, rule) in &self.run.dev {
            let features = &sequences.features;
            let bar = self.run.progress.bar("evaluate", features.len());
            let predictions = predict(
                &learner,
                features,
                self.run.recipe.train.batch_size,
                self.run.tokenizer.pad_id(),
                &self.run.options.stop,
                |done, _| bar.set_position(done as u64),
            )?;
            bar.finish_and_clear();
            let answers = sequences.answers(&predictions, rule)?;
            scores.extend(sequences.judge(&answers, rule)?);
        }
        self.run.folder.finish(&stage, &scores)?;
        Ok((scores, cost))
    }

    /// The latency of each saved model in milliseconds, all of them measured in turns.
    fn latencies(&self, models: &[(&str, PathBuf)]) -> Result<Vec<f64>, Error> {
        let stage = self.stage("latency");
        if let Some(latencies) = self.run.folder.done(&stage)? {
            return Ok(latencies);
        }
        self.say("measuring latency");
        let models = models
            .iter()
            .map(|(_, dir)| Ok(self.learner(dir)?.model))
            .collect::<Result<Vec<BertModel>, Error>>()?;
        let latencies = latencies(&models, &self.run.recipe.latency, &self.run.options.stop)?;
        self.run.folder.finish(&stage, &latencies)?;
        Ok(latencies)
    }
}
