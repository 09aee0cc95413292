//! Values of a recipe for encoders that cannot work, found before any work starts.

use distill::loss::LogitsForm;

use super::{DataRecipe, EncoderModel, RandomModel, SquadData};
use crate::{
    data::squad::windows::SPECIAL_TOKENS,
    recipe::{
        EncoderRecipe, Problem, Task,
        problems::Problems,
        validate::{one_model, setting},
    },
};

/// `[CLS] a [SEP] b [SEP]`, the shortest input with two texts.
const SHORTEST_INPUT: usize = 5;

/// What cannot work in the parts of `recipe` that are for encoders.
pub(super) fn problems(recipe: &EncoderRecipe) -> Vec<Problem> {
    let mut found = Problems::default();
    model(&mut found, &recipe.model);
    data(&mut found, &recipe.data);
    found.at_least("latency.batch", recipe.latency.batch, 1);
    found.at_least("latency.length", recipe.latency.length, 1);
    found.at_least("latency.repeats", recipe.latency.repeats, 1);
    if let Some(random) = &recipe.model.random {
        let lengths = [
            ("data.max_length", recipe.data.max_length()),
            ("latency.length", recipe.latency.length),
        ];
        for (key, length) in lengths {
            found.at_most(key, length, random.positions, "`model.random.positions`");
        }
    }
    if let Task::Squad(_) = recipe.data.task {
        spans_of_answers(&mut found, recipe);
    }
    found.into_pairs()
}

/// Padding takes part in the logits of a span.
fn spans_of_answers(found: &mut Problems, recipe: &EncoderRecipe) {
    for (name, stage) in &recipe.stages {
        let methods = recipe.methods_of(stage);
        let settings = methods
            .get("layerwise")
            .and_then(|settings| settings.get("logits"));
        let logits = settings.and_then(|logits| logits.clone().try_into().ok());
        let reason = "`mse` has no meaning for a span's logits, which padding takes part in: use `kl` or `symmetric-kl`";
        let key = setting(stage, name, "layerwise", "logits");
        found.require(&key, logits != Some(LogitsForm::Mse), reason);
    }
}

fn model(found: &mut Problems, model: &EncoderModel) {
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
    }
}

fn random_model(found: &mut Problems, random: &RandomModel) {
    let key = |name: &str| format!("model.random.{name}");
    random.size().problems(found, "model.random");
    // The special tokens and the letters must fit.
    found.at_least(&key("vocabulary"), random.vocabulary, 100);
    found.at_least(&key("positions"), random.positions, SHORTEST_INPUT);
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

#[cfg(test)]
mod tests {
    use super::super::super::load;

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
[stages.teacher]
[stages.student]
from = "teacher"
methods = ["experts", "layerwise"]
[[arms]]
name = "importance"
[[arms]]
name = "random"
experts.order = "random"
"#;

    fn refusal(overrides: &[&str]) -> String {
        load::refusal(VALID, overrides)
    }

    #[test]
    fn the_recipe_of_these_tests_is_valid() {
        load::parse("mine.toml", VALID, &[]).expect("valid");
    }

    #[test]
    fn equal_experts_need_no_even_rest() {
        let overrides = ["experts.count=5", "experts.shared=64"].map(str::to_owned);
        load::parse("mine.toml", VALID, &overrides).expect("nothing is dealt out");
    }

    const IMPOSSIBLE: &[(&str, &str)] = &[
        (
            "train.accumulate=0",
            "`train.accumulate` must be at least 1, not 0",
        ),
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
            "stages.teacher.train.batch_size=0",
            "`stages.teacher.train.batch_size` must be at least 1",
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
            "layerwise.temperature=0",
            "`layerwise.temperature` cannot work: `temperature` must be above 0",
        ),
        (
            "layerwise.weight=-1",
            "`layerwise.weight` cannot work: `weight` must be 0 or more",
        ),
        (
            "experts.balance=-1",
            "`experts.balance` must be 0 or more, not -1",
        ),
        (
            "experts.order=randm",
            "`experts.order` cannot work: unknown neuron order `randm`",
        ),
        (
            "experts.cuont=4",
            "`experts.cuont` is no setting of `experts`; did you mean `count`?",
        ),
        ("seeds=[]", "`seeds` must hold at least one seed"),
        ("seeds=[1, 1]", "`seeds` must not repeat a seed"),
        (
            "arms=[{name='a', experts={shared=65}}]",
            "`experts.shared` must be at most 64",
        ),
        ("name=../up", "`name` must be a plain name"),
    ];

    #[test]
    fn impossible_values_are_refused_with_their_reason() {
        for (given, expected) in IMPOSSIBLE {
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
        let message = load::parse("mine.toml", &VALID.replace("heads = 4", "heads = 3"), &[])
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
            load::parse("mine.toml", &text, &[])
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
        let squad = "data={task='squad', path='squad'}";
        let message = refusal(&[squad, "layerwise.logits=mse"]);
        let expected = "override `layerwise.logits=mse`: `layerwise.logits` `mse` has no meaning for a span's logits";
        assert!(message.contains(expected), "{message}");
        let own = "stages.student.methods={layerwise={logits='mse'}}";
        let message = refusal(&[squad, own]);
        let expected = "`stages.student.methods.layerwise.logits` `mse` has no meaning";
        assert!(message.contains(expected), "{message}");
    }

    #[test]
    fn all_problems_are_told_at_once() {
        let message = refusal(&["train.accumulate=0", "latency.repeats=0"]);
        assert!(
            message.contains("train.accumulate") && message.contains("latency.repeats"),
            "{message}"
        );
    }
}
