//! What a decoder keeps of the tokens before, so that each new one costs one position.

pub mod evict;
mod pairs;
#[cfg(test)]
mod reference;
mod survivors;

use burn::prelude::*;

pub use evict::{Evict, EvictSpec, Eviction, EvictionError, EvictionSpec, Evictor, Pass, Turn};
pub use survivors::Survivors;

use self::pairs::Pairs;
use crate::span::Span;

/// The keys and values of one layer that later queries may see.
///
/// A full layer keeps every position, or what its eviction policy keeps; a window keeps the last `W`, and its
/// sinks besides once they have left it; a block keeps the positions of the block that is not complete. The
/// order of what is kept is such that a span means the same counted from the first position kept as counted
/// from the start: the distances inside a window stay, sinks come first, and a block begins at its beginning.
#[derive(Clone, Debug)]
pub struct LayerCache {
    span: Span,
    /// Positions so far, kept or not.
    seen: usize,
    /// Whether a position is the place in the cache: keys are then kept without rotation.
    is_placed: bool,
    /// Whether new positions are asked what they attend to, and are not taken in.
    is_probe: bool,
    /// The most pairs that it has held at once.
    peak: usize,
    /// What new tokens are read with.
    reading: Selection,
    /// What an answer is read with, where that is a choice of its own.
    answering: Option<Selection>,
}

/// Pairs that are kept, and what chooses them.
#[derive(Clone, Debug, Default)]
struct Selection {
    pairs: Option<Pairs>,
    /// `None` where the span alone decides.
    evictor: Option<Evictor>,
    budget: usize,
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
    /// How many of the newest queries [`LayerCache::evict`] needs the attention of.
    pub(crate) judges: usize,
}

impl LayerCache {
    /// An empty cache for a layer, which keeps all that its span may see.
    pub fn new(span: Span) -> Self {
        Self {
            span,
            seen: 0,
            is_placed: false,
            is_probe: false,
            peak: 0,
            reading: Selection::default(),
            answering: None,
        }
    }

    /// Makes positions places in the cache, and a full layer keep what a policy keeps. The cache is empty.
    pub(crate) fn evict_by(&mut self, eviction: &Eviction) {
        self.is_placed = true;
        if self.span != Span::Full {
            return;
        }
        let (policy, budget) = (&eviction.policy, eviction.budget);
        self.reading = Selection::new(policy.init(), budget);
        let answering = policy.answering();
        self.answering = answering.map(|evictor| Selection::new(evictor, budget));
    }

    /// Number of positions so far, whether kept or not.
    pub fn seen(&self) -> usize {
        self.seen
    }

    /// Number of positions kept to read new ones with.
    pub fn kept(&self) -> usize {
        self.reading.length()
    }

    /// The most pairs of a key and a value that it has held at once for one sequence, new ones included.
    pub fn peak(&self) -> usize {
        self.peak
    }

    /// Whether a position is its place in the cache. If so, [`Self::join`] takes and gives keys without rotation;
    /// if not, rotated by their position in the sequence.
    pub(crate) fn is_placed(&self) -> bool {
        self.is_placed
    }

    /// Puts the new positions behind those that are kept, and keeps what later ones may see. With an eviction
    /// policy, [`Self::evict`] must follow.
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
        let count = new.length();
        self.seen += count;
        if self.is_probe && self.reading.evictor.is_some() {
            let kept = self.answering.as_ref().unwrap_or(&self.reading);
            let joined = Joined::new(&followed_by(kept.pairs.clone(), new), count);
            self.remember(count);
            return joined;
        }
        if let Some(answering) = &mut self.answering {
            answering.pairs = Some(followed_by(answering.pairs.take(), new.clone()));
        }
        let all = followed_by(self.reading.pairs.take(), new);
        let Some(evictor) = &mut self.reading.evictor else {
            let joined = Joined::new(&all, 0);
            let survivors = Survivors::of_span(self.span, all.length(), self.seen, self.is_placed);
            self.remember(all.length());
            self.reading.pairs = Some(all.retain(survivors));
            return joined;
        };
        let pass = Pass {
            old: all.length() - count,
            new: count,
            budget: self.reading.budget,
        };
        let (all, judges) = match evictor.turn(pass) {
            Turn::Before => (all.retain(evictor.keep(pass, None)), 0),
            Turn::After { judges } => (all, judges),
        };
        let joined = Joined::new(&all, judges);
        self.reading.pairs = Some(all);
        self.remember(0);
        joined
    }

    /// Counts what is held, and `more` pairs besides.
    fn remember(&mut self, more: usize) {
        let answering = self.answering.as_ref().map_or(0, Selection::length);
        self.peak = self.peak.max(self.reading.length() + answering + more);
    }

    /// Lets the policy, if there is one, choose what stays after a step with `new` positions.
    ///
    /// # Shapes
    ///
    /// - received: `[B, S]`, the attention that [`Joined::judges`] of the new positions paid; `None` if that is 0
    pub(crate) fn evict(&mut self, new: usize, received: Option<Tensor<2>>) {
        if self.is_probe {
            let judged = self.answering.as_mut().unwrap_or(&mut self.reading);
            if let (Some(evictor), Some(received)) = (&mut judged.evictor, received) {
                evictor.probed(received);
            }
            return;
        }
        self.reading.evict(new, received);
        if let Some(answering) = &mut self.answering {
            answering.evict(new, None);
        }
    }

    /// Reads the next step for what it attends to alone.
    pub(crate) fn start_probe(&mut self) {
        self.is_probe = true;
    }

    /// Takes over what the policy has learnt in a probe with a copy of this cache.
    pub(crate) fn learn(&mut self, probe: &Self) {
        self.peak = probe.peak;
        self.reading.evictor.clone_from(&probe.reading.evictor);
        if let (Some(own), Some(probed)) = (&mut self.answering, &probe.answering) {
            own.evictor.clone_from(&probed.evictor);
        }
    }

    /// Lets the policy choose once more, by the last probe, and keeps from then on all that follows.
    pub(crate) fn settle(&mut self) {
        if let Some(answering) = self.answering.take() {
            self.reading = answering;
        }
        self.reading.evict(0, None);
        self.reading.evictor = None;
    }

    /// Takes the sequences `rows` `[R]` of the batch, in that order and as often as they are named.
    pub fn select(&mut self, rows: &Tensor<1, Int>) {
        self.reading.select(rows);
        if let Some(answering) = &mut self.answering {
            answering.select(rows);
        }
    }
}

impl Joined {
    fn new(pairs: &Pairs, judges: usize) -> Self {
        Self {
            key: pairs.key(),
            value: pairs.value(),
            padding: pairs.padding(),
            judges,
        }
    }
}

impl Selection {
    fn new(evictor: Evictor, budget: usize) -> Self {
        Self {
            pairs: None,
            evictor: Some(evictor),
            budget,
        }
    }

    fn length(&self) -> usize {
        self.pairs.as_ref().map_or(0, Pairs::length)
    }

    fn evict(&mut self, new: usize, received: Option<Tensor<2>>) {
        let Some(evictor) = &mut self.evictor else {
            return;
        };
        let Some(pairs) = self.pairs.take() else {
            return;
        };
        let pass = Pass {
            old: pairs.length() - new,
            new,
            budget: self.budget,
        };
        let survivors = match evictor.turn(pass) {
            Turn::Before => Survivors::All,
            Turn::After { .. } => evictor.keep(pass, received),
        };
        self.pairs = Some(pairs.retain(survivors));
    }

    fn select(&mut self, rows: &Tensor<1, Int>) {
        self.pairs = self.pairs.take().map(|pairs| pairs.select(rows));
        if let Some(evictor) = &mut self.evictor {
            evictor.select(rows);
        }
    }
}

/// New pairs behind those before, in the same room if no other cache has it.
fn followed_by(before: Option<Pairs>, new: Pairs) -> Pairs {
    match before {
        Some(pairs) => pairs.followed_by(new),
        None => new,
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
                if let Some(pairs) = &cache.reading.pairs {
                    let capacity = pairs.capacity();
                    prop_assert!(capacity <= 2 * pairs.length() + 1, "room for {}", capacity);
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
