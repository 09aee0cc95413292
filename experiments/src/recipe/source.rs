//! The texts of a recipe and of those that it extends, its overrides, and the place of everything in them.

use std::ops::Range;

use masformer_core::nearest::hint;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::{
    RecipeError,
    arms::ABLATE,
    extends::{EXTENDS, RecipeText},
    merge::{leaves, merge},
};
use crate::{
    ablate::arms::{Arm, Place, bare},
    one_line::one_line,
};

/// The texts of a recipe and its overrides, as if they were written one after the other: each is padded with spaces up to
/// where the text before it ends. So a span of the merged table tells where it came from.
#[derive(Clone)]
pub(super) struct Source<'a> {
    /// The recipe, the one that it extends, and so on.
    texts: &'a [RecipeText],
    pub(super) overrides: Vec<Override<'a>>,
    /// What stands in place of the arms of the text and its seeds.
    arms: Option<ArmsText>,
}

/// One override: TOML behind its padding.
#[derive(Clone)]
pub(super) struct Override<'a> {
    pub(super) argument: &'a str,
    start: usize,
    pub(super) toml: String,
    /// Whether it takes its key out, `key=`.
    pub(super) removes: bool,
}

/// Arms and seeds: TOML behind its padding, and where each part of it begins.
#[derive(Clone)]
struct ArmsText {
    start: usize,
    toml: String,
    parts: Vec<ArmPart>,
}

/// An arm, or one of its settings.
#[derive(Clone)]
struct ArmPart {
    start: usize,
    /// The name of the arm.
    name: String,
    /// Where it is described.
    place: String,
}

impl<'a> Source<'a> {
    pub(super) fn new(
        texts: &'a [RecipeText],
        arguments: &'a [String],
    ) -> Result<Self, RecipeError> {
        let mut start = texts.last().map_or(0, |text| text.toml.len() + 1);
        let mut overrides = Vec::with_capacity(arguments.len());
        for argument in arguments {
            let (toml, removes) =
                assignment(argument).ok_or_else(|| RecipeError::NoOverride(argument.clone()))?;
            let toml = format!("{}{toml}", " ".repeat(start));
            let end = toml.len() + 1;
            overrides.push(Override {
                argument,
                start,
                toml,
                removes,
            });
            start = end;
        }
        Ok(Self {
            texts,
            overrides,
            arms: None,
        })
    }

    /// The same recipe with these arms, and with seeds, in place of its own. Mistakes in an arm are told by where it is
    /// described, and by its name.
    pub(super) fn with_arms(&self, arms: &[Arm], seeds: &[u64]) -> Self {
        let texts = self.texts.iter().map(|text| &text.toml);
        let overrides = self.overrides.iter().map(|layer| &layer.toml);
        let start = texts
            .chain(overrides)
            .last()
            .map_or(0, |text| text.len() + 1);
        let seeds: Vec<String> = seeds.iter().map(ToString::to_string).collect();
        let mut toml = format!("{}seeds = [{}]\n", " ".repeat(start), seeds.join(", "));
        toml.push_str("arms = [\n");
        let mut parts = vec![];
        for arm in arms {
            let mut part = |start, place| {
                parts.push(ArmPart {
                    start,
                    name: arm.name.clone(),
                    place: self.place_of(place),
                });
            };
            part(toml.len(), &arm.place);
            let name = toml::Value::from(arm.name.as_str());
            toml.extend(["{ name = ", &name.to_string()]);
            for (index, (key, value)) in arm.set.iter().enumerate() {
                toml.push_str(", ");
                part(toml.len(), arm.places.get(index).unwrap_or(&arm.place));
                toml.extend([key, " = ", &value.to_string()]);
            }
            toml.push_str(" },\n");
        }
        toml.push_str("]\n");
        Self {
            arms: Some(ArmsText { start, toml, parts }),
            ..self.clone()
        }
    }

    /// Whether its arms are those of an ablation.
    pub(super) fn is_ablation(&self) -> bool {
        self.arms.is_some()
    }

    /// The place of a part of an ablation.
    pub(super) fn place_of(&self, place: &Place) -> String {
        match place {
            Place::Table(span) => self.place(Some(span.clone())),
            Place::Argument(argument) => format!("`{argument}`"),
            Place::Whole => self.place(None),
        }
    }

    pub(super) fn table(&self) -> Result<Spanned<DeTable<'_>>, RecipeError> {
        let mut table = self.files()?;
        for layer in &self.overrides {
            let keys = DeTable::parse(&layer.toml).map_err(|error| self.error(&error))?;
            if layer.removes {
                for path in leaves(keys.get_ref()) {
                    remove(table.get_mut(), &path).ok_or_else(|| RecipeError::Schema {
                        place: format!("override `{}`", layer.argument),
                        reason: format!("the recipe has no key `{}` to take out", path.join(".")),
                    })?;
                }
                continue;
            }
            merge(table.get_mut(), keys.into_inner(), &|span| {
                self.is_whole(span)
            })
            .map_err(|list| RecipeError::Schema {
                place: format!("override `{}`", layer.argument),
                reason: format!("`{}` {}", list.list, list.reason()),
            })?;
        }
        if let Some(arms) = &self.arms {
            let keys = DeTable::parse(&arms.toml).map_err(|error| self.error(&error))?;
            table.get_mut().extend(keys.into_inner());
        }
        Ok(table)
    }

    /// The recipe over the one that it extends, and so on.
    fn files(&self) -> Result<Spanned<DeTable<'_>>, RecipeError> {
        let mut table = Spanned::new(0..0, DeTable::new());
        for text in self.texts.iter().rev() {
            let keys = DeTable::parse(&text.toml).map_err(|error| self.error(&error))?;
            let (span, mut keys) = (keys.span(), keys.into_inner());
            keys.remove(EXTENDS);
            let mut below = table.into_inner();
            if keys.contains_key(ABLATE) {
                // Arms of two tables would add up, and a reference of one may be no arm of the other.
                below.remove(ABLATE);
            }
            merge(&mut below, keys, &|span| self.is_whole(span)).map_err(|list| {
                RecipeError::Schema {
                    place: self.place(Some(list.span.clone())),
                    reason: format!("`{}` {}", list.list, list.reason()),
                }
            })?;
            table = Spanned::new(span, below);
        }
        Ok(table)
    }

    /// Whether the table at `span` is written as one value, `{ .. }`, or under a header, and not by a dotted key.
    pub(super) fn is_whole(&self, span: &Range<usize>) -> bool {
        let layer = self.layer(span.start).map(|layer| &layer.toml);
        let arms = self.arms_at(span.start).map(|arms| &arms.toml);
        let text = arms
            .or(layer)
            .or(self.text(span.start).map(|text| &text.toml));
        let halves = text.and_then(|text| text.split_at_checked(span.start));
        let Some((before, after)) = halves else {
            return false;
        };
        let line = before.rsplit('\n').next().unwrap_or_default();
        after.starts_with(['{', '[']) || line.trim_start().starts_with('[')
    }

    /// The arms, if they stand at `start`.
    fn arms_at(&self, start: usize) -> Option<&ArmsText> {
        self.arms.as_ref().filter(|arms| arms.start <= start)
    }

    /// The text that stands at `start`, if it is no override.
    fn text(&self, start: usize) -> Option<&RecipeText> {
        let texts = self.texts.iter().rev();
        texts.into_iter().find(|text| text.start <= start)
    }

    /// The override that stands at `start`, if it is not the text.
    fn layer(&self, start: usize) -> Option<&Override<'a>> {
        let layers = self.overrides.iter().rev();
        layers.into_iter().find(|layer| layer.start <= start)
    }

    /// File and line, or override, of what stands at `span`.
    pub(super) fn place(&self, span: Option<Range<usize>>) -> String {
        let Some(Range { start, .. }) = span else {
            let origin = self.texts.first().map(RecipeText::origin);
            return origin.unwrap_or_default().to_owned();
        };
        if let Some(arms) = self.arms_at(start) {
            // They are in the order of the text.
            let before = arms.parts.partition_point(|part| part.start <= start);
            return match before.checked_sub(1).and_then(|last| arms.parts.get(last)) {
                Some(ArmPart { name, place, .. }) => format!("{place}, arm `{name}`"),
                None => self.place(None),
            };
        }
        if let Some(layer) = self.layer(start) {
            return format!("override `{}`", layer.argument);
        }
        let place = self.text(start).map(|text| text.place(start));
        place.unwrap_or_default()
    }

    /// The error of the TOML reader in our words. Serde hands unknown names on as text only:
    /// ``unknown field `a`, expected one of `b`, `c` ``, and the reader adds a line ``in `table`
    /// ``.
    pub(super) fn error(&self, error: &toml::de::Error) -> RecipeError {
        let shown = error.to_string();
        let (message, table) = match shown.trim_end().rsplit_once("\nin `") {
            Some((message, table)) => (message, table.trim_end_matches('`')),
            None => (error.message(), ""),
        };
        let names: Vec<&str> = message.split('`').skip(1).step_by(2).collect();
        let path = |key: &str| {
            if table.is_empty() {
                key.to_owned()
            } else {
                format!("{table}.{key}")
            }
        };
        let reason = match names.as_slice() {
            [key, known @ ..] if message.starts_with("unknown field") => {
                format!("unknown key `{}`; {}", path(key), hint(key, known))
            }
            [value, known @ ..] if message.starts_with("unknown variant") => {
                format!("`{table}` cannot be `{value}`; {}", hint(value, known))
            }
            [key] if message.starts_with("missing field") => {
                format!("the key `{}` is missing", path(key))
            }
            _ if table.is_empty() => one_line(message),
            _ => format!("`{table}`: {}", one_line(message)),
        };
        RecipeError::Schema {
            place: self.place(error.span()),
            reason,
        }
    }
}

/// A part of a dotted key, in TOML.
pub(super) fn part_of_key(part: &str) -> String {
    let is_plain = |char: char| char.is_ascii_alphanumeric() || matches!(char, '-' | '_');
    if !part.is_empty() && part.chars().all(is_plain) {
        part.to_owned()
    } else {
        toml::Value::from(part).to_string()
    }
}

/// Takes a key out of a table; none if it is not there.
fn remove(table: &mut DeTable<'_>, path: &[String]) -> Option<()> {
    match path {
        [] => None,
        [key] => table.remove(key.as_str()).map(drop),
        [key, below @ ..] => match table.get_mut(key.as_str())?.get_mut() {
            DeValue::Table(table) => remove(table, below),
            _ => None,
        },
    }
}

/// The TOML of an override, and whether it takes its key out; none if it is not of the form `key=value`. What is no TOML is a
/// list of bare words, `[a, b]`, or a string.
fn assignment(argument: &str) -> Option<(String, bool)> {
    let (key, value) = argument.split_once('=')?;
    let (key, value) = (key.trim(), value.trim());
    if key.is_empty() {
        return None;
    }
    let toml = format!("{key} = {value}");
    if DeValue::parse(value).is_ok() {
        return Some((toml, false));
    }
    // Most often a path or a name.
    let toml = format!("{key} = {}", bare(value));
    Some((toml, value.is_empty()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::{
        AnyRecipe, EncoderRecipe, KeptEpoch,
        load::{VALID, parse},
    };

    fn read(text: &str, overrides: &[&str]) -> Result<EncoderRecipe, String> {
        let overrides: Vec<String> = overrides.iter().map(ToString::to_string).collect();
        match parse("mine.toml", text, &overrides) {
            Ok(AnyRecipe::Encoder(recipe)) => Ok(*recipe),
            Ok(AnyRecipe::Decoder(recipe)) => {
                Err(format!("{} is no recipe of an encoder", recipe.name))
            }
            Err(error) => Err(error.to_string()),
        }
    }

    #[test]
    fn later_overrides_win_and_the_rest_stays() {
        let recipe = read(
            VALID,
            &[
                "train.epochs=2",
                "train.epochs=3",
                "seeds=[4, 5]",
                "experts.order=random",
            ],
        );
        let recipe = recipe.expect("valid");
        assert_eq!(recipe.train.epochs, 3);
        assert_eq!(recipe.train.batch_size, 32);
        assert_eq!(recipe.seeds, [4, 5]);
        assert_eq!(recipe.methods["experts"]["order"].as_str(), Some("random"));
    }

    #[test]
    fn keys_are_taken_out() {
        let set = ["train.epochs=2", "train.keep=best", "experts.order=random"];
        let out = |keys: &[&str]| read(VALID, &[&set[..], keys].concat());
        let recipe = out(&["train.epochs=", "experts="]).expect("valid");
        // Neither that of the recipe nor that of the override, but the default.
        assert_eq!(recipe.train.epochs, 3);
        assert_eq!(recipe.train.keep, KeptEpoch::Best);
        assert!(recipe.methods.is_empty());
        for (key, name) in [
            ("train.epohcs=", "train.epohcs"),
            ("name.x=", "name.x"),
            ("latency=", "latency"),
        ] {
            let expected = format!("override `{key}`: the recipe has no key `{name}` to take out");
            assert_eq!(out(&[key]).expect_err("no key"), expected);
        }
    }

    #[test]
    fn a_part_of_a_list_is_refused_with_the_whole() {
        let message = read(VALID, &["arms=[{name='a'}]", "arms.0.name=b"]).expect_err("a list");
        assert_eq!(
            message,
            "override `arms.0.name=b`: `arms` is a list and is replaced as a whole: \
             'arms=[{name=\"wide\", experts={width=8}}]'"
        );
        let message = read(VALID, &["seeds=[1]", "seeds.0=2"]).expect_err("a list");
        assert!(
            message.ends_with("as a whole: 'seeds=[1, 2, 3]'"),
            "{message}"
        );
        read(
            VALID,
            &[
                "stages.a.methods=['lora']",
                "stages.a.methods={lora={rank=2}}",
            ],
        )
        .expect("a whole value");
        let methods = ["stages.a.methods=['kd']", "stages.a.methods.kd.weight=2"];
        let message = read(VALID, &methods).expect_err("a list");
        assert!(
            message.contains("`stages.a.methods` is a list and is replaced as a whole: 'stages.a.methods=[\"kd\"]'; settings of a method are set under its name"),
            "{message}"
        );
    }

    #[test]
    fn the_longest_input_depends_on_the_task() {
        for (overrides, expected) in [
            (&[][..], 128),
            (&["data.task=squad2"], 384),
            (&["data.task=squad", "data.max_length=320"], 320),
        ] {
            let recipe = read(VALID, overrides).expect("valid");
            assert_eq!(recipe.data.max_length, Some(expected), "{overrides:?}");
        }
    }

    #[test]
    fn bare_words_are_strings() {
        let recipe = read(VALID, &["model.path=/models/bert base#1", "name=x"]).expect("valid");
        assert_eq!(
            recipe.model.path.as_deref(),
            Some(std::path::Path::new("/models/bert base#1"))
        );
        assert_eq!(recipe.name, "x");
        let recipe = read(
            VALID,
            &[
                "stages.a={}",
                "stages.b.from=a",
                "stages.b.methods=[experts, kd]",
            ],
        );
        let methods = recipe.expect("valid").stages["b"].methods.tables();
        assert_eq!(methods.into_keys().collect::<Vec<_>>(), ["experts", "kd"]);
    }

    #[test]
    fn unknown_keys_and_values_name_the_nearest_right_one() {
        let cases = [
            (
                "train.epoch=3",
                "override `train.epoch=3`: unknown key `train.epoch`; did you mean `epochs`?",
            ),
            (
                "trian.epochs=3",
                "override `trian.epochs=3`: unknown key `trian`; did you mean `train`?",
            ),
            (
                "data.task=sst-2",
                "override `data.task=sst-2`: `data.task`: unknown task `sst-2`; did you mean `sst2`?",
            ),
            (
                "train.keep=bets",
                "override `train.keep=bets`: `train.keep` cannot be `bets`; did you mean `best`?",
            ),
        ];
        for (given, expected) in cases {
            assert_eq!(read(VALID, &[given]).expect_err("unknown"), expected);
        }
        let message = read(&VALID.replace("epochs", "epohcs"), &[]).expect_err("misspelt");
        assert_eq!(
            message,
            "mine.toml, line 8: unknown key `train.epohcs`; did you mean `epochs`?"
        );
    }

    #[test]
    fn wrong_types_are_placed() {
        let message =
            read(&VALID.replace("epochs = 5", "epochs = \"five\""), &[]).expect_err("text");
        assert!(
            message.starts_with("mine.toml, line 8: `train.epochs`: invalid type: string"),
            "{message}"
        );
        let message = read(VALID, &["train=3"]).expect_err("no table");
        assert!(
            message.starts_with("override `train=3`: `train`: invalid type: integer"),
            "{message}"
        );
        let message = read(VALID, &["train.epochs=-1"]).expect_err("negative");
        assert!(
            message.contains("override `train.epochs=-1`: `train.epochs`: invalid value"),
            "{message}"
        );
    }

    #[test]
    fn missing_keys_and_broken_toml_are_placed() {
        let message = read(&VALID.replace("name = \"mine\"\n", ""), &[]).expect_err("no name");
        assert!(
            message.contains("mine.toml") && message.contains("the key `name` is missing"),
            "{message}"
        );
        let message = read(&VALID.replace("[train]", "[train"), &[]).expect_err("no bracket");
        assert!(message.starts_with("mine.toml, line 7: "), "{message}");
    }

    #[test]
    fn an_argument_without_a_key_is_no_override() {
        for argument in ["quick", "=3"] {
            assert!(
                read(VALID, &[argument])
                    .expect_err("no override")
                    .contains("is no override")
            );
        }
    }

    proptest! {
        #[test]
        fn no_input_panics(text in "\\PC{0,60}", argument in "[a-z.]{0,8}=\\PC{0,20}") {
            let _ = read(&text, &[]);
            let _ = read(VALID, &[&argument]);
        }

        #[test]
        fn any_string_without_line_breaks_can_be_a_bare_word(word in "/[a-zA-Z0-9 _./'\"#\\\\-]{0,20}[a-z]") {
            let recipe = read(VALID, &[&format!("data.path={word}")]).expect("a path");
            prop_assert_eq!(recipe.data.path, Some(std::path::PathBuf::from(word)));
        }
    }
}
