//! Settings of a recipe of experts that nothing would read.
//!
//! A record spells out every default, so a setting counts as made where it differs from its default.

use distill::loss::LogitsForm;
use moebert_core::{
    heads::Head,
    partition::NeuronOrder,
    router::{GateScale, RouterKind},
};
use serde::Serialize;

use super::{Recipe, problems::Problems};

const A_GATE: &str = "`gate-token`, `gate-sentence` or `top-k`";

/// The settings of `recipe` that would be ignored, as pairs of a dotted key and a reason that continues its
/// sentence. They are in tables that all students share: an arm of a comparison may well have no use for one.
pub(super) fn settings(recipe: &Recipe) -> Vec<(String, String)> {
    let mut found = Problems::default();
    if !recipe.students.is_empty() {
        find(&mut found, recipe);
    }
    found.into_pairs()
}

fn find(found: &mut Problems, recipe: &Recipe) {
    gates(found, recipe);
    several(found, recipe);
    distillation(found, recipe);
    if recipe.teacher.fine_tuned {
        for key in changed(&recipe.teacher.train) {
            let reason = "would be ignored, as the teacher is not trained: leave it out, or set \
                          `teacher.fine_tuned` to false";
            found.add(&format!("teacher.train.{key}"), reason);
        }
    }
    let mut orders = recipe
        .expert_students()
        .map(|student| recipe.student_experts(student).order);
    if !orders.any(NeuronOrder::needs_importance) {
        for key in changed(&recipe.importance) {
            let reason = "would be ignored, as no student's `order` needs scores: leave it out, or set \
                          an order to `importance` or `inverse`";
            found.add(&format!("importance.{key}"), reason);
        }
    }
}

fn routers(recipe: &Recipe) -> impl Iterator<Item = RouterKind> {
    let students = recipe.expert_students();
    students.map(|student| recipe.student_experts(student).router)
}

/// Refuses a student's own setting that the same student would not read.
pub(super) fn check_students(found: &mut Problems, recipe: &Recipe) {
    for (index, student) in recipe.students.iter().enumerate() {
        let router = recipe.student_experts(student).router;
        if student.gate_scale.is_some() && !router.is_gate() {
            let reason = format!(
                "is for gates, and the router of `{}` is `{router}`: leave it out, or set `router` to \
                 {A_GATE}",
                student.name
            );
            found.add(&format!("students.{index}.gate_scale"), &reason);
        }
    }
}

/// What only gates read.
fn gates(found: &mut Problems, recipe: &Recipe) {
    if routers(recipe).any(RouterKind::is_gate) {
        return;
    }
    let reason = |what: &str| {
        format!("{what}, and no student has one: leave it out, or set a `router` to {A_GATE}")
    };
    let is_default = recipe.experts.gate_scale == GateScale::default();
    found.require("experts.gate_scale", is_default, &reason("is for gates"));
    let is_off = recipe.distill.balance <= 0.0;
    let balance = reason("weighs the balance loss of gates");
    found.require("distill.balance", is_off, &balance);
}

/// What only the router of several experts reads.
fn several(found: &mut Problems, recipe: &Recipe) {
    let is_read = routers(recipe).any(RouterKind::takes_several);
    let reason = "weighs the z-loss of the router `top-k`, and no student has it: leave it out, or set a \
                  `router` to `top-k`";
    found.require("distill.z", is_read || recipe.distill.z <= 0.0, reason);
}

/// What only a student reads that learns from the teacher.
fn distillation(found: &mut Problems, recipe: &Recipe) {
    let settings = &recipe.distill;
    if recipe.students.iter().any(|student| student.distill) {
        if recipe.data.task.head() == Head::Regression {
            let reason = "is for classes, and a regression compares logits by their squared error: leave \
                          it out";
            let is_one = (settings.temperature - 1.0).abs() <= 0.0;
            found.require("distill.temperature", is_one, reason);
            let is_kl = settings.logits == LogitsForm::Kl;
            found.require("distill.logits", !is_kl, reason);
        }
        return;
    }
    let counts_padding = settings.balance > 0.0 && routers(recipe).any(RouterKind::sees_padding);
    for key in changed(settings) {
        let is_read = match key.as_str() {
            "balance" | "z" | "train" => true,
            "padding" => counts_padding,
            _ => false,
        };
        let reason = "would be ignored, as no student is distilled: leave it out, or set `distill` of a \
                      student to true";
        found.require(&format!("distill.{key}"), is_read, reason);
    }
}

/// The keys of a table that differ from their defaults.
fn changed<T: Serialize + Default>(table: &T) -> Vec<String> {
    // What cannot be written as TOML is refused elsewhere.
    let keys = |table: &T| toml::Table::try_from(table).unwrap_or_default();
    let defaults = keys(&T::default());
    let keys = keys(table).into_iter();
    keys.filter(|(key, value)| defaults.get(key) != Some(value))
        .map(|(key, _)| key)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::{
        AnyRecipe,
        source::{self, VALID},
    };
    use super::*;

    /// The settings that would be ignored, with their reasons.
    fn ignored(overrides: &[&str]) -> Vec<(String, String)> {
        let overrides: Vec<String> = overrides.iter().map(ToString::to_string).collect();
        match source::parse("mine.toml", VALID, &overrides) {
            Ok(AnyRecipe::Experts(recipe)) => settings(&recipe),
            other => panic!("{overrides:?}: {other:?}"),
        }
    }

    #[track_caller]
    fn accept(overrides: &[&str]) {
        assert_eq!(ignored(overrides), [], "{overrides:?}");
    }

    #[track_caller]
    fn warns(overrides: &[&str], expected: &str) {
        let found = ignored(overrides);
        let [(key, reason)] = &found[..] else {
            panic!("{overrides:?}: {found:?}");
        };
        let message = format!("`{key}` {reason}");
        assert!(message.contains(expected), "{overrides:?}: {message}");
    }

    const GATED: &str = "students=[{name='hash'}, {name='gate', router='gate-token'}]";
    const LABELS: &str = "students=[{name='plain', distill=false}]";
    const RANDOM: &str = "students=[{name='dealt', order='random'}]";

    #[test]
    fn settings_of_gates_need_a_gate() {
        accept(&[
            "experts.router=gate-sentence",
            "experts.gate_scale=probability",
        ]);
        accept(&[
            GATED,
            "experts.gate_scale=probability",
            "distill.balance=0.1",
        ]);
        accept(&["experts.gate_scale=unit", "distill.balance=0"]);
        warns(
            &["experts.gate_scale=probability"],
            "`experts.gate_scale` is for gates, and no student has one: leave it out, or set a `router` \
             to `gate-token`, `gate-sentence` or `top-k`",
        );
        warns(
            &["distill.balance=0.1"],
            "`distill.balance` weighs the balance loss of gates, and no student has one",
        );
        let message = source::refusal(VALID, &["students=[{name='a', gate_scale='unit'}]"]);
        let expected =
            "`students.0.gate_scale` is for gates, and the router of `a` is `hash-random`";
        assert!(message.contains(expected), "{message}");
    }

    #[test]
    fn settings_of_distillation_need_a_student_that_is_distilled() {
        let settings = [
            "distill.lambda=3",
            "distill.layers=last",
            "distill.padding=include",
            "distill.logits=kl",
            "distill.temperature=2",
        ];
        for setting in settings {
            accept(&[setting]);
            let (key, _) = setting.split_once('=').expect("an override");
            let expected = format!("`{key}` would be ignored, as no student is distilled");
            warns(&[LABELS, setting], &expected);
        }
        accept(&[LABELS, "distill.lambda=1", "distill.train.epochs=1"]);
        let gated = "students=[{name='gate', router='gate-token', distill=false}]";
        accept(&[gated, "distill.balance=0.1", "distill.padding=include"]);
        warns(&[gated, "distill.padding=include"], "`distill.padding`");
    }

    #[test]
    fn a_regression_has_no_temperature() {
        let task = "data.task=stsb";
        accept(&[task, "distill.logits=mse"]);
        for setting in ["distill.temperature=2", "distill.logits=kl"] {
            warns(
                &[task, setting],
                "is for classes, and a regression compares",
            );
        }
    }

    #[test]
    fn a_teacher_that_is_not_trained_has_no_training() {
        accept(&["teacher.train.epochs=2"]);
        accept(&["teacher.fine_tuned=true", "train.epochs=2"]);
        warns(
            &["teacher.fine_tuned=true", "teacher.train.epochs=2"],
            "`teacher.train.epochs` would be ignored, as the teacher is not trained",
        );
    }

    #[test]
    fn scores_that_no_student_needs_have_no_settings() {
        accept(&["importance.samples=9"]);
        accept(&[RANDOM, "importance.batch_size=32"]);
        for setting in ["samples=9", "split=dev", "batch_size=8"] {
            let setting = format!("importance.{setting}");
            let expected = "would be ignored, as no student's `order` needs scores";
            warns(&[RANDOM, &setting], expected);
        }
    }
}
