//! What a run would do, how long that would take, and what it would need.

mod estimate;
mod history;
mod makespan;
mod measured;
mod rows;
mod share;
mod signature;
mod work;

use std::collections::{BTreeSet, HashMap};

use serde::Serialize;

pub use self::{
    estimate::{Basis, Estimate},
    rows::PlanRow,
};
use self::{
    estimate::{Estimates, Subject},
    history::{History, Machine},
    makespan::{Task, chains, makespan},
};
pub(super) use self::{
    measured::{EpochTime, Measured, MeasuredStage, Request, Wanted},
    signature::{Signature, Signatures},
    work::Sizes,
};
use super::{
    jobs,
    nodes::{Job, Node, Nodes},
};
use crate::{
    ablate::{
        arms::Ablation,
        statistics::{Alpha, seeds_at_least},
    },
    environment::Environment,
    error::Error,
    graph::{Document, Done, Key, Leases, Store, failure, host},
    recipe::ModelPlan,
};

/// The kind of stages that run alone on their machine.
const MEASURE: &str = "measure";

/// What a run would do.
#[derive(Clone, Debug, Serialize)]
pub struct Plan {
    /// The recipe's name.
    pub recipe: String,
    /// The seeds of every arm.
    pub seeds: Vec<u64>,
    /// The arms in their order; one without a name if the recipe has none.
    pub arms: Vec<PlannedArm>,
    /// The stages by what they do.
    pub rows: Vec<PlanRow>,
    /// The time and disk of all that is not done.
    pub total: Total,
    /// What the seeds can decide, for an ablation.
    pub decides: Option<Decides>,
    /// All stages, each after those that it reads.
    pub stages: Vec<Planned>,
}

/// An arm of a plan.
#[derive(Clone, Debug, Serialize)]
pub struct PlannedArm {
    /// Its name.
    pub name: String,
    /// The names of arms that come out equal to it.
    pub aliases: Vec<String>,
    /// Whether the others are compared with it.
    pub is_reference: bool,
}

/// A stage of a run.
#[derive(Clone, Debug, Serialize)]
pub struct Planned {
    /// The key.
    pub key: Key,
    /// What it does, for people.
    pub title: String,
    /// The stage of the recipe that it trains, or its kind.
    pub stage: String,
    /// How far it is.
    pub state: State,
    /// The keys of the stages that it reads.
    pub inputs: Vec<Key>,
    /// The number of arms that need it.
    pub arms: usize,
    /// What it will take; none if it is done or nothing is known.
    pub estimate: Option<Estimate>,
    /// The peak memory in bytes of one that is done, if known.
    pub memory: Option<u64>,
    /// The bytes of its files, if it is done.
    pub disk: Option<u64>,
}

/// How far a stage is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// Its result is in the store.
    Done,
    /// A process is at work on it.
    InWork,
    /// It failed and is not tried again.
    Failed,
    /// It is yet to be done.
    ToDo,
}

/// What is left to do, as far as it is known.
#[derive(Clone, Debug, Serialize)]
pub struct Total {
    /// The time in seconds by numbers of workers.
    pub seconds: Vec<WorkersTime>,
    /// The longest chain of stages that follow from each other, in seconds.
    pub longest_chain: f64,
    /// Stages without an estimate, which no other number counts.
    pub unknown: usize,
    /// The bytes of the stages in the store that are of this run.
    pub disk_now: u64,
    /// The bytes of all its stages at the end.
    pub disk: u64,
}

/// How long so many workers take.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct WorkersTime {
    /// Their number.
    pub workers: usize,
    /// Seconds.
    pub seconds: f64,
}

/// What the seeds of an ablation can decide.
#[derive(Clone, Debug, Serialize)]
pub struct Decides {
    /// The arms that are compared with the reference.
    pub comparisons: usize,
    /// The level of the tests.
    pub alpha: f64,
    /// The smallest p that so many seeds can have.
    pub smallest_p: f64,
    /// The fewest seeds whose smallest p is at most the level.
    pub seeds_at_least: usize,
    /// The examples that each seed is judged by, where they are counted.
    pub examples: Option<usize>,
}

/// The arms on one base.
pub(super) struct Base<'a> {
    pub plan: &'a [ModelPlan],
    pub nodes: Nodes,
    pub sizes: Sizes,
}

/// What a plan is made of.
pub(super) struct Sketch<'a> {
    pub recipe: &'a str,
    pub seeds: &'a [u64],
    /// The names of `[[arms]]`; empty if there are none.
    pub arms: Vec<&'a str>,
    pub ablation: Option<&'a Ablation>,
    pub bases: Vec<Base<'a>>,
    pub environment: &'a Environment,
    /// None if it does not exist.
    pub store: Option<Store>,
    /// The numbers of workers that a time is told for.
    pub workers: &'a BTreeSet<usize>,
}

impl Sketch<'_> {
    /// The plan; `measure` tells how long stages take that are like none that this machine has done.
    ///
    /// # Errors
    ///
    /// If the store cannot be read, or as `measure`.
    pub fn plan(
        self,
        measure: impl FnOnce(&[Base<'_>], &Request<'_>) -> Result<Measured, Error>,
    ) -> Result<Plan, Error> {
        let finished = Finished::read(self.store.as_ref())?;
        let stages = self.stages(&finished, measure)?;
        let examples = self.bases.first().and_then(|base| base.sizes.judged);
        Ok(Plan {
            recipe: self.recipe.to_owned(),
            seeds: self.seeds.to_vec(),
            arms: self.arms(),
            rows: rows::rows(&stages),
            total: total(&stages, self.workers),
            decides: self.ablation.map(|ablation| decides(ablation, examples)),
            stages,
        })
    }

    fn arms(&self) -> Vec<PlannedArm> {
        if let Some(ablation) = self.ablation {
            let arms = ablation.arms.iter().enumerate();
            let arms = arms.map(|(index, arm)| PlannedArm {
                name: arm.name.clone(),
                aliases: arm.aliases.clone(),
                is_reference: index == ablation.reference,
            });
            return arms.collect();
        }
        let arms = self.arms.iter().map(|name| PlannedArm {
            name: (*name).to_owned(),
            aliases: vec![],
            is_reference: false,
        });
        arms.collect()
    }

    /// For each base, its models of arms: those of the names of arms, or else the last.
    fn models_of_arms(&self) -> Vec<Vec<usize>> {
        let arms = self
            .ablation
            .map(|it| it.arms.iter().map(|arm| arm.name.as_str()));
        let names: BTreeSet<&str> = match arms {
            Some(arms) => arms.collect(),
            None => self.arms.iter().copied().collect(),
        };
        let bases = self.bases.iter().map(|base| {
            if names.is_empty() {
                return base.plan.len().checked_sub(1).into_iter().collect();
            }
            let models = base.plan.iter().enumerate();
            let models = models.filter(|(_, model)| names.contains(model.name.as_str()));
            models.map(|(index, _)| index).collect()
        });
        bases.collect()
    }

    fn stages(
        &self,
        finished: &Finished,
        measure: impl FnOnce(&[Base<'_>], &Request<'_>) -> Result<Measured, Error>,
    ) -> Result<Vec<Planned>, Error> {
        let nodes: Vec<&Nodes> = self.bases.iter().map(|base| &base.nodes).collect();
        let arms = share::arms_of(&nodes, &self.models_of_arms());
        let mut documents: HashMap<&Key, &Document> = HashMap::new();
        documents.extend(
            finished
                .records
                .iter()
                .map(|(key, done)| (key, &done.document)),
        );
        let all = || nodes.iter().flat_map(|base| &base.all);
        documents.extend(all().map(|node| (&node.key, &node.document)));
        let signatures = Signatures::of(&documents);
        let likenesses = Signatures::of_likeness(&documents);
        let machine = Machine {
            host: host(),
            backend: self.environment.device.clone(),
            cpus: self.environment.cpus,
        };
        let store = self.store.as_ref();
        let folder = |key: &Key| store.map(|store| store.stage(key)).unwrap_or_default();
        let both = [&signatures, &likenesses];
        let history = History::of(&finished.records, &machine, both, folder);
        let mut estimates = Estimates::new(&history);
        let states = States::read(store)?;
        let subject = |base: &Base<'_>, node: &Node| {
            Some(Subject {
                signature: signatures.get(&node.key)?,
                likeness: likenesses.get(&node.key)?,
                work: work::Work::planned(node, base.plan, &base.sizes),
            })
        };
        let (mut open, mut wanted) = (HashMap::new(), vec![]);
        for (place, base) in self.bases.iter().enumerate() {
            for (index, node) in base.nodes.all.iter().enumerate() {
                let state = states.of(&node.key)?;
                let subject = subject(base, node).filter(|_| state != State::Done);
                let Some(subject) = subject else {
                    continue;
                };
                if estimates.is_new(&subject) {
                    wanted.push(Wanted {
                        base: place,
                        node: index,
                        likeness: subject.likeness,
                        work: subject.work,
                    });
                }
                open.insert(&node.key, (state, subject));
            }
        }
        if !wanted.is_empty() {
            let folders = finished.records.iter();
            let folders = folders.filter_map(|(key, _)| Some((likenesses.get(key)?, folder(key))));
            let request = Request {
                wanted,
                likenesses: &likenesses,
                folders: folders.collect(),
            };
            estimates.take(measure(&self.bases, &request)?);
        }
        let mut planned = vec![];
        for base in &self.bases {
            for node in &base.nodes.all {
                let key = &node.key;
                let open = open.get(key);
                let state = open.map_or(State::Done, |(state, _)| *state);
                let done = finished.get(key).filter(|_| state == State::Done);
                let estimate = open.and_then(|(_, subject)| estimates.of(subject, key.kind()));
                planned.push(Planned {
                    key: key.clone(),
                    title: jobs::title(base.plan, node.seed, node.job),
                    stage: stage_of(node, base.plan),
                    state,
                    inputs: node.document.inputs.values().cloned().collect(),
                    arms: arms.get(key).copied().unwrap_or_default(),
                    estimate,
                    memory: done.and_then(|done| done.peak_memory),
                    disk: done.map(history::bytes),
                });
            }
        }
        Ok(planned)
    }
}

/// The stage of the recipe that a node trains, or its kind.
fn stage_of(node: &Node, plan: &[ModelPlan]) -> String {
    match node.job {
        Job::Train(index) | Job::Rung(index, _) => plan[index].stage.clone(),
        _ => node.key.kind().to_owned(),
    }
}

/// The finished stages of a store.
#[derive(Default)]
struct Finished {
    records: Vec<(Key, Done)>,
    places: HashMap<Key, usize>,
}

impl Finished {
    fn read(store: Option<&Store>) -> Result<Self, Error> {
        let Some(store) = store else {
            return Ok(Self::default());
        };
        let records = store.records()?;
        let places = records.iter().enumerate();
        Ok(Self {
            places: places
                .map(|(place, (key, _))| (key.clone(), place))
                .collect(),
            records,
        })
    }

    fn get(&self, key: &Key) -> Option<&Done> {
        self.places.get(key).map(|place| &self.records[*place].1)
    }
}

/// The states of stages, from one look at the store.
struct States {
    leases: Option<Leases>,
    done: BTreeSet<Key>,
    failed: BTreeSet<Key>,
    /// The names that have leases, live or not.
    leased: BTreeSet<String>,
}

impl States {
    fn read(store: Option<&Store>) -> Result<Self, Error> {
        let leases = store.map(Leases::new);
        let failed = store.map(failure::failed).transpose()?.unwrap_or_default();
        let done = store.map(Store::done).transpose()?.unwrap_or_default();
        Ok(Self {
            done: done.into_iter().collect(),
            failed: failed.into_keys().collect(),
            leased: leases
                .as_ref()
                .map(Leases::names)
                .transpose()?
                .unwrap_or_default(),
            leases,
        })
    }

    fn of(&self, key: &Key) -> Result<State, Error> {
        if self.done.contains(key) {
            return Ok(State::Done);
        }
        if self.failed.contains(key) {
            return Ok(State::Failed);
        }
        let is_held = match &self.leases {
            Some(leases) if self.leased.contains(key.as_str()) => leases.is_held(key.as_str())?,
            _ => false,
        };
        Ok(if is_held { State::InWork } else { State::ToDo })
    }
}

/// The time and disk of stages.
fn total(stages: &[Planned], workers: &BTreeSet<usize>) -> Total {
    let open: Vec<&Planned> = stages
        .iter()
        .filter(|stage| matches!(stage.state, State::ToDo | State::InWork))
        .collect();
    let places: HashMap<&Key, usize> = open
        .iter()
        .enumerate()
        .map(|(place, stage)| (&stage.key, place))
        .collect();
    let tasks: Vec<Task> = open
        .iter()
        .map(|stage| Task {
            seconds: stage.estimate.map_or(0.0, |estimate| estimate.seconds),
            needs: needs(stage, &places),
            alone: stage.key.kind() == MEASURE,
        })
        .collect();
    let disk_now = stages.iter().filter_map(|stage| stage.disk).sum();
    let disk_more: u64 = open
        .iter()
        .filter_map(|stage| stage.estimate)
        .map(|estimate| estimate.disk)
        .sum();
    Total {
        seconds: workers
            .iter()
            .map(|workers| WorkersTime {
                workers: *workers,
                seconds: makespan(&tasks, *workers),
            })
            .collect(),
        longest_chain: chains(&tasks).into_iter().fold(0.0, f64::max),
        unknown: open.iter().filter(|stage| stage.estimate.is_none()).count(),
        disk_now,
        disk: disk_now + disk_more,
    }
}

/// The places of the stages that a stage waits for, each once.
fn needs(stage: &Planned, places: &HashMap<&Key, usize>) -> Vec<usize> {
    let needs = stage
        .inputs
        .iter()
        .filter_map(|key| places.get(key).copied());
    let needs: BTreeSet<usize> = needs.collect();
    needs.into_iter().collect()
}

/// What seeds can decide.
fn decides(ablation: &Ablation, examples: Option<usize>) -> Decides {
    let alpha = Alpha::new(ablation.alpha).unwrap_or_default();
    let seeds = i32::try_from(ablation.seeds.len()).unwrap_or(i32::MAX);
    Decides {
        comparisons: ablation.arms.len().saturating_sub(1),
        alpha: ablation.alpha,
        smallest_p: 2.0 * 0.5f64.powi(seeds),
        seeds_at_least: seeds_at_least(alpha),
        examples,
    }
}
