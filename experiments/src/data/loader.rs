//! Batches of sequences of about the same length, padded to their longest.

use std::{ops::Range, sync::Arc, vec};

use burn::{
    data::{
        dataloader::{DataLoader, DataLoaderIterator, Progress},
        dataset::DatasetError,
    },
    prelude::*,
};
use distill::epoch::Epoch;
use moebert_core::bert::BertInput;
use rand::{SeedableRng, rngs::StdRng, seq::SliceRandom};

use super::example::Label;

/// Sequences are sorted by length within this many batches of a shuffled epoch: enough to find partners of
/// equal length, few enough that batches differ between epochs.
const CHUNK_BATCHES: usize = 64;

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

/// Sequences that cannot be batched.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LoaderError {
    /// There are no sequences.
    #[error("no sequences to make batches of")]
    Empty,
    /// Batches would be empty.
    #[error("a batch size of 0: at least 1 is needed")]
    BatchSize,
    /// A sequence does not have one segment id a token.
    #[error(
        "sequence {index}: {ids} token ids and {types} segment ids; both must be the same and not 0"
    )]
    Shape {
        /// The position in the list.
        index: usize,
        /// Number of token ids.
        ids: usize,
        /// Number of segment ids.
        types: usize,
    },
    /// Some sequences have a target of another kind than the first, or none.
    #[error("sequence {index} has another kind of target than sequence 0")]
    Targets {
        /// The position in the list.
        index: usize,
    },
    /// The model has no position for the end of a sequence.
    #[error("sequence {index} has {length} tokens, the model only {max_positions} positions")]
    TooLong {
        /// The position in the list.
        index: usize,
        /// Number of tokens.
        length: usize,
        /// Number of positions of the model.
        max_positions: usize,
    },
}

/// Checks that a model with `max_positions` positions can read every sequence.
///
/// # Errors
///
/// If a sequence is longer.
pub fn check_lengths(features: &[Feature], max_positions: usize) -> Result<(), LoaderError> {
    match features
        .iter()
        .position(|feature| feature.input_ids.len() > max_positions)
    {
        Some(index) => Err(LoaderError::TooLong {
            index,
            length: features[index].input_ids.len(),
            max_positions,
        }),
        None => Ok(()),
    }
}

/// The right answers of a batch.
#[derive(Clone, Debug)]
#[expect(clippy::large_enum_variant, reason = "there is one a batch")]
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

/// A data loader whose batches group sequences by length.
#[derive(Clone, Debug)]
pub struct GroupedLoader {
    features: Arc<[Feature]>,
    items: Range<usize>,
    batch_size: usize,
    pad_id: u32,
    order: Order,
    device: Device,
}

#[derive(Clone, Debug)]
enum Order {
    Shuffled { seed: u64, epoch: Epoch },
    Sorted,
}

impl GroupedLoader {
    /// Batches in an order that depends on the seed and the epoch alone, for training. Each epoch sees every
    /// sequence once. `device` takes the tensors.
    ///
    /// # Errors
    ///
    /// If there is nothing to batch, or the sequences do not fit together.
    pub fn shuffled(
        features: Arc<[Feature]>,
        batch_size: usize,
        pad_id: u32,
        seed: u64,
        epoch: Epoch,
        device: &Device,
    ) -> Result<Self, LoaderError> {
        Self::new(
            features,
            batch_size,
            pad_id,
            Order::Shuffled { seed, epoch },
            device,
        )
    }

    /// Batches by rising length, the same each time, for evaluation.
    ///
    /// # Errors
    ///
    /// As [`Self::shuffled`].
    pub fn sorted(
        features: Arc<[Feature]>,
        batch_size: usize,
        pad_id: u32,
        device: &Device,
    ) -> Result<Self, LoaderError> {
        Self::new(features, batch_size, pad_id, Order::Sorted, device)
    }

    fn new(
        features: Arc<[Feature]>,
        batch_size: usize,
        pad_id: u32,
        order: Order,
        device: &Device,
    ) -> Result<Self, LoaderError> {
        let Some(first) = features.first() else {
            return Err(LoaderError::Empty);
        };
        if batch_size == 0 {
            return Err(LoaderError::BatchSize);
        }
        let kind = |feature: &Feature| feature.target.as_ref().map(std::mem::discriminant);
        for (index, feature) in features.iter().enumerate() {
            let (ids, types) = (feature.input_ids.len(), feature.type_ids.len());
            if ids != types || ids == 0 {
                return Err(LoaderError::Shape { index, ids, types });
            }
            if kind(feature) != kind(first) {
                return Err(LoaderError::Targets { index });
            }
        }
        let (items, device) = (0..features.len(), device.clone());
        Ok(Self {
            features,
            items,
            batch_size,
            pad_id,
            order,
            device,
        })
    }

    /// The sequences of each batch of the present epoch.
    fn batches(&self) -> Vec<Vec<usize>> {
        let length = |index: &usize| self.features[*index].input_ids.len();
        let split = |items: &[usize]| {
            items
                .chunks(self.batch_size)
                .map(<[usize]>::to_vec)
                .collect::<Vec<_>>()
        };
        let mut items: Vec<usize> = self.items.clone().collect();
        match &self.order {
            Order::Sorted => {
                items.sort_by_key(length);
                split(&items)
            }
            Order::Shuffled { seed, epoch } => {
                let mut random = generator(*seed, epoch.get() as u64);
                items.shuffle(&mut random);
                for chunk in items.chunks_mut(self.batch_size * CHUNK_BATCHES) {
                    chunk.sort_by_key(length);
                }
                let mut batches = split(&items);
                batches.shuffle(&mut random);
                batches
            }
        }
    }

    fn batch(&self, indices: Vec<usize>) -> TaskBatch {
        let rows: Vec<&Feature> = indices.iter().map(|&index| &self.features[index]).collect();
        let shape = [
            rows.len(),
            rows.iter()
                .map(|row| row.input_ids.len())
                .max()
                .unwrap_or(0),
        ];
        let mut ids = vec![i64::from(self.pad_id); shape[0] * shape[1]];
        let mut types = vec![0_i64; ids.len()];
        let mut padding = vec![true; ids.len()];
        for (row, feature) in rows.iter().enumerate() {
            for (column, (id, kind)) in feature.input_ids.iter().zip(&feature.type_ids).enumerate()
            {
                let cell = row * shape[1] + column;
                ids[cell] = i64::from(*id);
                types[cell] = i64::from(*kind);
                padding[cell] = false;
            }
        }
        let padded = padding.contains(&true);
        let targets: Option<Vec<Target>> = rows.iter().map(|row| row.target).collect();
        TaskBatch {
            input: BertInput {
                input_ids: Tensor::from_data(TensorData::new(ids, shape), &self.device),
                token_type_ids: Tensor::from_data(TensorData::new(types, shape), &self.device),
                padding: padded
                    .then(|| Tensor::from_data(TensorData::new(padding, shape), &self.device)),
            },
            targets: targets.and_then(|targets| Targets::collect(&targets, &self.device)),
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

/// Random numbers for one epoch: seed and epoch are both part of the generator's key, so no two pairs meet.
fn generator(seed: u64, epoch: u64) -> StdRng {
    let mut key = [0; 32];
    key[..8].copy_from_slice(&seed.to_le_bytes());
    key[8..16].copy_from_slice(&epoch.to_le_bytes());
    StdRng::from_seed(key)
}

impl DataLoader<TaskBatch> for GroupedLoader {
    fn iter<'a>(&'a self) -> Box<dyn DataLoaderIterator<TaskBatch> + 'a> {
        Box::new(GroupedIterator {
            loader: self,
            batches: self.batches().into_iter(),
            processed: 0,
        })
    }

    fn num_items(&self) -> usize {
        self.items.len()
    }

    fn to_device(&self, device: &Device) -> Arc<dyn DataLoader<TaskBatch>> {
        Arc::new(Self {
            device: device.clone(),
            ..self.clone()
        })
    }

    fn slice(&self, start: usize, end: usize) -> Arc<dyn DataLoader<TaskBatch>> {
        let items = self.items.start + start..self.items.end.min(self.items.start + end);
        Arc::new(Self {
            items,
            ..self.clone()
        })
    }
}

struct GroupedIterator<'a> {
    loader: &'a GroupedLoader,
    batches: vec::IntoIter<Vec<usize>>,
    processed: usize,
}

impl Iterator for GroupedIterator<'_> {
    type Item = Result<TaskBatch, DatasetError>;

    fn next(&mut self) -> Option<Self::Item> {
        let indices = self.batches.next()?;
        self.processed += indices.len();
        Some(Ok(self.loader.batch(indices)))
    }
}

impl DataLoaderIterator<TaskBatch> for GroupedIterator<'_> {
    fn progress(&self) -> Progress {
        Progress::new(
            self.processed,
            self.loader.num_items(),
            Some("items".to_owned()),
        )
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn feature(length: usize, target: Target) -> Feature {
        let input_ids = (1..=length as u32).collect();
        Feature {
            input_ids,
            type_ids: vec![1; length],
            target: Some(target),
        }
    }

    fn features(lengths: &[usize]) -> Arc<[Feature]> {
        let feature = |(index, length): (usize, &usize)| feature(*length, Target::Class(index));
        lengths.iter().enumerate().map(feature).collect()
    }

    fn batches(loader: &dyn DataLoader<TaskBatch>) -> Vec<Vec<usize>> {
        loader.iter().map(|batch| batch.unwrap().indices).collect()
    }

    fn shuffled(features: &Arc<[Feature]>, batch_size: usize, epoch: &Epoch) -> GroupedLoader {
        let (features, epoch, device) = (features.clone(), epoch.clone(), Device::default());
        GroupedLoader::shuffled(features, batch_size, 0, 7, epoch, &device).unwrap()
    }

    fn sorted(features: &Arc<[Feature]>, batch_size: usize) -> GroupedLoader {
        GroupedLoader::sorted(features.clone(), batch_size, 0, &Device::default()).unwrap()
    }

    fn integers<const D: usize>(tensor: &Tensor<D, Int>) -> Vec<i64> {
        tensor.to_data().iter::<i64>().collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        #[test]
        fn every_sequence_comes_once_with_its_tokens_and_target(
            lengths in prop::collection::vec(1_usize..9, 1..200),
            batch_size in 1_usize..7,
            cut in 0_usize..200,
        ) {
            let features = features(&lengths);
            let cut = cut.min(lengths.len());
            let training = shuffled(&features, batch_size, &Epoch::default());
            let loaders = [
                (training.slice(0, lengths.len()), 0..lengths.len()),
                (sorted(&features, batch_size).slice(cut, lengths.len()), cut..lengths.len()),
                (training.slice(cut, lengths.len()), cut..lengths.len()),
            ];
            for (loader, expected) in loaders {
                prop_assert_eq!(loader.num_items(), expected.len());
                let mut seen = Vec::new();
                for batch in loader.iter() {
                    let batch = batch.unwrap();
                    let longest = batch.indices.iter().map(|index| lengths[*index]).max().unwrap();
                    prop_assert!(batch.indices.len() <= batch_size);
                    prop_assert_eq!(batch.input.input_ids.dims(), [batch.indices.len(), longest]);
                    let ids: Vec<i64> = batch
                        .indices
                        .iter()
                        .flat_map(|index| (1..=longest).map(|id| if id <= lengths[*index] { id as i64 } else { 0 }))
                        .collect();
                    prop_assert_eq!(integers(&batch.input.input_ids), ids.clone());
                    let real: Vec<i64> = ids.iter().map(|id| id.signum()).collect();
                    prop_assert_eq!(integers(&batch.input.token_type_ids), real.clone());
                    let padding: Vec<bool> = real.iter().map(|real| *real == 0).collect();
                    match batch.input.padding {
                        Some(mask) => prop_assert_eq!(mask.to_data().iter::<bool>().collect::<Vec<_>>(), padding),
                        None => prop_assert!(!padding.contains(&true)),
                    }
                    let Some(Targets::Classes(classes)) = batch.targets else { panic!("no classes") };
                    let classes: Vec<usize> = integers(&classes).iter().map(|class| *class as usize).collect();
                    prop_assert_eq!(&classes, &batch.indices);
                    seen.extend(batch.indices);
                }
                seen.sort_unstable();
                prop_assert_eq!(seen, expected.collect::<Vec<_>>());
            }
        }
    }

    #[test]
    fn order_follows_seed_and_epoch_alone() {
        let features = features(&[3, 5, 2, 8, 1, 9, 4, 7, 6, 3, 5, 2]);
        let epoch = Epoch::default();
        let loader = shuffled(&features, 2, &epoch);
        let first = batches(&loader);
        assert_eq!(batches(&loader), first);
        epoch.set(1);
        let second = batches(&loader);
        assert_ne!(second, first);
        epoch.set(0);
        assert_eq!(batches(&loader), first);
        let device = Device::default();
        let other = GroupedLoader::shuffled(features, 2, 0, 8, epoch, &device).unwrap();
        assert_ne!(batches(&other), first);
    }

    #[test]
    fn evaluation_goes_by_length() {
        let loader = sorted(&features(&[3, 1, 2, 3, 1]), 2);
        assert_eq!(batches(&loader), [vec![1, 4], vec![2, 0], vec![3]]);
        let mut iterator = loader.iter();
        iterator.next();
        assert_eq!(
            (
                iterator.progress().items_processed,
                iterator.progress().items_total
            ),
            (2, 5)
        );
    }

    #[test]
    fn grouping_leaves_little_padding_and_an_order_that_is_not_by_length() {
        let lengths: Vec<usize> = (0..2000).map(|index| 1 + index * 37 % 100).collect();
        let batches = batches(&shuffled(&features(&lengths), 16, &Epoch::default()));
        let longest =
            |batch: &Vec<usize>| batch.iter().map(|index| lengths[*index]).max().unwrap_or(0);
        let cells: usize = batches
            .iter()
            .map(|batch| batch.len() * longest(batch))
            .sum();
        let tokens: usize = lengths.iter().sum();
        assert!(
            (cells as f64) < 1.05 * tokens as f64,
            "{cells} cells for {tokens} tokens"
        );
        assert!(!batches.iter().map(longest).is_sorted());
    }

    #[test]
    fn scores_and_spans_become_their_targets() {
        let target = |target| {
            let features: Arc<[Feature]> = Arc::new([feature(2, target), feature(3, target)]);
            sorted(&features, 2)
                .iter()
                .next()
                .unwrap()
                .unwrap()
                .targets
                .unwrap()
        };
        let Targets::Scores(scores) = target(Target::Score(2.5)) else {
            panic!("no scores")
        };
        assert_eq!(
            scores.to_data().iter::<f32>().collect::<Vec<_>>(),
            [2.5, 2.5]
        );
        let Targets::Spans { start, end } = target(Target::Span { start: 1, end: 2 }) else {
            panic!("no spans")
        };
        assert_eq!((integers(&start), integers(&end)), (vec![1, 1], vec![2, 2]));
    }

    #[test]
    fn sequences_that_do_not_fit_are_errors() {
        let error = |features: Vec<Feature>, batch_size| {
            GroupedLoader::sorted(features.into(), batch_size, 0, &Device::default()).unwrap_err()
        };
        let class = feature(2, Target::Class(0));
        assert_eq!(error(vec![], 2), LoaderError::Empty);
        assert_eq!(error(vec![class.clone()], 0), LoaderError::BatchSize);
        let empty = Feature {
            input_ids: vec![],
            type_ids: vec![],
            target: None,
        };
        assert_eq!(
            error(vec![empty], 2),
            LoaderError::Shape {
                index: 0,
                ids: 0,
                types: 0
            }
        );
        let mixed = vec![class.clone(), feature(2, Target::Score(0.0))];
        assert_eq!(error(mixed, 2), LoaderError::Targets { index: 1 });
        let hidden = vec![
            class.clone(),
            Feature {
                target: None,
                ..class.clone()
            },
        ];
        assert_eq!(error(hidden, 2), LoaderError::Targets { index: 1 });

        let features = [class, feature(5, Target::Class(0))];
        assert_eq!(check_lengths(&features, 5), Ok(()));
        assert_eq!(
            check_lengths(&features, 4).unwrap_err().to_string(),
            "sequence 1 has 5 tokens, the model only 4 positions"
        );
    }
}
