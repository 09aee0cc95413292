//! Examples that belong together and are left out together.

use std::{collections::HashMap, hash::Hash};

use super::{StatisticsError, error::lengths};

/// The group of each example, as a number from 0 in the order of the first appearance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Groups {
    of_example: Vec<usize>,
    count: usize,
}

impl Groups {
    /// Every example is a group of its own.
    pub fn single(examples: usize) -> Self {
        Self {
            of_example: (0..examples).collect(),
            count: examples,
        }
    }

    /// Examples with equal keys (a passage, a document) are one group.
    pub fn from_keys<K: Eq + Hash>(keys: &[K]) -> Self {
        let mut numbers = HashMap::new();
        let of_example = keys
            .iter()
            .map(|key| {
                let next = numbers.len();
                *numbers.entry(key).or_insert(next)
            })
            .collect();
        Self {
            of_example,
            count: numbers.len(),
        }
    }

    /// The number of groups.
    pub fn count(&self) -> usize {
        self.count
    }

    /// The number of examples.
    pub fn examples(&self) -> usize {
        self.of_example.len()
    }

    /// The group of each example, `[examples]`.
    pub fn of_example(&self) -> &[usize] {
        &self.of_example
    }

    /// The examples of each group, in the order of the data.
    pub(super) fn members(&self) -> Vec<Vec<usize>> {
        let mut members = vec![Vec::new(); self.count];
        for (example, &group) in self.of_example.iter().enumerate() {
            members[group].push(example);
        }
        members
    }

    /// Refuses a list that has not one number for each example, or no number at all.
    pub(super) fn check(&self, what: &'static str, found: usize) -> Result<(), StatisticsError> {
        if self.count == 0 {
            return Err(StatisticsError::NoExamples);
        }
        lengths(what, found, self.examples())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_keys_are_one_group_in_the_order_of_appearance() {
        let groups = Groups::from_keys(&["b", "a", "b", "c"]);
        assert_eq!(groups.of_example(), [0, 1, 0, 2]);
        assert_eq!((groups.count(), groups.examples()), (3, 4));
        assert_eq!(groups.members(), [vec![0, 2], vec![1], vec![3]]);
        assert_eq!(Groups::from_keys(&[1, 2, 3]), Groups::single(3));
    }
}
