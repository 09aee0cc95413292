//! What a decoder keeps of the tokens before, so that each new one costs one position.

use std::ops::Range;

use burn::prelude::*;

use crate::span::Span;

/// Positions for which there is room for one more.
const SPARE: usize = 8;

/// The keys and values of one layer that later queries may see.
///
/// A full layer keeps every position; a window keeps the last `W`, and its sinks besides once they have
/// left it; a block keeps the positions of the block that is not complete. The order of what is kept is
/// such that a span means the same counted from the first position kept as counted from the start: the
/// distances inside a window stay, sinks come first, and a block begins at its beginning.
///
/// There is room for an eighth more than that, so that most tokens move no others.
#[derive(Clone, Debug)]
pub struct LayerCache {
    span: Span,
    /// Positions so far, kept or not.
    seen: usize,
    kept: Option<Kept>,
}

#[derive(Clone, Debug)]
struct Kept {
    key: Positions,
    value: Positions,
    /// `[B, S]`
    padding: Option<Tensor<2, Bool>>,
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
        self.kept.as_ref().map_or(0, Kept::length)
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
        let new = Kept {
            key: Positions::new(key),
            value: Positions::new(value),
            padding: padding.cloned(),
        };
        self.seen += new.length();
        let all = match self.kept.take() {
            Some(kept) => kept.followed_by(new),
            None => new,
        };
        let joined = Joined {
            key: all.key.tensor(),
            value: all.value.tensor(),
            padding: all.padding.clone(),
        };
        self.kept = Some(all.rolled(self.span, self.seen));
        joined
    }

    /// Takes the sequences `rows` `[R]` of the batch, in that order and as often as they are named.
    pub fn select(&mut self, rows: &Tensor<1, Int>) {
        // Flex gives selected Booleans another dtype than its other operations do, and then cannot put
        // both into one tensor.
        let select = |mask: Tensor<2, Bool>| mask.int().select(0, rows.clone()).bool();
        self.kept = self.kept.take().map(|kept| Kept {
            key: kept.key.select(rows.clone()),
            value: kept.value.select(rows.clone()),
            padding: kept.padding.map(select),
        });
    }
}

impl Kept {
    fn length(&self) -> usize {
        self.key.range.len()
    }

    fn followed_by(self, new: Self) -> Self {
        let padding = match (&self.padding, &new.padding) {
            (None, None) => None,
            _ => Some(Tensor::cat(
                vec![self.padding_mask(), new.padding_mask()],
                1,
            )),
        };
        Self {
            key: self.key.followed_by(new.key),
            value: self.value.followed_by(new.value),
            padding,
        }
    }

    fn padding_mask(&self) -> Tensor<2, Bool> {
        let [batch, _, _, _] = self.key.room.dims();
        let none = || {
            let shape = [batch, self.length()];
            Tensor::<2, Int>::zeros(shape, &self.key.room.device()).bool()
        };
        self.padding.clone().unwrap_or_else(none)
    }

    /// What stays of all positions when `seen` of them have gone by.
    fn rolled(self, span: Span, seen: usize) -> Self {
        let length = self.length();
        match span {
            Span::Window { width, sinks } if length > width.get() + sinks => {
                let last = self.range(length - width.get()..length);
                if sinks == 0 {
                    last
                } else {
                    self.range(0..sinks).followed_by(last)
                }
            }
            Span::Full | Span::Window { .. } => self,
            Span::Block { width } => self.range(length - seen % width..length),
        }
    }

    fn range(&self, range: Range<usize>) -> Self {
        let padding = self.padding.clone();
        Self {
            key: self.key.part(range.clone()),
            value: self.value.part(range.clone()),
            padding: padding.map(|padding| padding.slice_dim(1, range)),
        }
    }
}

/// Keys or values in a tensor with room for more, so that a new position seldom moves those before it.
#[derive(Clone, Debug)]
struct Positions {
    /// `[B, G, C, d]`
    room: Tensor<4>,
    /// Those of the `C` that are in use.
    range: Range<usize>,
}

impl Positions {
    /// `[B, G, S, d]`, without room.
    fn new(tensor: Tensor<4>) -> Self {
        let [_, _, length, _] = tensor.dims();
        Self {
            room: tensor,
            range: 0..length,
        }
    }

    /// `[B, G, S, d]`
    fn tensor(&self) -> Tensor<4> {
        self.room.clone().slice_dim(2, self.range.clone())
    }

    /// Some of the positions: where they are, unless most of the room would be for others.
    fn part(&self, range: Range<usize>) -> Self {
        let start = self.range.start;
        let part = Self {
            room: self.room.clone(),
            range: start + range.start..start + range.end,
        };
        let [_, _, capacity, _] = self.room.dims();
        if 2 * part.range.len() < capacity {
            Self::in_new_room(vec![part.tensor()])
        } else {
            part
        }
    }

    /// The sequences `rows` `[R]` of the batch.
    fn select(self, rows: Tensor<1, Int>) -> Self {
        let [_, _, capacity, _] = self.room.dims();
        let used = self.room.slice_dim(2, self.range.start..capacity);
        Self {
            room: used.select(0, rows),
            range: 0..self.range.len(),
        }
    }

    fn followed_by(self, new: Self) -> Self {
        let [batch, groups, capacity, width] = self.room.dims();
        let (start, end) = (self.range.start, self.range.end + new.range.len());
        if end <= capacity {
            let places = [0..batch, 0..groups, self.range.end..end, 0..width];
            return Self {
                room: self.room.slice_assign(places, new.tensor()),
                range: start..end,
            };
        }
        Self::in_new_room(vec![self.tensor(), new.tensor()])
    }

    /// One part after the other, `[B, G, _, d]` each, and room behind them.
    fn in_new_room(mut parts: Vec<Tensor<4>>) -> Self {
        let [batch, groups, _, width] = parts[0].dims();
        let length = parts.iter().map(|part| part.dims()[2]).sum::<usize>();
        let options = (&parts[0].device(), parts[0].dtype());
        let spare = [batch, groups, length / SPARE + 1, width];
        parts.push(Tensor::zeros(spare, options));
        Self {
            room: Tensor::cat(parts, 2),
            range: 0..length,
        }
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
                    let [_, _, capacity, _] = kept.key.room.dims();
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
