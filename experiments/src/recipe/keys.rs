//! The top-level keys of a recipe: unknown ones, and those of the form of before.

use std::ops::Range;

use masformer_core::nearest::hint;
use toml::de::{DeTable, DeValue};

use super::{RecipeFamily, extends::EXTENDS, schema::SHARED_KEYS};
use crate::methods;

/// What is wrong with a key of the text.
pub(super) struct Mistake {
    /// Where it stands.
    pub span: Range<usize>,
    /// The whole message but for the place.
    pub reason: String,
}

/// What to write instead of a key that has no place here, or of a table of the form of before.
fn instead(key: &str) -> Option<&'static str> {
    Some(match key {
        EXTENDS => {
            "is for the top of a recipe file: it names the recipe whose keys the file begins with, as in `extends = \
             \"quickstart\"`"
        }
        "students" => {
            "is now an arm for each student: `[stages.student]` says what they share, as in `from = \"teacher\"` and \
             `methods = [\"experts\", \"layerwise\"]`, and `[[arms]]` has `name` and what differs, as in \
             `experts.order = \"random\"`"
        }
        "models" => {
            "is now an arm for each model: `[[arms]]` has `name` and the keys that differ, as in `model.spans = \
             \"window:64\"` and `stages.train.methods = [\"experts\"]`"
        }
        "teacher" => {
            "is now a stage: write `[stages.teacher]` with `train = { epochs = 3 }`, and `train = { epochs = 0 }` for \
             `fine_tuned = true`"
        }
        "distill" => {
            "is now the method `layerwise`: write `[layerwise]` with `weight` (it was `lambda`), `layers`, `padding`, \
             `logits` and `temperature`, `[experts]` with `balance` and `z`, and `train` in the stage of the students"
        }
        "router" => "is now a part of `[experts]`: write `balance` and `z` there",
        _ => return None,
    })
}

/// The top-level keys of a table that no recipe of this family has.
pub(super) fn mistakes<T: RecipeFamily>(table: &DeTable<'_>) -> Vec<Mistake> {
    let methods = methods::names::<T::Learner>();
    let known = SHARED_KEYS.iter().chain(T::KEYS).chain(&methods);
    let known: Vec<&str> = known.copied().collect();
    let mut found = vec![];
    for (key, value) in table {
        let name = key.get_ref().as_ref();
        let reason = if let Some(instead) = instead(name) {
            format!("`{name}` {instead}")
        } else if !known.contains(&name) {
            let keys = [&known[..], &[EXTENDS]].concat();
            format!("unknown key `{name}`; {}", hint(name, &keys))
        } else if methods.contains(&name) && !matches!(value.get_ref(), DeValue::Table(_)) {
            format!("`{name}` must be a table: the settings of the method `{name}`")
        } else {
            continue;
        };
        let span = if instead(name).is_some() {
            value.span()
        } else {
            key.span()
        };
        found.push(Mistake { span, reason });
    }
    found
}

#[cfg(test)]
mod tests {
    use super::super::load::{self, VALID};

    #[test]
    fn keys_of_the_form_of_before_say_what_to_write_now() {
        for (given, expected) in [
            (
                "students=[{name='a'}]",
                "`students` is now an arm for each student: `[stages.student]`",
            ),
            (
                "models=[{name='a'}]",
                "`models` is now an arm for each model: `[[arms]]` has `name`",
            ),
            (
                "teacher.fine_tuned=true",
                "`teacher` is now a stage: write `[stages.teacher]`",
            ),
            (
                "distill.lambda=2",
                "`distill` is now the method `layerwise`: write `[layerwise]`",
            ),
            ("router.z=0.1", "`router` is now a part of `[experts]`"),
        ] {
            let message = load::refusal(VALID, &[given]);
            assert!(
                message.starts_with(&format!("override `{given}`: {expected}")),
                "{message}"
            );
            assert!(!message.contains('\n'), "{message}");
        }
        let text = format!("{VALID}[teacher]\nfine_tuned = true\n");
        let message = load::refusal(&text, &[]);
        assert!(
            message.starts_with("mine.toml, line 9: `teacher` is now a stage"),
            "{message}"
        );
        // In an arm, too.
        let message = load::refusal(VALID, &["arms=[{name='a', distill={lambda=2}}]"]);
        assert!(
            message.contains("`distill` is now the method `layerwise`"),
            "{message}"
        );
    }

    #[test]
    fn unknown_keys_name_the_nearest_key_or_method() {
        for (given, nearest) in [
            ("trian.epochs=3", "train"),
            ("stage.a.from='b'", "stages"),
            ("expert.count=3", "experts"),
            ("layerwize.weight=3", "layerwise"),
            ("latancy.length=3", "latency"),
            ("minlm.heads=3", "minilm"),
        ] {
            let message = load::refusal(VALID, &[given]);
            let key = given.split(['.', '=']).next().unwrap();
            let expected =
                format!("override `{given}`: unknown key `{key}`; did you mean `{nearest}`?");
            assert_eq!(message, expected);
        }
        let message = load::refusal(VALID, &["kd=2"]);
        let expected = "override `kd=2`: `kd` must be a table: the settings of the method `kd`";
        assert_eq!(message, expected);
        let message = load::refusal(VALID, &["evaluate.beams=2"]);
        assert!(
            message.contains("unknown key `evaluate`; there is name, seeds"),
            "{message}"
        );
    }
}
