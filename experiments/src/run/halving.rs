//! Successive halving: rungs are planned, done and decided in turn. What is decided follows from the store alone, so all
//! processes that take part decide alike.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::{
    nodes::{Node, Nodes},
    phase::{Cast, Phase},
};
use crate::{
    ablate::{
        arms::{Ablation, Contest, Replay, TrialScore},
        compare::{CompareError, JudgedArm, mean_of},
        statistics::Direction,
    },
    error::Error,
    examples::Examples,
    graph::{Key, Store, failure},
    recipe::ModelPlan,
};

/// The stages of the arms on one base.
pub(super) type Stages<'a> = (&'a [ModelPlan], &'a Nodes);

/// A halving on its way.
pub(super) struct Course<'a> {
    ablation: &'a Ablation,
    contest: &'a Contest,
    /// The arms of each rung that are decided.
    scores: BTreeMap<(usize, usize), Score>,
}

/// How an arm ended in a rung.
#[derive(Clone, Copy)]
struct Score {
    trial: TrialScore,
    /// The metric, if it was judged.
    value: Option<f64>,
}

impl Score {
    const FAILED: Self = Self {
        trial: TrialScore::Failed,
        value: None,
    };
}

/// What a halving came to, for `halving.json`.
#[derive(Debug, Serialize)]
pub(super) struct Halved {
    /// The key of the budget.
    over: String,
    /// The budget that all rungs follow the schedule of.
    max: u64,
    /// The metric that decided.
    metric: Option<String>,
    /// The seeds that decided.
    seeds: Vec<u64>,
    /// The seeds that are reported.
    final_seeds: Vec<u64>,
    rungs: Vec<HalvedRung>,
    /// The arms that run the final seeds.
    survivors: Vec<String>,
}

/// A rung that was decided.
#[derive(Debug, Serialize)]
struct HalvedRung {
    budget: u64,
    /// In arm order.
    arms: Vec<HalvedArm>,
}

/// An arm of a rung.
#[derive(Debug, Serialize)]
struct HalvedArm {
    arm: String,
    /// The mean of the metric over the seeds; none if it failed.
    score: Option<f64>,
    /// Whether it goes on.
    goes_on: bool,
}

impl<'a> Course<'a> {
    /// The halving of an ablation, if there is one.
    pub fn of(ablation: Option<&'a Ablation>) -> Option<Self> {
        let ablation = ablation?;
        Some(Self {
            ablation,
            contest: ablation.contest.as_ref()?,
            scores: BTreeMap::new(),
        })
    }

    /// What follows from the scores so far.
    pub fn replay(&self) -> Replay {
        let score = |rung, arm| Some(self.scores.get(&(rung, arm))?.trial);
        self.contest.plan.replay(&self.contest.arms, score)
    }

    /// What is done next: a rung, or in the end all that is reported.
    pub fn phase(&self, replay: &Replay) -> Phase {
        if let Some(survivors) = &replay.survivors {
            let reported = self.contest.reported(survivors);
            let places = 0..self.ablation.arms.len();
            let others = places.filter(|arm| !reported.contains(arm));
            return Phase {
                seeds: self.contest.plan.final_seeds.clone(),
                cast: Cast::Arms {
                    but: self.names(others),
                    of: self.names(reported.iter().copied()),
                },
            };
        }
        let last = replay.rungs.last();
        let arms = last.map(|rung| rung.arms.clone()).unwrap_or_default();
        let epochs = replay.rungs.iter().map(|rung| rung.budget as usize);
        Phase {
            seeds: self.ablation.seeds.clone(),
            cast: Cast::Rung {
                of: self.names(arms.into_iter()),
                epochs: epochs.collect(),
            },
        }
    }

    fn names(&self, arms: impl Iterator<Item = usize>) -> BTreeSet<String> {
        arms.map(|arm| self.ablation.arms[arm].name.clone())
            .collect()
    }

    /// Takes in the scores of the last rung as far as the store has them.
    ///
    /// # Errors
    ///
    /// If the store cannot be read, or arms have no such metric.
    pub fn read(
        &mut self,
        replay: &Replay,
        stages: &[Stages<'_>],
        store: &Store,
    ) -> Result<(), Error> {
        let Some((place, rung)) = replay.rungs.iter().enumerate().next_back() else {
            return Ok(());
        };
        let nodes = stages.iter().flat_map(|(_, nodes)| &nodes.all);
        let nodes: BTreeMap<&Key, &Node> = nodes.map(|node| (&node.key, node)).collect();
        for arm in &rung.arms {
            if self.scores.contains_key(&(place, *arm)) {
                continue;
            }
            if let Some(score) = self.score(*arm, stages, &nodes, store)? {
                self.scores.insert((place, *arm), score);
            }
        }
        Ok(())
    }

    /// How an arm ended; none while a stage of it may still be done.
    fn score(
        &self,
        arm: usize,
        stages: &[Stages<'_>],
        nodes: &BTreeMap<&Key, &Node>,
        store: &Store,
    ) -> Result<Option<Score>, Error> {
        let name = &self.ablation.arms[arm].name;
        let judged = stages.iter().find_map(|(plan, nodes)| {
            let place = plan.iter().position(|model| model.name == *name)?;
            let seeds = nodes.seeds.iter();
            seeds
                .map(|keys| keys.models[place].evaluate.as_ref())
                .collect::<Option<Vec<&Key>>>()
        });
        let (Some(judged), Some(metric)) = (judged, &self.ablation.metric) else {
            return Ok(Some(Score::FAILED));
        };
        let (mut seeds, mut is_open) = (BTreeMap::new(), false);
        for (seed, key) in self.ablation.seeds.iter().zip(judged) {
            if store.is_done(key)? {
                seeds.insert(*seed, Examples::read(&store.stage(key))?);
            } else if is_failed(key, nodes, store)? {
                return Ok(Some(Score::FAILED));
            } else {
                is_open = true;
            }
        }
        if is_open {
            return Ok(None);
        }
        let arm = JudgedArm {
            name: name.clone(),
            seeds,
            failed: 0,
            is_dropped: false,
        };
        match mean_of(&arm, metric) {
            Ok((value, direction)) => {
                let sign = match direction {
                    Direction::HigherIsBetter => 1.0,
                    Direction::LowerIsBetter => -1.0,
                };
                Ok(Some(Score {
                    trial: TrialScore::Value(sign * value),
                    value: Some(value),
                }))
            }
            // A number that is none.
            Err(CompareError::Statistics(_)) => Ok(Some(Score::FAILED)),
            Err(error) => Err(error.into()),
        }
    }

    /// What a rung that was decided came to, for people; none for the one that is yet to be decided.
    pub fn told(&self, replay: &Replay) -> Option<String> {
        let halved = self.halved(replay);
        let rung = halved.rungs.last()?;
        let on: Vec<&HalvedArm> = rung.arms.iter().filter(|arm| arm.goes_on).collect();
        let names = on.iter().map(|arm| match arm.score {
            Some(score) => format!("{} ({score:.4})", arm.arm),
            None => arm.arm.clone(),
        });
        let names: Vec<String> = names.collect();
        Some(format!(
            "{} = {} of {}: {} of {} arms go on by {}: {}",
            halved.over,
            rung.budget,
            halved.max,
            on.len(),
            rung.arms.len(),
            halved.metric.as_deref().unwrap_or_default(),
            names.join(", ")
        ))
    }

    /// What the halving has come to.
    pub fn halved(&self, replay: &Replay) -> Halved {
        let name = |arm: &usize| self.ablation.arms[*arm].name.clone();
        let survivors = replay.survivors.iter().flatten();
        let is_over = replay.survivors.is_some();
        let decided = replay.rungs.len() - usize::from(!is_over && !replay.rungs.is_empty());
        let rungs = replay.rungs.iter().take(decided).enumerate();
        let rungs = rungs.map(|(place, rung)| {
            let next = replay.rungs.get(place + 1).map(|rung| &rung.arms);
            let next = next.or(replay.survivors.as_ref());
            let arms = rung.arms.iter().map(|arm| HalvedArm {
                arm: name(arm),
                score: self
                    .scores
                    .get(&(place, *arm))
                    .and_then(|score| score.value),
                goes_on: next.is_some_and(|next| next.contains(arm)),
            });
            HalvedRung {
                budget: rung.budget,
                arms: arms.collect(),
            }
        });
        let plan = &self.contest.plan;
        Halved {
            over: plan.over.clone(),
            max: plan.max,
            metric: self.ablation.metric.clone(),
            seeds: self.ablation.seeds.clone(),
            final_seeds: plan.final_seeds.clone(),
            rungs: rungs.collect(),
            survivors: survivors.map(name).collect(),
        }
    }
}

/// Whether a stage that is not done has failed, or a stage that it needs.
fn is_failed(key: &Key, nodes: &BTreeMap<&Key, &Node>, store: &Store) -> Result<bool, Error> {
    if store.is_done(key)? {
        return Ok(false);
    }
    let record = failure::read(store, key)?;
    if record.is_some_and(|record| record.is_failed()) {
        return Ok(true);
    }
    let inputs = nodes.get(key).map(|node| node.document.inputs.values());
    for input in inputs.into_iter().flatten() {
        if is_failed(input, nodes, store)? {
            return Ok(true);
        }
    }
    Ok(false)
}
