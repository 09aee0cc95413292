//! What a decoder keeps of the tokens before, so that each new one costs one position.

use burn::prelude::*;

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
    kept: Option<Kept>,
}

#[derive(Clone, Debug)]
struct Kept {
    /// `[B, G, S, d]`
    key: Tensor<4>,
    /// `[B, G, S, d]`
    value: Tensor<4>,
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
        self.kept.as_ref().map_or(0, |kept| kept.key.dims()[2])
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
            key,
            value,
            padding: padding.cloned(),
        };
        let [_, _, length, _] = new.key.dims();
        let all = match self.kept.take() {
            Some(kept) => kept.followed_by(new),
            None => new,
        };
        self.seen += length;
        self.kept = Some(all.clone().rolled(self.span, self.seen));
        Joined {
            key: all.key,
            value: all.value,
            padding: all.padding,
        }
    }

    /// Takes the sequences `rows` `[R]` of the batch, in that order and as often as they are named.
    pub fn select(&mut self, rows: &Tensor<1, Int>) {
        // Flex gives selected Booleans another dtype than its other operations do, and then cannot put
        // both into one tensor.
        let select = |mask: Tensor<2, Bool>| mask.int().select(0, rows.clone()).bool();
        self.kept = self.kept.take().map(|kept| Kept {
            key: kept.key.select(0, rows.clone()),
            value: kept.value.select(0, rows.clone()),
            padding: kept.padding.map(select),
        });
    }
}

impl Kept {
    fn length(&self) -> usize {
        self.key.dims()[2]
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
            key: Tensor::cat(vec![self.key, new.key], 2),
            value: Tensor::cat(vec![self.value, new.value], 2),
            padding,
        }
    }

    fn padding_mask(&self) -> Tensor<2, Bool> {
        let [batch, _, length, _] = self.key.dims();
        match &self.padding {
            Some(padding) => padding.clone(),
            None => Tensor::<2, Int>::zeros([batch, length], &self.key.device()).bool(),
        }
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

    fn range(&self, range: std::ops::Range<usize>) -> Self {
        Self {
            key: self.key.clone().slice_dim(2, range.clone()),
            value: self.value.clone().slice_dim(2, range.clone()),
            padding: self
                .padding
                .clone()
                .map(|padding| padding.slice_dim(1, range)),
        }
    }
}
