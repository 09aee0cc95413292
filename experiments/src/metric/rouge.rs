//! ROUGE (C.-Y. Lin, *ROUGE: A Package for Automatic Evaluation of Summaries*, 2004), with the words of
//! Google's `rouge_score` and its stemmer.

mod porter;

use std::collections::HashMap;

pub use porter::stem;

use super::{MetricError, Scores, ratio};

/// F1 of a summary against a reference, each from 0 to 1.
///
/// Words are runs of `a` to `z` and `0` to `9` in lower case, those of more than three characters
/// replaced by their stems.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Rouge {
    /// Words in common.
    pub rouge_1: f64,
    /// Pairs of successive words in common.
    pub rouge_2: f64,
    /// The longest common subsequence of words.
    pub rouge_l: f64,
    /// The union of the longest common subsequences of each line of the reference with all lines of the
    /// summary (Lin 2004, section 3.2), no word counted twice.
    pub rouge_lsum: f64,
}

impl Rouge {
    /// Compares a summary with one reference.
    pub fn of(prediction: &str, reference: &str) -> Self {
        let mut words = Words::default();
        let (found, expected) = (words.ids(prediction), words.ids(reference));
        let mut lines = |text: &str| -> Vec<Vec<u32>> {
            text.split('\n').map(|line| words.ids(line)).collect()
        };
        let (found_lines, expected_lines) = (lines(prediction), lines(reference));
        let common = Subsequences::of(&expected, &found).longest();
        Self {
            rouge_1: ngrams(&found, &expected, 1),
            rouge_2: ngrams(&found, &expected, 2),
            rouge_l: f1(common, found.len(), expected.len()),
            rouge_lsum: summary_level(&found_lines, &expected_lines, words.0.len()),
        }
    }

    /// The best of each measure over several references; 0 if there are none.
    pub fn best<S: AsRef<str>>(prediction: &str, references: &[S]) -> Self {
        let scores = references
            .iter()
            .map(|reference| Self::of(prediction, reference.as_ref()));
        scores.fold(Self::default(), |best, score| Self {
            rouge_1: best.rouge_1.max(score.rouge_1),
            rouge_2: best.rouge_2.max(score.rouge_2),
            rouge_l: best.rouge_l.max(score.rouge_l),
            rouge_lsum: best.rouge_lsum.max(score.rouge_lsum),
        })
    }
}

/// The mean of each measure over summaries, each against its best reference, as `rouge1`, `rouge2`,
/// `rougeL` and `rougeLsum`; and `rouge_geometric_mean`, that of the first three means, which SCROLLS
/// (arXiv 2201.03533) ranks by.
///
/// # Errors
///
/// If there are no summaries, or not as many as lists of references.
pub fn rouge<P: AsRef<str>, R: AsRef<str>>(
    predictions: &[P],
    references: &[&[R]],
) -> Result<Scores, MetricError> {
    if predictions.len() != references.len() {
        return Err(MetricError::Lengths {
            predictions: predictions.len(),
            references: references.len(),
        });
    }
    if predictions.is_empty() {
        return Err(MetricError::Empty);
    }
    let pairs = predictions.iter().zip(references);
    let scores: Vec<Rouge> = pairs
        .map(|(prediction, references)| Rouge::best(prediction.as_ref(), references))
        .collect();
    let mean =
        |measure: fn(&Rouge) -> f64| scores.iter().map(measure).sum::<f64>() / scores.len() as f64;
    let one = mean(|score| score.rouge_1);
    let two = mean(|score| score.rouge_2);
    let longest = mean(|score| score.rouge_l);
    Ok(Scores::from([
        ("rouge1".to_owned(), one),
        ("rouge2".to_owned(), two),
        ("rougeL".to_owned(), longest),
        ("rougeLsum".to_owned(), mean(|score| score.rouge_lsum)),
        (
            "rouge_geometric_mean".to_owned(),
            (one * two * longest).cbrt(),
        ),
    ]))
}

/// Numbers for words, so that they are quick to compare.
#[derive(Default)]
struct Words(HashMap<String, u32>);

impl Words {
    /// The words of a text, in order.
    fn ids(&mut self, text: &str) -> Vec<u32> {
        let is_word =
            |character: char| character.is_ascii_lowercase() || character.is_ascii_digit();
        let lower = text.to_lowercase();
        let words = lower.split(|character| !is_word(character));
        let stems = words.filter(|word| !word.is_empty()).map(|word| {
            if word.len() > 3 {
                stem(word)
            } else {
                word.to_owned()
            }
        });
        stems
            .map(|stem| {
                let next = self.0.len() as u32;
                *self.0.entry(stem).or_insert(next)
            })
            .collect()
    }
}

/// F1 of `common` of the items that were found and those that were expected.
fn f1(common: usize, found: usize, expected: usize) -> f64 {
    ratio(2.0 * common as f64, (found + expected) as f64)
}

/// F1 of the runs of `n` words.
fn ngrams(found: &[u32], expected: &[u32], n: usize) -> f64 {
    let mut counts: HashMap<&[u32], usize> = HashMap::new();
    for ngram in expected.windows(n) {
        *counts.entry(ngram).or_default() += 1;
    }
    let mut common = 0;
    for ngram in found.windows(n) {
        if let Some(count) = counts.get_mut(ngram).filter(|count| **count > 0) {
            *count -= 1;
            common += 1;
        }
    }
    let number = |words: &[u32]| words.windows(n).len();
    f1(common, number(found), number(expected))
}

/// The lengths of the longest common subsequences of two sequences' beginnings.
struct Subsequences<'a> {
    expected: &'a [u32],
    found: &'a [u32],
    /// `[(E + 1) (F + 1)]`, for the first `e` and the first `f` words.
    lengths: Vec<u32>,
}

impl<'a> Subsequences<'a> {
    fn of(expected: &'a [u32], found: &'a [u32]) -> Self {
        let width = found.len() + 1;
        let mut lengths = vec![0; (expected.len() + 1) * width];
        for (row, word) in expected.iter().enumerate() {
            let (above, below) = lengths[row * width..].split_at_mut(width);
            for (column, other) in found.iter().enumerate() {
                below[column + 1] = if word == other {
                    above[column] + 1
                } else {
                    above[column + 1].max(below[column])
                };
            }
        }
        Self {
            expected,
            found,
            lengths,
        }
    }

    fn longest(&self) -> usize {
        self.lengths.last().copied().unwrap_or(0) as usize
    }

    fn length(&self, expected: usize, found: usize) -> u32 {
        self.lengths[expected * (self.found.len() + 1) + found]
    }

    /// Marks the words of `expected` that are part of the subsequence found from the end, of several
    /// the one that `rouge_score` takes.
    fn mark(&self, marks: &mut [bool]) {
        let (mut row, mut column) = (self.expected.len(), self.found.len());
        while row > 0 && column > 0 {
            if self.expected[row - 1] == self.found[column - 1] {
                (row, column) = (row - 1, column - 1);
                marks[row] = true;
            } else if self.length(row, column - 1) > self.length(row - 1, column) {
                column -= 1;
            } else {
                row -= 1;
            }
        }
    }
}

/// F1 of the union of subsequences, line by line; `words` is the number of different ones.
fn summary_level(found: &[Vec<u32>], expected: &[Vec<u32>], words: usize) -> f64 {
    let counts = |lines: &[Vec<u32>]| {
        let mut counts = vec![0_usize; words];
        for word in lines.iter().flatten() {
            counts[*word as usize] += 1;
        }
        counts
    };
    let (mut left, mut expected_left) = (counts(found), counts(expected));
    let mut common = 0;
    for line in expected {
        let mut marks = vec![false; line.len()];
        for other in found {
            Subsequences::of(line, other).mark(&mut marks);
        }
        for (word, _) in line.iter().zip(marks).filter(|(_, is_marked)| *is_marked) {
            let word = *word as usize;
            if left[word] > 0 && expected_left[word] > 0 {
                left[word] -= 1;
                expected_left[word] -= 1;
                common += 1;
            }
        }
    }
    let number = |lines: &[Vec<u32>]| lines.iter().map(Vec::len).sum();
    f1(common, number(found), number(expected))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn nothing_in_common_is_zero_and_the_same_is_one() {
        let same = Rouge::of("The cats sat.\nThey slept.", "the cat SAT\nthey slept");
        let all = |score| Rouge {
            rouge_1: score,
            rouge_2: score,
            rouge_l: score,
            rouge_lsum: score,
        };
        assert_eq!(same, all(1.0));
        for (prediction, reference) in [("", ""), ("", "a cat"), ("?!", "a cat"), ("dog", "a cat")]
        {
            assert_eq!(Rouge::of(prediction, reference), all(0.0));
        }
    }

    #[test]
    fn scores_are_shares_of_what_is_in_common() {
        let score = Rouge::of("police kill the gunman", "police killed the gunman");
        assert_eq!(score.rouge_2.to_bits(), 1.0_f64.to_bits());
        // Lin 2004, section 3.1: the first has a longer subsequence in order.
        let reference = "police killed the gunman";
        let order = Rouge::of("police ended the gunman", reference);
        let other = Rouge::of("the gunman ended police", reference);
        assert!((order.rouge_l - 0.75).abs() < 1e-12 && (other.rouge_l - 0.5).abs() < 1e-12);
        assert!((order.rouge_1 - other.rouge_1).abs() < 1e-12);
        // Section 3.2: w1 w2 w3 w4 w5 against two lines; the union has 4 of 5 and of 10 words.
        let union = Rouge::of("w1 w2 w6 w7 w8\nw1 w3 w8 w9 w5", "w1 w2 w3 w4 w5").rouge_lsum;
        assert!((union - 2.0 * 4.0 / 15.0).abs() < 1e-12, "{union}");
    }

    #[test]
    fn each_measure_takes_its_best_reference() {
        let (one, other) = ("a b c d", "d e f g h i j k a b");
        let best = Rouge::best("d a b", &[one, other]);
        assert!((best.rouge_1 - Rouge::of("d a b", one).rouge_1).abs() < 1e-12);
        assert!((best.rouge_2 - Rouge::of("d a b", one).rouge_2).abs() < 1e-12);
        let scores = rouge(&["d a b", "x"], &[&[one, other][..], &["x"]]).unwrap();
        assert!((scores["rouge1"] - f64::midpoint(best.rouge_1, 1.0)).abs() < 1e-12);
        let names = ["rouge1", "rouge2", "rougeL"].map(|name| scores[name]);
        let mean = names.iter().product::<f64>().powf(1.0 / 3.0);
        assert!((scores["rouge_geometric_mean"] - mean).abs() < 1e-12);
    }

    #[test]
    fn lists_that_do_not_fit_are_errors() {
        let none: [&str; 0] = [];
        assert_eq!(rouge::<&str, &str>(&none, &[]), Err(MetricError::Empty));
        let error = rouge(&["a"], &[&["a"][..], &["b"]]).unwrap_err();
        assert_eq!(error.to_string(), "1 predictions for 2 references");
    }

    proptest! {
        #[test]
        fn scores_stay_in_their_range_and_do_not_depend_on_the_side(
            one in "[a-c ]{0,20}(\n[a-c ]{0,20})?",
            other in "[a-c ]{0,20}(\n[a-c ]{0,20})?",
        ) {
            let (score, swapped) = (Rouge::of(&one, &other), Rouge::of(&other, &one));
            for measure in [score.rouge_1, score.rouge_2, score.rouge_l, score.rouge_lsum] {
                prop_assert!((0.0..=1.0).contains(&measure));
            }
            prop_assert_eq!(score.rouge_1.to_bits(), swapped.rouge_1.to_bits());
            prop_assert_eq!(score.rouge_2.to_bits(), swapped.rouge_2.to_bits());
            prop_assert_eq!(score.rouge_l.to_bits(), swapped.rouge_l.to_bits());
            prop_assert!(score.rouge_l <= score.rouge_1);
        }
    }
}
