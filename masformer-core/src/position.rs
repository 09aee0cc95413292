//! Learned positions for inputs that are longer than those of the checkpoint.

use std::{fmt, str::FromStr};

use burn::prelude::*;
use serde::{Deserialize, Serialize};

/// How a table of learned positions gets the rows of later positions.
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
}

/// A text that names no position extension.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown position extension `{0}`: expected `tile` or `interpolate`")]
pub struct UnknownExtension(String);

/// A table of positions that cannot be extended.
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
    /// If the table is empty or has more than `length` rows.
    pub fn extend(self, table: Tensor<2>, length: usize) -> Result<Tensor<2>, PositionError> {
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
        })
    }
}

impl FromStr for PositionExtension {
    type Err = UnknownExtension;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.trim() {
            "tile" => Ok(Self::Tile),
            "interpolate" => Ok(Self::Interpolate),
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

    use super::PositionExtension::{Interpolate, Tile};
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
        for how in [Tile, Interpolate] {
            assert_eq!(how.to_string().parse(), Ok(how));
        }
        assert_eq!(
            "tiled"
                .parse::<PositionExtension>()
                .unwrap_err()
                .to_string(),
            "unknown position extension `tiled`: expected `tile` or `interpolate`"
        );
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
