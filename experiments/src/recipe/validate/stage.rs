//! One stage: its start, its training, and what it learns from.

use super::{
    super::{
        RandomStudent, Recipe, RecipeFamily, StageMethods, StageRecipe, StartModel,
        problems::Problems,
    },
    experts, overrides, setting,
};
use crate::methods::{self, experts::EXPERTS};

/// Everything in a stage that cannot work. Names of stages are right, and there is no cycle among them.
pub(super) fn problems<T: RecipeFamily>(
    found: &mut Problems,
    recipe: &Recipe<T>,
    name: &str,
    stage: &StageRecipe,
) {
    let key = |key: &str| format!("stages.{name}.{key}");
    found.within(&key("task"), stage.task, 0.0..f64::INFINITY);
    // A key that `[train]` already answers for is not named a second time.
    if !found.concerns("train.") {
        overrides(found, &key("train"), &stage.train);
    }
    if let StageMethods::Names(names) = &stage.methods {
        let repeated = names
            .iter()
            .enumerate()
            .find(|(index, name)| names[..*index].contains(name));
        if let Some((_, method)) = repeated {
            found.add(&key("methods"), &format!("names `{method}` twice"));
        }
    }
    let before = found.len();
    found.extend(methods::problems::<T::Learner>(
        &key("methods."),
        &stage.methods.tables(),
    ));
    start(found, recipe, name, stage);
    // What methods do with each other and with the model is asked of right settings alone.
    if found.len() == before
        && !stage
            .methods
            .tables()
            .keys()
            .any(|method| found.concerns(method))
    {
        whole(found, recipe, name, stage);
        learning(found, recipe, name, stage);
        split(found, recipe, name, stage);
    }
    if recipe.train_of(stage).epochs == 0 {
        untrained(found, recipe, name, stage);
    }
}

/// Settings of a stage that are wrong only together with the shared ones.
fn whole<T: RecipeFamily>(
    found: &mut Problems,
    recipe: &Recipe<T>,
    name: &str,
    stage: &StageRecipe,
) {
    let prefix = format!("stages.{name}.methods.");
    found.extend(methods::problems::<T::Learner>(
        &prefix,
        &recipe.methods_of(stage),
    ));
}

/// Where a stage starts.
fn start<T: RecipeFamily>(
    found: &mut Problems,
    recipe: &Recipe<T>,
    name: &str,
    stage: &StageRecipe,
) {
    let key = format!("stages.{name}.folder");
    if let Some(random) = &stage.random {
        let table = format!("stages.{name}.random");
        random.problems(found, &table);
        let reason = "cannot go with `folder`: a stage starts from one of them";
        found.require(&table, stage.folder.is_none(), reason);
    }
    if stage.folder.is_none() {
        return;
    }
    let reason = "cannot go with `model.random`, whose tokens are those of the run: give the model a folder, too";
    found.require(&key, recipe.model.fresh().is_none(), reason);
}

/// What a stage learns from.
fn learning<T: RecipeFamily>(
    found: &mut Problems,
    recipe: &Recipe<T>,
    name: &str,
    stage: &StageRecipe,
) {
    let methods = recipe.methods_of(stage);
    let is_trained = recipe.train_of(stage).epochs > 0;
    let learns = stage.task != 0.0 || methods::add_to_loss::<T::Learner>(&methods);
    let reason = "is 0, and no method adds to the loss: give the labels' loss a factor, or add a method that does";
    found.require(
        &format!("stages.{name}.task"),
        learns || !is_trained,
        reason,
    );
    continuing(found, recipe, name, stage);
    if recipe.teacher_of(stage).is_none() {
        for method in methods::with_teacher::<T::Learner>(&methods) {
            let reason = format!(
                "has `{method}`, which compares the model with its teacher: name a stage as `stages.{name}.teacher`"
            );
            found.add(&format!("stages.{name}.methods"), &reason);
        }
    }
}

/// Methods that begin with what another one trained in earlier stages, and methods beside one that leaves the model as it
/// is.
fn continuing<T: RecipeFamily>(
    found: &mut Problems,
    recipe: &Recipe<T>,
    name: &str,
    stage: &StageRecipe,
) {
    let key = format!("stages.{name}.methods");
    let methods = recipe.methods_of(stage);
    for (method, needed) in methods::continuing::<T::Learner>(&methods) {
        let sides = [
            ("from", recipe.start_of(stage)),
            ("teacher", recipe.teacher_of(stage)),
        ];
        let has = |from: Option<&str>| {
            let methods = from.map(|from| recipe.methods_of(&recipe.stages[from]));
            methods.is_some_and(|methods| methods.contains_key(needed))
        };
        let lacking = sides.iter().filter(|(_, from)| !has(*from));
        let lacking: Vec<_> = lacking
            .map(|(side, _)| format!("`stages.{name}.{side}`"))
            .collect();
        let reason = format!(
            "has `{method}`, which begins with what `{needed}` trained: name a stage with `{needed}` as {}",
            lacking.join(" and as ")
        );
        found.require(&key, lacking.is_empty(), &reason);
    }
    let Some(freezing) = methods::freezing::<T::Learner>(&methods) else {
        return;
    };
    let reason =
        format!("would be ignored, as `{freezing}` leaves all of the model as it is: leave it out");
    found.require(
        &format!("stages.{name}.freeze"),
        stage.freeze.is_empty(),
        &reason,
    );
    let other = methods.keys().find(|method| *method != freezing);
    if let Some(other) = other {
        let reason = format!(
            "has `{freezing}`, which leaves the model as it is, beside `{other}`: give them a stage each"
        );
        found.add(&key, &reason);
    }
}

/// How a stage splits its model, and what the layers of a fresh one allow.
fn split<T: RecipeFamily>(
    found: &mut Problems,
    recipe: &Recipe<T>,
    name: &str,
    stage: &StageRecipe,
) {
    let experts = recipe.experts_of(stage);
    let split = ancestors(recipe, stage).find(|(_, stage)| recipe.experts_of(stage).is_some());
    if let Some((ancestor, _)) = split {
        let reason =
            format!("cannot change the layers of `{ancestor}`, which are split into experts");
        found.require(
            &format!("stages.{name}.methods"),
            experts.is_none(),
            &reason,
        );
        found.require(
            &format!("stages.{name}.keep_layers"),
            stage.keep_layers.is_none(),
            &reason,
        );
    }
    let size = size(recipe, stage);
    if let Some(experts) = experts {
        let key = |of: &str| setting(stage, name, EXPERTS, of);
        experts::problems::<T>(found, key, &experts, size.map(|size| size.width));
    }
    let Some(size) = size else {
        return;
    };
    if let Some(Err(error)) = stage.spans.as_ref().map(|spans| spans.spans(size.layers)) {
        found.add(
            &format!("stages.{name}.spans"),
            &format!("cannot work: {error}"),
        );
    }
    if let Some(Err(error)) = stage
        .mixers
        .as_ref()
        .map(|mixers| size.check_mixers(mixers, T::DIRECTION))
    {
        found.add(
            &format!("stages.{name}.mixers"),
            &format!("cannot work: {error}"),
        );
    }
}

/// The stages that a stage descends from, the nearest one first.
fn ancestors<'a, T: RecipeFamily>(
    recipe: &'a Recipe<T>,
    stage: &'a StageRecipe,
) -> impl Iterator<Item = (&'a str, &'a StageRecipe)> {
    let named = |stage: &'a StageRecipe| {
        let start = recipe.start_of(stage)?;
        Some((start, &recipe.stages[start]))
    };
    std::iter::successors(named(stage), move |(_, stage)| named(stage))
}

/// The size of the model that a stage starts with, if it descends from a fresh one.
fn size<T: RecipeFamily>(recipe: &Recipe<T>, stage: &StageRecipe) -> Option<RandomStudent> {
    let mut ancestors: Vec<_> = ancestors(recipe, stage).map(|(_, stage)| stage).collect();
    let root = ancestors.last().copied().unwrap_or(stage);
    let mut size = root.random.or(recipe.model.fresh())?;
    while let Some(ancestor) = ancestors.pop() {
        if let Some(kept) = &ancestor.keep_layers {
            size.layers = kept.indices(size.layers).ok()?.len();
        }
    }
    Some(size)
}

/// A model that is judged as it is.
fn untrained<T: RecipeFamily>(
    found: &mut Problems,
    recipe: &Recipe<T>,
    name: &str,
    stage: &StageRecipe,
) {
    let key = match stage.train.epochs {
        Some(_) => format!("stages.{name}.train.epochs"),
        None => "train.epochs".to_owned(),
    };
    let changed = [
        ("methods", !stage.methods.tables().is_empty()),
        ("keep_layers", stage.keep_layers.is_some()),
    ];
    for (what, _) in changed.into_iter().filter(|(_, is_set)| *is_set) {
        let reason = format!(
            "is 0, which judges a model as it is: leave out `stages.{name}.{what}`, or train it"
        );
        found.add(&key, &reason);
    }
    let is_drawn = stage.random.is_some()
        || recipe.start_of(stage).is_none()
            && stage.folder.is_none()
            && recipe.model.fresh().is_some();
    let reason = format!("is 0, and the weights of the stage `{name}` are random: train it");
    found.require(&key, !is_drawn, &reason);
}

#[cfg(test)]
mod tests {
    use super::super::super::load;

    /// A recipe of a fresh encoder on which every check passes.
    const FRESH: &str = r#"
name = "mine"
[model.random]
layers = 4
hidden = 64
heads = 4
width = 256
vocabulary = 1000
positions = 128
[data]
task = "synthetic"
[experts]
width = 64
shared = 32
[stages.teacher]
[stages.student]
from = "teacher"
methods = ["experts", "layerwise"]
"#;

    /// The same recipe without its stages.
    fn without_stages() -> &'static str {
        let (before, _) = FRESH
            .split_once("[stages.teacher]")
            .expect("a recipe with stages");
        before
    }

    #[track_caller]
    fn accept(text: &str, overrides: &[&str]) {
        let overrides: Vec<String> = overrides.iter().map(ToString::to_string).collect();
        if let Err(error) = load::parse("mine.toml", text, &overrides) {
            panic!("{overrides:?}: {error}");
        }
    }

    #[test]
    fn stages_that_cannot_work_are_refused_with_their_reason() {
        let cases = [
            (
                "methods=['pkdd']",
                "`stages.student.methods.pkdd` is no method; did you mean `pkd`?",
            ),
            (
                "methods=['kd', 'kd']",
                "`stages.student.methods` names `kd` twice",
            ),
            (
                "methods={kd={temprature=2}}",
                "`stages.student.methods.kd.temprature` is no setting of `kd`; did you mean `temperature`?",
            ),
            (
                "methods={lora={rank=0}}",
                "`stages.student.methods.lora.rank` cannot work: `rank` must be at least 1, not 0",
            ),
            (
                "methods={experts={shared=65}}",
                "`stages.student.methods.experts.shared` must be at most 64 (`width`), not 65",
            ),
            (
                "methods={experts={k=2}}",
                "`stages.student.methods.experts.k`",
            ),
            (
                "methods=3",
                "`stages.student.methods`: invalid type: integer `3`, expected a list of methods, or a table",
            ),
            (
                "methods=['ted']",
                "`stages.student.methods` has `ted`, which begins with what `ted-filters` trained: name a stage with \
                 `ted-filters` as `stages.student.from` and as `stages.student.teacher`",
            ),
            (
                "methods=['ted-filters', 'kd']",
                "`stages.student.methods` has `ted-filters`, which leaves the model as it is, beside `kd`: give them a \
                 stage each",
            ),
            (
                "random={layers=1, hidden=9, heads=2, width=4}",
                "`stages.student.random.hidden` must be a multiple of the 2 heads, not 9",
            ),
            (
                "random={layers=1, hidden=8, heads=2, width=4, vocabulary=3}",
                "unknown key `stages.student.random.vocabulary`",
            ),
            (
                "random={layers=1, hidden=8, heads=2, width=64, dropout=1.0}",
                "`stages.student.random.dropout` must be from 0 to below 1",
            ),
            (
                "random={layers=0, hidden=8, heads=2, width=64}",
                "`stages.student.random.layers` must be at least 1",
            ),
            ("freeze=3", "`stages.student.freeze`: invalid type"),
            ("task=-1.0", "`stages.student.task` must be 0 or more"),
            (
                "train.learning_rate=0",
                "`stages.student.train.learning_rate` must be above 0",
            ),
            (
                "train.epohcs=2",
                "unknown key `stages.student.train.epohcs`; did you mean `epochs`?",
            ),
            (
                "form='teacher'",
                "unknown key `stages.student.form`; did you mean `from`?",
            ),
            ("keep_layers='some'", "`some` is no choice of layers"),
            (
                "folder='bert'",
                "`stages.student.folder` cannot go with `model.random`",
            ),
            (
                "spans='layers:4 window:8'",
                "`stages.student.spans` cannot work: `layers:4`",
            ),
            (
                "mixers='top:5 attention'",
                "`stages.student.mixers` cannot work: `top:5`",
            ),
            (
                "train.epochs=0",
                "`stages.student.train.epochs` is 0, which judges a model as it is: leave out `stages.student.methods`",
            ),
        ];
        for (given, expected) in cases {
            let given = format!("stages.student.{given}");
            let message = load::refusal(FRESH, &[&given]);
            assert!(message.contains(expected), "{given}: {message}");
            assert_eq!(message.matches("override").count(), 1, "{message}");
        }
    }

    #[test]
    fn what_stages_learn_from_and_start_with_is_checked() {
        let cases: [(&[&str], &str); 9] = [
            (
                &[
                    "stages.student.methods=['ted-filters']",
                    "stages.student.freeze=['head']",
                ],
                "`stages.student.freeze` would be ignored, as `ted-filters` leaves all of the model as it is: leave it out",
            ),
            (
                &["stages.student={from='teacher', task=0, methods=['lora']}"],
                "`stages.student.task` is 0, and no method adds to the loss",
            ),
            (
                &["stages={a={methods=['kd']}}"],
                "`stages.a.methods` has `kd`, which compares the model with its teacher: name a stage as",
            ),
            (
                &["stages={a={folder='bert'}}"],
                "`stages.a.folder` cannot go with `model.random`",
            ),
            (
                &["train.epochs=0", "stages={a={}}"],
                "override `train.epochs=0`: `train.epochs` is 0, and the weights of the stage `a` are random",
            ),
            (
                &["stages.teacher.methods=['experts']"],
                "`stages.student.methods` cannot change the layers of `teacher`, which are split into experts",
            ),
            (
                &[
                    "stages.teacher.methods=['experts']",
                    "stages.student.methods=[]",
                    "stages.student.keep_layers='1'",
                ],
                "`stages.student.keep_layers` cannot change the layers of `teacher`",
            ),
            (
                &[
                    "stages.teacher.keep_layers='1,2'",
                    "stages.student.spans=layers:2 window:8",
                ],
                "`stages.student.spans` cannot work: `layers:2`",
            ),
            (
                &["kd={temperature=0}", "stages.student.methods=['kd']"],
                "override `kd={temperature=0}`: `kd.temperature` cannot work: `temperature` must be above 0",
            ),
        ];
        for (overrides, expected) in cases {
            let text = if expected.contains("stages.a") || expected.contains("stage `a`") {
                without_stages()
            } else {
                FRESH
            };
            let message = load::refusal(text, overrides);
            assert!(message.contains(expected), "{overrides:?}: {message}");
            let places = ["override", "mine.toml"].map(|place| message.matches(place).count());
            assert_eq!(places[0] + places[1], 1, "{message}");
        }
    }

    #[test]
    fn stages_that_can_work_are_accepted() {
        accept(FRESH, &["stages.student.task=0"]);
        accept(
            FRESH,
            &[
                "stages.student.random={layers=2, hidden=8, heads=2, width=256}",
                "stages.student.spans=layers:1 window:8",
            ],
        );
        accept(
            FRESH,
            &[
                "stages.student.keep_layers=every:2",
                "stages.student.methods=['experts']",
            ],
        );
        accept(
            FRESH,
            &["stages.student.methods={experts={width=8, shared=4}, kd={weight=2}}"],
        );
        let (_, data) = FRESH.split_once("[data]").expect("a recipe with data");
        let folder = format!("name = \"mine\"\nmodel.path = \"bert\"\n[data]{data}");
        accept(&folder, &["stages.teacher.train.epochs=0"]);
        let (alone, _) = folder.split_once("[stages.teacher]").expect("stages");
        accept(alone, &["stages={a={train.epochs=0}}"]);
        accept(
            &folder,
            &["stages.student={folder='small', teacher='teacher', methods=['kd']}"],
        );
    }
}
