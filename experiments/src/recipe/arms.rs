//! `[[arms]]`: the recipe with some keys changed, once per arm.

use std::{collections::BTreeSet, ops::Range};

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::{
    CHECKPOINT,
    keys::Mistake,
    merge::{leaves, merge},
};

/// The key of an arm's name, and of a run's.
pub(super) const NAME: &str = "name";
/// The key of the arms.
pub(super) const ARMS: &str = "arms";
/// The key of an ablation, which `kiln run` does not read.
pub(super) const ABLATE: &str = "ablate";

/// What arms cannot change, each with the reason.
const OF_THE_RUN: [(&str, &str); 5] = [
    (ARMS, "arms have no arms"),
    ("seeds", "arms are compared seed by seed"),
    ("checkpoint", "it changes no result"),
    ("tracking", "it changes no result"),
    ("data.task", "a table has the scores of one task"),
];

/// An arm: a name, and the keys of the recipe under its changes.
pub(super) struct Arm<'i> {
    /// Its name; none if the recipe names no arms.
    pub name: Option<String>,
    /// The recipe, without arms.
    pub table: Spanned<DeTable<'i>>,
}

/// The arms as they are written; empty if there are none.
pub(super) fn written<'a, 'i>(table: &'a DeTable<'i>) -> Vec<(&'a DeTable<'i>, Range<usize>)> {
    let arms = table.get(ARMS).and_then(|arms| arms.get_ref().as_array());
    let arms = arms.into_iter().flatten();
    arms.filter_map(|arm| Some((arm.get_ref().as_table()?, arm.span())))
        .collect()
}

/// The changes of an arm, without its name.
pub(super) fn changes<'i>(arm: &DeTable<'i>) -> DeTable<'i> {
    let mut changes = arm.clone();
    changes.remove(NAME);
    changes
}

/// Each arm with the recipe that it stands for; `is_whole` is as in [`merge`].
///
/// # Errors
///
/// If an arm has no name or another one's, or changes what arms cannot change.
pub(super) fn resolve<'i>(
    recipe: &Spanned<DeTable<'i>>,
    is_whole: &dyn Fn(&Range<usize>) -> bool,
) -> Result<Vec<Arm<'i>>, Mistake> {
    let mut base = recipe.clone();
    base.get_mut().remove(ARMS);
    let written = written(recipe.get_ref());
    if written.is_empty() {
        let arm = Arm {
            name: None,
            table: base,
        };
        return Ok(vec![arm]);
    }
    let mut taken = BTreeSet::from([CHECKPOINT.to_owned()]);
    let mut arms = vec![];
    for (index, (arm, span)) in written.into_iter().enumerate() {
        let name = name(index, arm, &span, &mut taken)?;
        let changes = changes(arm);
        check_changes(&changes, &span)?;
        let mut table = base.clone();
        merge(table.get_mut(), changes, is_whole).map_err(|list| Mistake {
            span,
            reason: format!("`{}` {}", list.list, list.reason()),
        })?;
        arms.push(Arm {
            name: Some(name),
            table,
        });
    }
    Ok(arms)
}

fn name(
    index: usize,
    arm: &DeTable<'_>,
    span: &Range<usize>,
    taken: &mut BTreeSet<String>,
) -> Result<String, Mistake> {
    let key = format!("{ARMS}.{index}.{NAME}");
    let value = arm.get(NAME).ok_or_else(|| Mistake {
        span: span.clone(),
        reason: format!("the key `{key}` is missing: every arm has a name"),
    })?;
    let mistake = |reason: &str| Mistake {
        span: value.span(),
        reason: format!("`{key}` {reason}"),
    };
    let DeValue::String(name) = value.get_ref() else {
        return Err(mistake("must be a text"));
    };
    if name.trim().is_empty() || name.chars().any(char::is_control) {
        return Err(mistake("must be a name on one line"));
    }
    if !taken.insert(name.to_string()) {
        return Err(mistake(&format!(
            "`{name}` is taken; every arm needs its own"
        )));
    }
    Ok(name.to_string())
}

/// Refuses changes of what all arms share.
fn check_changes(changes: &DeTable<'_>, span: &Range<usize>) -> Result<(), Mistake> {
    for path in leaves(changes) {
        let path = path.join(".");
        let is_in = |table: &str| {
            let rest = path.strip_prefix(table);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        };
        if let Some((_, why)) = OF_THE_RUN.iter().find(|(key, _)| is_in(key)) {
            return Err(Mistake {
                span: locate(changes, &path).unwrap_or_else(|| span.clone()),
                reason: format!(
                    "an arm cannot change `{path}`: {why}; set it for the whole recipe"
                ),
            });
        }
    }
    Ok(())
}

/// Where the value of the dotted `path` stands, or the innermost table on the way to it.
pub(super) fn locate(table: &DeTable<'_>, path: &str) -> Option<Range<usize>> {
    let mut parts = path.split('.');
    let mut at = table.get(parts.next()?)?;
    for part in parts {
        let inner = match part.parse::<usize>() {
            Ok(index) => at.get_ref().get(index),
            Err(_) => at.get_ref().get(part),
        };
        match inner {
            Some(inner) => at = inner,
            None => break,
        }
    }
    Some(at.span())
}

#[cfg(test)]
mod tests {
    use super::super::load::{self, VALID};

    #[test]
    fn arms_have_names_of_their_own() {
        for (arms, expected) in [
            ("[{}]", "the key `arms.0.name` is missing"),
            (
                "[{name='a'}, {name='a'}]",
                "`arms.1.name` `a` is taken; every arm needs its own",
            ),
            (
                "[{name='checkpoint'}]",
                "`arms.0.name` `checkpoint` is taken",
            ),
            ("[{name=' '}]", "`arms.0.name` must be a name on one line"),
            ("[{name=3}]", "`arms.0.name` must be a text"),
            ("[3]", "`arms`: invalid type"),
            ("{name='a'}", "`arms`: invalid type: map"),
        ] {
            let given = format!("arms={arms}");
            let message = load::refusal(VALID, &[&given]);
            assert!(message.contains(expected), "{arms}: {message}");
        }
    }

    #[test]
    fn what_all_arms_share_cannot_be_changed_by_one() {
        for (key, why) in [
            ("seeds=[3]", "arms are compared seed by seed"),
            ("checkpoint.every='1s'", "it changes no result"),
            ("data.task='cola'", "a table has the scores of one task"),
            ("arms=[]", "arms have no arms"),
        ] {
            let given = format!("arms=[{{name='a', {key}}}]");
            let message = load::refusal(VALID, &[&given]);
            let (path, _) = key.split_once('=').unwrap();
            let expected =
                format!("an arm cannot change `{path}`: {why}; set it for the whole recipe");
            assert!(message.contains(&expected), "{key}: {message}");
        }
        let text = format!("{VALID}\n[[arms]]\nname = \"a\"\nseeds = [1]\n");
        let message = load::refusal(&text, &[]);
        let expected = "mine.toml, line 12: an arm cannot change `seeds`";
        assert!(message.starts_with(expected), "{message}");
    }
}
