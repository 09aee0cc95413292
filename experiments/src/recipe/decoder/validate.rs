//! Values of a recipe for decoders that cannot work, found before any work starts.

use super::{
    DecoderModel, EvaluateRecipe, LanguageData, LanguageTask, RandomDecoder, RecallData,
    SummaryData,
};
use crate::{
    data::packing::Documents,
    recipe::{DecoderRecipe, Problem, RecipeError, problems::Problems, validate::one_model},
};

/// What cannot work in the parts of `recipe` that are for decoders.
pub(super) fn problems(recipe: &DecoderRecipe) -> Vec<Problem> {
    let mut found = Problems::default();
    model(&mut found, &recipe.model, recipe.data.length);
    data(&mut found, recipe);
    growth(&mut found, recipe);
    found.at_least("evaluate.batch_size", recipe.evaluate.batch_size, 1);
    found.into_pairs()
}

fn model(found: &mut Problems, model: &DecoderModel, length: usize) {
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
        hidden,
        heads,
        positions,
        rotary,
        ..
    } = *random;
    random.size().problems(found, "model.random");
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
}

fn data(found: &mut Problems, recipe: &DecoderRecipe) {
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

fn summary(found: &mut Problems, data: &SummaryData, recipe: &DecoderRecipe) {
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

fn growth(found: &mut Problems, recipe: &DecoderRecipe) {
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
[data]
task = "text"
path = "books"
length = 128
"#;

    fn refusal(overrides: &[&str]) -> String {
        load::refusal(VALID, overrides)
    }

    #[test]
    fn the_recipe_of_these_tests_is_valid() {
        load::parse("mine.toml", VALID, &[]).expect("valid");
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
                &[r#"arms=[{name="a", model.spans="bottom:3 window:8"}]"#],
                "`model.spans` cannot work: `bottom:3` asks for more layers than the model has",
            ),
            (
                &["stages.a.spans=bottom:3 window:8"],
                "`stages.a.spans` cannot work: `bottom:3` asks for more layers than the model has",
            ),
            (&["model.spans=window:0"], "unknown span `window:0`"),
            (
                &["model.mixers=top:3 attention"],
                "`model.mixers` cannot work: `top:3` asks for more layers than the model has",
            ),
            (
                &["stages.a.mixers=atention"],
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
    fn routers_of_decoders_are_causal() {
        let message = refusal(&[
            "stages.train.methods=['experts']",
            "experts={count=4, width=64, shared=0, router='gate-sentence'}",
        ]);
        let expected =
            "`experts.router` cannot work: the router `gate-sentence` looks at a whole sequence";
        assert!(message.contains(expected), "{message}");
    }

    #[test]
    fn summaries_have_keys_of_their_own() {
        let text = VALID.replace("task = \"text\"", "task = \"summary\"");
        let parse = |overrides: &[&str]| {
            let overrides: Vec<String> = overrides.iter().map(ToString::to_string).collect();
            load::parse("mine.toml", &text, &overrides)
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
        let message = load::refusal(&nowhere, &[room]);
        let expected = "`data` has no folder: add data.path=FOLDER with train.jsonl, validation.jsonl \
                        and test.jsonl";
        assert!(message.contains(expected), "{message}");
    }

    #[test]
    fn an_impossible_recall_task_is_refused_with_its_reason() {
        let text = VALID.replace("task = \"text\"\npath = \"books\"", "task = \"recall\"");
        let overrides = ["data.recall.pairs=100".to_owned()];
        let error = load::parse("mine.toml", &text, &overrides).expect_err("too many pairs");
        assert!(
            error
                .to_string()
                .contains("`data.recall` cannot work: keys = 64: it must be at least 100"),
            "{error}"
        );
    }
}
