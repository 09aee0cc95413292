//! Settings of a recipe that nothing would read.
//!
//! A record spells out defaults, so a setting counts as made where it differs from its default.

use std::collections::{BTreeMap, BTreeSet};

use moebert_core::router::{RouterKind, RouterLoss};
use serde::Serialize;

use super::{
    Problem, Recipe, RecipeFamily, StageRecipe, TrainOverrides, plan, problems::Problems,
    validate::setting,
};
use crate::methods::{
    self, MethodTables,
    experts::{EXPERTS, Experts},
};

/// The settings that no model of any arm would read, for each arm.
pub(super) fn settings<T: RecipeFamily>(arms: &[Recipe<T>]) -> Vec<Vec<Problem>> {
    let used: Vec<Used<'_>> = arms.iter().flat_map(used).collect();
    let used = AllUsed::of(&used);
    let found = arms.iter().map(|recipe| {
        let mut found = Problems::default();
        shared_methods(&mut found, &recipe.methods, &used);
        experts(&mut found, recipe, &used);
        importance(&mut found, recipe, &used);
        stages(&mut found, recipe, &used);
        found.extend(T::ignored(recipe));
        found.into_pairs()
    });
    found.collect()
}

/// A stage that an arm uses.
struct Used<'a> {
    name: &'a str,
    /// Its methods with the settings that it has of its own.
    methods: MethodTables,
    experts: Option<Experts>,
    needs_teacher: bool,
}

/// What the stages of all arms use.
struct AllUsed<'a> {
    /// For each method, the stages that have it, with the settings that each has of its own.
    methods: BTreeMap<&'a str, Vec<(&'a str, &'a toml::Table)>>,
    /// The routers of experts, each once.
    routers: Vec<&'static RouterKind>,
    /// Whether a loss that has a weight sees padding.
    counts_padding: bool,
    /// Whether a partition needs scores.
    needs_importance: bool,
    /// The stages that a method compares with a teacher.
    compared: BTreeSet<&'a str>,
}

impl<'a> AllUsed<'a> {
    fn of(stages: &'a [Used<'a>]) -> Self {
        let mut methods: BTreeMap<&str, Vec<_>> = BTreeMap::new();
        let mut routers: Vec<&'static RouterKind> = vec![];
        let (mut counts_padding, mut needs_importance) = (false, false);
        for stage in stages {
            for (name, own) in &stage.methods {
                methods.entry(name).or_default().push((stage.name, own));
            }
            let Some(experts) = &stage.experts else {
                continue;
            };
            let kind = experts.split.router.kind();
            if !routers.iter().any(|router| router.name == kind.name) {
                routers.push(kind);
            }
            let weight = |loss: &RouterLoss| experts.routers.of(loss.name);
            let mut losses = kind.losses.iter();
            counts_padding |= losses.any(|loss| sees_padding(loss) && weight(loss) > 0.0);
            needs_importance |= experts.split.order.needs_importance();
        }
        let compared = stages.iter().filter(|stage| stage.needs_teacher);
        Self {
            methods,
            routers,
            counts_padding,
            needs_importance,
            compared: compared.map(|stage| stage.name).collect(),
        }
    }
}

fn sees_padding(loss: &RouterLoss) -> bool {
    loss.with_padding.is_some()
}

fn used<T: RecipeFamily>(recipe: &Recipe<T>) -> Vec<Used<'_>> {
    let stages = plan::order(recipe).into_iter().map(|name| {
        let stage = &recipe.stages[name];
        let methods = recipe.methods_of(stage);
        Used {
            name,
            needs_teacher: !methods::with_teacher::<T::Learner>(&methods).is_empty(),
            experts: recipe.experts_of(stage),
            methods: stage.methods.tables(),
        }
    });
    stages.collect()
}

/// Shared settings of methods that no stage names, and those that each stage has of its own.
fn shared_methods(found: &mut Problems, shared: &MethodTables, used: &AllUsed<'_>) {
    for (name, settings) in shared {
        let stages = used.methods.get(name.as_str());
        let stages = stages.map_or(&[][..], Vec::as_slice);
        let reason = format!(
            "would be ignored, as no stage has it in its `methods`: leave it out, or add \"{name}\" there"
        );
        found.require(name, !stages.is_empty(), &reason);
        for setting in settings.keys() {
            let sets = |(_, own): &(&str, &toml::Table)| own.contains_key(setting);
            let Some((stage, _)) = stages.first().filter(|_| stages.iter().all(sets)) else {
                continue;
            };
            let reason = format!(
                "would be ignored, as every stage with `{name}` has its own: set \
                 `stages.{stage}.methods.{name}.{setting}`"
            );
            found.add(&format!("{name}.{setting}"), &reason);
        }
    }
}

/// Settings for routers that no stage has.
fn experts<T: RecipeFamily>(found: &mut Problems, recipe: &Recipe<T>, used: &AllUsed<'_>) {
    let any = |fits: &dyn Fn(&RouterKind) -> bool| used.routers.iter().any(|kind| fits(kind));
    let defaults = Experts::default();
    for (name, stage) in &recipe.stages {
        let Some(experts) = recipe.experts_of(stage) else {
            continue;
        };
        let Experts { split, routers } = &experts;
        let gates = RouterKind::names(|kind| kind.is_gate);
        let padded = RouterKind::names(|kind| kind.losses.iter().any(sees_padding));
        let mut rules = vec![
            (
                "gate_scale",
                split.gate_scale == defaults.split.gate_scale,
                any(&|kind| kind.is_gate),
                format!(
                    "is for gates, and no stage has one: leave it out, or set a `router` to {gates}"
                ),
            ),
            (
                "padding",
                routers.padding == defaults.routers.padding,
                used.counts_padding,
                format!(
                    "would be ignored, as no loss that has a weight sees padding: leave it out, or set `balance` and a \
                     `router` to {padded}"
                ),
            ),
        ];
        rules.extend(RouterKind::all_losses().into_iter().map(|loss| {
            let has = |kind: &RouterKind| kind.has_loss(loss.name);
            let names = RouterKind::names(has);
            let reason = format!(
                "weighs a loss of {names}, and no stage has such a router: leave it out, or set a `router` to {names}"
            );
            (loss.name, routers.of(loss.name) <= 0.0, any(&has), reason)
        }));
        for (of, is_default, is_read, reason) in rules {
            found.require(
                &setting(stage, name, EXPERTS, of),
                is_default || is_read,
                &reason,
            );
        }
    }
}

/// Settings for scores that no partition needs.
fn importance<T: RecipeFamily>(found: &mut Problems, recipe: &Recipe<T>, used: &AllUsed<'_>) {
    if used.needs_importance {
        return;
    }
    for key in changed(&recipe.importance) {
        let reason = "would be ignored, as no `experts.order` needs scores: leave it out, or set an order to `importance` \
                      or `inverse`";
        found.add(&format!("importance.{key}"), reason);
    }
}

/// Keys of stages that their training does not read.
fn stages<T: RecipeFamily>(found: &mut Problems, recipe: &Recipe<T>, used: &AllUsed<'_>) {
    for (name, stage) in &recipe.stages {
        let is_compared = used.compared.contains(name.as_str());
        let reason = "would be ignored, as no method of the stage compares it with a teacher: leave it out, or add such \
                      a method";
        found.require(
            &format!("stages.{name}.teacher"),
            stage.teacher.is_none() || is_compared,
            reason,
        );
        if recipe.train_of(stage).epochs == 0 {
            untrained(found, name, stage);
        }
    }
}

fn untrained(found: &mut Problems, name: &str, stage: &StageRecipe) {
    let others = TrainOverrides {
        epochs: None,
        ..stage.train.clone()
    };
    for key in changed(&others) {
        let reason =
            "would be ignored, as the stage is not trained: leave it out, or set `epochs` above 0";
        found.add(&format!("stages.{name}.train.{key}"), reason);
    }
}

/// The keys of a table that differ from their defaults.
fn changed<T: Serialize + Default>(table: &T) -> Vec<String> {
    // What cannot be written as TOML is refused elsewhere.
    let keys = |table: &T| toml::Table::try_from(table).unwrap_or_default();
    let defaults = keys(&T::default());
    let keys = keys(table).into_iter();
    keys.filter(|(key, value)| defaults.get(key) != Some(value))
        .map(|(key, _)| key)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::load;

    /// A recipe with a teacher and its student, which is split and distilled.
    const VALID: &str = r#"name = "mine"
[model]
path = "bert"
[data]
task = "sst2"
path = "glue"
[stages.teacher]
[stages.student]
from = "teacher"
methods = ["experts", "layerwise"]
"#;

    #[track_caller]
    fn accept(overrides: &[&str]) {
        assert_eq!(
            load::ignored(VALID, overrides),
            Vec::<String>::new(),
            "{overrides:?}"
        );
    }

    #[track_caller]
    fn warns(overrides: &[&str], expected: &str) {
        let found = load::ignored(VALID, overrides);
        let [message] = &found[..] else {
            panic!("{overrides:?}: {found:?}");
        };
        assert!(message.contains(expected), "{overrides:?}: {message}");
    }

    const GATED: &str = "arms=[{name='hash'}, {name='gate', experts={router='gate-token'}}]";
    const LABELS: &str = "stages.student.methods=['experts']";
    const RANDOM: &str = "experts.order='random'";

    #[test]
    fn settings_that_every_stage_has_of_its_own_are_not_shared() {
        let own = "stages.student.methods={experts={}, layerwise={weight=2.0}}";
        accept(&[own, "layerwise.logits=none"]);
        warns(
            &[own, "layerwise.weight=3"],
            "`layerwise.weight` would be ignored, as every stage with `layerwise` has its own: set \
             `stages.student.methods.layerwise.weight`",
        );
    }

    #[test]
    fn settings_of_gates_need_a_gate() {
        accept(&[
            "experts.router=gate-sentence",
            "experts.gate_scale=probability",
        ]);
        accept(&[
            GATED,
            "experts.gate_scale=probability",
            "experts.balance=0.1",
        ]);
        accept(&["experts.gate_scale=unit", "experts.balance=0"]);
        warns(
            &["experts.gate_scale=probability"],
            "override `experts.gate_scale=probability`: `experts.gate_scale` is for gates, and no stage has one: leave it \
             out, or set a `router` to `gate-token`, `gate-sentence` or `top-k`",
        );
        warns(
            &["experts.balance=0.1"],
            "`experts.balance` weighs a loss of `gate-token`, `gate-sentence` or `top-k`, and no stage has such a router",
        );
        warns(
            &["experts.z=0.1"],
            "`experts.z` weighs a loss of `top-k`, and no stage has such a router: leave it out, or set a `router` to `top-k`",
        );
        warns(
            &["stages.student.methods={experts={gate_scale='probability'}}"],
            "`stages.student.methods.experts.gate_scale` is for gates",
        );
        accept(&[
            "experts.router=gate-token",
            "experts.balance=0.1",
            "experts.padding=include",
        ]);
        warns(
            &["experts.router=gate-token", "experts.padding=include"],
            "`experts.padding` would be ignored",
        );
    }

    #[test]
    fn settings_of_a_method_need_a_stage_that_has_it() {
        for setting in [
            "weight=3",
            "layers=last",
            "padding=include",
            "logits=kl",
            "temperature=2",
        ] {
            let setting = format!("layerwise.{setting}");
            accept(&[&setting]);
            warns(
                &[LABELS, &setting],
                "`layerwise` would be ignored, as no stage has it in its `methods`",
            );
        }
        warns(&["kd.weight=3"], "`kd` would be ignored");
        accept(&[
            "kd.weight=3",
            "arms=[{name='a'}, {name='b', stages={student={methods=['kd']}}}]",
        ]);
    }

    #[test]
    fn a_regression_has_no_temperature() {
        let task = "data.task=stsb";
        accept(&[task, "layerwise.logits=mse"]);
        for setting in ["layerwise.temperature=2", "layerwise.logits=kl"] {
            warns(
                &[task, setting],
                "is for classes, and a regression compares",
            );
        }
    }

    #[test]
    fn a_stage_that_is_not_trained_has_no_training() {
        accept(&["stages.teacher.train.epochs=2"]);
        accept(&["stages.teacher.train.epochs=0", "train.epochs=2"]);
        warns(
            &[
                "stages.teacher.train.epochs=0",
                "stages.teacher.train.warmup=0.1",
            ],
            "`stages.teacher.train.warmup` would be ignored, as the stage is not trained",
        );
    }

    #[test]
    fn a_teacher_that_nothing_looks_at_is_ignored() {
        accept(&["stages.student.teacher=teacher"]);
        warns(
            &[LABELS, "stages.student.teacher=teacher"],
            "`stages.student.teacher` would be ignored, as no method of the stage compares it with a teacher",
        );
        accept(&[
            "stages.student.teacher=teacher",
            "arms=[{name='a'}, {name='b', stages={student={methods=['experts']}}}]",
        ]);
    }

    #[test]
    fn scores_that_no_stage_needs_have_no_settings() {
        accept(&["importance.samples=9"]);
        accept(&[RANDOM, "importance.batch_size=32"]);
        for setting in ["samples=9", "split=dev", "batch_size=8"] {
            let setting = format!("importance.{setting}");
            warns(
                &[RANDOM, &setting],
                "would be ignored, as no `experts.order` needs scores",
            );
        }
    }
}
