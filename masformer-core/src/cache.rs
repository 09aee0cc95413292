//! What a decoder keeps of the tokens before, so that each new one costs one position.

mod pairs;
mod survivors;

use burn::prelude::*;

pub use survivors::Survivors;

use self::pairs::Pairs;
use crate::span::Span;

/// The keys and values of one layer that later queries may see.
///
/// A full layer keeps every position; a window keeps the last `W`, and its sinks besides once they have
/// left it; a block keeps the positions of the block that is not complete. The order of what is kept is
/// such that a span means the same counted from the first position kept as counted from the start: the
/// distances inside a window stay, sinks come first, and a block begins at its beginning.
#[derive(Clone, Debug)]
pub struct LayerCache {
    span: Span,
    /// Positions so far, kept or not.
    seen: usize,
    kept: Option<Pairs>,
}

/// Keys and values for an attention step: those that were kept, then the new ones.
#[derive(Clone, Debug)]
pub(crate) struct Joined {
    /// `[B, G, S, d]`
    pub(crate) key: Tensor<4>,
    /// `[B, G, S, d]`
    pub(crate) value: Tensor<4>,
    /// `[B, S]`, true where a position is padding; `None` where there is none.
    pub(crate) padding: Option<Tensor<2, Bool>>,
}

impl LayerCache {
    /// An empty cache for a layer.
    pub fn new(span: Span) -> Self {
        Self {
            span,
            seen: 0,
            kept: None,
        }
    }

    /// Number of positions so far, whether kept or not.
    pub fn seen(&self) -> usize {
        self.seen
    }

    /// Number of positions kept.
    pub fn kept(&self) -> usize {
        self.kept.as_ref().map_or(0, Pairs::length)
    }

    /// Puts the new positions behind those that are kept, and keeps what later ones may see.
    ///
    /// # Shapes
    ///
    /// - key, value: `[B, G, T, d]`
    /// - padding: `[B, T]`
    pub(crate) fn join(
        &mut self,
        key: Tensor<4>,
        value: Tensor<4>,
        padding: Option<&Tensor<2, Bool>>,
    ) -> Joined {
        let new = Pairs::new(key, value, padding);
        self.seen += new.length();
        let all = match self.kept.take() {
            Some(kept) => kept.followed_by(new),
            None => new,
        };
        let joined = Joined {
            key: all.key(),
            value: all.value(),
            padding: all.padding(),
        };
        let survivors = Survivors::of_span(self.span, all.length(), self.seen);
        self.kept = Some(all.retain(survivors));
        joined
    }

    /// Takes the sequences `rows` `[R]` of the batch, in that order and as often as they are named.
    pub fn select(&mut self, rows: &Tensor<1, Int>) {
        self.kept = self.kept.take().map(|kept| kept.select(rows));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn spans() -> impl Strategy<Value = Span> {
        prop_oneof![
            Just(Span::Full),
            (1..20_usize, 0..4_usize).prop_map(|(width, sinks)| {
                let span = format!("window:{width}+{sinks}");
                span.parse().unwrap()
            }),
            (1..20_usize).prop_map(|width| format!("block:{width}").parse().unwrap()),
        ]
    }

    proptest! {
        #[test]
        fn new_positions_come_behind_those_that_may_be_seen(
            span in spans(),
            parts in prop::collection::vec(1..12_usize, 1..40),
            copied in 0..40_usize,
        ) {
            let device = Device::default();
            let mut cache = LayerCache::new(span);
            let mut kept: Vec<f32> = Vec::new();
            let mut seen = 0;
            for (step, length) in parts.into_iter().enumerate() {
                let other = (step == copied).then(|| cache.clone());
                let new: Vec<f32> = (seen..seen + length).map(|place| place as f32).collect();
                assert_joined(&mut cache, &kept, &new, &device)?;
                // Neither sees what the other one takes in.
                if let Some(mut other) = other {
                    other.select(&Tensor::from_data([1, 0], &device));
                    assert_joined(&mut other, &kept, &vec![-1.0; length], &device)?;
                }
                kept.extend(new);
                seen += length;
                let count = kept.len();
                match span {
                    Span::Full => {}
                    Span::Window { width, sinks } => {
                        if count > width.get() + sinks {
                            kept.drain(sinks..count - width.get());
                        }
                    }
                    Span::Block { width } => {
                        kept.drain(..count - seen % width);
                    }
                }
                prop_assert_eq!(cache.kept(), kept.len());
                if let Some(kept) = &cache.kept {
                    let capacity = kept.capacity();
                    prop_assert!(capacity <= 2 * kept.length() + 1, "room for {}", capacity);
                }
            }
        }
    }

    /// Joins new positions, and compares all with those before and the new ones.
    fn assert_joined(
        cache: &mut LayerCache,
        before: &[f32],
        new: &[f32],
        device: &Device,
    ) -> Result<(), TestCaseError> {
        let numbers = Tensor::<1>::from_data(new, device);
        let key = numbers.reshape([1, 1, new.len(), 1]);
        let key = key.expand([2, 3, new.len(), 2]);
        let joined = cache.join(key.clone(), key, None);
        for found in [joined.key, joined.value] {
            let all = [before, new].concat();
            let expected = Tensor::<1>::from_data(all.as_slice(), device);
            let expected = expected.reshape([1, 1, all.len(), 1]);
            let expected = expected.expand([2, 3, all.len(), 2]);
            prop_assert_eq!(found.into_data(), expected.into_data());
        }
        Ok(())
    }
}
