//! Multi-query associative recall (MQAR; Arora et al. 2023, "Zoology", arXiv 2312.04927): what was
//! the value of this key? Attention that sees the pair can tell; attention that does not, cannot.
//!
//! A sequence is `D` pairs of a key and its value, then fillers, among them queries: a key of one
//! of the pairs, whose right next token is the value. Nothing else is asked for.

mod config;

use burn::data::dataset::{Dataset, DatasetError};
pub use config::{RecallConfig, RecallError};
use rand::{RngExt, SeedableRng, rngs::StdRng, seq::SliceRandom, seq::index::sample};

use super::language::Sequence;

/// Which sequences: those of different splits have nothing to do with each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecallSplit {
    /// To train on.
    Train,
    /// To choose a model by.
    Dev,
    /// To judge a model by.
    Test,
}

/// The task: a sequence for every split and index.
#[derive(Clone, Debug)]
pub struct Recall {
    config: RecallConfig,
}

/// A sequence and what is asked in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecallExample {
    /// Token ids `[T]`.
    pub input_ids: Vec<u32>,
    /// The queries by position.
    pub queries: Vec<Query>,
}

/// A key that is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Query {
    /// Where the key stands that is the query.
    pub position: usize,
    /// The right next token: the key's value.
    pub target: u32,
    /// Tokens from the value in the pair to the query; 1 if it is the token before.
    pub distance: usize,
}

impl Recall {
    /// The configuration.
    pub fn config(&self) -> &RecallConfig {
        &self.config
    }

    /// The sequence at an index, which depends on the seed, the split and the index alone.
    pub fn example(&self, split: RecallSplit, index: usize) -> RecallExample {
        let config = &self.config;
        let mut key = [0; 32];
        key[..8].copy_from_slice(&config.seed.to_le_bytes());
        key[8] = split as u8;
        key[16..24].copy_from_slice(&(index as u64).to_le_bytes());
        let mut rng = StdRng::from_seed(key);

        let first_value = config.keys as u32;
        let first_filler = first_value + config.values as u32;
        let keys = sample(&mut rng, config.keys, config.pairs);
        let pairs: Vec<[u32; 2]> = keys
            .iter()
            .map(|key| [key as u32, rng.random_range(first_value..first_filler)])
            .collect();
        let mut input_ids = pairs.concat();
        let fillers = first_filler..config.vocabulary() as u32;
        input_ids.resize_with(config.length, || rng.random_range(fillers.clone()));

        let positions = self.query_positions(&mut rng);
        let asked = sample(&mut rng, config.pairs, config.queries);
        let queries = positions.into_iter().zip(asked).map(|(position, pair)| {
            let [key, target] = pairs[pair];
            input_ids[position] = key;
            Query {
                position,
                target,
                distance: position - (2 * pair + 1),
            }
        });
        let queries = queries.collect();
        RecallExample { input_ids, queries }
    }

    /// Where queries stand, in rising order: enough of them beyond the window of every pair, the
    /// others anywhere after the pairs.
    fn query_positions(&self, rng: &mut StdRng) -> Vec<usize> {
        let config = &self.config;
        let mut free: Vec<usize> = (2 * config.pairs..config.length).collect();
        let beyond = config.least_beyond();
        let far = free.partition_point(|position| *position < config.first_beyond());
        // The positions that are chosen come to the front, first of the far ones, then of all.
        free[far..].shuffle(rng);
        free.rotate_left(far);
        free[beyond..].shuffle(rng);
        free.truncate(config.queries);
        free.sort_unstable();
        free
    }

    /// The first `count` sequences of a split, for a loader.
    pub fn examples(&self, split: RecallSplit, count: usize) -> RecallExamples {
        RecallExamples {
            recall: self.clone(),
            split,
            count,
        }
    }
}

impl Query {
    /// Whether a `Window(w)` layer at the query does not see the value: it sees distances below
    /// `w`.
    pub fn is_beyond(self, window: usize) -> bool {
        self.distance >= window
    }
}

impl RecallExample {
    /// The sequence, with targets at the queries alone.
    pub fn sequence(&self) -> Sequence {
        let mut targets = vec![None; self.input_ids.len()];
        for query in &self.queries {
            targets[query.position] = Some(query.target);
        }
        Sequence {
            input_ids: self.input_ids.clone(),
            targets,
        }
    }
}

/// Sequences of a split, made when they are asked for.
#[derive(Clone, Debug)]
pub struct RecallExamples {
    recall: Recall,
    split: RecallSplit,
    count: usize,
}

impl Dataset<Sequence> for RecallExamples {
    fn get(&self, index: usize) -> Result<Sequence, DatasetError> {
        assert!(index < self.count, "sequence {index} of {}", self.count);
        Ok(self.recall.example(self.split, index).sequence())
    }

    fn len(&self) -> usize {
        self.count
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{HashMap, HashSet};

    use proptest::prelude::*;

    use super::*;

    const SPLITS: [RecallSplit; 3] = [RecallSplit::Train, RecallSplit::Dev, RecallSplit::Test];

    fn config() -> RecallConfig {
        RecallConfig::new()
    }

    #[test]
    fn seed_split_and_index_decide_the_sequence() {
        let mut seen = HashSet::new();
        for seed in 0..3 {
            let recall = config().with_seed(seed).init().unwrap();
            for split in SPLITS {
                for index in 0..20 {
                    let example = recall.example(split, index);
                    assert_eq!(recall.example(split, index), example);
                    seen.insert(example.input_ids);
                }
            }
        }
        assert_eq!(seen.len(), 3 * 3 * 20);
    }

    #[test]
    fn queries_and_answers_are_spread_evenly() {
        let recall = config().init().unwrap();
        let examples = (0..500).map(|index| recall.example(RecallSplit::Dev, index));
        let queries: Vec<Query> = examples.flat_map(|example| example.queries).collect();
        let beyond = queries.iter().filter(|query| query.is_beyond(64)).count();
        assert!(beyond >= 500 * 8 && beyond < queries.len(), "{beyond}");
        for value in 64..128 {
            let count = queries.iter().filter(|query| query.target == value).count();
            // 125 expected, with a standard deviation of 11.
            assert!((70..180).contains(&count), "{value}: {count}");
        }
        // The share that must lie beyond does so, and the others fall anywhere.
        let half = |query: &&Query| query.position < 272;
        let first = queries.iter().filter(half).count() as f64 / queries.len() as f64;
        assert!((0.4..0.55).contains(&first), "{first}");
    }

    #[test]
    fn a_loader_asks_at_queries_alone() {
        let recall = config().init().unwrap();
        let examples = recall.examples(RecallSplit::Train, 3);
        assert_eq!(examples.len(), 3);
        let sequence = examples.get(2).unwrap();
        let example = recall.example(RecallSplit::Train, 2);
        assert_eq!(sequence.input_ids, example.input_ids);
        let asked = sequence.targets.iter().enumerate();
        let asked: Vec<_> = asked
            .filter_map(|(at, target)| Some((at, (*target)?)))
            .collect();
        let expected = example
            .queries
            .iter()
            .map(|query| (query.position, query.target));
        assert_eq!(asked, expected.collect::<Vec<_>>());
    }

    proptest! {
        #[test]
        fn sequences_keep_every_rule(
            pairs in 1_usize..9,
            asked in 1_usize..9,
            (more_keys, values, fillers) in (0_usize..5, 2_usize..9, 1_usize..5),
            window in 1_usize..20,
            beyond in 0.0..=1.0,
            spare in 0_usize..20,
            (seed, index) in (any::<u64>(), 0_usize..1000),
        ) {
            let mut config = RecallConfig::new()
                .with_pairs(pairs)
                .with_queries(asked.min(pairs))
                .with_keys(pairs + more_keys)
                .with_values(values)
                .with_fillers(fillers)
                .with_window(window)
                .with_beyond(beyond)
                .with_seed(seed)
                .with_length(0);
            // The length that the error asks for is the least that works.
            let Err(RecallError::Length { needed, .. }) = config.init() else {
                panic!("a sequence of no tokens");
            };
            prop_assert!(config.clone().with_length(needed - 1).init().is_err());
            config.length = needed + spare;
            let recall = config.init().unwrap();
            let RecallExample { input_ids, queries } = recall.example(RecallSplit::Dev, index);

            prop_assert_eq!(input_ids.len(), config.length);
            prop_assert_eq!(queries.len(), config.queries);
            prop_assert!(queries.is_sorted_by(|a, b| a.position < b.position));
            let (first_value, first_filler) = (config.keys as u32, (config.keys + values) as u32);
            let (pairs_at, rest) = input_ids.split_at(2 * pairs);
            let mut of_key = HashMap::new();
            for (index, pair) in pairs_at.chunks(2).enumerate() {
                prop_assert!(pair[0] < first_value);
                prop_assert!((first_value..first_filler).contains(&pair[1]));
                prop_assert!(of_key.insert(pair[0], (index, pair[1])).is_none());
            }
            for query in &queries {
                let (pair, value) = of_key.remove(&input_ids[query.position]).unwrap();
                prop_assert_eq!(query.target, value);
                prop_assert_eq!(query.distance, query.position - (2 * pair + 1));
            }
            let beyond_window = queries.iter().filter(|query| query.is_beyond(window)).count();
            prop_assert!(beyond_window as f64 >= beyond * queries.len() as f64);
            let fillers_at = rest.iter().filter(|id| **id >= first_filler);
            prop_assert_eq!(fillers_at.count(), rest.len() - queries.len());
            prop_assert!(input_ids.iter().all(|id| (*id as usize) < config.vocabulary()));
        }
    }
}
