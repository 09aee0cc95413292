//! A small language-understanding task that needs no download: what does a review say, and how strongly?
//!
//! A review is a sentence such as `nobody said that the soup was not very stale`. Its class is its
//! opinion, negative or positive, and whether that is a strong one. A model has to know the adjective
//! and the degree, and to count the negations.

use rand::{RngExt, SeedableRng, rngs::StdRng};

use super::example::{Example, Label};
use crate::recipe::SyntheticData;

/// Negative, strongly negative, positive, strongly positive.
pub const CLASSES: usize = 4;

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
/// How a review begins, and whether that turns its meaning round.
const OPENINGS: [(&str, bool); 8] = [
    ("", false),
    ("", false),
    ("everyone agreed that", false),
    ("it is true that", false),
    ("we found that", false),
    ("nobody said that", true),
    ("we read that", false),
    ("they say that", false),
];
const VERBS: [&str; 4] = ["was", "seemed", "looked", "felt"];
/// What stands before the verb's complement, and whether it turns the meaning round.
const NEGATIONS: [(&str, bool); 6] = [
    ("", false),
    ("", false),
    ("always", false),
    ("often", false),
    ("still", false),
    ("not", true),
];
/// What stands before an adjective, and whether it makes the opinion a strong one.
const DEGREES: [(&str, bool); 6] = [
    ("", false),
    ("rather", false),
    ("quite", false),
    ("very", true),
    ("really", true),
    ("extremely", true),
];

/// The share of training labels that are drawn at random, as careless annotators would give them. The
/// labels to judge on are right.
const NOISE: f64 = 0.2;

/// The examples to train on.
pub fn train(recipe: &SyntheticData) -> Vec<Example> {
    examples(recipe.seed, 0, recipe.train, NOISE)
}

/// The examples to judge on.
pub fn dev(recipe: &SyntheticData) -> Vec<Example> {
    examples(recipe.seed, 1, recipe.dev, 0.0)
}

fn examples(seed: u64, split: u64, count: usize, noise: f64) -> Vec<Example> {
    let mut key = [0; 32];
    key[..8].copy_from_slice(&seed.to_le_bytes());
    key[8..16].copy_from_slice(&split.to_le_bytes());
    let mut rng = StdRng::from_seed(key);
    (0..count)
        .map(|row| example(row, noise, &mut rng))
        .collect()
}

fn example(row: usize, noise: f64, rng: &mut StdRng) -> Example {
    let (opening, opening_turns) = pick(&OPENINGS, rng);
    let (negation, negation_turns) = pick(&NEGATIONS, rng);
    let (degree, strong) = pick(&DEGREES, rng);
    let likes = rng.random_bool(0.5);
    let adjective = pick(if likes { &POSITIVE } else { &NEGATIVE }, rng);
    let thing = pick(&THINGS, rng);
    let words = [
        opening,
        "the",
        thing,
        pick(&VERBS, rng),
        negation,
        degree,
        adjective,
    ];
    let words: Vec<&str> = words.into_iter().filter(|word| !word.is_empty()).collect();
    let positive = likes ^ opening_turns ^ negation_turns;
    let class = if rng.random_bool(noise) {
        rng.random_range(0..CLASSES)
    } else {
        2 * usize::from(positive) + usize::from(strong)
    };
    Example {
        first: words.join(" "),
        second: None,
        row,
        label: Some(Label::Class(class)),
    }
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
    fn the_label_counts_negations_and_knows_the_degree() {
        let mut counts = [0; CLASSES];
        for example in dev(&recipe(3)) {
            let words: Vec<&str> = example.first.split(' ').collect();
            let has = |list: &[&str]| words.iter().any(|word| list.contains(word));
            let turns = has(&["nobody"]) ^ has(&["not"]);
            let positive = POSITIVE.contains(&words[words.len() - 1]) ^ turns;
            let strong = has(&["very", "really", "extremely"]);
            let class = 2 * usize::from(positive) + usize::from(strong);
            assert_eq!(
                example.label,
                Some(Label::Class(class)),
                "{}",
                example.first
            );
            counts[class] += 1;
        }
        assert!(counts.iter().all(|count| *count > 50), "{counts:?}");
    }
}
