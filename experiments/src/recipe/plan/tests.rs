use proptest::prelude::*;

use super::super::{
    AnyRecipe,
    load::{self, VALID},
};
use super::*;

fn planned(text: &str, overrides: &[&str]) -> Vec<ModelPlan> {
    let overrides: Vec<String> = overrides.iter().map(ToString::to_string).collect();
    match load::parse("mine.toml", text, &overrides) {
        Ok(AnyRecipe::Encoder(recipe)) => recipe.plan().to_vec(),
        Ok(AnyRecipe::Decoder(recipe)) => recipe.plan().to_vec(),
        Err(error) => panic!("{overrides:?}: {error}"),
    }
}

fn names(plan: &[ModelPlan]) -> Vec<&str> {
    plan.iter().map(|model| model.name.as_str()).collect()
}

const STAGES: &str =
    "stages={teacher={}, student={from='teacher', methods=['experts', 'layerwise']}}";

#[test]
fn a_recipe_without_stages_and_arms_trains_its_model() {
    let plan = planned(VALID, &[]);
    assert_eq!(names(&plan), ["train"]);
    assert_eq!(plan[0].from, Origin::Start);
    assert_eq!(plan[0].train.as_ref().map(|train| train.epochs), Some(5));
    assert_eq!(names(&planned(VALID, &[STAGES])), ["teacher", "student"]);
}

#[test]
fn arms_share_the_stages_in_which_they_are_equal() {
    let arms = "arms=[{name='importance'}, {name='random', experts.order='random'}, \
                    {name='plain', stages.student.methods=['experts']}]";
    let plan = planned(VALID, &[STAGES, arms]);
    assert_eq!(names(&plan), ["teacher", "importance", "random", "plain"]);
    for student in &plan[1..] {
        assert_eq!(student.from, Origin::Model("teacher".to_owned()));
        assert!(student.experts.is_some());
    }
    assert_eq!(plan[1].teacher.as_deref(), Some("teacher"));
    assert_eq!(plan[3].teacher, None);
    assert!(plan[3].methods.is_empty());
    // Settings that are spelled out are those that are not.
    let arms = "arms=[{name='a'}, {name='b', layerwise.weight=1, stages.student.train.epochs=5}]";
    let message = load::refusal(VALID, &[STAGES, arms]);
    let expected = "`arms.1` is equal to the arm `a`: they train the same model";
    assert!(message.contains(expected), "{message}");
}

#[test]
fn arms_that_change_data_or_model_stand_on_bases_of_their_own() {
    let arms = "arms=[{name='a'}, {name='b', experts.order='random', data.max_length=64}, \
                    {name='c', model.path='other'}, {name='d', model.spans='window:4', data.max_length=64}]";
    let overrides = [STAGES, arms].map(str::to_owned);
    let Ok(AnyRecipe::Encoder(recipe)) = load::parse("mine.toml", VALID, &overrides) else {
        panic!("a recipe of encoders");
    };
    let bases: Vec<_> = recipe
        .bases()
        .iter()
        .map(|base| names(base.plan()))
        .collect();
    assert_eq!(
        bases,
        [
            vec!["teacher-a", "a"],
            vec!["teacher-b", "teacher-d", "b", "d"],
            vec!["teacher-c", "c"]
        ]
    );
    let lengths = recipe.bases().iter().map(|base| base.data.max_length);
    assert_eq!(lengths.collect::<Vec<_>>()[1], Some(64));
    let all = [
        "teacher-a",
        "teacher-b",
        "teacher-c",
        "teacher-d",
        "a",
        "b",
        "c",
        "d",
    ];
    assert_eq!(names(recipe.plan()), all);
    let students: Vec<_> = recipe
        .plan()
        .iter()
        .filter(|plan| plan.teacher.is_some())
        .collect();
    assert_eq!(students.len(), 4);
    assert_eq!(students[1].teacher.as_deref(), Some("teacher-b"));
}

#[test]
fn models_of_one_stage_are_told_apart_by_the_first_arm_that_has_them() {
    let arms = "arms=[{name='a'}, {name='b', model.spans='window:4'}, \
                    {name='c', model.spans='window:4', experts.order='random'}]";
    let plan = planned(VALID, &[STAGES, arms]);
    assert_eq!(names(&plan), ["teacher-a", "teacher-b", "a", "b", "c"]);
    assert_eq!(plan[4].teacher.as_deref(), Some("teacher-b"));
}

#[test]
fn a_stage_that_another_arm_ends_with_is_called_as_that_arm() {
    let arms = "arms=[{name='a'}, {name='b', stages={teacher={from='model', task=0.5}, student={from='model', methods=[]}}}]";
    let message = load::refusal(VALID, &[STAGES, arms]);
    assert!(message.contains("are both last stages"), "{message}");
    let turned = "arms=[{name='dense', stages={student={from='model', methods=[]}, teacher={from='student'}}}, {name='split'}]";
    let plan = planned(
        VALID,
        &[
            "stages={teacher={}, student={from='teacher', methods=['experts']}}",
            turned,
        ],
    );
    assert_eq!(names(&plan), ["student", "dense", "split"]);
}

#[test]
fn a_model_that_stays_as_it_is_is_not_judged_nor_are_its_epochs() {
    let stages = "stages={teacher={}, filters={from='teacher', methods=['ted-filters']}, \
                  student={from='filters', methods=['ted']}}";
    let plan = planned(
        VALID,
        &[stages, "train.keep=best", "train.early_stopping=2"],
    );
    assert_eq!(names(&plan), ["teacher", "filters", "student"]);
    let judged: Vec<bool> = plan.iter().map(|model| model.is_judged).collect();
    assert_eq!(judged, [true, false, true]);
    let train = |index: usize| plan[index].train.clone().expect("a training");
    assert_eq!(train(0).keep, KeptEpoch::Best);
    assert_eq!(train(1).keep, KeptEpoch::Last);
    assert_eq!(train(1).early_stopping, None);
    assert_eq!(plan[2].teacher.as_deref(), Some("filters"));
}

#[test]
fn names_that_two_models_would_have_are_refused() {
    let message = load::refusal(VALID, &[STAGES, "arms=[{name='teacher'}]"]);
    let expected =
        "`arms.0` gives two models the name `teacher`: call an arm or a stage something else";
    assert!(message.contains(expected), "{message}");
}

#[test]
fn a_teacher_is_trained_where_a_method_looks_at_it() {
    let stages = "stages={teacher={train.epochs=9}, student={teacher='teacher'}}";
    let arms = "arms=[{name='dense'}, {name='taught', stages.student.methods=['kd']}]";
    let plan = planned(VALID, &[stages, arms]);
    assert_eq!(names(&plan), ["teacher", "dense", "taught"]);
    assert_eq!(plan[1].teacher, None);
    let arms = "arms=[{name='dense'}]";
    assert_eq!(names(&planned(VALID, &[stages, arms])), ["dense"]);
}

const DECODER: &str = r#"
name = "mine"
model.path = "gpt2"
[data]
task = "text"
path = "books"
length = 32
"#;

#[test]
fn stages_that_start_at_a_decoder_folder_are_judged_before_their_training() {
    let arms = "arms=[{name='full', model.spans='full'}, {name='local', model.spans='window:4'}]";
    let plan = planned(DECODER, &[arms]);
    assert_eq!(names(&plan), ["checkpoint", "full", "local"]);
    assert_eq!(
        plan.iter()
            .map(|model| model.judge_before)
            .collect::<Vec<_>>(),
        [false, true, true]
    );
    assert!(plan[0].train.is_none());
    let plan = planned(
        DECODER,
        &["stages={a={}, b={from='a'}, c={from='b', spans='window:4', train.epochs=0}}"],
    );
    assert_eq!(names(&plan), ["checkpoint", "a", "b", "c"]);
    assert_eq!(
        plan.iter()
            .map(|model| model.judge_before)
            .collect::<Vec<_>>(),
        [false, true, false, false]
    );
    assert!(plan[3].train.is_none());
}

proptest! {
    #[test]
    fn models_come_after_those_that_they_need_under_names_of_their_own(
        arms in proptest::collection::vec((0_u8..3, 0_u8..3, 0_u8..3), 1..5),
    ) {
        let arms = arms.iter().enumerate().map(|(index, (spans, order, methods))| {
            let spans = ["full", "window:4", "window:8"][*spans as usize];
            let order = ["importance", "random", "inverse"][*order as usize];
            let methods = ["'experts', 'kd'", "'experts'", ""][*methods as usize];
            format!("{{name='arm{index}', model.spans='{spans}', experts.order='{order}', stages.student.methods=[{methods}]}}")
        });
        let arms = format!("arms=[{}]", arms.collect::<Vec<_>>().join(", "));
        let overrides = [STAGES.to_owned(), arms];
        // Arms may come out equal.
        if let Ok(AnyRecipe::Encoder(recipe)) = load::parse("mine.toml", VALID, &overrides) {
            let plan = recipe.plan();
            for (index, model) in plan.iter().enumerate() {
                let before = names(&plan[..index]);
                prop_assert!(!before.contains(&model.name.as_str()));
                if let Origin::Model(name) = &model.from {
                    prop_assert!(before.contains(&name.as_str()));
                }
                if let Some(teacher) = &model.teacher {
                    prop_assert!(before.contains(&teacher.as_str()));
                }
                let equal = plan[..index].iter().any(|other| {
                    let renamed = ModelPlan { name: other.name.clone(), stage: other.stage.clone(), ..model.clone() };
                    *other == renamed
                });
                prop_assert!(!equal, "{} is there twice", model.name);
            }
        }
    }
}
