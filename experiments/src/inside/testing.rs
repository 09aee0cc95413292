//! Data for the tests of what is seen inside models.

use std::sync::Arc;

use crate::data::loader::{Feature, Target};

/// Sequences whose lengths differ, so that there is padding.
pub fn features() -> Arc<[Feature]> {
    let feature = |index: usize| {
        let ids = (0..3 + index % 4).map(|place| ((index * 7 + place * place) % 20) as u32 + 1);
        let input_ids: Vec<u32> = ids.collect();
        Feature {
            type_ids: vec![0; input_ids.len()],
            input_ids,
            target: Some(Target::Class(0)),
        }
    };
    (0..23).map(feature).collect()
}
