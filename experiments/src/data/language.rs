//! Batches for language models, in an order that a resumed training sees again.

use std::{ops::Range, sync::Arc, vec};

use burn::{
    data::{
        dataloader::{DataLoader, DataLoaderIterator, Progress},
        dataset::{Dataset, DatasetError},
    },
    prelude::*,
};
use distill::{Epoch, WithoutAutodiff, callback::Cut};
use rand::{SeedableRng, rngs::StdRng, seq::SliceRandom};

use super::loader::LoaderError;

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
    /// `[B, T]`, true at the positions after the end of a shorter sequence; `None` if there are
    /// none.
    pub padding: Option<Tensor<2, Bool>>,
    /// Which of the `B T` positions have a target `[N]`, row after row; `None` if all have.
    pub asked: Option<Tensor<1, Int>>,
    /// The right next tokens at these positions `[N]`.
    pub targets: Tensor<1, Int>,
}

impl LanguageBatch {
    /// Pads sequences to the longest of them. `pad_id` may be any token: nothing attends to it.
    pub fn collate(sequences: &[Sequence], pad_id: u32, device: &Device) -> Self {
        let lengths = sequences.iter().map(|sequence| sequence.input_ids.len());
        let longest = lengths.max().unwrap_or(0);
        let shape = [sequences.len(), longest];
        let (mut ids, mut padding) = (vec![], vec![]);
        let (mut asked, mut targets) = (vec![], vec![]);
        for sequence in sequences {
            let start = ids.len();
            ids.extend(sequence.input_ids.iter().map(|id| i64::from(*id)));
            padding.resize(ids.len(), false);
            ids.resize(start + longest, i64::from(pad_id));
            padding.resize(start + longest, true);
            for (position, target) in sequence.targets.iter().enumerate() {
                if let Some(target) = target {
                    asked.push((start + position) as i64);
                    targets.push(i64::from(*target));
                }
            }
        }
        let all = asked.len() == ids.len();
        let integers = |values: Vec<i64>| {
            let count = values.len();
            Tensor::<1, Int>::from_data(TensorData::new(values, [count]), device)
        };
        let padded = padding.contains(&true);
        Self {
            input_ids: Tensor::from_data(TensorData::new(ids, shape), device),
            padding: padded.then(|| Tensor::from_data(TensorData::new(padding, shape), device)),
            asked: (!all).then(|| integers(asked)),
            targets: integers(targets),
        }
    }
}

/// How often each token id occurs in the inputs of sequences, `V` entries.
///
/// # Errors
///
/// If a sequence cannot be read.
pub fn token_counts(
    sequences: &dyn Dataset<Sequence>,
    vocabulary: usize,
) -> Result<Vec<u64>, DatasetError> {
    let mut counts = vec![0; vocabulary];
    for index in 0..sequences.len() {
        for id in sequences.get(index)?.input_ids {
            counts[id as usize] += 1;
        }
    }
    Ok(counts)
}

impl Cut for LanguageBatch {
    fn length(&self) -> usize {
        self.input_ids.dims()[1]
    }

    // Row after row, the positions stay as they are counted: targets need no change.
    fn cut(self, length: usize) -> Self {
        let shape = [self.input_ids.shape().num_elements() / length, length];
        Self {
            input_ids: self.input_ids.reshape(shape),
            padding: self.padding.map(|padding| padding.reshape(shape)),
            ..self
        }
    }
}

impl WithoutAutodiff for LanguageBatch {
    fn without_autodiff(&self) -> Self {
        Self {
            input_ids: self.input_ids.clone().without_autodiff(),
            padding: self.padding.clone().map(Tensor::without_autodiff),
            asked: self.asked.clone().map(Tensor::without_autodiff),
            targets: self.targets.clone().without_autodiff(),
        }
    }
}

/// A data loader of sequences that are read when their batch is due.
#[derive(Clone)]
pub struct LanguageLoader {
    sequences: Arc<dyn Dataset<Sequence>>,
    /// Which sequences of an epoch, in its order.
    part: Range<usize>,
    batch_size: usize,
    pad_id: u32,
    order: Order,
    device: Device,
}

#[derive(Clone)]
enum Order {
    Shuffled {
        seed: u64,
        epoch: Epoch,
        per_epoch: usize,
    },
    AsStored,
}

impl LanguageLoader {
    /// Batches in an order that depends on the seed and the epoch alone, for training. `device`
    /// takes the tensors.
    ///
    /// An epoch is `per_epoch` sequences, or all of them. Epochs go on where the one before
    /// ended, and every sequence comes once before any comes again.
    ///
    /// # Errors
    ///
    /// If there are no sequences, or the batch size or `per_epoch` is 0.
    pub fn shuffled(
        sequences: Arc<dyn Dataset<Sequence>>,
        batch_size: usize,
        per_epoch: Option<usize>,
        pad_id: u32,
        (seed, epoch): (u64, Epoch),
        device: &Device,
    ) -> Result<Self, LoaderError> {
        let per_epoch = per_epoch.unwrap_or(sequences.len());
        let order = Order::Shuffled {
            seed,
            epoch,
            per_epoch,
        };
        Self::new(sequences, per_epoch, batch_size, pad_id, order, device)
    }

    /// Batches in the order of the sequences, for evaluation.
    ///
    /// # Errors
    ///
    /// If there are no sequences, or the batch size is 0.
    pub fn in_order(
        sequences: Arc<dyn Dataset<Sequence>>,
        batch_size: usize,
        pad_id: u32,
        device: &Device,
    ) -> Result<Self, LoaderError> {
        let count = sequences.len();
        Self::new(
            sequences,
            count,
            batch_size,
            pad_id,
            Order::AsStored,
            device,
        )
    }

    /// The first `count` sequences of an epoch, or all of them.
    #[must_use]
    pub fn first(mut self, count: Option<usize>) -> Self {
        let all = self.part.end;
        self.part.end = count.map_or(all, |count| count.min(all));
        self
    }

    fn new(
        sequences: Arc<dyn Dataset<Sequence>>,
        per_epoch: usize,
        batch_size: usize,
        pad_id: u32,
        order: Order,
        device: &Device,
    ) -> Result<Self, LoaderError> {
        if sequences.is_empty() || per_epoch == 0 {
            return Err(LoaderError::Empty);
        }
        if batch_size == 0 {
            return Err(LoaderError::BatchSize);
        }
        Ok(Self {
            sequences,
            part: 0..per_epoch,
            batch_size,
            pad_id,
            order,
            device: device.clone(),
        })
    }

    /// The sequences of the present epoch in their order.
    fn order(&self) -> Vec<usize> {
        let Order::Shuffled {
            seed,
            epoch,
            per_epoch,
        } = &self.order
        else {
            return self.part.clone().collect();
        };
        let count = self.sequences.len();
        let start = epoch.get().saturating_sub(1) * per_epoch;
        let mut wanted = start + self.part.start..start + self.part.end;
        let mut items = Vec::with_capacity(wanted.len());
        while !wanted.is_empty() {
            let pass = wanted.start / count;
            let end = wanted.end.min((pass + 1) * count);
            let shuffled = shuffled_pass(count, *seed, pass);
            items.extend(&shuffled[wanted.start % count..][..end - wanted.start]);
            wanted.start = end;
        }
        items
    }
}

/// All sequences in the order of a pass over them, counted from 0.
fn shuffled_pass(count: usize, seed: u64, pass: usize) -> Vec<usize> {
    let number = Epoch::default();
    number.set(pass + 1);
    let mut items: Vec<usize> = (0..count).collect();
    items.shuffle(&mut StdRng::seed_from_u64(number.seed(seed)));
    items
}

impl DataLoader<LanguageBatch> for LanguageLoader {
    fn iter<'a>(&'a self) -> Box<dyn DataLoaderIterator<LanguageBatch> + 'a> {
        Box::new(LanguageIterator {
            loader: self,
            order: self.order().into_iter(),
        })
    }

    fn num_items(&self) -> usize {
        self.part.len()
    }

    fn to_device(&self, device: &Device) -> Arc<dyn DataLoader<LanguageBatch>> {
        Arc::new(Self {
            device: device.clone(),
            ..self.clone()
        })
    }

    fn slice(&self, start: usize, end: usize) -> Arc<dyn DataLoader<LanguageBatch>> {
        let part = self.part.start + start..self.part.end.min(self.part.start + end);
        Arc::new(Self {
            part,
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

    /// Skips batches without reading them.
    fn nth(&mut self, count: usize) -> Option<Self::Item> {
        let skipped = count.saturating_mul(self.loader.batch_size);
        self.order.by_ref().take(skipped).for_each(drop);
        self.next()
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

    pub(in crate::data) fn integers<const D: usize>(tensor: &Tensor<D, Int>) -> Vec<i64> {
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
        let (order, device) = ((seed, epoch.clone()), Device::default());
        LanguageLoader::shuffled(numbered(count), batch_size, None, 0, order, &device).unwrap()
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
        assert_eq!(integers(&batch.asked.unwrap()), [0, 2, 3]);
        assert_eq!(integers(&batch.targets), [2, 4, 6]);
        let padding = batch.padding.unwrap().to_data();
        let expected = [false, false, false, false, true, true];
        assert_eq!(padding.iter::<bool>().collect::<Vec<_>>(), expected);
        let whole = LanguageBatch::collate(&sequences[1..], 9, &device);
        assert!(whole.padding.is_none() && whole.asked.is_none());
        assert_eq!(integers(&whole.targets), [6]);
    }

    #[test]
    fn skipping_batches_equals_reading_them() {
        let loader = shuffled(7, 3, 5, &Epoch::default());
        let all = batches(&loader);
        for count in 0..4 {
            let mut iterator = loader.iter();
            let batch = iterator
                .nth(count)
                .map(|batch| integers(&batch.unwrap().input_ids));
            assert_eq!(batch.as_ref(), all.get(count));
            let read = all.iter().take(count + 1).map(Vec::len).sum::<usize>();
            assert_eq!(iterator.progress().items_processed, read);
        }
    }

    #[test]
    fn cutting_keeps_tokens_and_targets() {
        let sequence = |first: u32| Sequence {
            input_ids: (first..first + 4).collect(),
            targets: (first..first + 4)
                .map(|id| (id != 2).then_some(id + 1))
                .collect(),
        };
        let device = Device::default();
        let batch = LanguageBatch::collate(&[sequence(0), sequence(10)], 0, &device);
        let cut = batch.clone().cut(2);
        assert_eq!((batch.length(), cut.length()), (4, 2));
        assert_eq!(cut.input_ids.dims(), [4, 2]);
        assert_eq!(integers(&cut.input_ids), integers(&batch.input_ids));
        assert_eq!(integers(&cut.asked.unwrap()), [0, 1, 3, 4, 5, 6, 7]);
        assert_eq!(integers(&cut.targets), [1, 2, 4, 11, 12, 13, 14]);
    }

    #[test]
    fn epochs_that_are_a_part_of_the_data_go_on_where_the_last_one_ended() {
        let epoch = Epoch::default();
        let (order, device) = ((7, epoch.clone()), Device::default());
        let loader =
            LanguageLoader::shuffled(numbered(10), 4, Some(15), 0, order, &device).unwrap();
        assert_eq!(loader.num_items(), 15);
        let mut seen = Vec::new();
        for number in 1..=2 {
            epoch.set(number);
            seen.extend(batches(&loader).concat());
        }
        assert_eq!(seen.len(), 30);
        for pass in seen.chunks_mut(10) {
            pass.sort_unstable();
            assert_eq!(pass, (0..10).collect::<Vec<_>>());
        }
    }

    #[test]
    fn order_follows_seed_and_epoch_alone() {
        let epoch = Epoch::default();
        epoch.set(1);
        let loader = shuffled(40, 3, 7, &epoch);
        let first = batches(&loader);
        assert_eq!(batches(&loader), first);
        epoch.set(2);
        let second = batches(&loader);
        assert_ne!(second, first);
        // A new process that goes on with epoch 2 sees what this one saw.
        let resumed = Epoch::default();
        resumed.set(2);
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
