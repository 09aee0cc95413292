//! Batches for language models, in an order that a resumed training sees again.

use std::{ops::Range, sync::Arc, vec};

use burn::{
    data::{
        dataloader::{DataLoader, DataLoaderIterator, Progress},
        dataset::{Dataset, DatasetError},
    },
    prelude::*,
};
use distill::epoch::Epoch;
use rand::{SeedableRng, rngs::StdRng, seq::SliceRandom};

use super::loader::LoaderError;

/// The target of a position that has none, as `PyTorch` writes it.
pub const IGNORED: i64 = -100;

/// Tokens, and the token that should follow each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sequence {
    /// Token ids `[T]`.
    pub input_ids: Vec<u32>,
    /// The right next token of each position `[T]`, where one is asked for.
    pub targets: Vec<Option<u32>>,
}

/// A batch of sequences.
#[derive(Clone, Debug)]
pub struct LanguageBatch {
    /// Token ids `[B, T]`.
    pub input_ids: Tensor<2, Int>,
    /// The right next tokens `[B, T]`; [`IGNORED`] where none is asked for, as at padding.
    pub targets: Tensor<2, Int>,
    /// `[B, T]`, true at the positions after the end of a shorter sequence; `None` if there are
    /// none.
    pub padding: Option<Tensor<2, Bool>>,
}

impl LanguageBatch {
    /// Pads sequences to the longest of them. `pad_id` may be any token: nothing attends to it.
    pub fn collate(sequences: &[Sequence], pad_id: u32, device: &Device) -> Self {
        let lengths = sequences.iter().map(|sequence| sequence.input_ids.len());
        let longest = lengths.max().unwrap_or(0);
        let shape = [sequences.len(), longest];
        let (mut ids, mut targets, mut padding) = (Vec::new(), Vec::new(), Vec::new());
        for sequence in sequences {
            let end = ids.len() + longest;
            ids.extend(sequence.input_ids.iter().map(|id| i64::from(*id)));
            let row = sequence.targets.iter();
            targets.extend(row.map(|target| target.map_or(IGNORED, i64::from)));
            padding.resize(ids.len(), false);
            ids.resize(end, i64::from(pad_id));
            targets.resize(end, IGNORED);
            padding.resize(end, true);
        }
        let padded = padding.contains(&true);
        Self {
            input_ids: Tensor::from_data(TensorData::new(ids, shape), device),
            targets: Tensor::from_data(TensorData::new(targets, shape), device),
            padding: padded.then(|| Tensor::from_data(TensorData::new(padding, shape), device)),
        }
    }
}

/// A data loader of sequences that are read when their batch is due.
#[derive(Clone)]
pub struct LanguageLoader {
    sequences: Arc<dyn Dataset<Sequence>>,
    items: Range<usize>,
    batch_size: usize,
    pad_id: u32,
    order: Order,
    device: Device,
}

#[derive(Clone)]
enum Order {
    Shuffled { seed: u64, epoch: Epoch },
    AsStored,
}

impl LanguageLoader {
    /// Batches in an order that depends on the seed and the epoch alone, for training. Each epoch
    /// sees every sequence once. `device` takes the tensors.
    ///
    /// # Errors
    ///
    /// If there are no sequences, or the batch size is 0.
    pub fn shuffled(
        sequences: Arc<dyn Dataset<Sequence>>,
        batch_size: usize,
        pad_id: u32,
        seed: u64,
        epoch: Epoch,
        device: &Device,
    ) -> Result<Self, LoaderError> {
        let order = Order::Shuffled { seed, epoch };
        Self::new(sequences, batch_size, pad_id, order, device)
    }

    /// Batches in the order of the sequences, for evaluation.
    ///
    /// # Errors
    ///
    /// As [`Self::shuffled`].
    pub fn in_order(
        sequences: Arc<dyn Dataset<Sequence>>,
        batch_size: usize,
        pad_id: u32,
        device: &Device,
    ) -> Result<Self, LoaderError> {
        Self::new(sequences, batch_size, pad_id, Order::AsStored, device)
    }

    fn new(
        sequences: Arc<dyn Dataset<Sequence>>,
        batch_size: usize,
        pad_id: u32,
        order: Order,
        device: &Device,
    ) -> Result<Self, LoaderError> {
        if sequences.is_empty() {
            return Err(LoaderError::Empty);
        }
        if batch_size == 0 {
            return Err(LoaderError::BatchSize);
        }
        Ok(Self {
            items: 0..sequences.len(),
            sequences,
            batch_size,
            pad_id,
            order,
            device: device.clone(),
        })
    }

    /// The sequences of the present epoch in their order.
    fn order(&self) -> Vec<usize> {
        let mut items: Vec<usize> = self.items.clone().collect();
        if let Order::Shuffled { seed, epoch } = &self.order {
            items.shuffle(&mut StdRng::seed_from_u64(epoch.seed(*seed)));
        }
        items
    }
}

impl DataLoader<LanguageBatch> for LanguageLoader {
    fn iter<'a>(&'a self) -> Box<dyn DataLoaderIterator<LanguageBatch> + 'a> {
        Box::new(LanguageIterator {
            loader: self,
            order: self.order().into_iter(),
        })
    }

    fn num_items(&self) -> usize {
        self.items.len()
    }

    fn to_device(&self, device: &Device) -> Arc<dyn DataLoader<LanguageBatch>> {
        Arc::new(Self {
            device: device.clone(),
            ..self.clone()
        })
    }

    fn slice(&self, start: usize, end: usize) -> Arc<dyn DataLoader<LanguageBatch>> {
        let items = self.items.start + start..self.items.end.min(self.items.start + end);
        Arc::new(Self {
            items,
            ..self.clone()
        })
    }
}

struct LanguageIterator<'a> {
    loader: &'a LanguageLoader,
    order: vec::IntoIter<usize>,
}

impl Iterator for LanguageIterator<'_> {
    type Item = Result<LanguageBatch, DatasetError>;

    fn next(&mut self) -> Option<Self::Item> {
        let loader = self.loader;
        let indices: Vec<usize> = self.order.by_ref().take(loader.batch_size).collect();
        if indices.is_empty() {
            return None;
        }
        let sequences = loader.sequences.get_many(indices);
        Some(sequences.map(|rows| LanguageBatch::collate(&rows, loader.pad_id, &loader.device)))
    }
}

impl DataLoaderIterator<LanguageBatch> for LanguageIterator<'_> {
    fn progress(&self) -> Progress {
        let total = self.loader.num_items();
        Progress::new(total - self.order.len(), total, Some("items".to_owned()))
    }
}

#[cfg(test)]
pub(super) mod tests {
    use burn::data::dataset::InMemDataset;
    use proptest::prelude::*;

    use super::*;

    pub(in crate::data) fn integers(tensor: &Tensor<2, Int>) -> Vec<i64> {
        tensor.to_data().iter::<i64>().collect()
    }

    /// Sequences of one token, their own number.
    fn numbered(count: usize) -> Arc<dyn Dataset<Sequence>> {
        let sequence = |id| Sequence {
            input_ids: vec![id],
            targets: vec![None],
        };
        let sequences = (0..count as u32).map(sequence).collect();
        Arc::new(InMemDataset::new(sequences))
    }

    fn shuffled(count: usize, batch_size: usize, seed: u64, epoch: &Epoch) -> LanguageLoader {
        let (epoch, device) = (epoch.clone(), Device::default());
        LanguageLoader::shuffled(numbered(count), batch_size, 0, seed, epoch, &device).unwrap()
    }

    /// The numbers of the sequences, batch by batch.
    fn batches(loader: &dyn DataLoader<LanguageBatch>) -> Vec<Vec<i64>> {
        let batches = loader.iter();
        batches
            .map(|batch| integers(&batch.unwrap().input_ids))
            .collect()
    }

    #[test]
    fn shorter_sequences_are_padded_and_ask_for_nothing_there() {
        let sequences = [
            Sequence {
                input_ids: vec![1, 2, 3],
                targets: vec![Some(2), None, Some(4)],
            },
            Sequence {
                input_ids: vec![5],
                targets: vec![Some(6)],
            },
        ];
        let device = Device::default();
        let batch = LanguageBatch::collate(&sequences, 9, &device);
        assert_eq!(batch.input_ids.dims(), [2, 3]);
        assert_eq!(integers(&batch.input_ids), [1, 2, 3, 5, 9, 9]);
        assert_eq!(
            integers(&batch.targets),
            [2, IGNORED, 4, 6, IGNORED, IGNORED]
        );
        let padding = batch.padding.unwrap().to_data();
        let expected = [false, false, false, false, true, true];
        assert_eq!(padding.iter::<bool>().collect::<Vec<_>>(), expected);
        assert!(
            LanguageBatch::collate(&sequences[1..], 9, &device)
                .padding
                .is_none()
        );
    }

    #[test]
    fn order_follows_seed_and_epoch_alone() {
        let epoch = Epoch::default();
        let loader = shuffled(40, 3, 7, &epoch);
        let first = batches(&loader);
        assert_eq!(batches(&loader), first);
        epoch.set(1);
        let second = batches(&loader);
        assert_ne!(second, first);
        // A new process that goes on with epoch 1 sees what this one saw.
        let resumed = Epoch::default();
        resumed.set(1);
        assert_eq!(batches(&shuffled(40, 3, 7, &resumed)), second);
        assert_ne!(batches(&shuffled(40, 3, 8, &resumed)), second);
    }

    #[test]
    fn evaluation_keeps_the_order_and_tells_its_progress() {
        let device = Device::default();
        let loader = LanguageLoader::in_order(numbered(5), 2, 0, &device).unwrap();
        assert_eq!(batches(&loader), [vec![0, 1], vec![2, 3], vec![4]]);
        let mut iterator = loader.iter();
        iterator.next();
        let progress = iterator.progress();
        assert_eq!((progress.items_processed, progress.items_total), (2, 5));
    }

    #[test]
    fn nothing_to_batch_is_an_error() {
        let error = |count, batch_size| {
            let device = Device::default();
            LanguageLoader::in_order(numbered(count), batch_size, 0, &device).err()
        };
        assert_eq!(error(0, 2), Some(LoaderError::Empty));
        assert_eq!(error(2, 0), Some(LoaderError::BatchSize));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        #[test]
        fn every_sequence_comes_once(
            count in 1_usize..60,
            batch_size in 1_usize..7,
            cut in 0_usize..60,
        ) {
            let cut = cut.min(count);
            let loader = shuffled(count, batch_size, 3, &Epoch::default());
            let mut seen = Vec::new();
            for part in [loader.slice(0, cut), loader.slice(cut, count)] {
                let batches = batches(part.as_ref());
                prop_assert_eq!(part.num_items(), batches.iter().map(Vec::len).sum::<usize>());
                prop_assert!(batches.iter().all(|batch| batch.len() <= batch_size));
                seen.extend(batches.concat());
            }
            seen.sort_unstable();
            prop_assert_eq!(seen, (0..count as i64).collect::<Vec<_>>());
        }
    }
}
