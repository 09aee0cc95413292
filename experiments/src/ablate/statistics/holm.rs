//! Holm's adjustment of p for several tests.

use super::StatisticsError;

/// The adjusted p of each test, `[tests]`: with the tests in rising order of p, the running maximum of
/// `p_(j) (K - j + 1)`, at most 1 (Holm 1979, "A simple sequentially rejective multiple test
/// procedure"). A test is rejected at a level that its adjusted p does not exceed. It holds however
/// the tests depend on each other: for arms without common seeds, and for tests of several seeds.
///
/// # Errors
///
/// If a p is not from 0 to 1.
pub fn holm(p: &[f64]) -> Result<Vec<f64>, StatisticsError> {
    if let Some(index) = p.iter().position(|p| !(0.0..=1.0).contains(p)) {
        return Err(StatisticsError::Value {
            what: "p",
            index,
            value: p[index],
            expected: "from 0 to 1",
        });
    }
    let mut order: Vec<usize> = (0..p.len()).collect();
    order.sort_by(|&a, &b| p[a].total_cmp(&p[b]));
    let mut adjusted = vec![0.0; p.len()];
    let mut least = 0.0_f64;
    for (before, &test) in order.iter().enumerate() {
        least = least.max(p[test] * (p.len() - before) as f64).min(1.0);
        adjusted[test] = least;
    }
    Ok(adjusted)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde::Deserialize;

    use super::{
        super::testing::{assert_all_near, cases},
        *,
    };

    #[derive(Deserialize)]
    struct Case {
        p: Vec<f64>,
        adjusted: Vec<f64>,
        rejected: Vec<bool>,
    }

    #[test]
    fn holm_agrees_with_the_reference() {
        for Case {
            p,
            adjusted,
            rejected,
        } in cases("holm")
        {
            let found = holm(&p).unwrap();
            assert_all_near(&found, &adjusted, &format!("{p:?}"));
            let found: Vec<bool> = found.iter().map(|&p| p <= 0.05).collect();
            assert_eq!(found, rejected);
        }
    }

    #[test]
    fn what_is_no_probability_is_an_error() {
        assert_eq!(holm(&[]), Ok(vec![]));
        assert!(holm(&[0.5, f64::NAN]).is_err());
        assert_eq!(
            holm(&[0.5, 1.5]).unwrap_err().to_string(),
            "p number 1 (counted from 0) is 1.5, which is not from 0 to 1"
        );
    }

    proptest! {
        #[test]
        fn adjusted_p_is_at_least_p_and_keeps_its_order(
            p in prop::collection::vec(0.0..=1.0, 1..20),
        ) {
            let adjusted = holm(&p).unwrap();
            for a in 0..p.len() {
                prop_assert!(p[a] <= adjusted[a] && adjusted[a] <= 1.0);
                for b in 0..p.len() {
                    prop_assert!(p[a] > p[b] || adjusted[a] <= adjusted[b]);
                }
            }
        }
    }
}
