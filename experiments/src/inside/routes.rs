//! Which tokens each expert gets.

use std::{cmp::Reverse, collections::BTreeMap};

use burn::{data::dataloader::DataLoader, prelude::*, tensor::ExecutionError};
use distill::{Batch, Trainable};
use masformer_core::{Keep, Layers, RouteTrace};

use super::record::{Routed, RoutedExpert, RoutedLayer, SCHEMA, Word};
use crate::{data::DataError, error::Error, interrupt::Stop};

/// At most about so many sequences are looked at, spread evenly over the data.
const SEQUENCES: usize = 1024;
/// So many tokens of an expert are named.
const WORDS: usize = 20;

/// Routes data through a model in evaluation form; `text` is that of a token's id.
///
/// # Errors
///
/// If a batch cannot be made or a result cannot be read, or a stop is asked for.
pub fn routed<M: Trainable>(
    model: &M,
    loader: &dyn DataLoader<Batch<M>>,
    text: &dyn Fn(u32) -> Option<String>,
    stop: &Stop,
) -> Result<Routed, Error> {
    let keep = Keep {
        routes: Layers::All,
        ..Keep::default()
    };
    let every = loader.num_items().div_ceil(SEQUENCES).max(1);
    let mut layers: BTreeMap<usize, Counts> = BTreeMap::new();
    for batch in loader.iter().step_by(every) {
        stop.check()?;
        let batch = batch.map_err(DataError::from)?;
        let signals = model.forward_step(batch, keep.clone()).signals;
        for (layer, route) in signals.trace.routes {
            layers.entry(layer).or_default().add(route)?;
        }
    }
    let layers = layers.into_iter();
    let layers = layers.map(|(layer, counts)| counts.summary(layer, text));
    Ok(Routed {
        schema: SCHEMA,
        layers: layers.collect(),
    })
}

/// How often each expert of a layer got each token.
#[derive(Default)]
struct Counts {
    tokens: u64,
    experts: Vec<u64>,
    by_id: BTreeMap<u32, ById>,
}

#[derive(Default)]
struct ById {
    tokens: u64,
    experts: Vec<u64>,
}

impl Counts {
    fn add(&mut self, route: RouteTrace) -> Result<(), ExecutionError> {
        let [experts] = route.load.dims();
        let [_, k] = route.experts.dims();
        self.experts.resize(experts, 0);
        let ids = route.tokens.ids.try_into_data()?;
        let chosen = route.experts.try_into_data()?;
        let padding = route
            .tokens
            .padding
            .map(Tensor::try_into_data)
            .transpose()?;
        let padding: Option<Vec<bool>> = padding.map(|padding| padding.iter().collect());
        let chosen: Vec<i64> = chosen.iter().collect();
        for (place, (id, chosen)) in ids.iter::<i64>().zip(chosen.chunks(k)).enumerate() {
            if padding.as_ref().is_some_and(|padding| padding[place]) {
                continue;
            }
            let entry = self.by_id.entry(id as u32).or_default();
            entry.experts.resize(experts, 0);
            entry.tokens += 1;
            self.tokens += 1;
            for expert in chosen {
                entry.experts[*expert as usize] += 1;
                self.experts[*expert as usize] += 1;
            }
        }
        Ok(())
    }

    fn summary(&self, layer: usize, text: &dyn Fn(u32) -> Option<String>) -> RoutedLayer {
        let experts = self.experts.iter().enumerate();
        let experts = experts.map(|(expert, tokens)| RoutedExpert {
            tokens: *tokens,
            words: self.words(expert, text),
        });
        RoutedLayer {
            layer,
            tokens: self.tokens,
            experts: experts.collect(),
        }
    }

    fn words(&self, expert: usize, text: &dyn Fn(u32) -> Option<String>) -> Vec<Word> {
        let all = self.experts[expert] as f64 / self.tokens.max(1) as f64;
        let mut found: Vec<(f64, u64, u32, f64)> = vec![];
        for (id, entry) in &self.by_id {
            let count = entry.experts[expert];
            if count > 0 {
                let share = count as f64 / entry.tokens as f64;
                found.push((count as f64 * (share / all).ln(), count, *id, share));
            }
        }
        found.sort_by(|a, b| {
            let by_score = b.0.total_cmp(&a.0);
            by_score.then((Reverse(a.1), a.2).cmp(&(Reverse(b.1), b.2)))
        });
        found.truncate(WORDS);
        let words = found.into_iter().map(|(_, count, id, share)| Word {
            token: text(id).unwrap_or_else(|| format!("#{id}")),
            count,
            share,
        });
        words.collect()
    }
}

#[cfg(test)]
mod tests {
    use moebert_core::{
        bert::BertConfig,
        heads::{BertModelConfig, Head},
        layered::Layered,
        partition::ExpertLayout,
        router::{Route, RouterConfig},
    };

    use super::*;
    use crate::{
        data::loader::GroupedLoader,
        inside::testing::features,
        learner::{ExpertPlan, TaskLearner},
    };

    const VOCABULARY: usize = 30;

    fn learner(router: RouterConfig) -> TaskLearner {
        let device = Device::flex();
        let bert = BertConfig::new()
            .with_vocab_size(VOCABULARY)
            .with_hidden_size(8)
            .with_num_hidden_layers(2)
            .with_num_attention_heads(2)
            .with_intermediate_size(12)
            .with_max_position_embeddings(8)
            .with_initializer_range(0.5);
        let model = BertModelConfig::new(bert, Head::Classification { classes: 2 }).init(&device);
        let experts = (0..3).map(|expert| (expert * 4..expert * 4 + 4).collect());
        let layer: Vec<Vec<usize>> = experts.collect();
        let plan = ExpertPlan {
            layout: ExpertLayout {
                neurons: vec![layer; 2],
            },
            router,
            token_counts: None,
        };
        plan.split(TaskLearner { model }).unwrap()
    }

    fn of(learner: &TaskLearner) -> Routed {
        let loader = GroupedLoader::sorted(features(), 4, 0, &Device::flex()).unwrap();
        let text = |id: u32| (id != 1).then(|| format!("word {id}"));
        routed(learner, &loader, &text, &Stop::default()).unwrap()
    }

    #[test]
    fn loads_and_words_are_those_of_a_direct_count() {
        let learner = learner(RouterConfig::default());
        let found = of(&learner);
        assert_eq!(found.layers.len(), 2);
        let features = features();
        let ids = || features.iter().flat_map(|feature| &feature.input_ids);
        for (layer, found) in found.layers.iter().enumerate() {
            let half = &learner.stack().layers[layer].feed_forward;
            let table = half.experts().unwrap().router.table().unwrap();
            let table: Vec<i64> = table.into_data().iter().collect();
            assert_eq!(found.tokens, ids().count() as u64);
            for (expert, found) in found.experts.iter().enumerate() {
                let own: Vec<u32> = ids()
                    .copied()
                    .filter(|id| table[*id as usize] == expert as i64)
                    .collect();
                assert_eq!(found.tokens, own.len() as u64);
                // A table sends all occurrences of a token to one expert, so the most frequent is the most typical.
                for word in &found.words {
                    assert!((word.share - 1.0).abs() < 1e-12);
                    let id = word
                        .token
                        .trim_start_matches(['#', 'w', 'o', 'r', 'd', ' ']);
                    let id: u32 = id.parse().unwrap();
                    let count = own.iter().filter(|own| **own == id).count();
                    assert_eq!(word.count, count as u64);
                }
                assert!(found.words.is_sorted_by_key(|word| Reverse(word.count)));
            }
        }
        let words = found.layers[0]
            .experts
            .iter()
            .flat_map(|expert| &expert.words);
        assert!(words.clone().any(|word| word.token == "#1"));
    }

    #[test]
    fn tokens_of_several_experts_count_for_each() {
        let router = RouterConfig {
            spec: "top-k".parse().unwrap(),
            k: 2,
            ..RouterConfig::default()
        };
        for layer in of(&learner(router)).layers {
            let sum: u64 = layer.experts.iter().map(|expert| expert.tokens).sum();
            assert_eq!(sum, 2 * layer.tokens);
        }
    }

    #[test]
    fn what_all_experts_get_alike_is_typical_of_none() {
        let entry = |experts: [u64; 2]| ById {
            tokens: experts.iter().sum(),
            experts: experts.to_vec(),
        };
        let counts = Counts {
            tokens: 240,
            experts: vec![120, 120],
            by_id: [
                (0, entry([100, 100])),
                (1, entry([15, 5])),
                (2, entry([5, 15])),
            ]
            .into(),
        };
        let words = |expert| -> Vec<(String, u64)> {
            let words = counts.words(expert, &|_| None).into_iter();
            words.map(|word| (word.token, word.count)).collect()
        };
        let told = |id: &str, count| (id.to_owned(), count);
        assert_eq!(words(0), [told("#1", 15), told("#0", 100), told("#2", 5)]);
        assert_eq!(words(1)[0], told("#2", 15));
    }
}
