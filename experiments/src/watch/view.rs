//! What is shown of a run at one time.

use serde::Serialize;

use super::{
    state::{State, Watch, short_title},
    time_left::Medians,
};
use crate::{
    ablate::{
        compare::Interim,
        statistics::{Interval, Unit},
    },
    graph::{Held, Life, failure::Cause},
    results::{ArmStages, SCHEMA},
};

/// A run at one time.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct View {
    /// The version of the form of this in JSON.
    pub schema: u32,
    /// The run's name.
    pub run: String,
    /// The metric; none until it is known.
    pub metric: Option<String>,
    /// The number of stages.
    pub stages: usize,
    /// The number of stages that are done.
    pub done: usize,
    /// The number of stages that failed, and of those that need one of them.
    pub failed: usize,
    /// The number of stages that need one that failed.
    pub blocked: usize,
    /// The processes at work.
    pub workers: usize,
    /// The time in seconds that the rest takes the present workers; none if nothing is known of it or nobody is at work.
    pub seconds_left: Option<f64>,
    /// Whether stages are left of whose time nothing is known, so that it takes longer.
    pub is_longer: bool,
    /// Whether every stage is done or cannot be.
    pub is_over: bool,
    /// The number of seeds.
    pub seeds: usize,
    /// The number of seeds that all arms have done, but for those that failed.
    pub seeds_done: usize,
    /// The models in the order of the table.
    pub arms: Vec<ArmView>,
    /// The stages that processes are at work on.
    pub running: Vec<RunningView>,
    /// The stages that failed.
    pub failures: Vec<FailureView>,
}

/// A model of a run.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ArmView {
    /// Its name.
    pub name: String,
    /// Whether the others are compared with it.
    pub is_reference: bool,
    /// How far it is with each seed.
    pub seeds: Vec<SeedView>,
    /// The mean of the metric over the seeds that are done.
    pub mean: Option<f64>,
    /// The interval of the mean.
    pub interval: Option<Interval>,
    /// By how much it is more than the reference, in the unit of `unit`.
    pub difference: Option<f64>,
    /// The interval of the difference, not adjusted for looking early or for the number of arms.
    pub difference_interval: Option<Interval>,
    /// Whether differences are in points or plain.
    pub unit: Option<Unit>,
    /// The failure of its first seed that failed.
    pub failure: Option<String>,
}

/// How far a model is with one seed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum SeedView {
    /// All its stages are done.
    Done,
    /// A process is at work on one of its stages.
    Running,
    /// One of its stages failed, or needs one that did.
    Failed,
    /// Its stages wait.
    Waiting,
}

/// A stage that a process has claimed.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RunningView {
    /// Its key.
    pub stage: String,
    /// What it does.
    pub title: String,
    /// The host of its owner.
    pub host: String,
    /// The process number of its owner.
    pub pid: u32,
    /// Whether its owner is alive; none if it was not watched for long enough to tell.
    pub is_alive: Option<bool>,
    /// Optimiser steps taken.
    pub step: Option<usize>,
    /// Optimiser steps of the whole training.
    pub steps: Option<usize>,
    /// The latest loss.
    pub loss: Option<f64>,
    /// Optimiser steps per second.
    pub steps_per_second: Option<f64>,
    /// The time in seconds that the rest of its steps takes.
    pub seconds_left: Option<f64>,
}

/// A stage that failed.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct FailureView {
    /// Its key.
    pub stage: String,
    /// What it does.
    pub title: String,
    /// The cause.
    pub cause: Cause,
    /// The error in one line.
    pub message: String,
    /// Where it happened.
    pub place: Option<String>,
    /// The host.
    pub host: String,
    /// How often it was tried.
    pub attempts: usize,
    /// The last lines of its log.
    pub log: Vec<String>,
    /// The number of stages that need it.
    pub blocks: usize,
}

impl View {
    /// What there is to see of a run.
    pub fn of(watch: &Watch) -> Self {
        let states = &watch.stages.states;
        let count = |is: fn(&State) -> bool| states.iter().filter(|state| is(state)).count();
        let arms: Vec<ArmView> = watch
            .plan
            .arms
            .iter()
            .enumerate()
            .filter(|(_, arm)| arm.seeds.iter().any(|seed| !seed.stages.is_empty()))
            .map(|(place, arm)| watch.arm(place, arm))
            .collect();
        let seeds = watch.plan.seeds.len();
        let is_settled = |seed: usize| {
            let mut states = arms.iter().filter_map(|arm| arm.seeds.get(seed));
            states.all(|state| matches!(state, SeedView::Done | SeedView::Failed))
        };
        let workers = watch.stages.workers().len();
        let (seconds, is_longer) = watch.work_left();
        Self {
            schema: SCHEMA,
            run: watch.plan.run.clone(),
            metric: watch.estimates.metric().map(str::to_owned),
            stages: states.len(),
            done: count(|state| *state == State::Done),
            failed: count(|state| *state == State::Failed),
            blocked: count(|state| matches!(state, State::Blocked(_))),
            workers,
            seconds_left: (workers > 0 && seconds > 0.0).then(|| seconds / workers as f64),
            is_longer,
            is_over: watch.is_over(),
            seeds,
            seeds_done: (0..seeds).filter(|seed| is_settled(*seed)).count(),
            running: watch.running(),
            failures: watch.failures(),
            arms,
        }
    }
}

impl Watch {
    fn arm(&self, place: usize, arm: &ArmStages) -> ArmView {
        let value = self.estimates.of(place);
        let difference = value.and_then(|value| value.difference);
        let scale = difference.map_or(1.0, |difference| difference.unit.scale());
        let interval = difference.and_then(|difference| difference.interval);
        ArmView {
            name: arm.name.clone(),
            is_reference: self.estimates.reference() == Some(place),
            seeds: arm
                .seeds
                .iter()
                .map(|seed| {
                    let places = seed
                        .stages
                        .values()
                        .filter_map(|key| self.stages.place(key));
                    self.seed(places)
                })
                .collect(),
            mean: value.map(|value: &Interim| value.mean),
            interval: value.and_then(|value| value.interval),
            difference: difference.map(|difference| difference.difference * scale),
            difference_interval: interval.map(|interval| Interval {
                low: interval.low * scale,
                high: interval.high * scale,
            }),
            unit: difference.map(|difference| difference.unit),
            failure: self.failure_of(arm),
        }
    }

    fn seed(&self, places: impl Iterator<Item = usize>) -> SeedView {
        let mut seed = SeedView::Done;
        for place in places {
            match &self.stages.states[place] {
                State::Done => {}
                State::Failed | State::Blocked(_) => return SeedView::Failed,
                state if state.is_running() => seed = SeedView::Running,
                _ if seed == SeedView::Running => {}
                _ => seed = SeedView::Waiting,
            }
        }
        seed
    }

    /// The failure of the first stage of an arm that failed, or of the one that it needs.
    fn failure_of(&self, arm: &ArmStages) -> Option<String> {
        let keys = arm.seeds.iter().flat_map(|seed| seed.stages.values());
        let places = keys.filter_map(|key| self.stages.place(key));
        let mut blocked = None;
        for place in places {
            match self.stages.states[place] {
                State::Failed => {
                    let last = self.record(place)?.attempts.last()?;
                    let stage = &self.plan.stages[place];
                    let of = last.place.as_ref();
                    let of = of.map_or(String::new(), |place| format!(", {place}"));
                    let (kind, seed) = (stage.key.kind(), stage.seed);
                    return Some(format!("failed: {}, {kind} seed {seed}{of}", last.cause));
                }
                State::Blocked(cause) => {
                    blocked.get_or_insert(cause);
                }
                _ => {}
            }
        }
        let title = short_title(&self.plan.stages[blocked?]);
        Some(format!("needs what failed: {title}"))
    }

    fn running(&self) -> Vec<RunningView> {
        let stages = self.plan.stages.iter().zip(&self.stages.states);
        let running = stages.filter_map(|(stage, state)| {
            let State::Held { held, progress } = state else {
                return None;
            };
            let Held {
                host, pid, life, ..
            } = held.clone();
            let progress = progress.as_ref();
            Some(RunningView {
                stage: stage.key.as_str().to_owned(),
                title: short_title(stage),
                host,
                pid,
                is_alive: match life {
                    Life::Alive => Some(true),
                    Life::Unknown => None,
                    Life::Dead => Some(false),
                },
                step: progress.map(|progress| progress.step),
                steps: progress.map(|progress| progress.steps),
                loss: progress.and_then(|progress| progress.loss),
                steps_per_second: progress.and_then(|progress| progress.steps_per_second),
                seconds_left: seconds_left(state),
            })
        });
        running.collect()
    }

    fn failures(&self) -> Vec<FailureView> {
        let states = &self.stages.states;
        let places = (0..states.len()).filter(|place| states[*place] == State::Failed);
        let failures = places.filter_map(|place| {
            let record = self.record(place)?;
            let last = record.attempts.last()?;
            let stage = &self.plan.stages[place];
            let needs = |state: &&State| **state == State::Blocked(place);
            Some(FailureView {
                stage: stage.key.as_str().to_owned(),
                title: short_title(stage),
                cause: last.cause,
                message: last.message.clone(),
                place: last.place.clone(),
                host: last.host.clone(),
                attempts: record.attempts.len(),
                log: last.log.clone(),
                blocks: states.iter().filter(needs).count(),
            })
        });
        failures.collect()
    }

    /// The work that is left in seconds, and whether there is more of which nothing is known.
    fn work_left(&self) -> (f64, bool) {
        let medians: Medians<'_> = self.stages.times.medians();
        let (mut seconds, mut is_longer) = (0.0, false);
        for (stage, state) in self.plan.stages.iter().zip(&self.stages.states) {
            let left = match state {
                State::Done | State::Failed | State::Blocked(_) => continue,
                State::Held { .. } => seconds_left(state).or_else(|| medians.of(stage)),
                State::ToDo => medians.of(stage),
            };
            match left {
                Some(left) => seconds += left,
                None => is_longer = true,
            }
        }
        (seconds, is_longer)
    }
}

/// The time in seconds that the steps take that are left.
fn seconds_left(state: &State) -> Option<f64> {
    let State::Held {
        progress: Some(progress),
        ..
    } = state
    else {
        return None;
    };
    let rate = progress.steps_per_second.filter(|rate| *rate > 0.0)?;
    Some(progress.steps.saturating_sub(progress.step) as f64 / rate)
}
