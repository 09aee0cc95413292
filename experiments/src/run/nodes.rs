//! The stages of a run: every model of every seed from its origin to its scores, each under a key that follows from what
//! it is made of.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use serde::Serialize;
use serde_json::{Map, Value, json};

use super::{identity::Identity, phase::Phase};
use crate::{
    error::Error,
    graph::{Document, Fingerprint, Fingerprints, Format, Key, KeyError, Source},
    recipe::{DataSplit, ImportanceRecipe, ModelPlan, Origin},
};

/// Raised by a commit that changes what stages of a kind make.
const START: u32 = 1;
const IMPORTANCE: u32 = 1;
const TRAIN: u32 = 2;
const EVALUATE: u32 = 2;
const MEASURE: u32 = 2;

/// A stage.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub key: Key,
    pub document: Document,
    pub seed: u64,
    pub job: Job,
}

/// What a stage does; numbers are places in the plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Job {
    /// Draws the weights to begin with.
    Start,
    /// Draws the weights that a model of its own size begins with.
    Draw(usize),
    /// Scores the neurons that a model begins with.
    Importance(usize),
    /// Judges a model before its training.
    Before(usize),
    /// Trains a model.
    Train(usize),
    /// Trains a model up to the end of one of its rungs, from that of the rung before.
    Rung(usize, usize),
    /// Judges a model.
    Evaluate(usize),
    /// Measures all models of a seed.
    Measure,
}

/// The stages of one seed.
#[derive(Clone, Debug)]
pub(super) struct SeedKeys {
    pub seed: u64,
    /// Where weights are drawn.
    pub start: Option<Key>,
    /// In the order of the plan.
    pub models: Vec<ModelKeys>,
    pub measure: Option<Key>,
}

/// The stages of one model; none where nothing is done with it.
#[derive(Clone, Debug, Default)]
pub(super) struct ModelKeys {
    /// Where weights are drawn for it alone.
    pub drawn: Option<Key>,
    pub importance: Option<Key>,
    pub before: Option<Key>,
    /// None where it is judged as it is; the last one of its rungs, if it has some.
    pub train: Option<Key>,
    /// The parts of its training, if it is done in parts.
    pub rungs: Vec<RungKey>,
    /// None where it is not judged.
    pub evaluate: Option<Key>,
}

/// A part of a training.
#[derive(Clone, Debug)]
pub(super) struct RungKey {
    /// The epoch after which it ends.
    pub epochs: usize,
    pub key: Key,
}

impl SeedKeys {
    /// Whether a stage is among those of the seed.
    pub fn holds(&self, node: &Node) -> bool {
        let key = &node.key;
        let is_own = |own: &Option<Key>| own.as_ref() == Some(key);
        let mut models = self.models.iter();
        self.seed == node.seed
            && (is_own(&self.start)
                || is_own(&self.measure)
                || models.any(|model| {
                    let mut rungs = model.rungs.iter();
                    model.stages().any(|(_, own)| own == key) || rungs.any(|rung| rung.key == *key)
                }))
    }

    /// The places of the models that are judged.
    pub fn judged(&self) -> impl Iterator<Item = usize> {
        let models = self.models.iter().enumerate();
        let judged = models.filter(|(_, keys)| keys.evaluate.is_some());
        judged.map(|(place, _)| place)
    }
}

impl ModelKeys {
    /// The stages that belong to the model, by the names that they have in its folder.
    pub fn stages(&self) -> impl Iterator<Item = (String, &Key)> {
        let end = self.rungs.last();
        let end = end.map_or(String::new(), |rung| format!("-after-{}", rung.epochs));
        let stages = [
            ("start".to_owned(), self.drawn.as_ref()),
            ("importance".to_owned(), self.importance.as_ref()),
            ("before".to_owned(), self.before.as_ref()),
            (format!("train{end}"), self.train.as_ref()),
            (format!("evaluate{end}"), self.evaluate.as_ref()),
        ];
        stages
            .into_iter()
            .filter_map(|(name, key)| Some((name, key?)))
    }
}

/// The stages of the arms on one base, each after those that it reads.
#[derive(Clone, Debug)]
pub(super) struct Nodes {
    /// The stages, without those that an earlier base has.
    pub all: Vec<Node>,
    pub seeds: Vec<SeedKeys>,
    /// Whether models are judged by the data that they are validated on.
    pub is_judged_on_valid: bool,
}

impl Nodes {
    /// Adds the stages of another phase that are not there yet.
    pub fn extend(&mut self, more: Self) {
        let known: BTreeSet<Key> = self.all.iter().map(|node| node.key.clone()).collect();
        let fresh = more.all.into_iter();
        self.all
            .extend(fresh.filter(|node| !known.contains(&node.key)));
        self.seeds.extend(more.seeds);
    }
}

/// The stages of one base in the making.
struct Graph<'a> {
    nodes: Vec<Node>,
    /// The keys of all stages so far, those of other bases included.
    keys: &'a mut BTreeSet<Key>,
    /// What documents have of each model of the plan.
    written: &'a [Written],
}

/// What documents have of a model, whatever the seed.
struct Written {
    plan: Value,
    experts: Value,
    arrangement: Value,
}

impl Written {
    fn of(plan: &ModelPlan) -> Self {
        Self {
            plan: json!(plan),
            experts: json!(plan.experts),
            arrangement: json!({
                "keep_layers": plan.keep_layers,
                "mixers": plan.mixers,
                "spans": plan.spans,
            }),
        }
    }
}

/// What stages are made of.
pub(super) struct Makings<'a> {
    pub plan: &'a [ModelPlan],
    pub importance: &'a ImportanceRecipe,
    pub identity: Identity,
    /// The content of the folders of students.
    pub folders: BTreeMap<PathBuf, Fingerprint>,
    /// Where times are measured.
    pub machine: Value,
}

/// A model as the input of a stage: a stage, or a folder; and how that is arranged.
#[derive(Clone, Default)]
struct Input {
    stage: Option<Key>,
    folder: Option<Fingerprint>,
    arranged: Vec<Value>,
}

/// The fingerprints of the folders that models of a plan begin with.
///
/// # Errors
///
/// If a folder cannot be read.
pub(super) fn folders(
    plan: &[ModelPlan],
    fingerprints: &mut Fingerprints,
) -> Result<BTreeMap<PathBuf, Fingerprint>, Error> {
    let folders = plan.iter().filter_map(|plan| match &plan.from {
        Origin::Folder(dir) => Some(dir),
        _ => None,
    });
    let folders: BTreeSet<&PathBuf> = folders.collect();
    let folders = folders.into_iter();
    folders
        .map(|dir| Ok((dir.clone(), model(dir, fingerprints)?)))
        .collect()
}

/// The fingerprint of a model's folder.
///
/// # Errors
///
/// If it cannot be read.
pub(super) fn model(dir: &Path, fingerprints: &mut Fingerprints) -> Result<Fingerprint, Error> {
    let source = Source::Model {
        role: "model",
        folder: dir,
    };
    Ok(fingerprints.of(&[source])?)
}

impl Makings<'_> {
    /// The stages of a phase that are not among `keys`, which takes their keys in.
    ///
    /// # Errors
    ///
    /// If a setting has no canonical text.
    pub fn nodes(&self, phase: &Phase, keys: &mut BTreeSet<Key>) -> Result<Nodes, Error> {
        let written: Vec<Written> = self.plan.iter().map(Written::of).collect();
        let mut graph = Graph {
            nodes: vec![],
            keys,
            written: &written,
        };
        let done = phase.models(self.plan);
        let seeds = phase.seeds.iter().filter(|_| done.contains(&true));
        let seeds = seeds.map(|seed| self.seed(*seed, phase, &done, &mut graph));
        Ok(Nodes {
            seeds: seeds.collect::<Result<_, _>>()?,
            all: graph.nodes,
            is_judged_on_valid: self.identity.is_judged_on_valid,
        })
    }

    /// The stages of a seed; `done` says which models are done.
    fn seed(
        &self,
        seed: u64,
        phase: &Phase,
        done: &[bool],
        graph: &mut Graph<'_>,
    ) -> Result<SeedKeys, Error> {
        let identity = &self.identity;
        let start = if identity.model.is_none() {
            let draft = Draft::new("start", START)
                .written("fresh", &identity.fresh)
                .data("train", identity.train)
                .seed(seed);
            Some(draft.add(graph, seed, Job::Start)?)
        } else {
            None
        };
        let begin = Input {
            stage: start.clone(),
            folder: identity.model,
            arranged: vec![],
        };
        let mut inputs: BTreeMap<&str, Input> = BTreeMap::new();
        let mut models = vec![];
        for (index, plan) in self.plan.iter().enumerate() {
            if !done[index] {
                models.push(ModelKeys::default());
                continue;
            }
            let mut drawn = None;
            let origin = match &plan.from {
                Origin::Start => begin.clone(),
                Origin::Model(name) => inputs[name.as_str()].clone(),
                Origin::Folder(dir) => Input {
                    folder: self.folders.get(dir).copied(),
                    ..Input::default()
                },
                Origin::Random(random) => {
                    // Its tokens and positions are those of the model to begin with.
                    let key = Draft::new("start", START)
                        .written("fresh", &identity.fresh)
                        .written("reading", &identity.reading)
                        .setting("size", random)
                        .data("train", identity.train)
                        .input(
                            "model",
                            &Input {
                                stage: None,
                                ..begin.clone()
                            },
                        )
                        .seed(seed)
                        .add(graph, seed, Job::Draw(index))?;
                    drawn = Some(key.clone());
                    Input {
                        stage: Some(key),
                        ..Input::default()
                    }
                }
            };
            let teacher = plan.teacher.as_ref();
            let teacher = teacher.map(|name| inputs[name.as_str()].clone());
            let (keys, model) = self.model(index, &origin, teacher, seed, phase, graph)?;
            models.push(ModelKeys { drawn, ..keys });
            inputs.insert(&plan.name, model);
        }
        let measure = match &identity.latency {
            Some(latency) if phase.is_final() => {
                let mut draft = Draft::new("measure", MEASURE)
                    .written("latency", latency)
                    .written("machine", &self.machine);
                let judged = self.plan.iter().zip(&models);
                let judged = judged.filter(|(_, keys)| keys.evaluate.is_some());
                for (index, (plan, _)) in judged.enumerate() {
                    draft = draft.input(&format!("model-{index}"), &inputs[plan.name.as_str()]);
                }
                Some(draft.add(graph, seed, Job::Measure)?)
            }
            _ => None,
        };
        Ok(SeedKeys {
            seed,
            start,
            models,
            measure,
        })
    }

    /// The stages of one model, and the model as the input of others.
    fn model(
        &self,
        index: usize,
        origin: &Input,
        teacher: Option<Input>,
        seed: u64,
        phase: &Phase,
        graph: &mut Graph<'_>,
    ) -> Result<(ModelKeys, Input), Error> {
        let (identity, plan) = (&self.identity, &self.plan[index]);
        let ends = phase.rungs(&plan.name);
        let is_judged = plan.is_judged && (phase.is_final() || !ends.is_empty());
        let Written {
            plan: model,
            experts: split,
            arrangement,
        } = &graph.written[index];
        let experts = plan.experts.as_ref();
        let needs = experts.is_some_and(|experts| experts.order.needs_importance());
        let importance = if needs {
            let data = match self.importance.split {
                DataSplit::Train => identity.train,
                DataSplit::Dev => identity.valid,
            };
            let draft = Draft::new("importance", IMPORTANCE)
                .setting("samples", &self.importance.samples)
                .written("reading", &identity.reading)
                .written("arrangement", arrangement)
                .data("scored", data)
                .input("from", origin)
                .seed(seed);
            Some(draft.add(graph, seed, Job::Importance(index))?)
        } else {
            None
        };
        let before = if plan.judge_before && phase.is_final() {
            let draft = self
                .evaluation()
                .written("arrangement", arrangement)
                .written("experts", split)
                .data("train", identity.train)
                .input("from", origin)
                .stage("importance", importance.as_ref())
                .seed(seed);
            Some(draft.add(graph, seed, Job::Before(index))?)
        } else {
            None
        };
        let mut rungs: Vec<RungKey> = vec![];
        let (train, model) = if plan.train.is_some() {
            let teacher = teacher.unwrap_or_default();
            let draft = || {
                Draft::new("train", TRAIN)
                    .written("model", model)
                    .written("reading", &identity.reading)
                    .written("training", &identity.training)
                    .data("train", identity.train)
                    .data("valid", identity.valid)
                    .input("from", origin)
                    .input("teacher", &teacher)
                    .stage("importance", importance.as_ref())
                    .seed(seed)
            };
            for (place, epochs) in ends.iter().copied().enumerate() {
                let before = rungs.last();
                let after = before.map_or(0, |rung| rung.epochs);
                let draft = draft().setting("rung", &json!({ "after": after, "up_to": epochs }));
                let draft = draft.stage("before", before.map(|rung| &rung.key));
                let key = draft.add(graph, seed, Job::Rung(index, place))?;
                rungs.push(RungKey { epochs, key });
            }
            let key = match rungs.last() {
                Some(rung) => rung.key.clone(),
                None => draft().add(graph, seed, Job::Train(index))?,
            };
            let model = Input {
                stage: Some(key.clone()),
                ..Input::default()
            };
            (Some(key), model)
        } else {
            let mut model = origin.clone();
            model.arranged.push(arrangement.clone());
            (None, model)
        };
        let evaluate = if is_judged {
            let draft = self.evaluation().input("model", &model);
            Some(draft.add(graph, seed, Job::Evaluate(index))?)
        } else {
            None
        };
        let keys = ModelKeys {
            drawn: None,
            importance,
            before,
            train,
            rungs,
            evaluate,
        };
        Ok((keys, model))
    }

    fn evaluation(&self) -> Draft {
        Draft::new("evaluate", EVALUATE)
            .written("reading", &self.identity.reading)
            .written("judging", &self.identity.judging)
            .data("judged", self.identity.judged)
    }
}

/// A document in the making.
struct Draft {
    kind: &'static str,
    version: u32,
    settings: Vec<(String, Result<Value, serde_json::Error>)>,
    inputs: BTreeMap<String, Key>,
    data: Vec<(String, Fingerprint)>,
    seed: Option<u64>,
}

impl Draft {
    fn new(kind: &'static str, version: u32) -> Self {
        Self {
            kind,
            version,
            settings: vec![],
            inputs: BTreeMap::new(),
            data: vec![],
            seed: None,
        }
    }

    fn setting(mut self, name: &str, value: &impl Serialize) -> Self {
        self.settings
            .push((name.to_owned(), serde_json::to_value(value)));
        self
    }

    /// A setting that was written before.
    fn written(mut self, name: &str, value: &Value) -> Self {
        self.settings.push((name.to_owned(), Ok(value.clone())));
        self
    }

    fn data(mut self, role: &str, content: Fingerprint) -> Self {
        self.data.push((role.to_owned(), content));
        self
    }

    fn stage(mut self, role: &str, key: Option<&Key>) -> Self {
        self.inputs
            .extend(key.map(|key| (role.to_owned(), key.clone())));
        self
    }

    /// A model, whose arrangement is a setting.
    fn input(self, role: &str, input: &Input) -> Self {
        let mut draft = self.stage(role, input.stage.as_ref());
        if let Some(folder) = input.folder {
            draft = draft.data(role, folder);
        }
        if !input.arranged.is_empty() {
            draft = draft.setting(&format!("{role} arranged"), &input.arranged);
        }
        draft
    }

    fn seed(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }

    /// Adds the stage, unless it is there.
    fn add(self, graph: &mut Graph<'_>, seed: u64, job: Job) -> Result<Key, Error> {
        let document = self.document()?;
        let key = document.key()?;
        if graph.keys.insert(key.clone()) {
            graph.nodes.push(Node {
                key: key.clone(),
                document,
                seed,
                job,
            });
        }
        Ok(key)
    }

    fn document(self) -> Result<Document, Error> {
        let settings = self.settings.into_iter();
        let settings = settings.map(|(name, value)| Ok((name, value?)));
        let settings: Result<Map<String, Value>, serde_json::Error> = settings.collect();
        let data = self
            .data
            .iter()
            .map(|(role, content)| (role.as_str(), *content));
        Ok(Document {
            format: Format,
            kind: self.kind.to_owned(),
            settings: settings.map_err(KeyError::from)?,
            inputs: self.inputs,
            data: Fingerprint::join(data),
            seed: self.seed,
            result_version: self.version,
        })
    }
}
