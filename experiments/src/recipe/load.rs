//! From the text of a recipe to its arms and models, checked.

use std::collections::{BTreeMap, BTreeSet};

use toml::Spanned;
use toml::de::{DeTable, Deserializer};

use super::{
    AnyRecipe, Problem, Recipe, RecipeError, RecipeFamily, UnknownTask,
    ablation::check_contest,
    arms::{self, ABLATE, Arm, locate},
    extends::chain,
    families::ReadRecipe,
    ignored,
    integers::{TooLarge, too_large},
    keys::{self, Mistake},
    merge::{leaves, replaces},
    plan,
    source::Source,
    stages, validate,
};
use crate::{
    ablate::arms::{AblateTable, Command},
    warning::warn,
};

/// Reads `text`, a recipe called `origin` in messages, and those that it extends, lays `overrides` over it and checks the
/// result. The task says which keys there are.
pub(super) fn parse(
    origin: &str,
    text: &str,
    overrides: &[String],
) -> Result<AnyRecipe, RecipeError> {
    Ok(told(read(origin, text, overrides, None)?))
}

/// Reads `text` as [`parse`] does, with the arms of an ablation in place of its own.
pub(super) fn parse_ablation(
    origin: &str,
    text: &str,
    command: &Command,
) -> Result<AnyRecipe, RecipeError> {
    Ok(told(read(origin, text, &command.overrides, Some(command))?))
}

/// The recipe, once its warnings have been told.
fn told((recipe, warnings): (AnyRecipe, Vec<String>)) -> AnyRecipe {
    for warning in warnings {
        warn(&warning);
    }
    recipe
}

/// A recipe, with what would be ignored in it.
fn read(
    origin: &str,
    text: &str,
    overrides: &[String],
    command: Option<&Command>,
) -> Result<(AnyRecipe, Vec<String>), RecipeError> {
    let texts = chain(origin, text)?;
    let source = Source::new(&texts, overrides)?;
    let mut table = source.table()?;
    let ablate = table.get_mut().remove(ABLATE);
    let ablate = ablate.as_ref().map(AblateTable::read).transpose();
    let ablate = ablate.map_err(|error| source.refused(&error))?;
    if let Some(TooLarge { key, span, reason }) = too_large(table.get_ref()) {
        return Err(RecipeError::Schema {
            place: source.place(Some(span)),
            reason: format!("`{key}` {reason}"),
        });
    }
    let data = table.get_ref().get("data").map(Spanned::get_ref);
    let task = data.and_then(|data| data.get("task"));
    let name = task.and_then(|task| task.get_ref().as_str());
    // The keys that are there may be those of any family: the task comes first. The schema says what is missing or of
    // the wrong type.
    let read = AnyRecipe::of_task(
        name,
        &Read {
            source: &source,
            table: &table,
            ablate: ablate.unwrap_or_default(),
            command,
        },
    )?;
    read.ok_or_else(|| RecipeError::Schema {
        place: source.place(task.map(Spanned::span)),
        reason: format!(
            "`data.task`: {}",
            UnknownTask::new(name.unwrap_or_default(), &AnyRecipe::tasks())
        ),
    })
}

/// A recipe with its models.
struct Loaded<T: RecipeFamily> {
    recipe: Recipe<T>,
    /// What would be ignored in it.
    warnings: Vec<String>,
    /// The arms that come out equal to an earlier one, as indices of both.
    equal: BTreeMap<usize, usize>,
}

/// The merged table of a recipe, and where it comes from.
struct Read<'a> {
    source: &'a Source<'a>,
    table: &'a Spanned<DeTable<'a>>,
    ablate: AblateTable,
    command: Option<&'a Command>,
}

impl ReadRecipe for Read<'_> {
    fn read<T: RecipeFamily>(&self) -> Result<(Recipe<T>, Vec<String>), RecipeError> {
        let Some(command) = self.command else {
            let Loaded {
                recipe,
                warnings,
                equal,
            } = self.source.read(self.table)?;
            self.source.refuse_equal(self.table.get_ref(), &equal)?;
            return Ok((recipe, warnings));
        };
        let mut ablation = self
            .source
            .ablation::<T>(self.table, &self.ablate, command)?;
        let source = self.source.with_arms(&ablation.arms, &ablation.seeds);
        let mut table = source.table()?;
        table.get_mut().remove(ABLATE);
        let Loaded {
            mut recipe,
            warnings,
            equal,
        } = source.read(&table)?;
        check_contest(&ablation, &recipe)?;
        let mut told = self.source.warnings(&ablation);
        told.extend(warnings);
        told.extend(ablation.unite(&equal));
        let mut index = 0..;
        recipe.arms.retain(|_| {
            index
                .next()
                .is_some_and(|index| !equal.contains_key(&index))
        });
        recipe.ablation = Some(ablation);
        Ok((recipe, told))
    }
}

impl Source<'_> {
    /// The recipe of the merged table and its arms, checked.
    fn read<T: RecipeFamily>(
        &self,
        table: &Spanned<DeTable<'_>>,
    ) -> Result<Loaded<T>, RecipeError> {
        self.check_keys::<T>(table.get_ref())?;
        let mut recipe = self.deserialize::<T>(table)?;
        T::complete(&mut recipe);
        let arms = arms::resolve(table, &|span| self.is_whole(span))
            .map_err(|mistake| self.mistake(&mistake))?;
        let mut resolved = vec![];
        let mut problems = Told::default();
        for Arm { name, table } in &arms {
            let mut arm = self.deserialize::<T>(table)?.with_stages();
            T::complete(&mut arm);
            problems.add(self, table.get_ref(), validate::problems(&arm));
            let name = name.as_deref().or_else(|| stages::last(&arm.stages));
            resolved.push((name.unwrap_or_default().to_owned(), arm));
        }
        problems.into_result()?;
        let equal = match plan::plan(&recipe, &resolved) {
            Ok(plans) => {
                recipe.models = plans.models;
                recipe.bases = plans.bases;
                plans.equal
            }
            Err(found) => return Err(self.invalid(table.get_ref(), found)),
        };
        let mut warnings = self.without_effect(table.get_ref());
        let resolved: Vec<Recipe<T>> = resolved.into_iter().map(|(_, recipe)| recipe).collect();
        let mut ignored = Told::default();
        for (arm, found) in arms.iter().zip(ignored::settings(&resolved)) {
            ignored.add(self, arm.table.get_ref(), found);
        }
        warnings.extend(ignored.into_texts());
        Ok(Loaded {
            recipe,
            warnings,
            equal,
        })
    }

    /// The refusal of problems of a table.
    fn invalid(&self, table: &DeTable<'_>, problems: Vec<Problem>) -> RecipeError {
        let mut told = Told::default();
        told.add(self, table, problems);
        RecipeError::Invalid {
            problems: told.into_texts(),
        }
    }

    /// Refuses arms that come out equal.
    fn refuse_equal(
        &self,
        table: &DeTable<'_>,
        equal: &BTreeMap<usize, usize>,
    ) -> Result<(), RecipeError> {
        if equal.is_empty() {
            return Ok(());
        }
        let written = arms::written(table);
        let name = |index: usize| {
            let (arm, _) = written.get(index)?;
            arm.get(arms::NAME)?.get_ref().as_str()
        };
        let problems = equal.iter().map(|(index, first)| {
            let first = name(*first).unwrap_or_default();
            let reason = format!("is equal to the arm `{first}`: they train the same model");
            (format!("arms.{index}"), reason)
        });
        Err(self.invalid(table, problems.collect()))
    }

    pub(super) fn deserialize<T: RecipeFamily>(
        &self,
        table: &Spanned<DeTable<'_>>,
    ) -> Result<Recipe<T>, RecipeError> {
        serde::Deserialize::deserialize(Deserializer::from(table.clone()))
            .map_err(|error| self.error(&error))
    }

    /// Refuses top-level keys that no recipe has, those of arms included.
    pub(super) fn check_keys<T: RecipeFamily>(
        &self,
        table: &DeTable<'_>,
    ) -> Result<(), RecipeError> {
        let mut found = keys::mistakes::<T>(table);
        for (arm, _) in arms::written(table) {
            found.extend(keys::mistakes::<T>(&arms::changes(arm)));
        }
        let mut problems = Told::default();
        for Mistake { span, reason } in found {
            problems.insert(self.place(Some(span)), reason);
        }
        problems.into_result()
    }

    fn mistake(&self, mistake: &Mistake) -> RecipeError {
        RecipeError::Schema {
            place: self.place(Some(mistake.span.clone())),
            reason: mistake.reason.clone(),
        }
    }

    /// The overrides that every arm overrides.
    fn without_effect(&self, table: &DeTable<'_>) -> Vec<String> {
        let arms: Vec<_> = arms::written(table)
            .into_iter()
            .map(|(arm, _)| arms::changes(arm))
            .collect();
        let mut warnings = vec![];
        if arms.is_empty() {
            return warnings;
        }
        for layer in &self.overrides {
            let Ok(keys) = DeTable::parse(&layer.toml) else {
                continue;
            };
            for path in leaves(keys.get_ref()) {
                if arms.iter().all(|arm| replaces(arm, &path)) {
                    let (argument, path) = (layer.argument, path.join("."));
                    let warning = format!(
                        "override `{argument}`: every arm sets `{path}`, so the override has no effect"
                    );
                    warnings.push(warning);
                }
            }
        }
        warnings
    }
}

/// Problems as they are told, each once, with the first of its places.
#[derive(Default)]
struct Told(Vec<ToldProblem>);

/// What is wrong, and where.
struct ToldProblem {
    reason: String,
    places: BTreeSet<String>,
    first: String,
}

impl Told {
    /// Adds problems of a table, each with its place.
    fn add(&mut self, source: &Source<'_>, table: &DeTable<'_>, problems: Vec<Problem>) {
        for (key, reason) in problems {
            let place = source.place(locate(table, &key));
            let index = key.strip_prefix("arms.").map(str::parse::<usize>);
            let subject = match index {
                // The arms of an ablation are not written with numbers.
                Some(Ok(_)) if source.is_ablation() => "the arm".to_owned(),
                _ => format!("`{key}`"),
            };
            self.insert(place, format!("{subject} {reason}"));
        }
    }

    fn insert(&mut self, place: String, reason: String) {
        let mut told = self.0.iter_mut();
        if let Some(told) = told.find(|told| told.reason == reason) {
            told.places.insert(place);
            return;
        }
        self.0.push(ToldProblem {
            reason,
            places: BTreeSet::from([place.clone()]),
            first: place,
        });
    }

    fn into_texts(self) -> Vec<String> {
        let texts = self.0.into_iter().map(|told| {
            let more = match told.places.len() - 1 {
                0 => String::new(),
                1 => " (and in 1 more arm)".to_owned(),
                more => format!(" (and in {more} more arms)"),
            };
            format!("{}: {}{more}", told.first, told.reason)
        });
        texts.collect()
    }

    fn into_result(self) -> Result<(), RecipeError> {
        if self.0.is_empty() {
            return Ok(());
        }
        Err(RecipeError::Invalid {
            problems: self.into_texts(),
        })
    }
}

/// A recipe on which every check passes.
#[cfg(test)]
pub(super) const VALID: &str = r#"name = "mine"
[model]
path = "bert"
[data]
task = "sst2"
path = "glue"
[train]
epochs = 5
"#;

/// What is said of a recipe that must be refused.
#[cfg(test)]
pub(super) fn refusal(text: &str, overrides: &[&str]) -> String {
    let overrides: Vec<String> = overrides.iter().map(ToString::to_string).collect();
    let error = parse("mine.toml", text, &overrides).expect_err("the value cannot work");
    error.to_string()
}

/// The warnings of settings that would be ignored.
#[cfg(test)]
pub(super) fn ignored(text: &str, overrides: &[&str]) -> Vec<String> {
    let overrides: Vec<String> = overrides.iter().map(ToString::to_string).collect();
    match read("mine.toml", text, &overrides, None) {
        Ok((_, warnings)) => warnings,
        Err(error) => panic!("{overrides:?}: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_of_all_arms_is_told_once_and_one_of_an_arm_at_its_place() {
        let arms = "arms=[{name='a'}, {name='b', train.epochs=2}]";
        let message = refusal(VALID, &[arms, "train.batch_size=0"]);
        assert_eq!(
            message,
            "override `train.batch_size=0`: `train.batch_size` must be at least 1, not 0"
        );
        let text = format!(
            "{VALID}[[arms]]\nname = \"a\"\n[[arms]]\nname = \"b\"\ntrain.batch_size = 0\n"
        );
        let message = refusal(&text, &[]);
        assert_eq!(
            message,
            "mine.toml, line 13: `train.batch_size` must be at least 1, not 0"
        );
        let text = format!("{text}[[arms]]\nname = \"c\"\ntrain.batch_size = 0\n");
        let message = refusal(&text, &[]);
        assert_eq!(
            message,
            "mine.toml, line 13: `train.batch_size` must be at least 1, not 0 (and in 1 more arm)"
        );
        let text = text.replace("batch_size = 0", "batch_size = \"some\"");
        let message = refusal(&text, &[]);
        assert!(
            message.starts_with("mine.toml, line 13: `train.batch_size`: invalid type"),
            "{message}"
        );
    }

    #[test]
    fn an_override_that_every_arm_overrides_is_warned_of() {
        let arms = "arms=[{name='a', model.spans='full'}, {name='b', model.spans='window:4', train.epochs=2}]";
        assert_eq!(
            ignored(VALID, &[arms, "model.spans=window:8", "train.epochs=3"]),
            [
                "override `model.spans=window:8`: every arm sets `model.spans`, so the override has no effect"
            ]
        );
        assert_eq!(
            ignored(VALID, &["model.spans=window:8"]),
            Vec::<String>::new()
        );
    }
}
