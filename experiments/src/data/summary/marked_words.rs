//! Texts made from a seed, whose summary is the words that are marked in them.
//!
//! Marks are anywhere in the text, so that a model has to look back as far as the text is long.

use std::path::Path;

use masformer_core::file::{self, FileError};
use rand::{RngExt, SeedableRng, rngs::StdRng, seq::index::sample};
use serde_json::json;

use super::{SummaryExample, SummarySplit};

/// What stands before a marked word.
const MARK: char = '*';

const WORDS: [&str; 32] = [
    "apple", "boat", "cloud", "door", "engine", "field", "garden", "hill", "island", "jacket",
    "kettle", "lamp", "meadow", "needle", "ocean", "paper", "quilt", "river", "stone", "table",
    "umbrella", "valley", "window", "yard", "anchor", "bridge", "candle", "desert", "feather",
    "harbour", "ladder", "mirror",
];

/// The task: texts of so many words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MarkedWords {
    /// Decides every text.
    pub seed: u64,
    /// Words of a text.
    pub words: usize,
    /// Words that are marked, at most all of them.
    pub marked: usize,
}

impl MarkedWords {
    /// The first `count` texts of a split with their summaries.
    pub fn examples(&self, split: SummarySplit, count: usize) -> Vec<SummaryExample> {
        let stream = self.seed.wrapping_mul(3).wrapping_add(split as u64);
        let mut rng = StdRng::seed_from_u64(stream);
        (0..count)
            .map(|index| self.example(index, &mut rng))
            .collect()
    }

    fn example(&self, index: usize, rng: &mut StdRng) -> SummaryExample {
        let words: Vec<&str> = (0..self.words)
            .map(|_| WORDS[rng.random_range(0..WORDS.len())])
            .collect();
        let mut marked = sample(rng, self.words, self.marked.min(self.words)).into_vec();
        marked.sort_unstable();
        let mut text: Vec<String> = words.iter().map(ToString::to_string).collect();
        for place in &marked {
            text[*place].insert(0, MARK);
        }
        let summary: Vec<&str> = marked.iter().map(|place| words[*place]).collect();
        SummaryExample {
            id: index.to_string(),
            input: text.join(" "),
            references: vec![summary.join(" ")],
        }
    }

    /// Writes splits to a folder as SCROLLS has them, each whole or not at all.
    ///
    /// # Errors
    ///
    /// If a file cannot be written.
    pub fn write(&self, dir: &Path, counts: &[(SummarySplit, usize)]) -> Result<(), FileError> {
        std::fs::create_dir_all(dir).map_err(|source| FileError::Write {
            path: dir.to_owned(),
            source,
        })?;
        for (split, count) in counts {
            let examples = self.examples(*split, *count).into_iter();
            let lines: Vec<String> = examples
                .map(|example| {
                    let SummaryExample {
                        id,
                        input,
                        references,
                    } = example;
                    let pid = format!("{id}_0");
                    let output = &references[0];
                    json!({"id": id, "pid": pid, "input": input, "output": output}).to_string()
                })
                .collect();
            let lines = lines.join("\n") + "\n";
            file::write(&dir.join(split.files()[0]), lines.as_bytes())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TASK: MarkedWords = MarkedWords {
        seed: 7,
        words: 30,
        marked: 3,
    };

    #[test]
    fn the_summary_is_what_is_marked() {
        for example in TASK.examples(SummarySplit::Train, 50) {
            let words: Vec<&str> = example.input.split(' ').collect();
            assert_eq!(words.len(), 30);
            let marked: Vec<&str> = words
                .iter()
                .filter_map(|word| word.strip_prefix(MARK))
                .collect();
            assert_eq!(marked.len(), 3);
            assert_eq!(example.references, [marked.join(" ")]);
        }
    }

    #[test]
    fn seed_and_split_decide_the_texts_and_files_have_them() {
        let splits = [
            SummarySplit::Train,
            SummarySplit::Validation,
            SummarySplit::Test,
        ];
        let dir = tempfile::tempdir().unwrap();
        TASK.write(dir.path(), &splits.map(|split| (split, 4)))
            .unwrap();
        for split in splits {
            let made = TASK.examples(split, 4);
            assert_eq!(split.read(dir.path()).unwrap(), made);
            assert_eq!(TASK.examples(split, 2), made[..2]);
            let other = MarkedWords { seed: 8, ..TASK };
            assert_ne!(other.examples(split, 4), made);
        }
        let first = splits.map(|split| TASK.examples(split, 1).remove(0).input);
        assert!(first[0] != first[1] && first[1] != first[2] && first[0] != first[2]);
    }
}
