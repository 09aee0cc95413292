//! Seeds: the list that every arm runs.

use std::collections::BTreeSet;

use super::{
    error::{AblationError, Place, Refusal},
    fields::Field,
};

/// Seeds of an ablation at most.
const LIMIT: usize = 10_000;

/// The seeds of `--seeds`: `6` is 1 to 6, `3,5,8` a list, and `[7]` a list of one.
///
/// # Errors
///
/// If the text is no positive number and no list of seeds, a seed is given twice, or there are more than 10,000.
pub fn parse_seeds(text: &str) -> Result<Vec<u64>, AblationError> {
    let place = Place::Argument(format!("--seeds {text}"));
    let refused = || {
        let refusal = Refusal::Value {
            key: "--seeds".to_owned(),
            value: format!("`{text}`"),
            right: format!(
                "write a number of seeds from 1 to {LIMIT}, as in 6, or a list, as in 3,5,8 or [7]"
            ),
        };
        refusal.at(&place)
    };
    let text = text.trim();
    let list = text
        .strip_prefix('[')
        .and_then(|text| text.strip_suffix(']'));
    let seeds: Vec<u64> = if list.is_some() || text.contains(',') {
        let seeds = list
            .unwrap_or(text)
            .split(',')
            .map(|seed| seed.trim().parse::<i64>());
        let seeds: Result<Vec<_>, _> = seeds.map(|seed| seed.map(u64::try_from)).collect();
        let seeds = seeds.map_err(|_| refused())?;
        seeds
            .into_iter()
            .collect::<Result<_, _>>()
            .map_err(|_| refused())?
    } else {
        let count = text.parse().map_err(|_| refused())?;
        counted(count).ok_or_else(refused)?
    };
    check(&seeds, "--seeds", &place)?;
    Ok(seeds)
}

/// The seeds of the key `seeds`: a number counts from 1, as in `--seeds`, and a list lists.
pub(super) fn read(field: &Field<'_, '_>) -> Result<Vec<u64>, AblationError> {
    if field.is_integer() {
        let right = format!("write a number of seeds from 1 to {LIMIT}, or a list");
        return counted(field.integer(0)?).ok_or_else(|| field.refused(&right));
    }
    if !field.is_list() {
        return Err(field.wrong("a number or a list"));
    }
    let seeds = field.integers()?;
    check(&seeds, &field.path, &field.place())?;
    Ok(seeds)
}

/// So many seeds from 1.
fn counted(count: u64) -> Option<Vec<u64>> {
    let is_possible = (1..=LIMIT as u64).contains(&count);
    is_possible.then(|| (1..=count).collect())
}

/// Refuses an empty list, one with a seed twice, and one that is too long.
pub(super) fn check(seeds: &[u64], key: &str, place: &Place) -> Result<(), AblationError> {
    if seeds.is_empty() || seeds.len() > LIMIT {
        let refusal = Refusal::Value {
            key: key.to_owned(),
            value: format!("a list of {} seeds", seeds.len()),
            right: format!("give 1 to {LIMIT}"),
        };
        return Err(refusal.at(place));
    }
    let mut seen = BTreeSet::new();
    match seeds.iter().find(|seed| !seen.insert(**seed)) {
        Some(seed) => Err(Refusal::SeedTwice(*seed).at(place)),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_counts_and_a_list_lists() {
        assert_eq!(parse_seeds("6"), Ok(vec![1, 2, 3, 4, 5, 6]));
        assert_eq!(parse_seeds("3,5, 8"), Ok(vec![3, 5, 8]));
        assert_eq!(parse_seeds("[7]"), Ok(vec![7]));
        assert_eq!(parse_seeds(" [1, 2] "), Ok(vec![1, 2]));
    }

    #[test]
    fn what_is_no_seeds_is_refused() {
        for text in [
            "",
            "0",
            "-1",
            "1.5",
            "x",
            "1,,2",
            "1,",
            "[]",
            "[1",
            "-1,2",
            "9223372036854775808,1",
            "10001",
        ] {
            let error = parse_seeds(text).expect_err(text);
            let expected = format!(
                "`--seeds` cannot be `{text}`; write a number of seeds from 1 to 10000, as in 6, or a list, as in 3,5,8 or [7]"
            );
            assert_eq!(error.to_string(), expected);
            assert_eq!(error.place, Place::Argument(format!("--seeds {text}")));
        }
        let error = parse_seeds("3,5,3").expect_err("twice");
        assert_eq!(
            error.to_string(),
            "seed 3 is given twice; arms run each seed once"
        );
    }
}
