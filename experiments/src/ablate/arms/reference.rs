//! The arm that all others are compared with.

use masformer_core::nearest::hint;

use super::{
    argument,
    error::{AblationError, Place, Refusal},
    fields::Field,
    merged::Merged,
    settings::{Settings, listed},
};

/// The reference as it is named.
#[derive(Clone, Debug, PartialEq)]
pub struct Reference {
    /// As an arm's name; none if it is given by keys alone.
    name: Option<String>,
    /// As keys, with the others as in the recipe; none if it is a name alone.
    keys: Option<Settings>,
    /// Whether it is more than one argument.
    has_several_words: bool,
    place: Place,
}

impl Reference {
    /// The reference of `--reference`: an arm's name, or one or more `key=value`. An arm's name comes first where a text
    /// could be both.
    ///
    /// # Errors
    ///
    /// If there are no words, or a key is given twice, no key, or one that no arm may change.
    pub fn parse(words: &[String]) -> Result<Self, AblationError> {
        let name = words.join(" ").trim().to_owned();
        let place = Place::Argument(format!("--reference {name}"));
        if name.is_empty() {
            let (key, value) = ("--reference".to_owned(), "empty".to_owned());
            let right = "write an arm's name or key=value".to_owned();
            return Err(Refusal::Value { key, value, right }.at(&place));
        }
        // A word without `=`, or with what is no key, can be a part of a name only.
        let keys = argument::settings(words, &place);
        let keys = match keys {
            Err(error) if matches!(*error.refusal, Refusal::NoSetting(_) | Refusal::NoKey(_)) => {
                None
            }
            keys => Some(keys?),
        };
        Ok(Self {
            name: Some(name),
            keys,
            has_several_words: words.len() > 1,
            place,
        })
    }

    /// Reads the key `reference`.
    pub(super) fn read(field: &Field<'_, '_>) -> Result<Self, AblationError> {
        let name = field.as_text().map(str::to_owned);
        let keys = match &name {
            Some(_) => None,
            None if field.is_table() => Some(field.settings()?),
            None => return Err(field.wrong("an arm's name or a table of keys")),
        };
        Ok(Self {
            name,
            keys,
            has_several_words: false,
            place: field.place(),
        })
    }

    /// The arm that is meant.
    pub(super) fn find(&self, arms: &Merged<'_>) -> Result<usize, AblationError> {
        if let Some(arm) = self.name.as_deref().and_then(|name| arms.named(name)) {
            return Ok(arm);
        }
        if let Some(keys) = &self.keys {
            arms.check_known(keys, &self.place)?;
            if let Some(arm) = arms.equal(keys) {
                return Ok(arm);
            }
        }
        let names: Vec<&str> = arms.arms().iter().map(|arm| arm.name.as_str()).collect();
        let keys = self
            .keys
            .as_deref()
            .map(|keys| listed(keys).trim_matches('`').to_owned());
        let given = self.name.clone().or(keys).unwrap_or_default();
        let mut hint = hint(&given, &names);
        if self.has_several_words {
            hint.push_str(
                "; `--reference` takes all arguments up to the next option: write the others before it, or --reference=NAME",
            );
        }
        Err(Refusal::NoReference { given, hint }.at(&self.place))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ablate::arms::{
        AblateTable, Command,
        testing::{expand_all, of_arguments, of_table, table},
    };

    const GRID: &str = "block = [{ grid = { experts.order = ['random', 'importance'], experts.shared = [0, 4] } }]";

    fn named(reference: &str) -> Result<String, String> {
        let ablation = of_table(&format!("{{ reference = {reference}, {GRID} }}"));
        let ablation = ablation.map_err(|error| error.to_string())?;
        Ok(ablation.arms[ablation.reference].name.clone())
    }

    fn asked(words: &[&str]) -> Result<String, String> {
        let words: Vec<String> = words.iter().map(ToString::to_string).collect();
        let command = Reference::parse(&words).map(|reference| Command {
            reference: Some(reference),
            ..Command::default()
        });
        let table = table(&format!(
            "{{ reference = 'order=random shared=0', {GRID} }}"
        ))
        .expect("a table");
        let ablation = command.and_then(|command| expand_all(&[], &table, &command));
        let ablation = ablation.map_err(|error| error.to_string())?;
        Ok(ablation.arms[ablation.reference].name.clone())
    }

    #[test]
    fn the_reference_is_a_name_or_keys_with_the_others_as_in_the_recipe() {
        let expected = |name: &str| Ok(name.to_owned());
        assert_eq!(
            named("'order=random shared=0'"),
            expected("order=random shared=0")
        );
        let both = "{ 'experts.order' = 'random', 'experts.shared' = 0 }";
        assert_eq!(named(both), expected("order=random shared=0"));
        assert_eq!(
            named("{ experts.order = 'random' }"),
            expected("order=random shared=4")
        );
        assert_eq!(
            named("{ experts.width = 8 }"),
            expected("order=importance shared=4")
        );
        assert_eq!(named("{}"), expected("order=importance shared=4"));
    }

    #[test]
    fn the_command_line_wins_over_the_table() {
        let expected = |name: &str| Ok(name.to_owned());
        assert_eq!(
            asked(&["experts.order=random"]),
            expected("order=random shared=4")
        );
        assert_eq!(
            asked(&["experts.shared=0", "experts.order=random"]),
            expected("order=random shared=0")
        );
        assert_eq!(
            asked(&["order=random shared=4"]),
            expected("order=random shared=4")
        );
        assert_eq!(
            asked(&["order=random", "shared=4"]),
            expected("order=random shared=4")
        );
    }

    #[test]
    fn without_one_it_is_the_recipe_itself_or_the_first() {
        let ablation = of_arguments(&["experts.shared=0,4.0"]).expect("an ablation");
        assert_eq!(ablation.reference, 1);
        let ablation = of_arguments(&["experts.shared=0,8"]).expect("an ablation");
        assert_eq!(ablation.reference, 0);
    }

    #[test]
    fn a_reference_that_is_no_arm_is_refused() {
        for (result, expected) in [
            (
                named("'order=random shared=1'"),
                "the reference `order=random shared=1` is no arm; did you mean `order=random shared=",
            ),
            (
                named("{ experts.shared = 8 }"),
                "the reference `experts.shared=8` is no arm; there is order=random shared=0, ",
            ),
            (
                named("{ experts.shred = 8 }"),
                "unknown key `experts.shred`; did you mean `experts.shared`?",
            ),
            (
                asked(&["zzz"]),
                "the reference `zzz` is no arm; there is order=random shared=0, ",
            ),
            (
                asked(&["experts.width=9"]),
                "the reference `experts.width=9` is no arm; ",
            ),
            (
                asked(&["experts.wdth=9"]),
                "unknown key `experts.wdth`; did you mean `experts.width`?",
            ),
            (
                asked(&["experts.width=9", "experts.width=8"]),
                "an arm sets `experts.width` twice; set it once",
            ),
            (
                asked(&[]),
                "`--reference` cannot be empty; write an arm's name or key=value",
            ),
            (
                named("3"),
                "`ablate.reference` must be an arm's name or a table of keys, not an integer",
            ),
        ] {
            let message = result.expect_err(expected);
            assert!(message.starts_with(expected), "{message}");
        }
        let swallowed = asked(&["experts.order=random", "experts.width=4,8"]);
        let message = swallowed.expect_err("an axis in the reference");
        assert!(message.ends_with("or --reference=NAME"), "{message}");
        let short = asked(&["order=importance"]).expect_err("a short key");
        assert_eq!(short, "unknown key `order`; did you mean `experts.order`?");
        let reference = Reference::parse(&["zzz".to_owned()]).expect("a name");
        let command = Command {
            reference: Some(reference),
            ..Command::default()
        };
        let error = expand_all(&[], &AblateTable::default(), &command).expect_err("no arms");
        assert_eq!(*error.refusal, Refusal::NoArms);
    }
}
