//! Linear centred kernel alignment: how alike two sets of states of the same tokens are, up to rotation and scale.
//!
//! It is that of Kornblith et al. 2019 (arXiv 1905.00414) with the unbiased estimator of Nguyen et al. 2021 (arXiv 2010.15327,
//! equation 3): the plain one is far above 0 where states have more numbers than there are tokens.

/// A Gram matrix of `n` tokens that is centred so that products of two of them are unbiased.
#[derive(Clone, Debug)]
pub struct Centred(Vec<f64>);

impl Centred {
    /// Centres a Gram matrix `[n, n]`, row by row; none for fewer than 4 tokens.
    pub fn of(gram: &[f32], n: usize) -> Option<Self> {
        if n < 4 || gram.len() != n * n {
            return None;
        }
        let mut centred: Vec<f64> = gram.iter().map(|value| f64::from(*value)).collect();
        for token in 0..n {
            centred[token * n + token] = 0.0;
        }
        let rows = centred.chunks(n).map(|row| row.iter().sum());
        let rows: Vec<f64> = rows.collect();
        let all: f64 = rows.iter().sum();
        let all = all / ((n - 1) * (n - 2)) as f64;
        for (row, values) in centred.chunks_mut(n).enumerate() {
            for (column, value) in values.iter_mut().enumerate() {
                *value += all - (rows[row] + rows[column]) / (n - 2) as f64;
            }
            values[row] = 0.0;
        }
        Some(Self(centred))
    }

    /// The alignment with another of the same tokens: 1 for states that are the same up to rotation and scale, about 0 for
    /// states that have nothing to do with each other. It is 0 where all states of one are the same.
    pub fn cka(&self, other: &Self) -> f64 {
        let norms = (self.product(self) * other.product(other)).sqrt();
        if norms > 0.0 {
            self.product(other) / norms
        } else {
            0.0
        }
    }

    fn product(&self, other: &Self) -> f64 {
        let pairs = self.0.iter().zip(&other.0);
        pairs.map(|(one, other)| one * other).sum()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn gram(rows: &[Vec<f64>]) -> Vec<f32> {
        let product =
            |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>() as f32;
        let pairs = rows.iter().flat_map(|a| rows.iter().map(move |b| (a, b)));
        pairs.map(|(a, b)| product(a, b)).collect()
    }

    fn cka(one: &[Vec<f64>], other: &[Vec<f64>]) -> f64 {
        let centred = |rows: &[Vec<f64>]| Centred::of(&gram(rows), rows.len()).unwrap();
        centred(one).cka(&centred(other))
    }

    /// The estimator as it is written down, without centring.
    fn plain(one: &[f32], other: &[f32], n: usize) -> f64 {
        let without = |gram: &[f32]| -> Vec<f64> {
            let entries = gram.iter().enumerate();
            let kept = entries.map(|(place, value)| (place / n != place % n, f64::from(*value)));
            kept.map(|(is_kept, value)| if is_kept { value } else { 0.0 })
                .collect()
        };
        let (k, l) = (without(one), without(other));
        let sum = |values: &[f64]| values.iter().sum::<f64>();
        let trace: f64 = k.iter().zip(&l).map(|(k, l)| k * l).sum();
        let of_rows = |values: &[f64]| -> Vec<f64> { values.chunks(n).map(sum).collect() };
        let rows = of_rows(&k).into_iter().zip(of_rows(&l));
        let both: f64 = rows.map(|(k, l)| k * l).sum();
        let count = n as f64;
        let products = sum(&k) * sum(&l) / ((count - 1.0) * (count - 2.0));
        trace + products - 2.0 / (count - 2.0) * both
    }

    proptest! {
        #[test]
        fn centred_matrices_give_the_unbiased_estimator(
            rows in prop::collection::vec(prop::collection::vec(-3.0..3.0_f64, 5), 4..12),
            turn in 0.0..6.0_f64,
        ) {
            let others: Vec<Vec<f64>> = rows.iter().map(|row| row[1..3].to_vec()).collect();
            let n = rows.len();
            let (k, l) = (gram(&rows), gram(&others));
            let found = Centred::of(&k, n).unwrap().product(&Centred::of(&l, n).unwrap());
            let expected = plain(&k, &l, n);
            prop_assert!((found - expected).abs() < 1e-4 * (1.0 + expected.abs()), "{found} {expected}");
            // A rotation, a shift and a factor change nothing.
            let (sin, cos) = turn.sin_cos();
            let moved: Vec<Vec<f64>> = rows
                .iter()
                .map(|row| {
                    let turned = [cos * row[0] - sin * row[1], sin * row[0] + cos * row[1]];
                    let all = turned.into_iter().chain(row[2..].iter().copied());
                    all.map(|value| 2.0 * value + 1.0).collect()
                })
                .collect();
            prop_assert!((cka(&rows, &moved) - 1.0).abs() < 1e-3);
        }
    }

    #[test]
    fn states_that_have_nothing_to_do_with_each_other_are_near_0_however_wide_they_are() {
        let rows = |salt: f64| -> Vec<Vec<f64>> {
            let value = |token: usize, place: usize| {
                ((token * 131 + place * 17 + 1) as f64 * salt).sin() * 43_758.545
            };
            let row = |token| (0..300).map(|place| value(token, place).fract()).collect();
            (0..40).map(row).collect()
        };
        let found = cka(&rows(12.9898), &rows(78.233));
        assert!(found.abs() < 0.15, "{found}");
        let same = vec![vec![1.0, 2.0]; 5];
        assert!(cka(&same, &same).abs() < 1e-12);
        assert!(Centred::of(&[1.0; 9], 3).is_none());
    }
}
