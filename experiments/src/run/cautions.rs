//! What to know beside the verdicts of a run.

use std::collections::{BTreeMap, BTreeSet};

use super::{Part, family::Family};
use crate::{
    ablate::{compare::JudgedArm, statistics::Note},
    examples::Examples,
    recipe::{KeptEpoch, ModelPlan},
};

/// What makes verdicts on a metric less sure than they say, a line each; `backends` are those that computed the stages.
pub(super) fn cautions<F: Family>(
    parts: &[Part<'_, F>],
    metric: &str,
    judged: &BTreeMap<String, JudgedArm>,
    backends: BTreeSet<String>,
) -> Vec<String> {
    let plans = parts.iter().flat_map(|part| {
        let is_judged_on_valid = part.nodes.is_judged_on_valid;
        let plans = part.run.plan.iter();
        plans.map(move |plan| (plan, is_judged_on_valid))
    });
    let mut lines = vec![];
    lines.extend(chosen(plans, judged));
    lines.extend(
        examples(metric, judged)
            .and_then(few)
            .map(|note| note.to_string()),
    );
    let mut backends = backends.into_iter();
    if let (Some(one), Some(other)) = (backends.next(), backends.next()) {
        lines.push(Note::TwoBackends(one, other).to_string());
    }
    lines
}

/// Which models were chosen among the epochs of their training by what they are judged by, if some were.
fn chosen<'a>(
    plans: impl Iterator<Item = (&'a ModelPlan, bool)>,
    judged: &BTreeMap<String, JudgedArm>,
) -> Option<String> {
    let (mut chosen, mut are_all) = (BTreeSet::new(), true);
    for (plan, is_judged_on_valid) in plans {
        let Some(train) = &plan.train else { continue };
        if !judged.contains_key(&plan.name) {
            continue;
        }
        let chooses = train.keep == KeptEpoch::Best || train.early_stopping.is_some();
        if chooses && is_judged_on_valid {
            chosen.insert(plan.name.as_str());
        } else {
            are_all = false;
        }
    }
    let names = match chosen.len() {
        0 => return None,
        _ if are_all => "all models".to_owned(),
        _ => chosen.into_iter().collect::<Vec<_>>().join(", "),
    };
    Some(format!("{names}: {}", Note::ChosenOnTheseExamples))
}

/// The examples that models are judged by in a metric: the same for all that are compared.
fn examples<'a>(metric: &str, judged: &'a BTreeMap<String, JudgedArm>) -> Option<&'a Examples> {
    let mut splits = judged.values().flat_map(|arm| arm.seeds.values().flatten());
    splits.find(|split| split.metrics.contains_key(metric))
}

/// The note that the examples are few, or of few documents, if they are.
fn few(examples: &Examples) -> Option<Note> {
    let groups: BTreeSet<&String> = examples.groups.iter().collect();
    match groups.first() {
        Some(document) if groups.len() == 1 => Some(Note::BlocksOfOneDocument((*document).clone())),
        Some(_) => Note::few(examples.ids.len(), Some(groups.len())),
        None => Note::few(examples.ids.len(), None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{examples::Parts, recipe::AnyRecipe};

    fn of(ids: usize, groups: &[&str]) -> Examples {
        Examples {
            ids: (0..ids).map(|id| id.to_string()).collect(),
            content: String::new(),
            groups: groups.iter().map(|&group| group.to_owned()).collect(),
            metrics: [("accuracy".to_owned(), Parts::Mean(vec![Some(1.0); ids]))].into(),
        }
    }

    #[test]
    fn few_examples_and_one_document_are_told() {
        let note = |examples: &Examples| few(examples).map(|note| note.to_string());
        assert_eq!(note(&of(30, &[])), None);
        assert_eq!(
            note(&of(12, &[])).unwrap(),
            "12 examples are few: the interval is less sure than it says"
        );
        assert_eq!(
            note(&of(4, &["a.txt"; 4])).unwrap(),
            "blocks of one document, a.txt: it speaks for this document alone"
        );
        assert_eq!(
            note(&of(4, &["a.txt", "a.txt", "b.txt", "b.txt"])).unwrap(),
            "2 groups of examples are few: the interval is less sure than it says"
        );
    }

    #[test]
    fn models_that_their_examples_chose_are_named() {
        let Ok(AnyRecipe::Encoder(recipe)) = AnyRecipe::load("quickstart", &[]) else {
            panic!("quickstart is a recipe of an encoder");
        };
        let mut plans = recipe.plan().to_vec();
        let judged: BTreeMap<String, JudgedArm> = plans
            .iter()
            .map(|plan| (plan.name.clone(), JudgedArm::new(&plan.name)))
            .collect();
        let line = |plans: &[ModelPlan], on_valid| {
            chosen(plans.iter().map(|plan| (plan, on_valid)), &judged)
        };
        for plan in &mut plans {
            plan.train.as_mut().unwrap().keep = KeptEpoch::Last;
        }
        assert_eq!(line(&plans, true), None);
        plans[1].train.as_mut().unwrap().early_stopping = Some(2);
        assert_eq!(line(&plans, false), None);
        let one = format!(
            "{}: judged on the examples that chose the checkpoint",
            plans[1].name
        );
        assert_eq!(line(&plans, true), Some(one));
        for plan in &mut plans {
            plan.train.as_mut().unwrap().keep = KeptEpoch::Best;
        }
        let all = "all models: judged on the examples that chose the checkpoint";
        assert_eq!(line(&plans, true).as_deref(), Some(all));
    }
}
