//! A phase of a run: the models that are done in one go. A run has one, but where results decide what is done next.

use std::collections::BTreeSet;

use crate::recipe::{ModelPlan, Origin};

/// What is done with which seeds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Phase {
    pub seeds: Vec<u64>,
    pub cast: Cast,
}

/// The models of a phase; those that they need come with them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Cast {
    /// All models.
    All,
    /// The models of some arms, and those that no arm needs.
    Arms {
        /// The arms.
        of: BTreeSet<String>,
        /// All other arms.
        but: BTreeSet<String>,
    },
    /// The models of some arms, each judged after a part of its training.
    Rung {
        /// The arms.
        of: BTreeSet<String>,
        /// The epochs after which the rungs up to this one end, in their order.
        epochs: Vec<usize>,
    },
}

impl Phase {
    /// Everything, with these seeds.
    pub fn whole(seeds: &[u64]) -> Self {
        Self {
            seeds: seeds.to_vec(),
            cast: Cast::All,
        }
    }

    /// The epochs after which the trainings of a model end in turn; empty where it is trained in one go.
    pub fn rungs(&self, name: &str) -> &[usize] {
        match &self.cast {
            Cast::Rung { of, epochs } if of.contains(name) => epochs,
            _ => &[],
        }
    }

    /// Whether models are judged that are no rung's, and measured.
    pub fn is_final(&self) -> bool {
        !matches!(self.cast, Cast::Rung { .. })
    }

    /// Which models of a plan are done.
    pub fn models(&self, plan: &[ModelPlan]) -> Vec<bool> {
        let needed: BTreeSet<&str> = plan.iter().flat_map(needs).collect();
        let is_root = |model: &ModelPlan| {
            let name = &model.name;
            match &self.cast {
                Cast::All => true,
                Cast::Arms { of, but } => {
                    of.contains(name) || !but.contains(name) && !needed.contains(name.as_str())
                }
                Cast::Rung { of, .. } => of.contains(name),
            }
        };
        let mut done: Vec<bool> = plan.iter().map(is_root).collect();
        // What a model needs is further up.
        for place in (0..plan.len()).rev() {
            if done[place] {
                for name in needs(&plan[place]) {
                    if let Some(place) = plan.iter().position(|model| model.name == name) {
                        done[place] = true;
                    }
                }
            }
        }
        done
    }
}

/// The models that a model needs, by their names.
fn needs(model: &ModelPlan) -> impl Iterator<Item = &str> {
    let origin = match &model.from {
        Origin::Model(name) => Some(name.as_str()),
        _ => None,
    };
    origin.into_iter().chain(model.teacher.as_deref())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recipe::AnyRecipe;

    #[test]
    fn arms_come_with_what_they_need() {
        let overrides = [
            "arms=[{name='a'}, {name='b', experts.order='random'}, {name='c', stages.teacher.train.epochs=2}]",
        ];
        let recipe = AnyRecipe::load("quickstart", &overrides.map(str::to_owned)).unwrap();
        let AnyRecipe::Encoder(recipe) = recipe else {
            panic!("a recipe of encoders");
        };
        let plan = recipe.plan();
        let names: Vec<&str> = plan.iter().map(|model| model.name.as_str()).collect();
        assert_eq!(names, ["teacher-a", "teacher-c", "a", "b", "c"]);
        let set = |names: &[&str]| names.iter().map(ToString::to_string).collect();
        let done = |cast: Cast| {
            let phase = Phase {
                seeds: vec![1],
                cast,
            };
            let done = names.iter().zip(phase.models(plan));
            let done = done.filter(|(_, is_done)| *is_done).map(|(name, _)| *name);
            done.collect::<Vec<_>>()
        };
        assert_eq!(done(Cast::All), names);
        let rung = |of: &[&str]| Cast::Rung {
            of: set(of),
            epochs: vec![1],
        };
        assert_eq!(done(rung(&["b"])), ["teacher-a", "b"]);
        assert_eq!(done(rung(&["elsewhere"])), Vec::<&str>::new());
        let arms = |of: &[&str], but: &[&str]| Cast::Arms {
            of: set(of),
            but: set(but),
        };
        assert_eq!(done(arms(&["c"], &["a", "b"])), ["teacher-c", "c"]);
        assert_eq!(
            done(arms(&["a", "c"], &["b"])),
            ["teacher-a", "teacher-c", "a", "c"]
        );
    }
}
