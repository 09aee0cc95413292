//! Which hidden state of the student learns from which of the teacher.

use std::{fmt, str::FromStr};

use masformer_core::Layers;
use serde::{Deserialize, Serialize};

/// Which hidden state of the student learns from which of the teacher.
///
/// Hidden state 0 is the embedding output, hidden state `l` the output of layer `l`. The text forms
/// are `all`, `last`, `every:2` and `0-0,2-4` (student-teacher).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum LayerMap {
    /// Each from its own; both models have the same depth.
    #[default]
    All,
    /// The last from the last.
    Last,
    /// Every `k`-th of the teacher: from the student's own where the depths are equal, and from one
    /// student layer after the other where the teacher is `k` times as deep (BERT-PKD, arXiv
    /// 1908.09355).
    Every(usize),
    /// These pairs of student and teacher.
    Explicit(Vec<(usize, usize)>),
}

/// A layer map that cannot be read or does not fit the models.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LayerMapError {
    /// The text is no layer map.
    #[error("`{0}` is no layer map; write `all`, `last`, `every:2` or pairs such as `0-0,2-4`")]
    Parse(String),
    /// The depths of the models do not fit the map.
    #[error(
        "layer map `{map}` does not fit a student of {student} and a teacher of {teacher} layers; \
         {rule}"
    )]
    Depth {
        /// The map.
        map: String,
        /// Layers of the student.
        student: usize,
        /// Layers of the teacher.
        teacher: usize,
        /// What would be right.
        rule: &'static str,
    },
}

impl LayerMap {
    /// The pairs of hidden states (student, teacher) for a student and a teacher of so many layers.
    ///
    /// # Errors
    ///
    /// If the map does not fit these depths.
    pub fn pairs(
        &self,
        student: usize,
        teacher: usize,
    ) -> Result<Vec<(usize, usize)>, LayerMapError> {
        let fits = |fits: bool, rule| {
            let error = || LayerMapError::Depth {
                map: self.to_string(),
                student,
                teacher,
                rule,
            };
            fits.then_some(()).ok_or_else(error)
        };
        match self {
            Self::All => {
                fits(
                    student == teacher,
                    "`all` needs equal depths; write the pairs",
                )?;
                Ok((0..=student).map(|layer| (layer, layer)).collect())
            }
            Self::Last => Ok(vec![(student, teacher)]),
            Self::Every(step) if student == teacher => Ok((0..=student)
                .step_by(*step)
                .map(|layer| (layer, layer))
                .collect()),
            Self::Every(step) => {
                fits(
                    student * step == teacher,
                    "`every:k` needs equal depths or a teacher k times as deep",
                )?;
                Ok((0..=student).map(|layer| (layer, layer * step)).collect())
            }
            Self::Explicit(pairs) => {
                let inside = |pair: &(usize, usize)| pair.0 <= student && pair.1 <= teacher;
                fits(
                    pairs.iter().all(inside),
                    "hidden states are counted from 0, the embedding output, to the last layer",
                )?;
                Ok(pairs.clone())
            }
        }
    }
}

impl LayerMap {
    /// The hidden states (student, teacher) that hold all [`pairs`](Self::pairs), whatever the depths.
    pub(crate) fn hidden(&self) -> (Layers, Layers) {
        match self {
            // Which states of `every:k` are compared depends on the depths.
            Self::All | Self::Every(_) => (Layers::All, Layers::All),
            Self::Last => (Layers::Last, Layers::Last),
            Self::Explicit(pairs) => {
                let (student, teacher) = pairs.iter().copied().unzip();
                (Layers::Only(student), Layers::Only(teacher))
            }
        }
    }
}

impl fmt::Display for LayerMap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("all"),
            Self::Last => f.write_str("last"),
            Self::Every(step) => write!(f, "every:{step}"),
            Self::Explicit(pairs) => {
                let pairs = pairs
                    .iter()
                    .map(|(student, teacher)| format!("{student}-{teacher}"));
                f.write_str(&pairs.collect::<Vec<_>>().join(","))
            }
        }
    }
}

impl FromStr for LayerMap {
    type Err = LayerMapError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = || LayerMapError::Parse(text.to_owned());
        let number = |text: &str| text.trim().parse::<usize>().map_err(|_| error());
        match text.trim() {
            "all" => Ok(Self::All),
            "last" => Ok(Self::Last),
            other => match other.strip_prefix("every:").map(number).transpose()? {
                Some(0) => Err(error()),
                Some(step) => Ok(Self::Every(step)),
                None => other
                    .split(',')
                    .map(|pair| {
                        let (student, teacher) = pair.split_once('-').ok_or_else(error)?;
                        Ok((number(student)?, number(teacher)?))
                    })
                    .collect::<Result<_, _>>()
                    .map(Self::Explicit),
            },
        }
    }
}

impl TryFrom<String> for LayerMap {
    type Error = LayerMapError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<LayerMap> for String {
    fn from(map: LayerMap) -> Self {
        map.to_string()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pairs(text: &str, student: usize, teacher: usize) -> Vec<(usize, usize)> {
        let map: LayerMap = text.parse().unwrap();
        map.pairs(student, teacher).unwrap()
    }

    #[test]
    fn maps_hidden_states_of_equal_and_different_depths() {
        assert_eq!(pairs("all", 2, 2), [(0, 0), (1, 1), (2, 2)]);
        assert_eq!(pairs("last", 2, 6), [(2, 6)]);
        assert_eq!(pairs("every:2", 4, 4), [(0, 0), (2, 2), (4, 4)]);
        assert_eq!(pairs("every:3", 2, 6), [(0, 0), (1, 3), (2, 6)]);
        assert_eq!(pairs(" 0-0, 2-4", 2, 4), [(0, 0), (2, 4)]);
    }

    #[test]
    fn maps_that_do_not_fit_are_refused() {
        for (text, student, teacher) in [("all", 6, 12), ("every:2", 5, 12), ("0-0,7-7", 6, 12)] {
            let map: LayerMap = text.parse().unwrap();
            let error = map.pairs(student, teacher).unwrap_err().to_string();
            assert!(error.contains(text) && error.contains("12"), "{error}");
        }
    }

    #[test]
    fn other_texts_are_refused() {
        for text in [
            "", "every:0", "every:", "every:x", "1", "1-", "0-0,", "first",
        ] {
            assert!(text.parse::<LayerMap>().is_err(), "{text}");
        }
        let read: Result<LayerMap, _> = serde_json::from_str("\"every:2\"");
        assert_eq!(read.unwrap(), LayerMap::Every(2));
    }

    proptest! {
        #[test]
        fn text_is_read_back(
            pairs in proptest::collection::vec((0..50_usize, 0..50_usize), 1..8),
            step in 1..50_usize,
        ) {
            for map in [LayerMap::Explicit(pairs), LayerMap::Every(step)] {
                prop_assert_eq!(map.to_string().parse::<LayerMap>().unwrap(), map);
            }
        }
    }
}
