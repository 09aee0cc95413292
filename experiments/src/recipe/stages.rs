//! How the stages of an arm depend on each other.

use std::collections::{BTreeMap, BTreeSet};

use masformer_core::nearest::hint;

use super::{CHECKPOINT, Problem, StageRecipe, problems::Problems, stage::FROM_MODEL};

/// The stages of an arm by their names.
type Stages = BTreeMap<String, StageRecipe>;

/// The other stages that a stage names, each with its key.
fn named<'a>(
    stages: &'a Stages,
    stage: &'a StageRecipe,
) -> impl Iterator<Item = (&'static str, &'a str)> {
    let keys = [("from", &stage.from), ("teacher", &stage.teacher)];
    let named = keys
        .into_iter()
        .filter_map(|(key, name)| Some((key, name.as_deref()?)));
    named.filter(|(_, name)| stages.contains_key(*name))
}

/// The stage whose model a stage starts from. One that has a model of its own starts from that.
pub(super) fn start<'a>(stages: &'a Stages, stage: &StageRecipe) -> Option<&'a str> {
    let from = stage.from.as_ref().filter(|_| !stage.has_own_start())?;
    let (name, _) = stages.get_key_value(from)?;
    Some(name)
}

/// The stages on which no other depends.
fn ends(stages: &Stages) -> Vec<&str> {
    let needed = stages.values().flat_map(|stage| named(stages, stage));
    let needed: BTreeSet<&str> = needed.map(|(_, name)| name).collect();
    let names = stages.keys().map(String::as_str);
    names.filter(|name| !needed.contains(name)).collect()
}

/// The stage on which no other depends; recipes that were loaded have one.
pub(super) fn last(stages: &Stages) -> Option<&str> {
    ends(stages).pop()
}

/// The last stage and those that it depends on, each after those that it needs. `teacher` is the stage that the methods
/// of a stage compare it with, where they do.
pub(super) fn order<'a>(
    stages: &'a Stages,
    teacher: impl Fn(&'a StageRecipe) -> Option<&'a str>,
) -> Vec<&'a str> {
    let mut found = vec![];
    if let Some(last) = last(stages) {
        visit(stages, &teacher, last, &mut found);
    }
    found
}

fn visit<'a>(
    stages: &'a Stages,
    teacher: &impl Fn(&'a StageRecipe) -> Option<&'a str>,
    name: &'a str,
    found: &mut Vec<&'a str>,
) {
    let Some(stage) = stages.get(name).filter(|_| !found.contains(&name)) else {
        return;
    };
    for needed in start(stages, stage).into_iter().chain(teacher(stage)) {
        visit(stages, teacher, needed, found);
    }
    found.push(name);
}

/// What is wrong with the names of stages and with what they name.
pub(super) fn problems(stages: &Stages) -> Vec<Problem> {
    let mut found = Problems::default();
    for (name, stage) in stages {
        let key = format!("stages.{name}");
        found.name(&key, name);
        let reserved = [FROM_MODEL, CHECKPOINT].contains(&name.as_str());
        let reason = format!(
            "cannot be called `{name}`, which is the model to begin with: call it something else"
        );
        found.require(&key, !reserved, &reason);
        let mut known: Vec<&str> = stages.keys().map(String::as_str).collect();
        known.retain(|other| other != name);
        if let Some(teacher) = &stage.teacher {
            let reason = format!("names no stage `{teacher}`; {}", hint_of(teacher, &known));
            found.require(
                &format!("{key}.teacher"),
                stages.contains_key(teacher),
                &reason,
            );
        }
        if let Some(from) = &stage.from {
            known.push(FROM_MODEL);
            let is_known = from == FROM_MODEL || stages.contains_key(from);
            let reason = format!("names no stage `{from}`; {}", hint_of(from, &known));
            found.require(&format!("{key}.from"), is_known, &reason);
        }
    }
    if found.is_empty() {
        match circle(stages) {
            Some((key, circle)) => found.add(
                &key,
                &format!("closes a cycle of stages: {}", circle.join(" -> ")),
            ),
            None => one_end(&mut found, stages),
        }
    }
    found.into_pairs()
}

fn hint_of(name: &str, known: &[&str]) -> String {
    if known.is_empty() {
        "there is no other".to_owned()
    } else {
        hint(name, known)
    }
}

/// Refuses stages of which more than one could be the last.
fn one_end(found: &mut Problems, stages: &Stages) {
    if let [first, .., other] = ends(stages)[..] {
        let reason = format!(
            "and `stages.{first}` are both last stages, on which no other depends: an arm has one; let one start `from` \
             the other, or compare the two as arms"
        );
        found.add(&format!("stages.{other}"), &reason);
    }
}

/// The first circle: the key that closes it, and its stages, the first one also at the end.
fn circle(stages: &Stages) -> Option<(String, Vec<&str>)> {
    let mut done = BTreeSet::new();
    stages
        .keys()
        .find_map(|name| follow(stages, name, &mut vec![], &mut done))
}

fn follow<'a>(
    stages: &'a Stages,
    name: &'a str,
    path: &mut Vec<&'a str>,
    done: &mut BTreeSet<&'a str>,
) -> Option<(String, Vec<&'a str>)> {
    if done.contains(name) {
        return None;
    }
    path.push(name);
    for (key, needed) in named(stages, &stages[name]) {
        if let Some(start) = path.iter().position(|stage| *stage == needed) {
            let circle = path[start..].iter().copied().chain([needed]);
            return Some((format!("stages.{name}.{key}"), circle.collect()));
        }
        let found = follow(stages, needed, path, done);
        if found.is_some() {
            return found;
        }
    }
    path.pop();
    done.insert(name);
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn stages(text: &str) -> Stages {
        toml::from_str(text).unwrap()
    }

    fn problem(text: &str) -> String {
        let found = problems(&stages(text));
        let [(key, reason)] = &found[..] else {
            panic!("{text}: {found:?}");
        };
        format!("`{key}` {reason}")
    }

    #[test]
    fn stages_that_name_no_stage_or_each_other_are_refused() {
        for (text, expected) in [
            (
                "[a]\nfrom = \"b\"",
                "`stages.a.from` names no stage `b`; there is model",
            ),
            (
                "[teacher]\n[a]\nfrom = \"techer\"",
                "`stages.a.from` names no stage `techer`; did you mean `teacher`?",
            ),
            (
                "[a]\nfrom = \"modle\"",
                "`stages.a.from` names no stage `modle`; did you mean `model`?",
            ),
            (
                "[a]\nteacher = \"b\"",
                "`stages.a.teacher` names no stage `b`; there is no other",
            ),
            (
                "[a]\nteacher = \"model\"",
                "`stages.a.teacher` names no stage `model`; there is no other",
            ),
            (
                "[a]\nfrom = \"a\"",
                "`stages.a.from` closes a cycle of stages: a -> a",
            ),
            (
                "[a]\nfrom = \"b\"\n[b]\nteacher = \"a\"",
                "`stages.b.teacher` closes a cycle of stages: a -> b -> a",
            ),
            (
                "[a]\n[b]\nfrom = \"d\"\n[c]\nfrom = \"b\"\n[d]\nfrom = \"c\"",
                "`stages.c.from` closes a cycle of stages: b -> d -> c -> b",
            ),
            (
                "[a]\n[b]\nfrom = \"a\"\n[c]\nfrom = \"a\"",
                "`stages.c` and `stages.b` are both last stages, on which no other depends",
            ),
            ("[model]\n", "`stages.model` cannot be called `model`"),
            (
                "[checkpoint]\n",
                "`stages.checkpoint` cannot be called `checkpoint`",
            ),
            ("[\"a/b\"]\n", "`stages.a/b` must be a plain name"),
        ] {
            let problem = problem(text);
            assert!(problem.starts_with(expected), "{text}: {problem}");
        }
    }

    /// Stages that depend on earlier ones alone, by numbers that say on which, and the last one on all ends.
    fn any_stages() -> impl Strategy<Value = Stages> {
        let needed = || proptest::option::of(0_usize..8);
        let stages = proptest::collection::vec((needed(), needed()), 1..8);
        stages.prop_map(|numbers| {
            let name = |number: usize| format!("s{}", (number * 5) % 8);
            let numbers = numbers.into_iter().enumerate();
            let stages = numbers.map(|(index, (from, teacher))| {
                let earlier = |number: Option<usize>| {
                    (index > 0).then(|| name(number.unwrap_or(index - 1) % index))
                };
                let stage = StageRecipe {
                    from: earlier(Some(index.saturating_sub(1)))
                        .filter(|_| from.is_none_or(|from| from % 2 == 0))
                        .or(earlier(from)),
                    teacher: earlier(teacher).filter(|_| teacher.is_some()),
                    ..StageRecipe::default()
                };
                (name(index), stage)
            });
            stages.collect()
        })
    }

    proptest! {
        #[test]
        fn stages_come_after_those_that_they_need(stages in any_stages(), with_teachers in any::<bool>()) {
            prop_assume!(problems(&stages).is_empty());
            let teacher = |stage: &'_ StageRecipe| {
                let name = stage.teacher.as_ref().filter(|_| with_teachers)?;
                Some(stages.get_key_value(name)?.0.as_str())
            };
            let order = order(&stages, teacher);
            prop_assert_eq!(order.last().copied(), last(&stages));
            for (index, name) in order.iter().enumerate() {
                let before = &order[..index];
                prop_assert!(!before.contains(name));
                let stage = &stages[*name];
                for needed in stage.from.iter().chain(stage.teacher.iter().filter(|_| with_teachers)) {
                    prop_assert!(before.contains(&needed.as_str()), "{needed} before {name}: {order:?}");
                }
            }
        }

        #[test]
        fn any_names_are_refused_or_ordered(names in proptest::collection::vec((0_usize..5, 0_usize..5), 1..4)) {
            let name = |number: usize| format!("s{number}");
            let stages: Stages = names.iter().enumerate().map(|(index, (from, teacher))| {
                let stage = StageRecipe { from: Some(name(*from)), teacher: Some(name(*teacher)), ..StageRecipe::default() };
                (name(index), stage)
            }).collect();
            // Each names another one, so there is a cycle or a name of none.
            prop_assert!(!problems(&stages).is_empty());
        }
    }
}
