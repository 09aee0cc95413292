//! How far the hidden states of a model are from those of another, layer by layer.

use burn::{data::dataloader::DataLoader, prelude::*, tensor::FloatDType};
use distill::{Batch, Trainable};
use masformer_core::{Keep, Layers};

use super::{
    cka::Centred,
    record::{Apart, Distances, SCHEMA},
};
use crate::{data::DataError, error::Error, graph::Key, interrupt::Stop};

/// Batches that tokens are taken from, spread evenly over the data.
const BATCHES: usize = 16;
/// About so many tokens are compared.
const TOKENS: usize = 512;

/// Compares a model, before and after its training, with `other`, which a stage has trained. All are in evaluation form, and
/// see the same data. None where layers have left tokens out, or there are too few.
///
/// # Errors
///
/// If a batch cannot be made or a result cannot be read, or a stop is asked for.
pub fn distances<M: Trainable>(
    [before, after]: [&M; 2],
    (to, other): (Option<&Key>, &M),
    loader: &dyn DataLoader<Batch<M>>,
    stop: &Stop,
) -> Result<Option<Distances>, Error> {
    let every = loader.iter().count().div_ceil(BATCHES).max(1);
    let batches = loader.iter().step_by(every);
    let batches: Result<Vec<Batch<M>>, _> = batches.collect();
    let batches = batches.map_err(DataError::from)?;
    let states = |model: &M| States::of(model, &batches, stop);
    let Some(other) = states(other)? else {
        return Ok(None);
    };
    let (Some(before), Some(after)) = (states(before)?, states(after)?) else {
        return Ok(None);
    };
    Ok(Some(Distances {
        schema: SCHEMA,
        to: to.cloned(),
        tokens: other.tokens,
        squares: other.all.iter().map(State::square).collect(),
        before: before.apart(&other),
        after: after.apart(&other),
    }))
}

/// The hidden states of some tokens.
struct States {
    tokens: usize,
    all: Vec<State>,
}

/// A hidden state of some tokens.
struct State {
    /// The numbers of each token, `[N, D]`.
    values: Vec<f32>,
    width: usize,
    centred: Centred,
}

impl States {
    /// Those of a model; none where layers have left tokens out, or there are too few.
    fn of<M: Trainable>(
        model: &M,
        batches: &[Batch<M>],
        stop: &Stop,
    ) -> Result<Option<Self>, Error> {
        let keep = Keep {
            hidden: Layers::All,
            ..Keep::default()
        };
        let each = TOKENS.div_ceil(batches.len().max(1));
        let mut rows: Vec<Vec<Tensor<2>>> = vec![];
        for batch in batches {
            stop.check()?;
            let signals = model.forward_step(batch.clone(), keep.clone()).signals;
            let hidden = signals.trace.hidden;
            let Some([count, length, _]) = hidden.values().next().map(Tensor::dims) else {
                return Ok(None);
            };
            let padding = signals.padding.map(Tensor::try_into_data).transpose()?;
            let padding = padding.map_or_else(
                || vec![false; count * length],
                |padding| padding.iter().collect(),
            );
            let places = spread(&padding, each);
            rows.resize(hidden.len(), vec![]);
            for (state, rows) in hidden.into_values().zip(&mut rows) {
                let [own_count, own_length, width] = state.dims();
                if (own_count, own_length) != (count, length) {
                    return Ok(None);
                }
                let places = Tensor::<1, Int>::from_data(places.as_slice(), &state.device());
                let state = state.reshape([count * length, width]).cast(FloatDType::F32);
                rows.push(state.select(0, places));
            }
        }
        let mut all = vec![];
        let mut tokens = 0;
        for rows in rows {
            let rows = Tensor::cat(rows, 0);
            let [count, width] = rows.dims();
            tokens = count;
            let centred = rows.clone() - rows.clone().mean_dim(0);
            let gram = centred.clone().matmul(centred.transpose());
            let gram: Vec<f32> = gram.try_into_data()?.iter().collect();
            let Some(centred) = Centred::of(&gram, count) else {
                return Ok(None);
            };
            all.push(State {
                values: rows.try_into_data()?.iter().collect(),
                width,
                centred,
            });
        }
        Ok((!all.is_empty()).then_some(Self { tokens, all }))
    }

    fn apart(&self, other: &Self) -> Apart {
        let table = |of: &dyn Fn(&State, &State) -> f64| -> Vec<Vec<f64>> {
            let rows = self.all.iter();
            rows.map(|own| other.all.iter().map(|other| of(own, other)).collect())
                .collect()
        };
        let is_as_wide = self.all[0].width == other.all[0].width;
        Apart {
            cka: table(&|own, other| own.centred.cka(&other.centred)),
            mse: is_as_wide.then(|| table(&State::mse)),
        }
    }
}

impl State {
    fn square(&self) -> f64 {
        let squares = self.values.iter().map(|value| f64::from(*value).powi(2));
        squares.sum::<f64>() / self.values.len() as f64
    }

    fn mse(&self, other: &Self) -> f64 {
        let pairs = self.values.iter().zip(&other.values);
        let squares = pairs.map(|(own, other)| (f64::from(*own) - f64::from(*other)).powi(2));
        squares.sum::<f64>() / self.values.len() as f64
    }
}

/// At most so many places that are no padding, one of each of as many equal parts. Where in its part each is differs, so that they
/// are not the same place of sequences of equal lengths.
fn spread(padding: &[bool], most: usize) -> Vec<i64> {
    let places = padding.iter().enumerate();
    let places = places.filter(|(_, is_padding)| !**is_padding);
    let places: Vec<i64> = places.map(|(place, _)| place as i64).collect();
    let taken = most.min(places.len());
    // Multiples of the golden ratio are spread evenly between whole numbers.
    let within = |part: usize| (part as f64 * 0.618_033_988_749_895).fract();
    let size = places.len() as f64 / taken.max(1) as f64;
    (0..taken)
        .map(|part| places[((part as f64 + within(part)) * size) as usize])
        .collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use masformer_core::seed;
    use moebert_core::{
        bert::BertConfig,
        half::Half,
        heads::{BertModelConfig, Head},
        layered::Layered,
    };

    use super::*;
    use crate::{data::loader::GroupedLoader, inside::testing::features, learner::TaskLearner};

    fn learner(hidden: usize, layers: usize) -> TaskLearner {
        let device = Device::flex();
        seed::seed(&device, 3);
        let bert = BertConfig::new()
            .with_vocab_size(30)
            .with_hidden_size(hidden)
            .with_num_hidden_layers(layers)
            .with_num_attention_heads(2)
            .with_intermediate_size(12)
            .with_max_position_embeddings(8)
            .with_initializer_range(0.5);
        let head = Head::Classification { classes: 2 };
        TaskLearner {
            model: BertModelConfig::new(bert, head).init(&device),
        }
    }

    fn of(models: [&TaskLearner; 2], other: &TaskLearner) -> Option<Distances> {
        let loader = GroupedLoader::sorted(features(), 4, 0, &Device::flex()).unwrap();
        distances(models, (None, other), &loader, &Stop::default()).unwrap()
    }

    #[test]
    fn a_model_is_at_no_distance_from_itself_and_a_changed_layer_is_seen_from_there_on() {
        let teacher = learner(8, 3);
        let mut student = teacher.clone();
        let Half::Dense(mlp) = &mut student.stack_mut().layers[1].feed_forward else {
            panic!("a dense layer");
        };
        mlp.outer.weight = mlp
            .outer
            .weight
            .clone()
            .map(|weight| weight.mul_scalar(-1.0));
        let found = of([&student, &teacher], &teacher).unwrap();
        assert!(found.tokens > 60, "{}", found.tokens);
        let (before, after) = (found.before, found.after);
        let mse = |apart: &Apart, state: usize| apart.mse.as_ref().unwrap()[state][state];
        for state in 0..4 {
            assert!(
                mse(&after, state).abs() < 1e-9 && (after.cka[state][state] - 1.0).abs() < 1e-6
            );
            let is_same = mse(&before, state) < 1e-9;
            assert_eq!(is_same, state < 2, "{state}");
            // Layers normalise what they give.
            assert!(
                (found.squares[state] - 1.0).abs() < 0.05,
                "{:?}",
                found.squares
            );
        }
        assert!(before.cka[3][3] < 0.999 && before.cka[3][3] > -1.0);
    }

    #[test]
    fn models_of_other_widths_are_aligned_but_have_no_error() {
        let (student, teacher) = (learner(4, 1), learner(8, 3));
        let found = of([&student, &student], &teacher).unwrap();
        assert_eq!((found.after.cka.len(), found.after.cka[0].len()), (2, 4));
        assert!(found.after.mse.is_none());
        assert_eq!(found.squares.len(), 4);
    }

    #[test]
    fn places_are_spread_over_what_is_no_padding() {
        let padding = [false, true, false, false, true, false, false];
        assert_eq!(spread(&padding, 9), [0, 2, 3, 5, 6]);
        assert_eq!(spread(&padding, 2), [0, 6]);
        assert!(spread(&[true], 2).is_empty());
        // Sequences of 12 tokens, and as many places as sequences.
        let places = spread(&[false; 32 * 12], 32);
        let within: BTreeSet<i64> = places.iter().map(|place| place % 12).collect();
        assert_eq!((places.len(), within.len()), (32, 12));
        assert!(places.is_sorted());
    }
}
