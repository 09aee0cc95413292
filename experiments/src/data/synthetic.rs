//! A small language-understanding task that needs no download: what does a review say of one thing?
//!
//! A review has one to three clauses such as `nobody said that the soup was not stale`. The second text
//! names a thing, and the label is the review's opinion of it: negative, positive, or none where the
//! thing does not occur. A model has to find the clause, know the adjective, and count the negations.

use rand::{Rng, SeedableRng, rngs::StdRng, seq::IndexedRandom};

use super::example::{Example, Label};
use crate::recipe::SyntheticData;

/// Negative, positive, not mentioned.
pub const CLASSES: usize = 3;

const THINGS: [&str; 40] = [
    "soup", "bread", "salad", "coffee", "dessert", "waiter", "chef", "menu", "table", "music",
    "room", "bed", "shower", "lobby", "garden", "pool", "view", "price", "staff", "parking",
    "film", "plot", "cast", "script", "ending", "score", "scene", "camera", "book", "author",
    "style", "cover", "phone", "screen", "battery", "speaker", "keyboard", "manual", "case",
    "charger",
];
const POSITIVE: [&str; 40] = [
    "good",
    "great",
    "lovely",
    "fresh",
    "friendly",
    "polite",
    "clean",
    "quiet",
    "warm",
    "bright",
    "clever",
    "funny",
    "smooth",
    "solid",
    "cheap",
    "fair",
    "quick",
    "rich",
    "tender",
    "crisp",
    "elegant",
    "superb",
    "charming",
    "cosy",
    "sharp",
    "honest",
    "gentle",
    "modern",
    "reliable",
    "sturdy",
    "tasty",
    "vivid",
    "witty",
    "graceful",
    "generous",
    "spotless",
    "pleasant",
    "perfect",
    "brilliant",
    "delightful",
];
const NEGATIVE: [&str; 40] = [
    "bad", "awful", "ugly", "stale", "rude", "grumpy", "dirty", "noisy", "cold", "dull", "stupid",
    "boring", "rough", "flimsy", "costly", "unfair", "slow", "bland", "tough", "soggy", "clumsy",
    "poor", "dreary", "cramped", "blurry", "shady", "harsh", "dated", "faulty", "weak", "greasy",
    "pale", "silly", "awkward", "stingy", "filthy", "nasty", "broken", "dreadful", "horrible",
];
/// How a clause begins, and whether that turns its meaning round.
const OPENINGS: [(&str, bool); 8] = [
    ("", false),
    ("", false),
    ("everyone agreed that", false),
    ("it is true that", false),
    ("we found that", false),
    ("nobody said that", true),
    ("it is false that", true),
    ("i doubt that", true),
];
const VERBS: [&str; 4] = ["was", "seemed", "looked", "felt"];
/// What stands before an adjective, and whether it turns the adjective round.
const DEGREES: [(&str, bool); 8] = [
    ("", false),
    ("", false),
    ("very", false),
    ("quite", false),
    ("really", false),
    ("not", true),
    ("never", true),
    ("hardly", true),
];
const JOINS: [&str; 4] = ["and", "but", "while", "although"];

/// The examples to train on.
pub fn train(recipe: &SyntheticData) -> Vec<Example> {
    examples(recipe.seed, 0, recipe.train)
}

/// The examples to judge on.
pub fn dev(recipe: &SyntheticData) -> Vec<Example> {
    examples(recipe.seed, 1, recipe.dev)
}

fn examples(seed: u64, split: u64, count: usize) -> Vec<Example> {
    let mut key = [0; 32];
    key[..8].copy_from_slice(&seed.to_le_bytes());
    key[8..16].copy_from_slice(&split.to_le_bytes());
    let mut rng = StdRng::from_seed(key);
    (0..count).map(|_| example(&mut rng)).collect()
}

fn example(rng: &mut StdRng) -> Example {
    let clauses = rng.random_range(1..=3);
    let things: Vec<&str> = THINGS.choose_multiple(rng, clauses + 1).copied().collect();
    let opinions: Vec<(String, bool)> = things[..clauses]
        .iter()
        .map(|thing| clause(thing, rng))
        .collect();
    let mut review = String::new();
    for (text, _) in &opinions {
        if !review.is_empty() {
            review.push(' ');
            review.push_str(pick(&JOINS, rng));
            review.push(' ');
        }
        review.push_str(text);
    }
    let class = rng.random_range(0..CLASSES);
    let wanted = opinions
        .iter()
        .position(|(_, positive)| usize::from(*positive) == class);
    let (asked, class) = match wanted {
        Some(index) => (index, class),
        None => (clauses, CLASSES - 1),
    };
    Example {
        first: review,
        second: Some(things[asked].to_owned()),
        label: Some(Label::Class(class)),
    }
}

/// A clause on a thing, and whether it speaks well of it.
fn clause(thing: &str, rng: &mut StdRng) -> (String, bool) {
    let (opening, opening_turns) = pick(&OPENINGS, rng);
    let (degree, degree_turns) = pick(&DEGREES, rng);
    let positive = rng.random_bool(0.5);
    let adjective = pick(if positive { &POSITIVE } else { &NEGATIVE }, rng);
    let words = [opening, "the", thing, pick(&VERBS, rng), degree, adjective];
    let words: Vec<&str> = words.into_iter().filter(|word| !word.is_empty()).collect();
    (words.join(" "), positive ^ opening_turns ^ degree_turns)
}

/// A random item of a list that is not empty.
fn pick<T: Copy, const N: usize>(items: &[T; N], rng: &mut StdRng) -> T {
    items[rng.random_range(0..N)]
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn recipe(seed: u64) -> SyntheticData {
        SyntheticData {
            seed,
            train: 600,
            dev: 300,
        }
    }

    #[test]
    fn the_seed_decides_everything_and_splits_differ() {
        assert_eq!(train(&recipe(1)), train(&recipe(1)));
        assert_ne!(train(&recipe(1)), train(&recipe(2)));
        let seen: HashSet<_> = train(&recipe(1))
            .into_iter()
            .map(|item| item.first)
            .collect();
        let new = dev(&recipe(1))
            .into_iter()
            .filter(|item| !seen.contains(&item.first));
        assert!(new.count() > 290);
    }

    #[test]
    fn negations_cancel_each_other() {
        let mut rng = StdRng::seed_from_u64(3);
        for _ in 0..500 {
            let (text, positive) = clause("soup", &mut rng);
            let has = |words: &[&str]| words.iter().any(|word| text.contains(word));
            let turns = usize::from(has(&["nobody", "false", "doubt"]))
                + usize::from(has(&[" not ", " never ", " hardly "]));
            let last = text.rsplit(' ').next().unwrap();
            assert_eq!(positive, POSITIVE.contains(&last) ^ (turns == 1), "{text}");
        }
    }

    #[test]
    fn a_thing_has_a_label_if_and_only_if_it_occurs() {
        let mut counts = [0; CLASSES];
        for example in train(&recipe(5)) {
            let thing = example.second.unwrap();
            let occurs = example.first.split(' ').any(|word| word == thing);
            let Some(Label::Class(class)) = example.label else {
                panic!("every example has a class");
            };
            assert_eq!(occurs, class != 2);
            counts[class] += 1;
        }
        assert!(counts.iter().all(|count| *count > 120), "{counts:?}");
    }
}
