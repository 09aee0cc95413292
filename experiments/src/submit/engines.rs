//! The registry of engines: one line each.

use super::{
    engine::Engine, error::SubmitError, hq::Hq, k8s::K8s, parallel::Parallel, ray::Ray,
    slurm::Slurm,
};

/// All engines.
pub static ENGINES: &[&dyn Engine] = &[
    &Slurm, //
    &Hq, &Parallel, &Ray, &K8s,
];

/// The engine of this name.
///
/// # Errors
/// There is none.
pub fn engine(name: &str) -> Result<&'static dyn Engine, SubmitError> {
    let mut engines = ENGINES.iter();
    let found = engines.find(|engine| engine.name() == name);
    found.copied().ok_or_else(|| {
        let names: Vec<&str> = ENGINES.iter().map(|engine| engine.name()).collect();
        SubmitError::UnknownEngine {
            name: name.to_owned(),
            known: names.join(", "),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::submit::testing;

    #[test]
    fn engines_are_found_by_their_names() {
        for known in ENGINES {
            assert_eq!(engine(known.name()).unwrap().name(), known.name());
        }
        assert_eq!(
            engine("pbs").unwrap_err().to_string(),
            "unknown engine `pbs`; expected one of slurm, hq, parallel, ray, k8s"
        );
    }

    #[test]
    fn files_are_named_by_their_engine_and_the_first_is_started() {
        let submission = testing::submission(&["kiln", "run", "quickstart"]);
        for engine in ENGINES {
            let files = engine.files(&submission).unwrap();
            let prefix = format!("{}.", engine.name());
            assert!(files.iter().all(|file| file.name.starts_with(&prefix)));
            assert!(files.iter().all(|file| file.text.ends_with('\n')));
            let first = submission.file(files[0].name);
            assert!(engine.start(&submission).contains(&first), "{engine:?}");
        }
    }
}
