//! Weights of objectives that a training leaves for the next.

use super::*;
use crate::{
    LeftParts,
    objective::{StudentFilters, Ted, TedFilters},
};

fn filters(directory: &Path) -> Stage<Toy> {
    let dropout_of_heads = TedFilters {
        dropout: 0.2,
        ..TedFilters::default()
    };
    stage(config(directory, 2)).objective(dropout_of_heads)
}

fn bits(left: &LeftParts) -> Vec<Vec<f32>> {
    let filters = left.of("ted-filters").iter();
    filters
        .map(|filter| filter.weight.to_data().iter().collect())
        .collect()
}

#[test]
fn filters_are_trained_and_left_while_the_model_stays_as_it_is() {
    let _turn = serial();
    let directory = tempfile::tempdir().unwrap();
    let model = drawn(0.3);
    let fitted = filters(directory.path()).fit(model.clone()).unwrap();
    assert_eq!(fitted.model.bits(), model.bits());
    let left = bits(&fitted.left);
    assert_eq!(left.len(), 2);
    let again = filters(directory.path()).fit(model.clone()).unwrap();
    assert_eq!(bits(&again.left), left);

    let directory = tempfile::tempdir().unwrap();
    let stop = StopAt {
        epoch: 2,
        iteration: 2,
        abort: false,
    };
    let stopped = filters(directory.path()).callback(stop);
    assert!(stopped.fit(model.clone()).is_err());
    let resumed = filters(directory.path()).fit(model.clone()).unwrap();
    assert!(resumed.resumed_from.is_some());
    assert_eq!(bits(&resumed.left), left);
    assert_eq!(resumed.model.bits(), model.bits());
}

/// Trains a student beside a teacher that is equal, by `ted` alone.
fn ted(
    model: &Toy,
    student: LeftParts,
    teacher: LeftParts,
    ted: Ted,
) -> Result<Fitted<Toy>, StageError> {
    let directory = tempfile::tempdir().unwrap();
    let config = StageConfig {
        task_weight: 0.0,
        ..config(directory.path(), 1)
    };
    let data = || ToyLoader::new(8, 4).shared();
    // Without the decay of weights, they stay where no gradient moves them.
    let stage = Stage::new(config, data(), data())
        .teacher(Teacher::new(model))
        .left_of_student(student)
        .left_of_teacher(teacher)
        .objective(ted);
    stage.fit(model.clone())
}

/// A model whose weights are drawn already, not when they are first looked at.
fn drawn(dropout: f64) -> Toy {
    let model = Toy::new(2, 6, dropout);
    model.bits();
    model
}

#[test]
fn a_student_with_the_teachers_filters_has_nothing_to_learn_and_one_without_any_is_refused() {
    let _turn = serial();
    let directory = tempfile::tempdir().unwrap();
    let model = drawn(0.0);
    let left = filters(directory.path()).fit(model.clone()).unwrap().left;
    let fitted = ted(&model, left.clone(), left.clone(), Ted::default()).unwrap();
    assert_eq!(fitted.model.bits(), model.bits());
    assert!(fitted.left.is_empty());

    let none = LeftParts::default;
    for (student, teacher, lacking) in [
        (none(), left.clone(), "student"),
        (left.clone(), none(), "teacher"),
    ] {
        let error = ted(&model, student, teacher, Ted::default()).unwrap_err();
        let expected =
            format!("method `ted`: the {lacking} has no filters: train some by `ted-filters`");
        assert_eq!(error.to_string(), expected);
    }
    let random = Ted {
        filters: StudentFilters::Random,
        ..Ted::default()
    };
    let fitted = ted(&model, none(), none(), random).unwrap();
    assert_ne!(fitted.model.bits(), model.bits());
}
