//! The table of all arms.

use crate::report::{
    section::{Block, Made, Section},
    subject::Subject,
    summary::Summary,
};

/// The section.
pub fn make(subject: &Subject<'_>) -> Made {
    let results = &subject.data.results;
    if results.arms.is_empty() {
        return Err("the run has no models".to_owned());
    }
    let summary = Summary::of(results, &subject.speeds);
    Ok(Section {
        id: "arms",
        title: "All arms",
        blocks: vec![Block::Summary(Box::new(summary))],
    })
}
