//! The token sequences of a batch, and how far the model has read them.

use std::ops::Range;

use burn::{prelude::*, tensor::ExecutionError};

use super::search::Extension;
use crate::{
    decoder::{Decoder, DecoderCache, DecoderInput},
    feed_forward::FeedForward,
    trace::Trace,
};

/// Rows of token ids of equal length, padded on the left.
pub(super) struct Batch<'a, F: FeedForward> {
    model: &'a Decoder<F>,
    /// `None` where each step reads everything again.
    cache: Option<DecoderCache>,
    rows: Vec<Row>,
}

#[derive(Clone, Debug)]
struct Row {
    ids: Vec<u32>,
    /// The number of ids that are padding, from the left.
    padding: usize,
}

impl<'a, F: FeedForward> Batch<'a, F> {
    /// A row for each prompt, none of them empty, with an empty cache or none.
    pub(super) fn new<'p>(
        model: &'a Decoder<F>,
        prompts: impl Iterator<Item = &'p [u32]> + Clone,
        cache: Option<DecoderCache>,
    ) -> Self {
        let longest = prompts.clone().map(<[u32]>::len).max().unwrap_or(0);
        let row = |prompt: &[u32]| {
            let padding = longest - prompt.len();
            // Nothing attends to padding; any token may stand there.
            let mut ids = vec![0; padding];
            ids.extend(prompt);
            Row { ids, padding }
        };
        Self {
            model,
            cache,
            rows: prompts.map(row).collect(),
        }
    }

    /// Number of token ids `V`.
    pub(super) fn vocabulary(&self) -> usize {
        self.model.vocabulary()
    }

    /// The most pairs that a layer's cache has held for a row; 0 without a cache.
    pub(super) fn peak(&mut self) -> usize {
        self.cache.as_mut().map_or(0, DecoderCache::peak)
    }

    /// The logits `[R, V]` of the token after each row.
    ///
    /// # Errors
    ///
    /// If they cannot be read from the device.
    pub(super) fn logits(&mut self) -> Result<Vec<f32>, ExecutionError> {
        let end = self.rows.first().map_or(0, |row| row.ids.len());
        let start = self.cache.as_ref().map_or(0, DecoderCache::length);
        let input = self.input(start..end);
        let hidden = match &mut self.cache {
            Some(cache) => self.model.read(&input, cache),
            None => self.model.hidden(&input, &mut Trace::nothing()),
        };
        let [_, length, _] = hidden.dims();
        let last = hidden.slice_dim(1, length - 1..length);
        #[expect(clippy::disallowed_methods, reason = "the host chooses the next token")]
        let logits = self.model.logits(last).try_into_data()?;
        Ok(logits.iter::<f32>().collect())
    }

    /// Goes on to the rows that extend those of now.
    pub(super) fn extend(&mut self, extensions: &[Extension]) {
        let parents = extensions.iter().map(|extension| extension.row);
        let is_same = parents.clone().eq(0..self.rows.len());
        if let Some(cache) = self.cache.as_mut().filter(|_| !is_same) {
            let rows: Vec<i64> = parents.map(|row| row as i64).collect();
            let device = self.model.token.weight.device();
            cache.select(&Tensor::from_data(rows.as_slice(), &device));
        }
        let extended = extensions.iter().map(|extension| {
            let mut row = self.rows[extension.row].clone();
            row.ids.push(extension.id);
            row
        });
        self.rows = extended.collect();
    }

    /// The columns `range`, `[R, T]`.
    fn input(&self, range: Range<usize>) -> DecoderInput {
        let device = self.model.token.weight.device();
        let shape = [self.rows.len(), range.len()];
        let ids = self.rows.iter().flat_map(|row| &row.ids[range.clone()]);
        let ids: Vec<i64> = ids.copied().map(i64::from).collect();
        let padding: Vec<bool> = self
            .rows
            .iter()
            .flat_map(|row| range.clone().map(|column| column < row.padding))
            .collect();
        let is_padded = padding.contains(&true);
        DecoderInput {
            input_ids: Tensor::from_data(TensorData::new(ids, shape), &device),
            padding: is_padded.then(|| Tensor::from_data(TensorData::new(padding, shape), &device)),
        }
    }
}
