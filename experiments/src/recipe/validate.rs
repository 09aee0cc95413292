//! Values that cannot work, found before any work starts.

use std::collections::BTreeSet;

use distill::loss::LogitsForm;
use moebert_core::partition::PartitionError;

use super::{
    DataRecipe, ExpertsRecipe, ModelRecipe, RandomModel, Recipe, SquadData, StudentRecipe, TEACHER,
    Task, TrainOverrides, TrainRecipe,
};
use super::{ignored, problems::Problems};
use crate::{data::squad::windows::SPECIAL_TOKENS, learner::TaskLearner, methods};

/// `[CLS] a [SEP] b [SEP]`, the shortest input with two texts.
const SHORTEST_INPUT: usize = 5;

/// Everything in `recipe` that cannot work, as pairs of a dotted key and a reason that continues
/// its sentence.
pub(super) fn problems(recipe: &Recipe) -> Vec<(String, String)> {
    let mut found = Problems::default();
    run(&mut found, &recipe.name, &recipe.seeds);
    model(&mut found, &recipe.model);
    data(&mut found, &recipe.data);
    train(&mut found, "train", &recipe.train);
    // A key that `[train]` already answers for is not named a second time.
    if found.is_empty() {
        overrides(&mut found, "teacher.train", &recipe.teacher.train);
        overrides(&mut found, "distill.train", &recipe.distill.train);
    }
    if recipe.teacher.fine_tuned && recipe.model.random.is_some() {
        found.add("teacher.fine_tuned", "cannot be true for a random model");
    }
    found.at_least("importance.batch_size", recipe.importance.batch_size, 1);
    if let Some(samples) = recipe.importance.samples {
        found.at_least("importance.samples", samples, 1);
    }
    found.within("distill.lambda", recipe.distill.lambda, 0.0..f64::INFINITY);
    found.within(
        "distill.balance",
        recipe.distill.balance,
        0.0..f64::INFINITY,
    );
    found.within("distill.z", recipe.distill.z, 0.0..f64::INFINITY);
    if matches!(
        recipe.distill.logits,
        LogitsForm::Kl | LogitsForm::SymmetricKl
    ) {
        found.positive("distill.temperature", recipe.distill.temperature);
    } else {
        let unused = (recipe.distill.temperature - 1.0).abs() > 0.0;
        let reason = "is for the logits losses `kl` and `symmetric-kl` only";
        found.require("distill.temperature", !unused, reason);
    }
    if let (LogitsForm::Mse, Task::Squad(_)) = (recipe.distill.logits, recipe.data.task) {
        let reason = "`mse` has no meaning for a span's logits, which padding takes part in: use `kl` \
                      or `symmetric-kl`";
        found.add("distill.logits", reason);
    }
    found.at_least("latency.batch", recipe.latency.batch, 1);
    found.at_least("latency.length", recipe.latency.length, 1);
    found.at_least("latency.repeats", recipe.latency.repeats, 1);
    if let Some(random) = &recipe.model.random {
        found.at_most(
            "data.max_length",
            recipe.data.max_length(),
            random.positions,
            "`model.random.positions`",
        );
        found.at_most(
            "latency.length",
            recipe.latency.length,
            random.positions,
            "`model.random.positions`",
        );
    }
    students(&mut found, recipe);
    // Of settings that can work, those that nothing reads.
    if found.is_empty() {
        ignored::check_students(&mut found, recipe);
    }
    found.into_pairs()
}

/// The name of a run and its seeds.
pub(super) fn run(found: &mut Problems, name: &str, seeds: &[u64]) {
    found.name("name", name);
    found.require("seeds", !seeds.is_empty(), "must hold at least one seed");
    let distinct: BTreeSet<u64> = seeds.iter().copied().collect();
    let is_distinct = distinct.len() == seeds.len();
    found.require("seeds", is_distinct, "must not repeat a seed");
}

/// What is said of a recipe without a model.
pub(super) const NO_MODEL: &str =
    "is missing: add model.path=FOLDER, a Hugging Face folder, or [model.random]";

/// Exactly one of the keys of `model` must be given.
pub(super) fn one_model(found: &mut Problems, keys: &[(&str, bool)]) {
    let given = keys.iter().filter(|(_, is_given)| *is_given);
    let given: Vec<&str> = given.map(|(key, _)| *key).collect();
    match given.as_slice() {
        [] => found.add("model", NO_MODEL),
        [_] => {}
        [first, .., last] => found.add(
            last,
            &format!("cannot go with `{first}`: give exactly one of them"),
        ),
    }
}

fn model(found: &mut Problems, model: &ModelRecipe) {
    one_model(
        found,
        &[
            ("model.path", model.path.is_some()),
            ("model.hub", model.hub.is_some()),
            ("model.random", model.random.is_some()),
        ],
    );
    hub(found, "model.hub", model.hub.as_deref());
    if let Some(random) = &model.random {
        random_model(found, random);
        if let Some(schedule) = &model.spans
            && let Err(error) = schedule.spans(random.layers)
        {
            found.add("model.spans", &format!("cannot work: {error}"));
        }
        if let Some(schedule) = &model.mixers
            && let Err(error) = schedule.mixers(random.layers)
        {
            found.add("model.mixers", &format!("cannot work: {error}"));
        }
    }
}

fn random_model(found: &mut Problems, random: &RandomModel) {
    let key = |name: &str| format!("model.random.{name}");
    found.at_least(&key("layers"), random.layers, 1);
    found.at_least(&key("width"), random.width, 1);
    // The special tokens and the letters must fit.
    found.at_least(&key("vocabulary"), random.vocabulary, 100);
    found.at_least(&key("positions"), random.positions, SHORTEST_INPUT);
    found.within(&key("dropout"), random.dropout, 0.0..1.0);
    found.positive(&key("initializer_range"), random.initializer_range);
    found.divided(&key("hidden"), random.hidden, &key("heads"), random.heads);
}

fn data(found: &mut Problems, data: &DataRecipe) {
    let folders = usize::from(data.path.is_some()) + usize::from(data.hub.is_some());
    match (data.task, folders) {
        (Task::Synthetic, 0) | (Task::Glue(_) | Task::Squad(_), 1) => {}
        (Task::Synthetic, _) => {
            found.add(
                "data.task",
                "`synthetic` is made by kiln: leave out `data.path` and `data.hub`",
            );
        }
        (task, 0) => found.add(
            "data",
            &format!("has no folder: add data.path=FOLDER with the files of {task}"),
        ),
        _ => found.add("data.hub", "cannot go with `data.path`: give one of them"),
    }
    hub(found, "data.hub", data.hub.as_deref());
    found.at_least("data.max_length", data.max_length(), SHORTEST_INPUT);
    match (&data.squad, data.task) {
        (Some(squad), Task::Squad(_)) => windows(found, squad, data.max_length()),
        (Some(_), _) => found.add("data.squad", "is for the tasks squad and squad2 only"),
        (None, _) => {}
    }
    match (&data.synthetic, data.task) {
        (Some(synthetic), Task::Synthetic) => {
            found.at_least("data.synthetic.train", synthetic.train, 1);
            found.at_least("data.synthetic.dev", synthetic.dev, 1);
        }
        (Some(_), _) => found.add("data.synthetic", "is for the task synthetic only"),
        (None, _) => {}
    }
}

fn windows(found: &mut Problems, squad: &SquadData, max_length: usize) {
    found.at_least("data.squad.max_query_length", squad.max_query_length, 1);
    found.at_least("data.squad.max_answer_length", squad.max_answer_length, 1);
    let reason = format!(
        "must be less: {} shared tokens, {} of the question and {SPECIAL_TOKENS} special ones leave no \
         room in {max_length}",
        squad.doc_stride, squad.max_query_length
    );
    let has_room = squad.windows(max_length).has_room(SPECIAL_TOKENS);
    found.require("data.squad.doc_stride", has_room, &reason);
}

fn hub(found: &mut Problems, key: &str, name: Option<&str>) {
    if name.is_some() && !cfg!(feature = "hub") {
        found.add(
            key,
            "needs a kiln built with --features hub; or give a local folder as path",
        );
    }
}

/// The settings of a training.
pub(super) fn train(found: &mut Problems, table: &str, train: &TrainRecipe) {
    let key = |name: &str| format!("{table}.{name}");
    found.at_least(&key("epochs"), train.epochs, 1);
    found.at_least(&key("batch_size"), train.batch_size, 1);
    found.positive(&key("learning_rate"), train.learning_rate);
    found.within(&key("weight_decay"), train.weight_decay, 0.0..f64::INFINITY);
    found.within(&key("warmup"), train.warmup, 0.0..1.0);
    found.within(&key("clip_norm"), train.clip_norm, 0.0..f64::INFINITY);
    found.at_least(&key("accumulate"), train.accumulate, 1);
    if let Some(patience) = train.early_stopping {
        found.at_least(&key("early_stopping"), patience, 1);
    }
}

/// Overrides on top of valid defaults: whatever is wrong is theirs.
pub(super) fn overrides(found: &mut Problems, table: &str, overrides: &TrainOverrides) {
    train(found, table, &TrainRecipe::default().with(overrides));
}

fn students(found: &mut Problems, recipe: &Recipe) {
    found.require(
        "students",
        !recipe.students.is_empty(),
        "must hold at least one student",
    );
    let dense_width = recipe.model.random.as_ref().map(|random| random.width);
    experts(found, "experts", &recipe.experts, dense_width);
    let defaults_are_fine = !found.concerns("experts");
    let mut names = BTreeSet::from([TEACHER]);
    for (index, student) in recipe.students.iter().enumerate() {
        let table = format!("students.{index}");
        found.name(&format!("{table}.name"), &student.name);
        found.unique(&format!("{table}.name"), &student.name, &mut names);
        found.within(&format!("{table}.task"), student.task, 0.0..f64::INFINITY);
        for (key, reason) in
            methods::problems::<TaskLearner>(&format!("{table}.methods"), &student.methods)
        {
            found.add(&key, &reason);
        }
        learning(found, &table, student);
        if !student.has_experts() {
            start(found, &table, student);
            let is_fresh = student.model.is_some() && recipe.model.random.is_some();
            let reason = "cannot go with `model.random`, whose tokens are those of the run: give the teacher a folder, too";
            found.require(&format!("{table}.model"), !is_fresh, reason);
        } else if defaults_are_fine {
            let student = recipe.student_experts(student);
            experts(found, &table, &student, dense_width);
        }
    }
}

/// What a student learns from.
fn learning(found: &mut Problems, table: &str, student: &StudentRecipe) {
    let methods = &student.methods;
    let is_twice = student.distill && methods.contains_key("layerwise");
    let reason = "cannot go with `distill = true`, which is layer-wise distillation as `[distill]` says: leave one out";
    found.require(&format!("{table}.methods.layerwise"), !is_twice, reason);
    let learns = student.distill || methods::add_to_loss::<TaskLearner>(methods);
    loss(found, &format!("{table}.task"), student.task, learns);
}

/// Something must be left of the loss: the labels', or what methods add.
pub(super) fn loss(found: &mut Problems, key: &str, task: f64, is_added_to: bool) {
    let reason = "is 0, and no method adds to the loss: give the labels' loss a factor, or add a method that does";
    found.require(key, task != 0.0 || is_added_to, reason);
}

/// A student that is not cut into experts.
fn start(found: &mut Problems, table: &str, student: &StudentRecipe) {
    if student.keep_layers.is_some() && student.model.is_some() {
        let reason = "cannot go with `keep_layers`: a student has one beginning";
        found.add(&format!("{table}.model"), reason);
    }
    for key in student.expert_keys() {
        let reason = "is for experts, and a student with `keep_layers` or `model` has none";
        found.add(&format!("{table}.{key}"), reason);
    }
}

/// Sizes of experts; those that depend on the width F of the model are checked where it is known
/// here.
pub(super) fn experts(
    found: &mut Problems,
    table: &str,
    experts: &ExpertsRecipe,
    dense_width: Option<usize>,
) {
    let key = |name: &str| format!("{table}.{name}");
    let ExpertsRecipe {
        count,
        width,
        shared,
        ..
    } = *experts;
    let before = found.len();
    found.at_least(&key("count"), count, 1);
    found.at_least(&key("width"), width, 1);
    found.at_most(&key("shared"), shared, width, "`width`");
    if count > 0
        && let Err(error) = experts.routers(0).check(count)
    {
        found.add(&key("k"), &format!("cannot work: {error}"));
    }
    let Some(dense_width) = dense_width.filter(|_| found.len() == before) else {
        return;
    };
    if let Err(error) = experts.partition(0).validate(dense_width) {
        let name = match error {
            PartitionError::TooManyExperts { .. } => "count",
            PartitionError::TooWide { .. } => "width",
            _ => "shared",
        };
        found.add(&key(name), &format!("cannot work: {error}"));
    }
}

#[cfg(test)]
mod tests {
    use super::super::source;

    /// A recipe on which every check passes.
    const VALID: &str = r#"
name = "mine"
[model.random]
layers = 2
hidden = 64
heads = 4
width = 256
vocabulary = 1000
positions = 128
[data]
task = "synthetic"
max_length = 32
[experts]
width = 64
shared = 32
[latency]
length = 32
[[students]]
name = "importance"
[[students]]
name = "random"
order = "random"
"#;

    fn refusal(overrides: &[&str]) -> String {
        source::refusal(VALID, overrides)
    }

    #[test]
    fn the_recipe_of_these_tests_is_valid() {
        source::parse("mine.toml", VALID, &[]).expect("valid");
    }

    #[test]
    fn equal_experts_need_no_even_rest() {
        let overrides = ["experts.count=5", "experts.shared=64"].map(str::to_owned);
        source::parse("mine.toml", VALID, &overrides).expect("nothing is dealt out");
    }

    #[test]
    fn impossible_values_are_refused_with_their_reason() {
        let cases = [
            ("train.epochs=0", "`train.epochs` must be at least 1, not 0"),
            (
                "train.learning_rate=-1e-5",
                "`train.learning_rate` must be above 0",
            ),
            (
                "train.learning_rate=nan",
                "`train.learning_rate` must be above 0",
            ),
            (
                "train.warmup=1.0",
                "`train.warmup` must be from 0 to below 1, not 1",
            ),
            (
                "teacher.train.batch_size=0",
                "`teacher.train.batch_size` must be at least 1",
            ),
            (
                "model.random.dropout=1.0",
                "`model.random.dropout` must be from 0 to below 1",
            ),
            (
                "model.random.initializer_range=0",
                "`model.random.initializer_range` must be above 0, not 0",
            ),
            (
                "model.random.heads=5",
                "`model.random.hidden` must be a multiple of the 5 heads, not 64",
            ),
            (
                "model.path=bert",
                "`model.random` cannot go with `model.path`",
            ),
            (
                "data.max_length=256",
                "`data.max_length` must be at most 128 (`model.random.positions`)",
            ),
            ("data.path=glue", "`data.task` `synthetic` is made by kiln"),
            (
                "data.squad.doc_stride=3",
                "`data.squad` is for the tasks squad and squad2 only",
            ),
            (
                "experts.shared=65",
                "`experts.shared` must be at most 64 (`width`), not 65",
            ),
            (
                "experts.count=257",
                "`experts.count` cannot work: 257 experts cannot share 256 neurons",
            ),
            (
                "experts.width=512",
                "`experts.width` cannot work: an expert of 512 neurons is too wide",
            ),
            (
                "experts.shared=30",
                "`experts.shared` cannot work: 256 neurons less 30 shared cannot be dealt evenly",
            ),
            (
                "experts.width=89",
                "`experts.width` cannot work: an expert of 89 neurons is too wide",
            ),
            (
                "distill.temperature=0",
                "`distill.temperature` must be above 0",
            ),
            (
                "distill={logits='mse', temperature=2}",
                "`distill.temperature` is for the logits losses",
            ),
            ("seeds=[]", "`seeds` must hold at least one seed"),
            ("seeds=[1, 1]", "`seeds` must not repeat a seed"),
            ("students=[]", "`students` must hold at least one student"),
            (
                "students=[{name='a'}, {name='a'}]",
                "`students.1.name` `a` is taken",
            ),
            (
                "students=[{name='a/b'}]",
                "`students.0.name` must be a plain name",
            ),
            (
                "students=[{name='a', shared=65}]",
                "`students.0.shared` must be at most 64",
            ),
            ("name=../up", "`name` must be a plain name"),
        ];
        for (given, expected) in cases {
            let message = refusal(&[given]);
            assert!(message.contains(expected), "{given}: {message}");
            assert_eq!(
                message.matches("mine.toml").count() + message.matches("override").count(),
                1,
                "{message}"
            );
        }
    }

    #[test]
    fn a_problem_is_placed_where_its_value_was_given() {
        assert!(refusal(&["train.epochs=0"]).starts_with("override `train.epochs=0`: "));
        let message = source::parse("mine.toml", &VALID.replace("heads = 4", "heads = 3"), &[])
            .expect_err("64 / 3");
        assert!(
            message
                .to_string()
                .starts_with("mine.toml, line 5: `model.random.hidden`"),
            "{message}"
        );
    }

    #[test]
    fn spans_that_do_not_fit_are_placed_too() {
        let spans = |schedule: &str| {
            let keys = format!("[model]\nspans = \"{schedule}\"\n[model.random]");
            let text = VALID.replace("[model.random]", &keys);
            source::parse("mine.toml", &text, &[])
        };
        spans("every:2 window:8").expect("two layers");
        for (schedule, expected) in [
            (
                "bottom:3 window:8",
                "`model.spans` cannot work: `bottom:3` asks for more layers than the model has",
            ),
            ("layers:2 window:8", "`model.spans` cannot work: `layers:2`"),
            (
                "every:0 window:8",
                "`model.spans`: `every:0` in a schedule: expected",
            ),
            (
                "bottom:1 windw:8",
                "`model.spans`: unknown word `windw:8` in a span",
            ),
        ] {
            let message = spans(schedule).expect_err("two layers").to_string();
            let expected = format!("mine.toml, line 4: {expected}");
            assert!(message.starts_with(&expected), "{message}");
        }
        let message = refusal(&["model.mixers=layers:2 attention"]);
        assert!(
            message.contains("`model.mixers` cannot work: `layers:2` names layer 2"),
            "{message}"
        );
        let message = refusal(&["model.spans=bottom:1"]);
        assert!(
            message.starts_with("override `model.spans=bottom:1`: `model.spans` cannot work"),
            "{message}"
        );
    }

    #[test]
    fn the_squared_error_of_span_logits_is_refused() {
        let message = refusal(&["data={task='squad', path='squad'}", "distill.logits=mse"]);
        let expected = "`distill.logits` `mse` has no meaning for a span's logits";
        assert!(message.contains(expected), "{message}");
    }

    #[test]
    fn a_student_learns_from_something_and_from_nothing_twice() {
        let cases = [
            (
                "{ name = 'a', methods = { layerwise = {} } }",
                "`students.0.methods.layerwise` cannot go with `distill = true`",
            ),
            (
                "{ name = 'a', distill = false, task = 0, methods = { lora = {} } }",
                "`students.0.task` is 0, and no method adds to the loss",
            ),
            (
                "{ name = 'a', methods = { lora = { rank = 0 } } }",
                "`students.0.methods.lora` cannot work: `rank` must be at least 1, not 0",
            ),
            (
                "{ name = 'a', model = 'folder' }",
                "`students.0.model` cannot go with `model.random`",
            ),
        ];
        for (student, expected) in cases {
            let message = refusal(&[&format!("students=[{student}]")]);
            assert!(message.contains(expected), "{student}: {message}");
        }
        let fine = "students=[{ name = 'a', distill = false, task = 0, methods = { kd = {}, layerwise = {} } }]";
        source::parse("mine.toml", VALID, &[fine.to_owned()]).expect("it learns from the teacher");
    }

    #[test]
    fn all_problems_are_told_at_once() {
        let message = refusal(&["train.epochs=0", "latency.repeats=0"]);
        assert!(
            message.contains("train.epochs") && message.contains("latency.repeats"),
            "{message}"
        );
    }
}
