//! Pairs of a key and a value, with room for more.

use std::ops::Range;

use burn::prelude::*;

use super::Survivors;

/// Positions for which there is room for one more.
const SPARE: usize = 8;

/// Keys and values of some positions, in their order.
///
/// There is room for an eighth more, so that most new positions move no others.
#[derive(Clone, Debug)]
pub(super) struct Pairs {
    key: Positions,
    value: Positions,
    /// `[B, S]`
    padding: Option<Tensor<2, Bool>>,
}

impl Pairs {
    /// # Shapes
    ///
    /// - key, value: `[B, G, S, d]`
    /// - padding: `[B, S]`
    pub(super) fn new(key: Tensor<4>, value: Tensor<4>, padding: Option<&Tensor<2, Bool>>) -> Self {
        Self {
            key: Positions::new(key),
            value: Positions::new(value),
            padding: padding.cloned(),
        }
    }

    pub(super) fn length(&self) -> usize {
        self.key.range.len()
    }

    /// `[B, G, S, d]`
    pub(super) fn key(&self) -> Tensor<4> {
        self.key.tensor()
    }

    /// `[B, G, S, d]`
    pub(super) fn value(&self) -> Tensor<4> {
        self.value.tensor()
    }

    /// `[B, S]`, true where a position is padding; `None` where there is none.
    pub(super) fn padding(&self) -> Option<Tensor<2, Bool>> {
        self.padding.clone()
    }

    pub(super) fn followed_by(self, new: Self) -> Self {
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

    /// Those that stay.
    pub(super) fn retain(self, survivors: Survivors) -> Self {
        match survivors {
            Survivors::All => self,
            Survivors::Ranges([first, last]) if first.is_empty() => self.range(last),
            Survivors::Ranges([first, last]) => self.range(first).followed_by(self.range(last)),
            Survivors::Chosen(places) => Self {
                key: self.key.chosen(&places),
                value: self.value.chosen(&places),
                padding: self
                    .padding
                    .map(|padding| padding.int().gather(1, places).bool()),
            },
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

    /// The sequences `rows` `[R]` of the batch.
    pub(super) fn select(self, rows: &Tensor<1, Int>) -> Self {
        // Flex gives selected Booleans another dtype than its other operations do, and then cannot put
        // both into one tensor.
        let select = |mask: Tensor<2, Bool>| mask.int().select(0, rows.clone()).bool();
        Self {
            key: self.key.select(rows.clone()),
            value: self.value.select(rows.clone()),
            padding: self.padding.map(select),
        }
    }

    /// Positions that there is room for, in use or not.
    #[cfg(test)]
    pub(super) fn capacity(&self) -> usize {
        let [_, _, capacity, _] = self.key.room.dims();
        capacity
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

    /// Those at `places` `[B, K]` of each sequence.
    fn chosen(&self, places: &Tensor<2, Int>) -> Self {
        let [batch, groups, _, width] = self.room.dims();
        let [_, count] = places.dims();
        let places = places.clone().reshape([batch, 1, count, 1]);
        let places = places.expand([batch, groups, count, width]);
        Self::new(self.tensor().gather(2, places))
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
