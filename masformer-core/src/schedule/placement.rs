//! Which layers of a model a part of a schedule is about.

use std::fmt;

use super::ScheduleError;

/// The layers that a part of a schedule names: in a schedule of spans those with full attention, in one of mixers
/// those with a mixer. Layer 0 is the one at the bottom, next to the embeddings.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Placement {
    /// `bottom:N`: the first N.
    Bottom(usize),
    /// `top:N`: the last N.
    Top(usize),
    /// `middle:N`: N in a row with as many layers below as above, or one less below.
    Middle(usize),
    /// `even:N`: the layers `floor(i L / N)` of L for i from 0 to N - 1. The distances between them
    /// differ by one at most, layer 0 is one of them, and where N divides L this is `every:K` with
    /// `K = L / N`.
    Even(usize),
    /// `every:K` or `every:K+S`: the layers S, S + K, S + 2K and so on.
    Every {
        /// K, at least 1.
        period: usize,
        /// S, below K; 0 where the text leaves it out.
        start: usize,
    },
    /// `layers:I,J,...`: these, in any order and each of them once.
    Layers(Vec<usize>),
}

impl Placement {
    /// Reads a word; `None` if it does not begin with the name of a placement.
    pub(super) fn read(word: &str) -> Result<Option<Self>, ScheduleError> {
        let (name, numbers) = word.split_once(':').unwrap_or((word, ""));
        let count = || numbers.parse().ok();
        let (placement, expected) = match name {
            "bottom" => (
                count().map(Self::Bottom),
                "`bottom:N`, N a number of layers",
            ),
            "top" => (count().map(Self::Top), "`top:N`, N a number of layers"),
            "middle" => (
                count().map(Self::Middle),
                "`middle:N`, N a number of layers",
            ),
            "even" => (count().map(Self::Even), "`even:N`, N a number of layers"),
            "every" => (every(numbers), EVERY),
            "layers" => (list(numbers), LAYERS),
            _ => return Ok(None),
        };
        let numbers_error = || ScheduleError::Numbers {
            word: word.to_owned(),
            expected,
        };
        placement.ok_or_else(numbers_error).map(Some)
    }

    /// In its canonical form, if it makes sense for some model.
    pub(super) fn checked(self) -> Result<Self, ScheduleError> {
        let numbers_error = |placement: &Self, expected| ScheduleError::Numbers {
            word: placement.to_string(),
            expected,
        };
        match self {
            // A period of 0 has no start below it either.
            Self::Every { period, start } if start >= period => Err(numbers_error(&self, EVERY)),
            Self::Layers(mut layers) => {
                layers.sort_unstable();
                let repeated = layers.windows(2).find(|pair| pair[0] == pair[1]);
                let repeated = repeated.map(|pair| pair[0]);
                let placement = Self::Layers(layers);
                match repeated {
                    Some(layer) => Err(ScheduleError::Repeated { placement, layer }),
                    None if placement == Self::Layers(Vec::new()) => {
                        Err(numbers_error(&placement, LAYERS))
                    }
                    None => Ok(placement),
                }
            }
            placement => Ok(placement),
        }
    }

    /// For each layer of a model, whether it is one of them.
    pub(super) fn layers(&self, layers: usize) -> Result<Vec<bool>, ScheduleError> {
        if let Self::Bottom(count) | Self::Top(count) | Self::Middle(count) | Self::Even(count) =
            *self
            && count > layers
        {
            return Err(ScheduleError::TooMany {
                placement: self.clone(),
                layers,
            });
        }
        let mut placed = vec![false; layers];
        match *self {
            Self::Bottom(count) => placed[..count].fill(true),
            Self::Top(count) => placed[layers - count..].fill(true),
            Self::Middle(count) => placed[(layers - count) / 2..][..count].fill(true),
            Self::Even(count) => (0..count).for_each(|i| placed[i * layers / count] = true),
            Self::Every { period, start } => {
                let layers = placed.iter_mut().skip(start).step_by(period);
                layers.for_each(|placed| *placed = true);
            }
            Self::Layers(ref listed) => {
                for &layer in listed {
                    *placed
                        .get_mut(layer)
                        .ok_or_else(|| ScheduleError::Outside {
                            placement: self.clone(),
                            layer,
                            layers,
                        })? = true;
                }
            }
        }
        Ok(placed)
    }
}

const EVERY: &str = "`every:K` or `every:K+S`, K at least 1 and S below K";
const LAYERS: &str = "`layers:I,J,...`, the numbers of one layer or more, counted from 0";

fn every(numbers: &str) -> Option<Placement> {
    let (period, start) = numbers.split_once('+').unwrap_or((numbers, "0"));
    let (period, start) = (period.parse().ok()?, start.parse().ok()?);
    (start < period).then_some(Placement::Every { period, start })
}

fn list(numbers: &str) -> Option<Placement> {
    let layers: Result<_, _> = numbers.split(',').map(str::parse).collect();
    layers.ok().map(Placement::Layers)
}

impl fmt::Display for Placement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bottom(count) => write!(f, "bottom:{count}"),
            Self::Top(count) => write!(f, "top:{count}"),
            Self::Middle(count) => write!(f, "middle:{count}"),
            Self::Even(count) => write!(f, "even:{count}"),
            Self::Every { period, start: 0 } => write!(f, "every:{period}"),
            Self::Every { period, start } => write!(f, "every:{period}+{start}"),
            Self::Layers(layers) => {
                let layers: Vec<String> = layers.iter().map(ToString::to_string).collect();
                write!(f, "layers:{}", layers.join(","))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn placement(text: &str) -> Result<Placement, ScheduleError> {
        Placement::read(text)?.expect("a placement").checked()
    }

    fn full(text: &str, layers: usize) -> Vec<usize> {
        let full = placement(text).unwrap().layers(layers).unwrap();
        (0..layers).filter(|&layer| full[layer]).collect()
    }

    #[test]
    fn each_placement_picks_its_layers() {
        assert_eq!(full("bottom:2", 5), [0, 1]);
        assert_eq!(full("top:2", 5), [3, 4]);
        assert_eq!(full("middle:1", 5), [2]);
        assert_eq!(full("middle:2", 5), [1, 2]);
        assert_eq!(full("middle:3", 6), [1, 2, 3]);
        assert_eq!(full("even:4", 24), [0, 6, 12, 18]);
        assert_eq!(full("even:3", 8), [0, 2, 5]);
        assert_eq!(full("every:3", 8), [0, 3, 6]);
        assert_eq!(full("every:3+2", 8), [2, 5]);
        assert!(full("every:6+5", 4).is_empty());
        assert_eq!(full("layers:5,0", 6), [0, 5]);
        for text in ["bottom:0", "top:0", "middle:0", "even:0"] {
            assert!(full(text, 3).is_empty(), "{text}");
        }
    }

    #[test]
    fn numbers_that_make_no_sense_are_refused() {
        for (text, expected) in [
            ("bottom", "`bottom:N`, N a number of layers"),
            ("top:-1", "`top:N`, N a number of layers"),
            ("middle:2+1", "`middle:N`, N a number of layers"),
            ("even:", "`even:N`, N a number of layers"),
            ("every:0", EVERY),
            ("every:6+6", EVERY),
            ("every:6+", EVERY),
            ("layers:", LAYERS),
            ("layers:1,,2", LAYERS),
        ] {
            let error = placement(text).unwrap_err().to_string();
            let expected = format!("`{text}` in a schedule: expected {expected}");
            assert_eq!(error, expected);
        }
        let empty = Placement::Layers(Vec::new()).checked().unwrap_err();
        assert!(empty.to_string().starts_with("`layers:` "), "{empty}");
        let period = 0;
        let zero = Placement::Every { period, start: 0 }.checked().unwrap_err();
        assert!(zero.to_string().starts_with("`every:0` "), "{zero}");
        assert_eq!(
            placement("layers:3,0,3").unwrap_err().to_string(),
            "`layers:0,3,3` names layer 3 more than once: expected each layer once"
        );
    }

    #[test]
    fn layers_that_a_model_has_not_are_refused() {
        for text in ["bottom:25", "top:25", "middle:25", "even:25"] {
            assert_eq!(
                placement(text).unwrap().layers(24).unwrap_err().to_string(),
                format!("`{text}` asks for more layers than the model has: expected at most 24")
            );
        }
        let outside = placement("layers:0,24").unwrap().layers(24).unwrap_err();
        assert_eq!(
            outside.to_string(),
            "`layers:0,24` names layer 24 of a model with 24 layers: \
             expected numbers from 0 and below 24"
        );
    }

    proptest! {
        #[test]
        fn counted_placements_have_as_many_full_layers(layers in 0..150_usize, count in 0..150_usize) {
            let placements =
                [Placement::Bottom, Placement::Top, Placement::Middle, Placement::Even];
            for placement in placements.map(|new| new(count)) {
                match placement.layers(layers) {
                    Ok(full) => prop_assert_eq!(full.iter().filter(|&&full| full).count(), count),
                    Err(_) => prop_assert!(count > layers),
                }
            }
        }

        #[test]
        fn even_layers_are_evenly_apart(layers in 1..150_usize, count in 1..150_usize) {
            let count = count.min(layers);
            let full = full(&format!("even:{count}"), layers);
            for pair in full.windows(2) {
                let apart = pair[1] - pair[0];
                prop_assert!([layers / count, layers.div_ceil(count)].contains(&apart));
            }
        }
    }
}
