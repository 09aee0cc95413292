//! Tokenised sequences, and batches of them as tensors.

use burn::prelude::*;
use moebert_core::bert::BertInput;

use crate::data::example::Label;

/// What a model should answer for one sequence.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Target {
    /// The class, `0..C`.
    Class(usize),
    /// The value of a regression task.
    Score(f32),
    /// The first and last token of an answer.
    Span {
        /// Position of the first token.
        start: usize,
        /// Position of the last token.
        end: usize,
    },
}

impl From<Label> for Target {
    fn from(label: Label) -> Self {
        match label {
            Label::Class(class) => Self::Class(class),
            Label::Score(score) => Self::Score(score),
        }
    }
}

/// One tokenised sequence.
#[derive(Clone, Debug, PartialEq)]
pub struct Feature {
    /// Token ids `[T]`, special tokens included.
    pub input_ids: Vec<u32>,
    /// Segment ids `[T]`: 0 for the first sentence, 1 for the second.
    pub type_ids: Vec<u8>,
    /// The right answer, where it is known.
    pub target: Option<Target>,
}

/// The right answers of a batch.
#[derive(Clone, Debug)]
#[expect(clippy::large_enum_variant, reason = "there is one per batch")]
pub enum Targets {
    /// Classes `[B]`.
    Classes(Tensor<1, Int>),
    /// Values `[B]`.
    Scores(Tensor<1>),
    /// First and last token of the answers.
    Spans {
        /// First tokens `[B]`.
        start: Tensor<1, Int>,
        /// Last tokens `[B]`.
        end: Tensor<1, Int>,
    },
}

/// A batch of sequences.
#[derive(Clone, Debug)]
pub struct TaskBatch {
    /// What the model reads.
    pub input: BertInput,
    /// What it should answer, where that is known.
    pub targets: Option<Targets>,
    /// The position of each row in the list that the loader was made of.
    pub indices: Vec<usize>,
}

impl TaskBatch {
    /// Pads the features at `indices` to the longest of them.
    pub(super) fn collate(
        features: &[Feature],
        indices: Vec<usize>,
        pad_id: u32,
        device: &Device,
    ) -> Self {
        let rows: Vec<&Feature> = indices.iter().map(|&index| &features[index]).collect();
        let longest = rows
            .iter()
            .map(|row| row.input_ids.len())
            .max()
            .unwrap_or(0);
        let shape = [rows.len(), longest];
        let (mut ids, mut types, mut padding) = (Vec::new(), Vec::new(), Vec::new());
        for row in &rows {
            let end = ids.len() + longest;
            ids.extend(row.input_ids.iter().map(|id| i64::from(*id)));
            types.extend(row.type_ids.iter().map(|id| i64::from(*id)));
            padding.resize(ids.len(), false);
            ids.resize(end, i64::from(pad_id));
            types.resize(end, 0);
            padding.resize(end, true);
        }
        let padded = padding.contains(&true);
        let targets: Option<Vec<Target>> = rows.iter().map(|row| row.target).collect();
        Self {
            input: BertInput {
                input_ids: Tensor::from_data(TensorData::new(ids, shape), device),
                token_type_ids: Tensor::from_data(TensorData::new(types, shape), device),
                padding: padded.then(|| Tensor::from_data(TensorData::new(padding, shape), device)),
            },
            targets: targets.and_then(|targets| Targets::collect(&targets, device)),
            indices,
        }
    }
}

impl Targets {
    /// Targets of one kind, which the loader has checked; `None` if there are none.
    fn collect(targets: &[Target], device: &Device) -> Option<Self> {
        let (mut first, mut last, mut scores) = (Vec::new(), Vec::new(), Vec::new());
        for target in targets {
            match *target {
                Target::Class(class) => first.push(class as i64),
                Target::Score(score) => scores.push(score),
                Target::Span { start, end } => {
                    first.push(start as i64);
                    last.push(end as i64);
                }
            }
        }
        let shape = [targets.len()];
        let integers = |values| Tensor::from_data(TensorData::new(values, shape), device);
        Some(match targets.first()? {
            Target::Class(_) => Self::Classes(integers(first)),
            Target::Score(_) => {
                Self::Scores(Tensor::from_data(TensorData::new(scores, shape), device))
            }
            Target::Span { .. } => Self::Spans {
                start: integers(first),
                end: integers(last),
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn targets(target: Target) -> Targets {
        let feature = |length| Feature {
            input_ids: vec![5; length],
            type_ids: vec![0; length],
            target: Some(target),
        };
        let features = [feature(2), feature(3)];
        let batch = TaskBatch::collate(&features, vec![1, 0], 0, &Device::default());
        batch.targets.unwrap()
    }

    #[test]
    fn scores_and_spans_become_their_targets() {
        let Targets::Scores(scores) = targets(Target::Score(2.5)) else {
            panic!("no scores")
        };
        assert_eq!(
            scores.to_data().iter::<f32>().collect::<Vec<_>>(),
            [2.5, 2.5]
        );
        let Targets::Spans { start, end } = targets(Target::Span { start: 1, end: 2 }) else {
            panic!("no spans")
        };
        assert_eq!(start.to_data().iter::<i64>().collect::<Vec<_>>(), [1, 1]);
        assert_eq!(end.to_data().iter::<i64>().collect::<Vec<_>>(), [2, 2]);
    }

    #[test]
    fn hidden_targets_are_none_and_equal_lengths_have_no_padding() {
        let feature = Feature {
            input_ids: vec![5, 6],
            type_ids: vec![0, 0],
            target: None,
        };
        let batch = TaskBatch::collate(&[feature], vec![0], 0, &Device::default());
        assert!(batch.targets.is_none());
        assert!(batch.input.padding.is_none());
    }
}
