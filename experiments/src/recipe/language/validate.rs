//! Values of a language recipe that cannot work, found before any work starts.

use std::collections::BTreeSet;

use masformer_core::nearest::hint;
use moebert_core::{adapt::AdaptError, router::RouterKind};

use super::{
    DecoderRecipe, EvaluateRecipe, LanguageData, LanguageRecipe, LanguageTask, RandomDecoder,
    RecallData, RouterRecipe, SummaryData,
};
use crate::{
    data::packing::Documents,
    learner::language::LanguageLearner,
    methods,
    recipe::{
        CHECKPOINT, ImportanceRecipe, RecipeError,
        problems::Problems,
        validate::{experts, loss, one_model, overrides, run, train},
    },
};

/// Everything in `recipe` that cannot work, as pairs of a dotted key and a reason that continues
/// its sentence.
pub(super) fn problems(recipe: &LanguageRecipe) -> Vec<(String, String)> {
    let mut found = Problems::default();
    run(&mut found, &recipe.name, &recipe.seeds);
    model(&mut found, &recipe.model, recipe.data.length);
    data(&mut found, recipe);
    train(&mut found, "train", &recipe.train);
    growth(&mut found, recipe);
    found.at_least("evaluate.batch_size", recipe.evaluate.batch_size, 1);
    models(&mut found, recipe);
    routers(&mut found, recipe);
    found.into_pairs()
}

fn model(found: &mut Problems, model: &DecoderRecipe, length: usize) {
    one_model(
        found,
        &[
            ("model.path", model.path.is_some()),
            ("model.random", model.random.is_some()),
        ],
    );
    if let Some(chunk) = model.feed_forward_chunk {
        found.at_least("model.feed_forward_chunk", chunk, 1);
    }
    let Some(random) = &model.random else {
        return;
    };
    let extends = model.extend.is_some();
    let reason = "is for a model from a folder: set model.random.positions";
    found.require("model.extend", !extends, reason);
    let key = |name: &str| format!("model.random.{name}");
    let RandomDecoder {
        layers,
        hidden,
        heads,
        width,
        positions,
        rotary,
        dropout,
        initializer_range,
    } = *random;
    found.at_least(&key("layers"), layers, 1);
    found.at_least(&key("width"), width, 1);
    found.divided(&key("hidden"), hidden, &key("heads"), heads);
    if positions.is_some_and(|positions| positions < length) {
        let reason = format!("must be at least {length}, as `data.length` is");
        found.add(&key("positions"), &reason);
    }
    if let Some(theta) = rotary {
        found.positive(&key("rotary"), theta.into());
        let is_even = heads > 0 && (hidden / heads).is_multiple_of(2);
        let reason = "needs heads of an even width: `hidden / heads` is odd";
        found.require(&key("rotary"), is_even, reason);
    }
    found.within(&key("dropout"), dropout, 0.0..1.0);
    found.positive(&key("initializer_range"), initializer_range);
}

fn data(found: &mut Problems, recipe: &LanguageRecipe) {
    let LanguageData {
        task,
        path,
        length,
        tokenizer,
        documents,
        epoch,
        recall: recall_data,
        summary: summary_data,
    } = &recipe.data;
    found.at_least("data.length", *length, 1);
    if let Some(epoch) = epoch {
        found.at_least("data.epoch", *epoch, 1);
    }
    if let Err(RecipeError::Missing { key, reason }) = recipe.data.source() {
        found.add(key, reason);
    }
    let EvaluateRecipe { stride, beams, .. } = &recipe.evaluate;
    let own = [
        (
            "data.documents",
            *documents != Documents::default(),
            LanguageTask::Text,
        ),
        ("evaluate.stride", stride.is_some(), LanguageTask::Text),
        (
            "data.summary",
            summary_data.is_some(),
            LanguageTask::Summary,
        ),
        ("evaluate.beams", beams.is_some(), LanguageTask::Summary),
        ("data.recall", recall_data.is_some(), LanguageTask::Recall),
    ];
    for (key, is_given, owner) in own {
        let fits = !is_given || *task == owner;
        found.require(key, fits, &format!("is for the task `{owner}` only"));
    }
    if let Some(stride) = *stride {
        found.at_least("evaluate.stride", stride, 1);
        found.at_most("evaluate.stride", stride, *length, "`data.length`");
    }
    if let Some(beams) = *beams {
        found.at_least("evaluate.beams", beams, 1);
    }
    if let Some(data) = summary_data {
        summary(found, data, recipe);
    }
    if let Some(data) = recall_data {
        recall(found, data, *length);
    }
    if *task == LanguageTask::Recall {
        let foreign = [
            ("data.path", path.is_some()),
            ("data.tokenizer", tokenizer.is_some()),
            ("model.path", recipe.model.path.is_some()),
        ];
        for (key, is_given) in foreign {
            let reason = "cannot go with the task `recall`, whose tokens kiln makes: leave it out";
            found.require(key, !is_given, reason);
        }
    } else if recipe.model.path.is_some() && tokenizer.is_some() {
        let reason = "is for a fresh model: that of `model.path` brings its own";
        found.add("data.tokenizer", reason);
    }
}

fn summary(found: &mut Problems, data: &SummaryData, recipe: &LanguageRecipe) {
    let SummaryData {
        max_new_tokens,
        separator,
    } = data;
    found.at_least("data.summary.max_new_tokens", *max_new_tokens, 1);
    // The tokenizer of a fresh model does not exist yet; its tokens are a byte at least.
    let taken = max_new_tokens.saturating_add(separator.len());
    let reason = format!(
        "must be above {taken} to have room for a text: a summary takes {max_new_tokens} tokens \
         (`data.summary.max_new_tokens`), the separator up to {}",
        separator.len()
    );
    let has_room = recipe.model.random.is_none() || recipe.data.length > taken;
    found.require("data.length", has_room, &reason);
}

fn recall(found: &mut Problems, data: &RecallData, length: usize) {
    let key = |name: &str| format!("data.recall.{name}");
    found.at_least(&key("train"), data.train, 1);
    found.at_least(&key("dev"), data.dev, 1);
    found.at_least(&key("test"), data.test, 1);
    if let Err(error) = data.config(length).init() {
        found.add("data.recall", &format!("cannot work: {error}"));
    }
}

fn growth(found: &mut Problems, recipe: &LanguageRecipe) {
    let mut before = 0.0;
    let whole = recipe.data.length;
    for (index, part) in recipe.grow.iter().enumerate() {
        let key = |name: &str| format!("grow.{index}.{name}");
        let rises = part.until > before && part.until <= 1.0;
        let reason = format!("must be above {before} and at most 1, not {}", part.until);
        found.require(&key("until"), rises, &reason);
        before = part.until;
        let divides = part.length > 0 && whole.is_multiple_of(part.length);
        let reason = format!(
            "must divide `data.length`, {whole}, into whole pieces, not {}",
            part.length
        );
        found.require(&key("length"), divides, &reason);
    }
    let cuts = recipe.data.task == LanguageTask::Text && recipe.data.documents == Documents::Joined;
    let reason = "cuts sequences into pieces, which only joined text allows: set data.task=text and \
                  data.documents=joined, or leave it out";
    found.require("grow", recipe.grow.is_empty() || cuts, reason);
}

fn models(found: &mut Problems, recipe: &LanguageRecipe) {
    let reason = "must hold at least one model";
    found.require("models", !recipe.models.is_empty(), reason);
    let mut names = BTreeSet::from([CHECKPOINT]);
    for (index, model) in recipe.models.iter().enumerate() {
        let key = |name: &str| format!("models.{index}.{name}");
        found.name(&key("name"), &model.name);
        found.unique(&key("name"), &model.name, &mut names);
        if let Some(random) = &recipe.model.random
            && let Err(error) = model.spans.spans(random.layers)
        {
            found.add(&key("spans"), &format!("cannot work: {error}"));
        }
        if let Some(split) = &model.experts {
            let dense_width = recipe.model.random.as_ref().map(|random| random.width);
            experts(found, &key("experts"), split, dense_width);
            if !split.router.is_causal() {
                let error = AdaptError::NotCausal(split.router);
                found.add(&key("experts.router"), &format!("cannot work: {error}"));
            }
        }
        if let (Some(random), Some(schedule)) = (&recipe.model.random, &model.mixers)
            && let Err(error) = schedule.decoder_mixers(random.layers)
        {
            found.add(&key("mixers"), &format!("cannot work: {error}"));
        }
        learning(found, recipe, index);
    }
}

/// What a model learns from, and how.
fn learning(found: &mut Problems, recipe: &LanguageRecipe, index: usize) {
    let key = |name: &str| format!("models.{index}.{name}");
    let (before, model) = (&recipe.models[..index], &recipe.models[index]);
    found.within(&key("task"), model.task, 0.0..f64::INFINITY);
    for (key, reason) in methods::problems::<LanguageLearner>(&key("methods"), &model.methods) {
        found.add(&key, &reason);
    }
    let is_added_to = methods::add_to_loss::<LanguageLearner>(&model.methods);
    loss(found, &key("task"), model.task, is_added_to);
    if found.is_empty() {
        overrides(found, &key("train"), &model.train);
    }
    if model.teacher.is_none() {
        for method in methods::with_teacher::<LanguageLearner>(&model.methods) {
            let reason = "compares the model with its teacher: name a model further up in the list as `teacher`";
            found.add(&key(&format!("methods.{method}")), reason);
        }
    }
    if let Some(teacher) = &model.teacher {
        let names: Vec<&str> = before.iter().map(|model| model.name.as_str()).collect();
        let is_known = names.contains(&teacher.as_str());
        let known = if names.is_empty() {
            "there is none".to_owned()
        } else {
            hint(teacher, &names)
        };
        let reason =
            format!("must be a model further up in the list, which `{teacher}` is not; {known}");
        found.require(&key("teacher"), is_known, &reason);
    }
}

/// What only models with experts read.
fn routers(found: &mut Problems, recipe: &LanguageRecipe) {
    let RouterRecipe { balance, z } = recipe.router;
    found.within("router.balance", balance, 0.0..f64::INFINITY);
    found.within("router.z", z, 0.0..f64::INFINITY);
    found.at_least("importance.batch_size", recipe.importance.batch_size, 1);
    if let Some(samples) = recipe.importance.samples {
        found.at_least("importance.samples", samples, 1);
    }
    let models = recipe.models.iter();
    let experts: Vec<_> = models.filter_map(|model| model.experts.as_ref()).collect();
    let has = |fits: fn(RouterKind) -> bool| experts.iter().any(|split| fits(split.router));
    let reason = |what: &str, router: &str| {
        format!("{what}, and no model has it: leave it out, or set an `experts.router` to {router}")
    };
    let gate = reason(
        "weighs the balance loss of a gate",
        "`gate-token` or `top-k`",
    );
    found.require(
        "router.balance",
        balance <= 0.0 || has(RouterKind::is_gate),
        &gate,
    );
    let several = reason("weighs the z-loss of the router `top-k`", "it");
    found.require(
        "router.z",
        z <= 0.0 || has(RouterKind::takes_several),
        &several,
    );
    let scores = experts.iter().any(|split| split.order.needs_importance());
    let is_default = recipe.importance == ImportanceRecipe::default();
    let reason = "would be ignored, as no model's `experts.order` needs scores: leave it out";
    found.require("importance", scores || is_default, reason);
}

#[cfg(test)]
mod tests {
    use super::super::super::source;

    /// A recipe on which every check passes.
    const VALID: &str = r#"
name = "mine"
[model.random]
layers = 2
hidden = 64
heads = 4
width = 256
[data]
task = "text"
path = "books"
length = 128
[[models]]
name = "full"
spans = "full"
[[models]]
name = "local"
spans = "window:32"
"#;

    fn refusal(overrides: &[&str]) -> String {
        source::refusal(VALID, overrides)
    }

    #[test]
    fn the_recipe_of_these_tests_is_valid() {
        source::parse("mine.toml", VALID, &[]).expect("valid");
    }

    #[test]
    fn values_that_cannot_work_are_placed_with_their_reason() {
        let cases: [(&[&str], &str); 16] = [
            (
                &["model.feed_forward_chunk=0"],
                "`model.feed_forward_chunk` must be at least 1, not 0",
            ),
            (
                &["data.length=0"],
                "override `data.length=0`: `data.length` must be at least 1, not 0",
            ),
            (
                &["model.random.positions=100"],
                "`model.random.positions` must be at least 128, as `data.length` is",
            ),
            (
                &["model.random.heads=3"],
                "`model.random.hidden` must be a multiple of the 3 heads, not 64",
            ),
            (
                &["model.extend=tile"],
                "`model.extend` is for a model from a folder: set model.random.positions",
            ),
            (
                &["model.path=gpt2"],
                "`model.random` cannot go with `model.path`: give exactly one of them",
            ),
            (
                &[r#"models=[{name="a", spans="bottom:3 window:8"}]"#],
                "`models.0.spans` cannot work: `bottom:3` asks for more layers than the model has",
            ),
            (
                &[r#"models=[{name="a", spans="full"}, {name="a", spans="window:8"}]"#],
                "`models.1.name` `a` is taken; every row needs its own",
            ),
            (
                &[r#"models=[{name="a", spans="window:0"}]"#],
                "unknown span `window:0`",
            ),
            (
                &[r#"models=[{name="a", spans="full", mixers="top:3 attention"}]"#],
                "`models.0.mixers` cannot work: `top:3` asks for more layers than the model has",
            ),
            (
                &[r#"models=[{name="a", spans="full", mixers="atention"}]"#],
                "unknown mixer `atention`; did you mean `attention`?",
            ),
            (
                &["grow=[{length=48, until=0.5}]"],
                "`grow.0.length` must divide `data.length`, 128, into whole pieces, not 48",
            ),
            (
                &["grow=[{length=32, until=0.5}, {length=64, until=0.4}]"],
                "`grow.1.until` must be above 0.5 and at most 1, not 0.4",
            ),
            (
                &["evaluate.stride=200"],
                "`evaluate.stride` must be at most 128 (`data.length`), not 200",
            ),
            (
                &["data.tokenizer=bpe:9"],
                "unknown tokenizer `bpe:9`: expected `bytes` or `bpe:V`, V at least 257",
            ),
            (
                &["data.task=recall"],
                "`data.path` cannot go with the task `recall`",
            ),
        ];
        for (overrides, expected) in cases {
            let message = refusal(overrides);
            assert!(message.contains(expected), "{overrides:?}: {message}");
        }
    }

    #[test]
    fn what_a_model_learns_from_is_checked() {
        let cases = [
            (
                "methods = { kd = {} }",
                "`models.0.methods.kd` compares the model with its teacher: name a model",
            ),
            (
                "task = 0, methods = { lora = {} }",
                "`models.0.task` is 0, and no method adds to the loss",
            ),
            (
                "methods = { lora = { targets = [] } }",
                "`models.0.methods.lora` cannot work: `targets` must name at least one part",
            ),
        ];
        for (learning, expected) in cases {
            let models = format!("models=[{{ name = \"a\", spans = \"full\", {learning} }}]");
            let message = refusal(&[&models]);
            assert!(message.contains(expected), "{learning}: {message}");
        }
    }

    #[test]
    fn experts_and_what_is_for_them_are_checked() {
        let cases: [(&[&str], &str); 6] = [
            (
                &[
                    r#"models=[{name="a", spans="full", experts={count=4, width=64, shared=0, order="random"}}]"#,
                    "router.z=0.1",
                ],
                "`router.z` weighs the z-loss of the router `top-k`, and no model has it",
            ),
            (
                &[r#"models=[{name="a", spans="full", experts={count=4, width=65, shared=0}}]"#],
                "`models.0.experts.width` cannot work: an expert of 65 neurons is too wide",
            ),
            (
                &[
                    r#"models=[{name="a", spans="full", experts={count=4, width=64, shared=0, router="top-k", k=5}}]"#,
                ],
                "`models.0.experts.k` cannot work: a token cannot pass 5 of 4 experts",
            ),
            (
                &[
                    r#"models=[{name="a", spans="full", experts={count=4, width=64, shared=0, router="gate-sentence"}}]"#,
                ],
                "`models.0.experts.router` cannot work: the router `gate-sentence` looks at a whole sequence",
            ),
            (
                &["importance.samples=8"],
                "`importance` would be ignored, as no model's `experts.order` needs scores",
            ),
            (
                &["router.balance=0.1"],
                "`router.balance` weighs the balance loss of a gate, and no model has it",
            ),
        ];
        for (overrides, expected) in cases {
            let message = refusal(overrides);
            assert!(message.contains(expected), "{overrides:?}: {message}");
        }
    }

    #[test]
    fn summaries_have_keys_of_their_own() {
        let text = VALID.replace("task = \"text\"", "task = \"summary\"");
        let parse = |overrides: &[&str]| {
            let overrides: Vec<String> = overrides.iter().map(ToString::to_string).collect();
            source::parse("mine.toml", &text, &overrides)
        };
        let room = "data.summary.max_new_tokens=32";
        parse(&[room]).expect("valid");
        parse(&["data.length=41", room]).expect("room for one token of text");
        let cases: [(&[&str], &str); 9] = [
            (
                &[],
                "`data.length` must be above 136 to have room for a text: a summary takes 128 tokens \
                 (`data.summary.max_new_tokens`), the separator up to 8",
            ),
            (&["data.length=40", room], "`data.length` must be above 40"),
            (
                &["data.summary.max_new_tokens=0"],
                "`data.summary.max_new_tokens` must be at least 1, not 0",
            ),
            (
                &["data.summary.seperator=x"],
                "unknown key `data.summary.seperator`; did you mean `separator`?",
            ),
            (
                &[room, "evaluate.beams=0"],
                "`evaluate.beams` must be at least 1, not 0",
            ),
            (
                &[room, "evaluate.stride=8"],
                "`evaluate.stride` is for the task `text` only",
            ),
            (
                &[room, "data.documents=separate"],
                "`data.documents` is for the task `text` only",
            ),
            (
                &[room, "data.recall.pairs=4"],
                "`data.recall` is for the task `recall` only",
            ),
            (
                &[room, "grow=[{length=32, until=0.5}]"],
                "`grow` cuts sequences into pieces, which only joined text allows",
            ),
        ];
        for (overrides, expected) in cases {
            let message = parse(overrides).expect_err("no").to_string();
            assert!(message.contains(expected), "{overrides:?}: {message}");
        }
        let message = refusal(&["data.summary.max_new_tokens=9"]);
        assert!(
            message.contains("`data.summary` is for the task `summary` only"),
            "{message}"
        );
        let message = refusal(&["evaluate.beams=2"]);
        assert!(
            message.contains("`evaluate.beams` is for the task `summary` only"),
            "{message}"
        );
        let nowhere = text.replace("path = \"books\"", "");
        let message = source::refusal(&nowhere, &[room]);
        let expected = "`data` has no folder: add data.path=FOLDER with train.jsonl, validation.jsonl \
                        and test.jsonl";
        assert!(message.contains(expected), "{message}");
    }

    #[test]
    fn an_impossible_recall_task_is_refused_with_its_reason() {
        let text = VALID.replace("task = \"text\"\npath = \"books\"", "task = \"recall\"");
        let overrides = ["data.recall.pairs=100".to_owned()];
        let error = source::parse("mine.toml", &text, &overrides).expect_err("too many pairs");
        assert!(
            error
                .to_string()
                .contains("`data.recall` cannot work: keys = 64: it must be at least 100"),
            "{error}"
        );
    }
}
