//! How a model knows the order of its tokens, also in inputs longer than those of its checkpoint.

use std::{fmt, str::FromStr};

use burn::prelude::*;
use serde::{Deserialize, Serialize};

/// How a decoder knows the order of its tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PositionEncoding {
    /// A table of embeddings, added to those of the tokens.
    #[default]
    Learned,
    /// Queries and keys are rotated by their position (arXiv 2104.09864).
    Rotary {
        /// The base of the wavelengths, `10000` in the paper.
        theta: f32,
    },
}

/// How a model gets positions beyond those of its checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum PositionExtension {
    /// `tile`: the table again and again. The first positions stay as they were, and positions that
    /// are near each other stay so but where one copy meets the next (Longformer, arXiv 2004.05150,
    /// section 5).
    Tile,
    /// `interpolate`: the table stretched, its first and last rows at either end and the others linear
    /// between their neighbours. Every position but the first moves.
    Interpolate,
    /// `scale-base`: a larger base of the rotations, with which the longest wavelength grows as the
    /// input does and the shortest stays ("NTK-aware" interpolation: `YaRN`, arXiv 2309.00071,
    /// definition 1).
    ScaleBase,
}

/// A text that names no position extension.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown position extension `{0}`: expected {TABLES}, or {ROTATIONS} for rotary positions")]
pub struct UnknownExtension(String);

/// The extensions of learned tables, for messages.
const TABLES: &str = "`tile` or `interpolate`";
/// The extension of rotary positions, for messages.
const ROTATIONS: &str = "`scale-base`";

/// Positions that cannot be extended.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PositionError {
    /// There is nothing to extend.
    #[error("a table without positions cannot be extended to {length}: expected one row or more")]
    Empty {
        /// Positions that were asked for.
        length: usize,
    },
    /// The table is longer than what is asked for.
    #[error("{positions} positions cannot be extended to {length}: expected {positions} or more")]
    Shorter {
        /// Positions of the table.
        positions: usize,
        /// Positions that were asked for.
        length: usize,
    },
    /// The input is longer than the model can read as it is.
    #[error(
        "{length} tokens are more than the {positions} positions of the model: expected at most \
         {positions}, or an extension of the positions, {expected}"
    )]
    NoExtension {
        /// Positions of the model.
        positions: usize,
        /// Tokens of the input.
        length: usize,
        /// What would extend them.
        expected: &'static str,
    },
    /// The extension is for positions of the other kind.
    #[error("`{extension}` cannot extend {kind}: expected {expected}")]
    Kind {
        /// The extension.
        extension: PositionExtension,
        /// What the model has.
        kind: &'static str,
        /// What would extend it.
        expected: &'static str,
    },
    /// The heads are too narrow for their base to matter.
    #[error(
        "`scale-base` cannot extend the rotary positions of heads {width} wide: expected 4 or more, \
         as their only wavelength has no base"
    )]
    Narrow {
        /// Width of a head.
        width: usize,
    },
}

impl PositionEncoding {
    /// Checks whether this encoding can reach `length` positions, and gives the one that does: a
    /// learned table is still one, and rotations may have another base. Where the model has as many
    /// positions, nothing changes.
    ///
    /// Base scaling takes `theta (length / P)^(d / (d - 2))` for heads `d` wide.
    ///
    /// # Errors
    ///
    /// If the extension is for the other kind of positions, if `length` is above `positions` and there
    /// is no extension, or if heads are 2 wide.
    pub fn extended(
        self,
        how: Option<PositionExtension>,
        positions: usize,
        length: usize,
        head_width: usize,
    ) -> Result<Self, PositionError> {
        if let Some(extension) = how {
            self.check(extension)?;
        }
        if length <= positions {
            return Ok(self);
        }
        if how.is_none() {
            return Err(PositionError::NoExtension {
                positions,
                length,
                expected: self.extensions(),
            });
        }
        match self {
            Self::Learned => Ok(self),
            Self::Rotary { .. } if head_width <= 2 => {
                Err(PositionError::Narrow { width: head_width })
            }
            Self::Rotary { theta } => {
                let width = head_width as f64;
                let growth = length as f64 / positions as f64;
                let factor = growth.powf(width / (width - 2.0));
                let theta = (f64::from(theta) * factor) as f32;
                Ok(Self::Rotary { theta })
            }
        }
    }

    /// Checks that an extension is for these positions.
    fn check(self, extension: PositionExtension) -> Result<(), PositionError> {
        let is_for_rotary = extension == PositionExtension::ScaleBase;
        let kind = match self {
            Self::Learned if is_for_rotary => "a table of learned positions",
            Self::Rotary { .. } if !is_for_rotary => "rotary positions",
            _ => return Ok(()),
        };
        Err(PositionError::Kind {
            extension,
            kind,
            expected: self.extensions(),
        })
    }

    /// The extensions of these positions, for messages.
    fn extensions(self) -> &'static str {
        match self {
            Self::Learned => TABLES,
            Self::Rotary { .. } => ROTATIONS,
        }
    }
}

impl PositionExtension {
    /// The table with `length` rows; as it is if it has them.
    ///
    /// Tiling takes row `i mod P` for position `i`; interpolation the point `i (P - 1) / (length - 1)`
    /// of the table, between two rows in general.
    ///
    /// # Shapes
    ///
    /// - table: `[P, D]`
    /// - output: `[length, D]`
    ///
    /// # Errors
    ///
    /// If the extension is not for tables, or the table is empty or has more than `length` rows.
    pub fn extend(self, table: Tensor<2>, length: usize) -> Result<Tensor<2>, PositionError> {
        PositionEncoding::Learned.check(self)?;
        let [positions, _] = table.dims();
        if positions == length {
            return Ok(table);
        }
        if positions > length {
            return Err(PositionError::Shorter { positions, length });
        }
        if positions == 0 {
            return Err(PositionError::Empty { length });
        }
        let rows = |row: &dyn Fn(usize) -> usize| {
            let rows: Vec<i64> = (0..length).map(|position| row(position) as i64).collect();
            let rows = TensorData::new(rows, [length]);
            let rows = Tensor::<1, Int>::from_data(rows, &table.device());
            table.clone().select(0, rows)
        };
        if self == Self::Tile {
            return Ok(rows(&|position| position % positions));
        }
        // In whole numbers, so that a row that falls on one of the table's is exactly that.
        let (steps, last) = (length - 1, positions - 1);
        let below = rows(&|position| position * last / steps);
        let above = rows(&|position| (position * last).div_ceil(steps));
        let shares: Vec<f32> = (0..length)
            .map(|position| (position * last % steps) as f32 / steps as f32)
            .collect();
        let shares = TensorData::new(shares, [length, 1]);
        let shares = Tensor::<2>::from_data(shares, (&table.device(), table.dtype()));
        Ok(below.clone() + (above - below) * shares)
    }
}

impl fmt::Display for PositionExtension {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tile => "tile",
            Self::Interpolate => "interpolate",
            Self::ScaleBase => "scale-base",
        })
    }
}

impl FromStr for PositionExtension {
    type Err = UnknownExtension;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.trim() {
            "tile" => Ok(Self::Tile),
            "interpolate" => Ok(Self::Interpolate),
            "scale-base" => Ok(Self::ScaleBase),
            other => Err(UnknownExtension(other.to_owned())),
        }
    }
}

impl TryFrom<String> for PositionExtension {
    type Error = UnknownExtension;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<PositionExtension> for String {
    fn from(extension: PositionExtension) -> Self {
        extension.to_string()
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::{DType, Tolerance};
    use proptest::prelude::*;

    use super::PositionExtension::{Interpolate, ScaleBase, Tile};
    use super::*;

    fn device() -> Device {
        Device::default()
    }

    fn extended(how: PositionExtension, rows: [[f32; 2]; 3], length: usize) -> TensorData {
        let table = Tensor::<2>::from_data(rows, &device());
        how.extend(table, length).unwrap().into_data()
    }

    const TABLE: [[f32; 2]; 3] = [[0.0, 10.0], [2.0, 20.0], [6.0, 0.0]];

    #[test]
    fn tiling_repeats_the_table() {
        let expected: [[f32; 2]; _] = [
            [0.0, 10.0],
            [2.0, 20.0],
            [6.0, 0.0],
            [0.0, 10.0],
            [2.0, 20.0],
        ];
        extended(Tile, TABLE, 5).assert_eq(&TensorData::from(expected), true);
    }

    #[test]
    fn interpolation_stretches_the_table() {
        let expected: [[f32; 2]; _] = [
            [0.0, 10.0],
            [1.0, 15.0],
            [2.0, 20.0],
            [4.0, 10.0],
            [6.0, 0.0],
        ];
        extended(Interpolate, TABLE, 5).assert_eq(&TensorData::from(expected), true);
        // The points 0, 2/3, 4/3 and 2 of the table.
        let expected: [[f32; 2]; _] = [
            [0.0, 10.0],
            [4.0 / 3.0, 50.0 / 3.0],
            [10.0 / 3.0, 40.0 / 3.0],
            [6.0, 0.0],
        ];
        extended(Interpolate, TABLE, 4)
            .assert_approx_eq::<f32>(&TensorData::from(expected), Tolerance::absolute(1e-5));
    }

    #[test]
    fn a_table_that_is_long_enough_stays_and_one_that_does_not_fit_is_refused() {
        for how in [Tile, Interpolate] {
            extended(how, TABLE, 3).assert_eq(&TensorData::from(TABLE), true);
            let table = || Tensor::<2>::from_data(TABLE, &device());
            let error = how.extend(table(), 2).unwrap_err().to_string();
            assert_eq!(
                error,
                "3 positions cannot be extended to 2: expected 3 or more"
            );
            let error = how.extend(Tensor::zeros([0, 2], &device()), 4).unwrap_err();
            assert_eq!(error, PositionError::Empty { length: 4 });
        }
    }

    #[test]
    fn the_type_of_the_numbers_stays() {
        for how in [Tile, Interpolate] {
            let table = Tensor::<2>::from_data(TABLE, (&device(), DType::F64));
            assert_eq!(how.extend(table, 5).unwrap().dtype(), DType::F64);
        }
    }

    #[test]
    fn text_round_trips() {
        for how in [Tile, Interpolate, ScaleBase] {
            assert_eq!(how.to_string().parse(), Ok(how));
        }
        assert_eq!(
            "tiled"
                .parse::<PositionExtension>()
                .unwrap_err()
                .to_string(),
            "unknown position extension `tiled`: expected `tile` or `interpolate`, or `scale-base` \
             for rotary positions"
        );
    }

    const ROTARY: PositionEncoding = PositionEncoding::Rotary { theta: 10_000.0 };

    /// The base that rotations of heads `width` wide get.
    fn base(positions: usize, length: usize, width: usize) -> f32 {
        match ROTARY.extended(Some(ScaleBase), positions, length, width) {
            Ok(PositionEncoding::Rotary { theta }) => theta,
            other => panic!("rotary positions stay so: {other:?}"),
        }
    }

    #[test]
    fn a_larger_base_stretches_the_longest_wavelength_as_the_input_grows() {
        // 10000 * 4^(64 / 62)
        assert!((base(512, 2048, 64) - 41_829.366).abs() < 0.01);
        for width in [4, 8, 64, 128] {
            let slowest = |theta: f32| f64::from(theta).powf((width - 2) as f64 / width as f64);
            let growth = slowest(base(100, 300, width)) / slowest(10_000.0);
            assert!((growth - 3.0).abs() < 1e-5, "{growth}");
        }
        assert_eq!(ROTARY.extended(Some(ScaleBase), 512, 512, 64), Ok(ROTARY));
    }

    #[test]
    fn extensions_of_the_other_kind_and_none_are_refused_with_what_is_right() {
        let refused = |encoding: PositionEncoding, how, length, width| {
            let result = encoding.extended(how, 8, length, width);
            result.unwrap_err().to_string()
        };
        let learned = PositionEncoding::Learned;
        assert_eq!(
            refused(learned, Some(ScaleBase), 4, 8),
            "`scale-base` cannot extend a table of learned positions: expected `tile` or `interpolate`"
        );
        assert_eq!(
            refused(ROTARY, Some(Tile), 16, 8),
            "`tile` cannot extend rotary positions: expected `scale-base`"
        );
        assert_eq!(
            refused(learned, None, 9, 8),
            "9 tokens are more than the 8 positions of the model: expected at most 8, or an extension \
             of the positions, `tile` or `interpolate`"
        );
        assert!(refused(ROTARY, None, 9, 8).ends_with("of the positions, `scale-base`"));
        assert!(refused(ROTARY, Some(ScaleBase), 9, 2).contains("heads 2 wide"));
        let table = Tensor::<2>::from_data(TABLE, &device());
        assert!(ScaleBase.extend(table, 4).is_err());
        for (encoding, how) in [(learned, Tile), (learned, Interpolate), (ROTARY, ScaleBase)] {
            for length in 1..=8 {
                assert_eq!(encoding.extended(None, 8, length, 8), Ok(encoding));
                assert_eq!(encoding.extended(Some(how), 8, length, 8), Ok(encoding));
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]

        #[test]
        fn straight_lines_stay_straight(positions in 1..40_usize, more in 1..100_usize) {
            let length = positions + more;
            let rows: Vec<f32> = (0..positions).map(|position| position as f32).collect();
            let table = Tensor::<2>::from_data(TensorData::new(rows, [positions, 1]), &device());
            let step = (positions - 1) as f64 / (length - 1) as f64;
            let line: Vec<f32> = (0..length).map(|i| (i as f64 * step) as f32).collect();
            let expected = TensorData::new(line, [length, 1]);
            let stretched = Interpolate.extend(table, length).unwrap().into_data();
            stretched.assert_approx_eq::<f32>(&expected, Tolerance::absolute(1e-5));
        }
    }
}
