//! Batches of sequences of about the same length, padded to their longest.

mod batch;

use std::{ops::Range, sync::Arc, vec};

pub use batch::{Feature, Target, Targets, TaskBatch};
use burn::{
    data::{
        dataloader::{DataLoader, DataLoaderIterator, Progress},
        dataset::DatasetError,
    },
    prelude::*,
};
use distill::epoch::Epoch;
use moebert_core::bert::BertConfig;
use rand::{SeedableRng, rngs::StdRng, seq::SliceRandom};

/// Sequences are sorted by length within this many batches of a shuffled epoch: enough to find
/// partners of equal length, few enough that batches differ between epochs.
const CHUNK_BATCHES: usize = 64;

/// Sequences that cannot be batched.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LoaderError {
    /// There are no sequences.
    #[error("no sequences to make batches of")]
    Empty,
    /// Batches would be empty.
    #[error("a batch size of 0: at least 1 is needed")]
    BatchSize,
    /// A sequence does not have one segment id per token.
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
    /// The model has no embedding for a segment.
    #[error(
        "sequence {index} has {segments} segments, the model only {max_segments} (type_vocab_size)"
    )]
    TooManySegments {
        /// The position in the list.
        index: usize,
        /// Number of segments.
        segments: usize,
        /// Number of segments that the model knows.
        max_segments: usize,
    },
}

/// Checks that a model can read every sequence.
///
/// # Errors
///
/// If a sequence is longer than its positions, or has more segments than it knows.
pub fn check_fits(features: &[Feature], model: &BertConfig) -> Result<(), LoaderError> {
    let (max_positions, max_segments) = (model.max_position_embeddings, model.type_vocab_size);
    for (index, feature) in features.iter().enumerate() {
        let length = feature.input_ids.len();
        if length > max_positions {
            return Err(LoaderError::TooLong {
                index,
                length,
                max_positions,
            });
        }
        let segments = feature.type_ids.iter().max().map_or(0, |id| id + 1).into();
        // A model without segments does not tell them apart.
        if max_segments > 0 && segments > max_segments {
            return Err(LoaderError::TooManySegments {
                index,
                segments,
                max_segments,
            });
        }
    }
    Ok(())
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
    /// Batches in an order that depends on the seed and the epoch alone, for training. Each epoch
    /// sees every sequence once. `device` takes the tensors.
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
                let mut random = StdRng::seed_from_u64(epoch.seed(*seed));
                items.shuffle(&mut random);
                for chunk in items.chunks_mut(self.batch_size.saturating_mul(CHUNK_BATCHES)) {
                    chunk.sort_by_key(length);
                }
                let mut batches = split(&items);
                batches.shuffle(&mut random);
                batches
            }
        }
    }
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
        let loader = self.loader;
        Some(Ok(TaskBatch::collate(
            &loader.features,
            indices,
            loader.pad_id,
            &loader.device,
        )))
    }

    /// Skips batches without making them.
    fn nth(&mut self, count: usize) -> Option<Self::Item> {
        for indices in self.batches.by_ref().take(count) {
            self.processed += indices.len();
        }
        self.next()
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

    /// Checks a batch of [`features`] cell by cell.
    fn assert_padded(batch: &TaskBatch, lengths: &[usize]) {
        let rows: Vec<usize> = batch.indices.iter().map(|index| lengths[*index]).collect();
        let longest = rows.iter().copied().max().unwrap_or(0);
        let cells = || {
            rows.iter()
                .flat_map(|length| (1..=longest).map(move |id| (id, id <= *length)))
        };
        assert_eq!(batch.input.input_ids.dims(), [rows.len(), longest]);
        let ids: Vec<i64> = cells()
            .map(|(id, real)| if real { id as i64 } else { 0 })
            .collect();
        assert_eq!(integers(&batch.input.input_ids), ids);
        let types: Vec<i64> = cells().map(|(_, real)| i64::from(real)).collect();
        assert_eq!(integers(&batch.input.token_type_ids), types);
        let padding: Vec<bool> = cells().map(|(_, real)| !real).collect();
        match &batch.input.padding {
            Some(mask) => assert_eq!(mask.to_data().iter::<bool>().collect::<Vec<_>>(), padding),
            None => assert!(!padding.contains(&true)),
        }
        let Some(Targets::Classes(classes)) = &batch.targets else {
            panic!("no classes")
        };
        let expected: Vec<i64> = batch.indices.iter().map(|index| *index as i64).collect();
        assert_eq!(integers(classes), expected);
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
                (training.slice(0, lengths.len()), 0),
                (training.slice(cut, lengths.len()), cut),
                (sorted(&features, batch_size).slice(cut, lengths.len()), cut),
            ];
            for (loader, start) in loaders {
                let expected: Vec<usize> = (start..lengths.len()).collect();
                prop_assert_eq!(loader.num_items(), expected.len());
                let mut seen = Vec::new();
                for batch in loader.iter() {
                    let batch = batch.unwrap();
                    prop_assert!(batch.indices.len() <= batch_size);
                    assert_padded(&batch, &lengths);
                    seen.extend(batch.indices);
                }
                seen.sort_unstable();
                prop_assert_eq!(seen, expected);
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
    fn skipping_batches_equals_reading_them() {
        let features = features(&[3, 1, 2, 3, 1, 4, 2]);
        let loader = shuffled(&features, 2, &Epoch::default());
        let all = batches(&loader);
        for count in 0..5 {
            let mut iterator = loader.iter();
            let batch = iterator.nth(count).map(|batch| batch.unwrap().indices);
            assert_eq!(batch.as_ref(), all.get(count));
            let read: usize = all.iter().take(count + 1).map(Vec::len).sum();
            assert_eq!(iterator.progress().items_processed, read);
        }
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
        let model = BertConfig::new().with_max_position_embeddings(5);
        assert_eq!(check_fits(&features, &model), Ok(()));
        let message = |model| check_fits(&features, &model).unwrap_err().to_string();
        assert_eq!(
            message(model.clone().with_max_position_embeddings(4)),
            "sequence 1 has 5 tokens, the model only 4 positions"
        );
        assert_eq!(
            message(model.with_type_vocab_size(1)),
            "sequence 0 has 2 segments, the model only 1 (type_vocab_size)"
        );
    }
}
