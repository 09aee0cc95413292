//! Views of what no run records yet.

use crate::report::{section::Made, subject::Subject};

/// Words by the expert that they pass through.
pub fn tokens(_: &Subject<'_>) -> Made {
    Err("the run did not record which tokens pass through which expert".to_owned())
}

/// Student against teacher, layer by layer.
pub fn distances(_: &Subject<'_>) -> Made {
    Err("the run has no stage that compares hidden states".to_owned())
}
