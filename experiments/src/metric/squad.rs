//! Exact match and F1 of answers to `SQuAD`, counted as the official `evaluate-v1.1.py` and
//! `evaluate-v2.0.py` count them.
//!
//! All scores here are percentages, as those scripts print them, unlike the other metrics.

use std::collections::{BTreeMap, HashMap};

use super::Scores;
use crate::data::squad::spans::SpanPrediction;
use crate::data::squad::{SquadExample, SquadVersion};
use crate::examples::Parts;

/// Scores by the names of the official 2.0 script, in percent.
///
/// `exact` and `f1` are means over all examples, `total` their number. Version 2.0 adds the same with
/// the prefix `HasAns_` over the questions that have an answer and `NoAns_` over the others, unless
/// there are none. `predictions` maps a question's identifier to its answer, which is empty for "no
/// answer"; a question without a prediction scores 0 and is warned about. (The official 2.0 script
/// leaves it out of the means instead, which would reward silence.)
pub fn evaluate(
    version: SquadVersion,
    examples: &[SquadExample],
    predictions: &BTreeMap<String, String>,
) -> Scores {
    let scored = scored(version, examples, predictions);
    let mut missing = examples
        .iter()
        .filter(|example| !predictions.contains_key(&example.id));
    if let Some(first) = missing.next() {
        log::warn!(
            "{} of {} questions have no prediction and score 0; the first is {:?}",
            1 + missing.count(),
            examples.len(),
            first.id
        );
    }

    let mut scores = Scores::default();
    insert_means(&mut scores, "", scored.iter().map(|(_, score)| *score));
    if version == SquadVersion::V2 {
        for (prefix, group) in [("HasAns_", true), ("NoAns_", false)] {
            let scores_of = scored.iter().filter(|(has, _)| *has == group);
            insert_means(&mut scores, prefix, scores_of.map(|(_, score)| *score));
        }
    }
    scores
}

/// What the means of [`evaluate`] are made of.
pub fn parts(
    version: SquadVersion,
    examples: &[SquadExample],
    predictions: &BTreeMap<String, String>,
) -> BTreeMap<String, Parts> {
    let scored = scored(version, examples, predictions);
    let mut parts = BTreeMap::new();
    for (prefix, group) in [("", None), ("HasAns_", Some(true)), ("NoAns_", Some(false))] {
        let counts = |has_answer: bool| group.is_none_or(|group| group == has_answer);
        let is_there = scored.iter().any(|(has_answer, _)| counts(*has_answer));
        if !is_there || (group.is_some() && version == SquadVersion::V1) {
            continue;
        }
        let mut add = |name: &str, part: fn(&Score) -> f64| {
            let values = scored.iter();
            let values = values.map(|(has, score)| counts(*has).then(|| part(score)));
            parts.insert(format!("{prefix}{name}"), Parts::Percent(values.collect()));
        };
        add("exact", |score| score.exact);
        add("f1", |score| score.f1);
    }
    parts
}

/// Whether each question has an answer, and the score of its prediction.
fn scored(
    version: SquadVersion,
    examples: &[SquadExample],
    predictions: &BTreeMap<String, String>,
) -> Vec<(bool, Score)> {
    let scored = examples.iter().map(|example| {
        let score = predictions
            .get(&example.id)
            .map_or_else(Score::default, |text| score(version, example, text));
        (has_answer(example), score)
    });
    scored.collect()
}

/// The thresholds for "no answer" that would score best on `SQuAD` 2.0, and what they would score:
/// `best_exact`, `best_exact_thresh`, `best_f1`, `best_f1_thresh`. Scores in percent; thresholds as
/// [`SpanPrediction::text`] takes them.
///
/// The search is the official one: it starts with every question unanswered and admits the answers by
/// rising margin. Equal margins are admitted together, as a threshold cannot part them. Where leaving
/// every question unanswered is best, the threshold is 0, as in the official script, if the margins are
/// positive (as its probabilities are), otherwise just below the lowest margin.
pub fn best_thresholds(examples: &[SquadExample], predictions: &[SpanPrediction]) -> Scores {
    let by_id: HashMap<&str, &SpanPrediction> =
        predictions.iter().map(|p| (p.id.as_str(), p)).collect();
    let mut answered: Vec<(f32, Score)> = examples
        .iter()
        .filter_map(|example| {
            let prediction = by_id.get(example.id.as_str())?;
            Some((prediction.null_margin, gain(example, prediction)))
        })
        .collect();
    answered.sort_by(|a, b| a.0.total_cmp(&b.0));
    let unanswerable = examples.iter().filter(|e| !has_answer(e)).count();

    let mut best = Scores::default();
    let exact = answered.iter().map(|(margin, gain)| (*margin, gain.exact));
    let f1 = answered.iter().map(|(margin, gain)| (*margin, gain.f1));
    for (name, (score, threshold)) in [
        ("exact", best_threshold(unanswerable as f64, exact)),
        ("f1", best_threshold(unanswerable as f64, f1)),
    ] {
        best.insert(format!("best_{name}"), percent(score, examples.len()));
        best.insert(format!("best_{name}_thresh"), f64::from(threshold));
    }
    best
}

/// What giving the answer adds to the summed scores over leaving the question unanswered.
fn gain(example: &SquadExample, prediction: &SpanPrediction) -> Score {
    if has_answer(example) {
        score(SquadVersion::V2, example, &prediction.answer)
    } else {
        let lost = if prediction.answer.is_empty() {
            0.0
        } else {
            -1.0
        };
        Score {
            exact: lost,
            f1: lost,
        }
    }
}

/// The highest sum on the way through `gains`, sorted by margin, and the margin where it is reached.
fn best_threshold(unanswered: f64, gains: impl Iterator<Item = (f32, f64)> + Clone) -> (f64, f32) {
    let lowest = gains.clone().next().map_or(0.0, |(margin, _)| margin);
    let mut best = (unanswered, f32::min(0.0, lowest.next_down()));
    let mut sum = unanswered;
    let mut gains = gains.peekable();
    while let Some((margin, gain)) = gains.next() {
        sum += gain;
        let tied = gains.peek().is_some_and(|(next, _)| *next <= margin);
        if !tied && sum > best.0 {
            best = (sum, margin);
        }
    }
    best
}

/// The scores of one answer, 0 to 1.
#[derive(Clone, Copy, Default)]
struct Score {
    exact: f64,
    f1: f64,
}

fn has_answer(example: &SquadExample) -> bool {
    !example.answers.is_empty()
}

/// The best scores of `prediction` against any accepted answer.
fn score(version: SquadVersion, example: &SquadExample, prediction: &str) -> Score {
    let mut golds: Vec<&str> = example.answers.iter().map(|a| a.text.as_str()).collect();
    if version == SquadVersion::V2 {
        golds.retain(|gold| !normalize_answer(gold).is_empty());
        if golds.is_empty() {
            golds.push("");
        }
    }
    golds.iter().fold(Score::default(), |best, gold| Score {
        exact: best
            .exact
            .max(f64::from(u8::from(exact_match(gold, prediction)))),
        f1: best.f1.max(f1(version, gold, prediction)),
    })
}

fn insert_means(scores: &mut Scores, prefix: &str, scored: impl Iterator<Item = Score>) {
    let mut sum = Score::default();
    let mut total: usize = 0;
    for score in scored {
        sum.exact += score.exact;
        sum.f1 += score.f1;
        total += 1;
    }
    if total == 0 {
        return;
    }
    scores.insert(format!("{prefix}exact"), percent(sum.exact, total));
    scores.insert(format!("{prefix}f1"), percent(sum.f1, total));
    scores.insert(format!("{prefix}total"), total as f64);
}

fn percent(sum: f64, total: usize) -> f64 {
    100.0 * sum / total.max(1) as f64
}

/// Whether the two texts are equal after [`normalize_answer`].
pub fn exact_match(gold: &str, prediction: &str) -> bool {
    normalize_answer(gold) == normalize_answer(prediction)
}

/// The harmonic mean of precision and recall over the words of the two texts after
/// [`normalize_answer`], 0 to 1.
///
/// Where a text has no words left, version 1.1 counts 0; version 2.0 counts 1 if the other has none either.
pub fn f1(version: SquadVersion, gold: &str, prediction: &str) -> f64 {
    let (gold, prediction) = (normalize_answer(gold), normalize_answer(prediction));
    if gold.is_empty() || prediction.is_empty() {
        let both_empty = version == SquadVersion::V2 && gold == prediction;
        return f64::from(u8::from(both_empty));
    }
    let mut unmatched: HashMap<&str, usize> = HashMap::new();
    for word in gold.split(' ') {
        *unmatched.entry(word).or_default() += 1;
    }
    let mut common: usize = 0;
    let mut words: usize = 0;
    for word in prediction.split(' ') {
        words += 1;
        if let Some(left @ 1..) = unmatched.get_mut(word) {
            *left -= 1;
            common += 1;
        }
    }
    // 2PR / (P + R), with P and R the common words over those of each text.
    (2 * common) as f64 / (words + gold.split(' ').count()) as f64
}

/// Lower case, without ASCII punctuation, without the words "a", "an" and "the", with single blanks
/// between words and none around.
pub fn normalize_answer(text: &str) -> String {
    let lower = text.to_lowercase();
    let plain: String = lower
        .chars()
        .filter(|c| !c.is_ascii_punctuation())
        .collect();
    // A word ends where letters and digits do, as for the script's `\b`: a dash that is not ASCII
    // parts "the" from what follows.
    let mut kept = String::with_capacity(plain.len());
    let mut rest = plain.as_str();
    while let Some(first) = rest.chars().next() {
        let in_word = first.is_alphanumeric();
        let end = rest
            .find(|c: char| c.is_alphanumeric() != in_word)
            .unwrap_or(rest.len());
        let (run, after) = rest.split_at(end);
        kept.push_str(if matches!(run, "a" | "an" | "the") {
            " "
        } else {
            run
        });
        rest = after;
    }
    kept.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::data::squad::GoldAnswer;

    fn example(id: &str, golds: &[&str]) -> SquadExample {
        let answers = golds.iter().map(|gold| GoldAnswer {
            text: (*gold).into(),
            start: Some(0),
        });
        SquadExample {
            id: id.into(),
            question: String::new(),
            context: String::new(),
            answers: answers.collect(),
        }
    }

    fn prediction(id: &str, answer: &str, null_margin: f32) -> SpanPrediction {
        SpanPrediction {
            id: id.into(),
            answer: answer.into(),
            null_margin,
        }
    }

    fn scored(version: SquadVersion, examples: &[SquadExample], texts: &[(&str, &str)]) -> Scores {
        let own = |(id, text): &(&str, &str)| ((*id).to_owned(), (*text).to_owned());
        evaluate(version, examples, &texts.iter().map(own).collect())
    }

    #[track_caller]
    fn assert_scores(found: &Scores, expected: &[(&str, f64)]) {
        let keys: Vec<&str> = found.keys().map(String::as_str).collect();
        let mut expected_keys: Vec<&str> = expected.iter().map(|(key, _)| *key).collect();
        expected_keys.sort_unstable();
        assert_eq!(keys, expected_keys);
        for (key, value) in expected {
            assert!(
                (found[*key] - value).abs() < 1e-9,
                "{key}: {} for {value}",
                found[*key]
            );
        }
    }

    /// The right sides are what `normalize_answer` of `evaluate-v2.0.py` returns, run by Python 3.11.
    #[test]
    fn normalizes_as_the_official_script() {
        for (text, expected) in [
            ("The  Norman\tConquest!", "norman conquest"),
            ("an apple a day, the end", "apple day end"),
            ("theatre and anthem", "theatre and anthem"),
            ("U.S.A.", "usa"),
            ("A", ""),
            ("the-the", "thethe"),
            ("the–end", "–end"),
            ("Panthéon «the» x", "panthéon « » x"),
            ("cafe\u{301} a\u{301}", "cafe\u{301} \u{301}"),
            ("İSTANBUL ΣΑΣ", "i\u{307}stanbul σας"),
            ("a_b $5 a²", "ab 5 a²"),
            ("\u{3000}東京\u{a0}a タワー ", "東京 タワー"),
            ("", ""),
        ] {
            assert_eq!(normalize_answer(text), expected, "{text:?}");
        }
    }

    #[test]
    fn f1_counts_common_words_as_often_as_both_have_them() {
        let close = |gold, text, value: f64| {
            let found = f1(SquadVersion::V2, gold, text);
            assert!((found - value).abs() < 1e-12, "{found} for {value}");
        };
        close("Denver Broncos", "the Broncos of Denver", 0.8);
        close("to be or not to be", "to to to", 4.0 / 9.0);
        close("Denver", "Carolina", 0.0);
        close("Denver", "", 0.0);
    }

    #[test]
    fn answers_that_normalize_to_nothing_differ_between_the_versions() {
        let vitamin = [example("q", &["A", "Vitamin A"])];
        let v1 = scored(SquadVersion::V1, &vitamin, &[("q", "a")]);
        assert_scores(&v1, &[("exact", 100.0), ("f1", 0.0), ("total", 1.0)]);
        // Version 2.0 strikes out the answer "A" and keeps the other.
        let v2 = scored(SquadVersion::V2, &vitamin, &[("q", "a")]);
        assert!(v2["exact"].abs() < 1e-9 && v2["f1"].abs() < 1e-9);
        let only = scored(SquadVersion::V2, &[example("q", &["A"])], &[("q", "the")]);
        assert!((only["f1"] - 100.0).abs() < 1e-9);
    }

    #[test]
    fn takes_the_best_gold_answer_and_parts_the_groups() {
        let examples = [
            example("a", &["in 1066", "1066", "year 1066"]),
            example("b", &["Denver Broncos"]),
            example("c", &[]),
            example("d", &[]),
        ];
        let texts = [
            ("a", "1066."),
            ("b", "Broncos"),
            ("c", ""),
            ("d", "something"),
        ];
        assert_scores(
            &scored(SquadVersion::V2, &examples, &texts),
            &[
                ("exact", 50.0),
                ("f1", 100.0 * (1.0 + 2.0 / 3.0 + 1.0) / 4.0),
                ("total", 4.0),
                ("HasAns_exact", 50.0),
                ("HasAns_f1", 100.0 * (1.0 + 2.0 / 3.0) / 2.0),
                ("HasAns_total", 2.0),
                ("NoAns_exact", 50.0),
                ("NoAns_f1", 50.0),
                ("NoAns_total", 2.0),
            ],
        );
    }

    #[test]
    fn a_missing_prediction_scores_0_even_where_silence_is_right() {
        let examples = [example("a", &["x"]), example("b", &[])];
        let found = scored(SquadVersion::V2, &examples, &[("a", "x")]);
        assert!((found["exact"] - 50.0).abs() < 1e-9);
        assert!(found["NoAns_exact"].abs() < 1e-9);
    }

    fn assert_best(examples: &[SquadExample], predictions: &[SpanPrediction], best: [f64; 4]) {
        let [exact, exact_thresh, f1, f1_thresh] = best;
        assert_scores(
            &best_thresholds(examples, predictions),
            &[
                ("best_exact", exact),
                ("best_exact_thresh", exact_thresh),
                ("best_f1", f1),
                ("best_f1_thresh", f1_thresh),
            ],
        );
    }

    #[test]
    fn the_best_threshold_may_differ_between_the_scores() {
        let examples = [
            example("a", &["x"]),
            example("b", &["y z"]),
            example("c", &[]),
            example("d", &["w"]),
        ];
        let predictions = [
            prediction("c", "something", 2.0),
            prediction("b", "y", 1.0),
            prediction("a", "x", -1.0),
            prediction("d", "v", 3.0),
        ];
        // Sums by margin: exact 1 (none), 2, 2, 1, 1; F1 1, 2, 2 + 2/3, 1 + 2/3, 1 + 2/3.
        assert_best(
            &examples,
            &predictions,
            [50.0, -1.0, 100.0 * (8.0 / 3.0) / 4.0, 1.0],
        );
    }

    #[test]
    fn the_best_threshold_does_not_part_equal_margins() {
        let examples = [example("a", &["x"]), example("b", &[]), example("c", &[])];
        let predictions = [
            prediction("a", "x", 1.0),
            prediction("b", "y", 1.0),
            prediction("c", "z", 1.0),
        ];
        // The official script would stop after "a" and report 3 of 3, which no threshold reaches.
        assert_best(
            &examples,
            &predictions,
            [100.0 * 2.0 / 3.0, 0.0, 100.0 * 2.0 / 3.0, 0.0],
        );
    }

    #[test]
    fn the_threshold_for_no_answers_at_all_is_below_every_margin() {
        let examples = [example("a", &[]), example("b", &[])];
        let predictions = [prediction("a", "x", -5.0), prediction("b", "y", 1.0)];
        let threshold = best_thresholds(&examples, &predictions)["best_f1_thresh"];
        assert!(threshold < -5.0 && threshold > -5.1, "{threshold}");
        assert_best(
            &examples,
            &predictions,
            [100.0, threshold, 100.0, threshold],
        );
    }

    proptest! {
        #[test]
        fn the_best_thresholds_score_what_they_promise(
            questions in prop::collection::vec(
                (any::<bool>(), prop::sample::select(vec!["x", "x y", "z", ""]), -3_i8..4),
                1..12,
            ),
        ) {
            let numbered = || questions.iter().enumerate();
            let examples: Vec<_> = numbered()
                .map(|(i, (has, ..))| example(&i.to_string(), if *has { &["x"] } else { &[] }))
                .collect();
            let predictions: Vec<_> = numbered()
                .map(|(i, (_, text, margin))| {
                    prediction(&i.to_string(), text, f32::from(*margin) / 3.0)
                })
                .collect();
            let at = |threshold: f64| {
                let text = |found: &SpanPrediction| {
                    found.text(SquadVersion::V2, threshold as f32).to_owned()
                };
                let texts = predictions.iter().map(|found| (found.id.clone(), text(found)));
                evaluate(SquadVersion::V2, &examples, &texts.collect())
            };
            let best = best_thresholds(&examples, &predictions);
            for name in ["exact", "f1"] {
                let promised = best[&format!("best_{name}")];
                let kept = at(best[&format!("best_{name}_thresh")])[name];
                prop_assert!((promised - kept).abs() < 1e-9, "{}: {} for {}", name, kept, promised);
                for margin in -10..12 {
                    prop_assert!(at(f64::from(margin) / 6.0)[name] <= promised + 1e-9);
                }
            }
        }
    }
}
