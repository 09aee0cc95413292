//! One number for each seed and example.

use super::StatisticsError;

/// Finite numbers by seed and example, `[seeds, examples]`; there is at least one of both.
#[derive(Clone, Debug, PartialEq)]
pub struct ValueMatrix {
    examples: usize,
    values: Vec<f64>,
}

impl ValueMatrix {
    /// A matrix of rows, one per seed.
    ///
    /// # Errors
    ///
    /// If there are no seeds or no examples, if the rows differ in length, or if a number is not finite.
    pub fn from_rows<R: AsRef<[f64]>>(rows: &[R]) -> Result<Self, StatisticsError> {
        let examples = rows.first().ok_or(StatisticsError::NoSeeds)?.as_ref().len();
        if examples == 0 {
            return Err(StatisticsError::NoExamples);
        }
        let mut values = Vec::with_capacity(rows.len() * examples);
        for (seed, row) in rows.iter().enumerate() {
            let row = row.as_ref();
            if row.len() != examples {
                return Err(StatisticsError::Ragged {
                    seed,
                    found: row.len(),
                    expected: examples,
                });
            }
            values.extend_from_slice(row);
        }
        Self::of(examples, values)
    }

    fn of(examples: usize, values: Vec<f64>) -> Result<Self, StatisticsError> {
        match values.iter().position(|value| !value.is_finite()) {
            None => Ok(Self { examples, values }),
            Some(index) => Err(StatisticsError::NotFinite {
                seed: index / examples,
                example: index % examples,
                value: values[index],
            }),
        }
    }

    /// The number of seeds, at least 1.
    pub fn seeds(&self) -> usize {
        self.values.len() / self.examples
    }

    /// The number of examples or groups, at least 1.
    pub fn examples(&self) -> usize {
        self.examples
    }

    /// `[seeds, examples]`.
    pub fn shape(&self) -> [usize; 2] {
        [self.seeds(), self.examples]
    }

    /// The examples of each seed.
    pub fn rows(&self) -> impl ExactSizeIterator<Item = &[f64]> {
        self.values.chunks_exact(self.examples)
    }

    /// All numbers, seed by seed.
    pub fn values(&self) -> &[f64] {
        &self.values
    }

    /// The mean of each seed, `[seeds]`.
    pub fn seed_means(&self) -> Vec<f64> {
        self.rows().map(mean).collect()
    }

    /// Whether all numbers are equal.
    #[expect(clippy::float_cmp, reason = "constant is what is equal")]
    pub fn is_constant(&self) -> bool {
        self.values.windows(2).all(|pair| pair[0] == pair[1])
    }

    /// Whether all numbers are 0.
    pub fn is_zero(&self) -> bool {
        self.values.iter().all(|&value| value == 0.0)
    }

    /// `self + weight * other`, number by number.
    ///
    /// # Errors
    ///
    /// If the shapes differ or a result is not finite.
    pub(super) fn plus(&self, weight: f64, other: &Self) -> Result<Self, StatisticsError> {
        if self.shape() != other.shape() {
            return Err(StatisticsError::Shapes {
                found: other.shape(),
                expected: self.shape(),
            });
        }
        let pairs = self.values.iter().zip(&other.values);
        Self::of(
            self.examples,
            pairs.map(|(own, other)| own + weight * other).collect(),
        )
    }
}

/// The mean; NaN of nothing.
pub(super) fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(rows: &[Vec<f64>]) -> String {
        ValueMatrix::from_rows(rows).unwrap_err().to_string()
    }

    #[test]
    fn a_matrix_has_a_finite_number_for_every_seed_and_example() {
        assert_eq!(error(&[]), "there are no seeds to compare");
        assert_eq!(error(&[vec![]]), "there are no examples to compare");
        assert_eq!(
            error(&[vec![1.0, 2.0], vec![1.0]]),
            "the seed at position 1 has 1 examples, the first has 2"
        );
        assert_eq!(
            error(&[vec![1.0, 2.0], vec![1.0, f64::NAN]]),
            "the value NaN of seed 1, example 1 (counted from 0) is not finite"
        );
        let matrix = ValueMatrix::from_rows(&[[1.0, 2.0, 6.0], [0.0, 0.0, 3.0]]).unwrap();
        assert_eq!(matrix.shape(), [2, 3]);
        assert_eq!(matrix.seed_means(), [3.0, 1.0]);
        assert!(!matrix.is_constant() && !matrix.is_zero());
    }

    #[test]
    fn matrices_of_two_shapes_do_not_add() {
        let left = ValueMatrix::from_rows(&[[1.0, 2.0]]).unwrap();
        let right = ValueMatrix::from_rows(&[[1.0], [2.0]]).unwrap();
        assert_eq!(
            left.plus(1.0, &right).unwrap_err().to_string(),
            "2 seeds and 1 examples do not match 1 seeds and 2 examples"
        );
        assert!(left.plus(-1.0, &left).unwrap().is_zero());
        let large = ValueMatrix::from_rows(&[[f64::MAX]]).unwrap();
        assert!(large.plus(1.0, &large).is_err());
    }
}
