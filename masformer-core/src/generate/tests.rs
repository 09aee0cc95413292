use burn::{
    module::{ModuleMapper, Param},
    prelude::*,
};
use proptest::{prelude::*, strategy::Strategy as _};
use rand::{RngExt, SeedableRng, rngs::StdRng};

use super::{Strategy, *};
use crate::{
    cache::EvictionSpec,
    decoder::{DecoderConfig, DecoderInput},
    position::PositionEncoding,
    trace::Trace,
};

const VOCABULARY: usize = 11;
const POSITIONS: usize = 32;

/// Draws weights from numbers of its own, so that no other test has a part in them.
struct Weights(StdRng);

impl ModuleMapper for Weights {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        param.map(|tensor| {
            let shape = tensor.dims();
            let count = shape.iter().product();
            let draw = |_| self.0.random_range(-1.0..1.0_f32);
            let values: Vec<f32> = (0..count).map(draw).collect();
            Tensor::from_data(TensorData::new(values, shape), &tensor.device())
        })
    }
}

fn model_on(device: &Device, spans: &[&str], encoding: PositionEncoding) -> Decoder {
    let spans = spans.iter().map(|span| span.parse().unwrap()).collect();
    let config =
        DecoderConfig::new(VOCABULARY, POSITIONS, 8, 2, 16, spans).with_position_encoding(encoding);
    config
        .init(device)
        .map(&mut Weights(StdRng::seed_from_u64(5)))
}

fn model(spans: &[&str]) -> Decoder {
    model_on(&Device::default(), spans, PositionEncoding::Learned)
}

fn prompts() -> Vec<Vec<u32>> {
    vec![vec![3, 1, 4, 1, 5], vec![9], vec![2, 6, 5, 3, 5, 8, 9, 7]]
}

fn sampling(top_p: f64) -> Strategy {
    let config = SampleConfig::new().with_top_k(Some(8)).with_top_p(top_p);
    Strategy::Sample(config.with_temperature(2.0).with_seed(1))
}

fn beams(beams: usize, length_penalty: f64) -> Strategy {
    let config = BeamConfig::new().with_beams(beams);
    Strategy::Beam(config.with_length_penalty(length_penalty))
}

fn strategies() -> [Strategy; 5] {
    [
        Strategy::Greedy,
        sampling(1.0),
        sampling(0.9),
        beams(3, 1.0),
        beams(4, 0.3),
    ]
}

fn generate(model: &Decoder, config: &GenerateConfig, prompts: &[Vec<u32>]) -> Vec<Generated> {
    let generator = Generator::new(model, config);
    generator
        .generate(prompts, |_| ControlFlow::Continue(()))
        .unwrap()
}

/// Configurations that keep continuations from repeating themselves, with every strategy.
fn unrepeating() -> impl Iterator<Item = GenerateConfig> {
    let penalties = [(1.4, None), (0.8, None), (1.0, Some(2)), (1.2, Some(3))];
    penalties.into_iter().flat_map(|(penalty, ngram)| {
        strategies().map(|strategy| {
            GenerateConfig::new()
                .with_max_new_tokens(16)
                .with_strategy(strategy)
                .with_repetition_penalty(penalty)
                .with_no_repeat_ngram(ngram)
        })
    })
}

const SPANS: [&[&str]; 4] = [
    &["full", "window:4"],
    &["window:3", "window:5"],
    &["block:5", "full"],
    &["window:3+2", "window:4"],
];

#[test]
fn prompts_together_are_continued_as_each_alone() {
    for spans in SPANS {
        let model = model(spans);
        let plain = [Strategy::Greedy, beams(3, 0.7)].map(|strategy| {
            GenerateConfig::new()
                .with_max_new_tokens(12)
                .with_strategy(strategy)
        });
        // Draws depend on a prompt's place.
        let unrepeating = unrepeating();
        let unrepeating =
            unrepeating.filter(|config| !matches!(config.strategy, Strategy::Sample(_)));
        for config in plain.into_iter().chain(unrepeating) {
            let config = config.with_stop_tokens(vec![7]);
            let together = generate(&model, &config, &prompts());
            for (prompt, together) in prompts().into_iter().zip(together) {
                let alone = generate(&model, &config, &[prompt]);
                assert_eq!(alone, [together], "{spans:?} {config}");
            }
        }
    }
}

#[test]
fn every_strategy_gives_the_same_with_and_without_a_cache() {
    for spans in SPANS {
        let model = model(spans);
        let plain = strategies().map(|strategy| {
            GenerateConfig::new()
                .with_max_new_tokens(16)
                .with_strategy(strategy)
        });
        for config in plain.into_iter().chain(unrepeating()) {
            let config = config.with_stop_tokens(vec![7]);
            let cached = generate(&model, &config, &prompts());
            let whole = generate(&model, &config.clone().with_cache(false), &prompts());
            assert_eq!(cached, whole, "{spans:?} {config}");
        }
    }
}

#[test]
fn greedy_tokens_are_the_likeliest_of_the_whole_forward_pass() {
    let model = model(&["full", "window:4"]);
    let config = GenerateConfig::new().with_max_new_tokens(10);
    for (prompt, found) in prompts().iter().zip(generate(&model, &config, &prompts())) {
        let mut ids = prompt.clone();
        for _ in 0..10 {
            let logits = next_logits(&model, &ids);
            ids.push(likeliest(&logits));
        }
        assert_eq!(found.tokens, ids[prompt.len()..]);
        assert_eq!(found.stopped, Stopped::Length);
    }
    let one = generate(
        &model,
        &config.clone().with_strategy(beams(1, 1.0)),
        &prompts(),
    );
    assert_eq!(one, generate(&model, &config, &prompts()));
}

#[test]
fn no_sequence_of_tokens_is_completed_twice() {
    let model = model(&["full", "window:4"]);
    for strategy in strategies() {
        let repeated = [1, 2, 3, 4].map(|size| {
            let config = GenerateConfig::new()
                .with_max_new_tokens(if size == 1 { 3 } else { 16 })
                .with_strategy(strategy.clone());
            let once = config.clone().with_no_repeat_ngram(Some(size));
            for (prompt, found) in prompts().iter().zip(generate(&model, &once, &prompts())) {
                assert_eq!(found.stopped, Stopped::Length);
                assert!(!repeats(prompt, &found.tokens, size), "{once} {found:?}");
            }
            let free = generate(&model, &config, &prompts());
            let mut pairs = prompts().into_iter().zip(free);
            pairs.any(|(prompt, found)| repeats(&prompt, &found.tokens, size))
        });
        assert!(repeated.contains(&true), "{strategy:?} repeats nothing");
    }
}

/// Whether one of the new tokens completes a sequence of `size` tokens that is there before.
fn repeats(prompt: &[u32], tokens: &[u32], size: usize) -> bool {
    let ids = [prompt, tokens].concat();
    (prompt.len() + 1..=ids.len())
        .filter(|end| *end >= size)
        .any(|end| {
            let mut earlier = ids[..end - 1].windows(size);
            earlier.any(|ngram| ngram == &ids[end - size..end])
        })
}

#[test]
fn a_penalty_changes_the_logits_of_tokens_that_occurred() {
    let model = model(&["full", "window:4"]);
    let config = GenerateConfig::new().with_max_new_tokens(10);
    let plain = generate(&model, &config, &prompts());
    let config = config.with_repetition_penalty(4.0);
    let found = generate(&model, &config, &prompts());
    assert_ne!(found, plain);
    for (prompt, found) in prompts().iter().zip(found) {
        let mut ids = prompt.clone();
        for _ in 0..10 {
            let mut logits = next_logits(&model, &ids);
            for (logit, id) in logits.iter_mut().zip(0..) {
                if ids.contains(&id) {
                    *logit = if *logit > 0.0 {
                        *logit / 4.0
                    } else {
                        *logit * 4.0
                    };
                }
            }
            ids.push(likeliest(&logits));
        }
        assert_eq!(found.tokens, ids[prompt.len()..]);
    }
}

fn evicting(policy: &str, budget: usize, instruction: usize) -> GenerateConfig {
    GenerateConfig::new()
        .with_max_new_tokens(12)
        .with_evict(Some(Eviction {
            policy: policy.parse().unwrap(),
            budget,
            instruction,
        }))
}

fn rotary(spans: &[&str]) -> Decoder {
    model_on(
        &Device::default(),
        spans,
        PositionEncoding::Rotary { theta: 100.0 },
    )
}

#[test]
fn a_budget_for_all_generates_the_same() {
    let model = rotary(&["full", "window:4"]);
    for name in EvictionSpec::NAMES {
        let policy: EvictionSpec = name.parse().unwrap();
        let instruction = if policy.is_instructed() { 2 } else { 0 };
        for strategy in strategies() {
            let roomy = evicting(name, POSITIONS, instruction).with_strategy(strategy);
            let plain = roomy.clone().with_evict(None);
            let found = generate(&model, &roomy, &prompts());
            assert_eq!(found, generate(&model, &plain, &prompts()), "{roomy}");
        }
    }
}

/// Policies with a budget of 8, an instruction of 2 tokens where they choose by one, and the most pairs of a layer.
const POLICIES: &[(&str, usize, usize)] = &[
    ("streaming:2", 0, 8),
    ("tova", 0, 9),
    ("h2o:3", 0, 9),
    // The budget, the instruction and all new tokens but the last, or two selections with two chunks.
    ("citrus:5,scorer=standard", 2, 21),
    ("citrus:5", 2, 21),
    ("citrus:5,scorer=double", 2, 36),
];

#[test]
fn prompts_longer_than_the_positions_are_continued_together_as_each_alone() {
    let model = rotary(&["full", "window:4", "full"]);
    let prompt = |seed: u32| (0..50).map(|place| (place * place + seed) % 11).collect();
    let prompts: Vec<Vec<u32>> = (0..3).map(prompt).collect();
    for &(policy, instruction, most) in POLICIES {
        for strategy in [Strategy::Greedy, beams(3, 0.7)] {
            let config = evicting(policy, 8, instruction).with_strategy(strategy);
            let generator = Generator::new(&model, &config);
            let together = generator.generate(&prompts, |_| ControlFlow::Continue(()));
            assert_eq!(generator.peak(), most, "{config}");
            for (prompt, together) in prompts.iter().zip(together.unwrap()) {
                assert_eq!(together.tokens.len(), 12);
                let alone = generate(&model, &config, std::slice::from_ref(prompt));
                assert_eq!(alone, [together], "{config}");
            }
        }
    }
}

#[test]
fn an_eviction_that_cannot_be_is_refused() {
    let refusal = |model: &Decoder, config: &GenerateConfig| {
        let generator = Generator::new(model, config);
        let refused = generator.generate(&[vec![1; 50]], |_| unreachable!("it has begun"));
        refused.unwrap_err().to_string()
    };
    let learned = model(&["full"]);
    let config = evicting("streaming:2", 8, 0);
    let message = refusal(&learned, &config);
    assert!(
        message.contains("the model has learned positions"),
        "{message}"
    );
    let rotary = rotary(&["full"]);
    let told = |config: GenerateConfig| refusal(&rotary, &config);
    assert_eq!(
        told(evicting("streaming:2", 2, 0)),
        "budget = 2: it must be at least 3 for `streaming:2`"
    );
    assert_eq!(
        told(evicting("streaming:2", 8, 1)),
        "`streaming:2` does not choose by an instruction: expected none, or another policy"
    );
    assert_eq!(
        told(evicting("citrus:4", 8, 0)),
        "`citrus:4` keeps what an instruction attends to: expected an instruction"
    );
    assert_eq!(
        told(config.with_cache(false)),
        "pairs are evicted from a cache: expected one"
    );
    let message = told(evicting("streaming:2", 40, 0));
    let expected = "prompt 1: its cache needs 41 positions at once, and the model has 32";
    assert!(message.starts_with(expected), "{message}");
}

#[test]
fn rules_against_repetition_that_cannot_matter_change_nothing() {
    let model = model(&["full", "window:4"]);
    for strategy in strategies() {
        let config = GenerateConfig::new()
            .with_max_new_tokens(16)
            .with_strategy(strategy);
        let plain = generate(&model, &config, &prompts());
        let longer = config.with_no_repeat_ngram(Some(POSITIONS));
        assert_eq!(generate(&model, &longer, &prompts()), plain, "{longer}");
    }
}

#[test]
fn a_continuation_ends_where_every_token_would_repeat() {
    let model = model(&["full", "window:4"]);
    for strategy in strategies() {
        let config = GenerateConfig::new()
            .with_max_new_tokens(20)
            .with_strategy(strategy)
            .with_no_repeat_ngram(Some(1));
        for (prompt, found) in prompts().iter().zip(generate(&model, &config, &prompts())) {
            assert_eq!(found.stopped, Stopped::Exhausted, "{config}");
            let mut ids = [&prompt[..], &found.tokens].concat();
            ids.sort_unstable();
            ids.dedup();
            assert_eq!(ids.len(), VOCABULARY, "{config} {found:?}");
        }
    }
}

/// The logits of the token after others, from one forward pass.
fn next_logits(model: &Decoder, ids: &[u32]) -> Vec<f32> {
    let ids: Vec<i64> = ids.iter().copied().map(i64::from).collect();
    let length = ids.len();
    let input = DecoderInput {
        input_ids: Tensor::from_data(TensorData::new(ids, [1, length]), &Device::default()),
        padding: None,
    };
    let logits = model.forward(&input, &mut Trace::nothing()).logits;
    let last = logits.slice_dim(1, length - 1..length).into_data();
    last.iter::<f32>().collect()
}

/// All continuations of up to `length` tokens that a stop token ends or the length, with the sums of
/// their log-probabilities.
fn continuations(
    model: &Decoder,
    ids: &[u32],
    (stop, length): (u32, usize),
) -> Vec<(Vec<u32>, f64)> {
    let logits = next_logits(model, ids);
    let probabilities = SampleConfig::new().probabilities(&logits);
    let mut found = Vec::new();
    for (id, probability) in (0..).zip(probabilities) {
        let after = if id == stop || length == 1 {
            vec![(vec![], 0.0)]
        } else {
            continuations(model, &[ids, &[id]].concat(), (stop, length - 1))
        };
        found.extend(
            after
                .into_iter()
                .map(|(tokens, sum)| ([&[id][..], &tokens].concat(), sum + probability.ln())),
        );
    }
    found
}

#[test]
fn beams_enough_for_all_continuations_find_the_best_of_them() {
    let model = model(&["full", "window:2"]);
    let (prompt, stop, length) = (vec![3, 1, 4], 7, 2);
    let all = continuations(&model, &prompt, (stop, length));
    let mut lengths = Vec::new();
    for penalty in [-2.0, 0.0, 0.6, 1.0, 3.0] {
        let score = |(tokens, sum): &(Vec<u32>, f64)| sum / (tokens.len() as f64).powf(penalty);
        let best = all
            .iter()
            .max_by(|one, other| score(one).total_cmp(&score(other)));
        let config = GenerateConfig::new()
            .with_max_new_tokens(length)
            .with_strategy(beams(VOCABULARY * VOCABULARY, penalty))
            .with_stop_tokens(vec![stop]);
        let found = generate(&model, &config, std::slice::from_ref(&prompt));
        assert_eq!(found[0].tokens, best.unwrap().0, "{penalty}");
        lengths.push(found[0].tokens.len());
    }
    assert!(lengths.contains(&1) && lengths.contains(&2), "{lengths:?}");
}

#[test]
fn stop_tokens_and_rules_end_a_continuation_and_no_other() {
    let model = model(&["full", "window:4"]);
    let free = GenerateConfig::new().with_max_new_tokens(12);
    for strategy in [Strategy::Greedy, sampling(1.0)] {
        let free = free.clone().with_strategy(strategy);
        let whole = generate(&model, &free, &prompts());
        let stop = whole[0].tokens[4];
        let end = |tokens: &[u32]| tokens.iter().position(|id| *id == stop);
        let stopping = free.clone().with_stop_tokens(vec![stop]);
        for (found, whole) in generate(&model, &stopping, &prompts()).iter().zip(&whole) {
            let (length, stopped) = match end(&whole.tokens) {
                Some(end) => (end + 1, Stopped::Token),
                None => (12, Stopped::Length),
            };
            assert_eq!(found.tokens, whole.tokens[..length]);
            assert_eq!(found.stopped, stopped);
        }
        let generator = Generator::new(&model, &free).with_rule(|tokens| tokens.ends_with(&[stop]));
        let ruled = generator
            .generate(&prompts(), |_| ControlFlow::Continue(()))
            .unwrap();
        assert_eq!(ruled[0].stopped, Stopped::Rule);
        assert_eq!(ruled[0].tokens.len(), end(&whole[0].tokens).unwrap() + 1);
    }
}

#[test]
fn a_beam_search_knows_rules_as_it_knows_stop_tokens() {
    let model = model(&["full", "window:4"]);
    let config = GenerateConfig::new()
        .with_max_new_tokens(12)
        .with_strategy(beams(4, 0.5));
    for stop in 0..VOCABULARY as u32 {
        let stopping = config.clone().with_stop_tokens(vec![stop]);
        let generator =
            Generator::new(&model, &config).with_rule(|tokens| tokens.ends_with(&[stop]));
        let ruled = generator
            .generate(&prompts(), |_| ControlFlow::Continue(()))
            .unwrap();
        for (ruled, stopped) in ruled.iter().zip(generate(&model, &stopping, &prompts())) {
            assert_eq!(ruled.tokens, stopped.tokens);
            let by_rule = stopped.stopped == Stopped::Token;
            assert_eq!(ruled.stopped == Stopped::Rule, by_rule);
        }
    }
}

#[test]
fn every_step_tells_its_tokens_and_may_be_the_last() {
    for spans in [["full", "window:4"], ["full", "block:4"]] {
        let model = model(&spans);
        for strategy in strategies() {
            let config = GenerateConfig::new()
                .with_max_new_tokens(9)
                .with_strategy(strategy)
                .with_stop_tokens(vec![7]);
            let generator = Generator::new(&model, &config);
            let (mut told, mut steps) = (vec![vec![]; 3], 0);
            let whole = generator.generate(&prompts(), |tokens| {
                steps += 1;
                for token in tokens {
                    told[token.prompt].push(token.id);
                }
                ControlFlow::Continue(())
            });
            let whole = whole.unwrap();
            for (told, whole) in told.iter().zip(&whole) {
                assert_eq!(*told, whole.tokens);
            }
            for last in [1, 4] {
                let mut step = 0;
                let part = generator.generate(&prompts(), |_| {
                    step += 1;
                    if step == last {
                        ControlFlow::Break(())
                    } else {
                        ControlFlow::Continue(())
                    }
                });
                assert_eq!(step, last.min(steps));
                for (part, whole) in part.unwrap().iter().zip(&whole) {
                    let is_whole = part.stopped != Stopped::Interrupt;
                    assert!(!is_whole || part == whole);
                    if !matches!(config.strategy, Strategy::Beam(_)) {
                        assert!(whole.tokens.starts_with(&part.tokens));
                    }
                }
            }
        }
    }
}

#[test]
fn a_model_in_training_is_used_in_its_evaluation_form() {
    let spans = ["full", "window:4"];
    let training = model_on(
        &Device::default().autodiff(),
        &spans,
        PositionEncoding::Learned,
    );
    let config = GenerateConfig::new().with_max_new_tokens(12);
    let found = generate(&training, &config, &prompts());
    assert_eq!(found, generate(&model(&spans), &config, &prompts()));
}

#[test]
fn what_cannot_be_is_refused_before_any_work() {
    let model = model(&["full"]);
    let config = GenerateConfig::new().with_max_new_tokens(8);
    let refusal = |config: &GenerateConfig, prompts: &[Vec<u32>]| {
        let generator = Generator::new(&model, config);
        let refused = generator.generate(prompts, |_| unreachable!("it has begun"));
        refused.unwrap_err().to_string()
    };
    let told = |config: GenerateConfig| refusal(&config, &prompts());
    assert_eq!(
        refusal(&config, &[vec![1], vec![]]),
        "prompt 2: it has no tokens; at least one is needed"
    );
    let message = refusal(&config, &[vec![1, 11]]);
    assert_eq!(
        message,
        "prompt 1: token 11 must be below 11, the model's number of tokens"
    );
    let message = refusal(&config, &[vec![1; 25]]);
    assert!(
        message.contains("a prompt of at most 24 tokens, or at most 7 new ones"),
        "{message}"
    );
    let message = told(config.clone().with_stop_tokens(vec![3, 12]));
    assert_eq!(
        message,
        "stop token 12: it must be below 11, the model's number of tokens"
    );
    let message = told(config.clone().with_max_new_tokens(0));
    assert_eq!(message, "max_new_tokens = 0: it must be at least 1");
    let message = told(config.clone().with_max_new_tokens(usize::MAX));
    assert!(
        message.contains("room for at most 27 new ones"),
        "{message}"
    );
    let message = told(config.clone().with_strategy(beams(0, 1.0)));
    assert_eq!(message, "beams = 0: it must be at least 1");
    let message = told(config.clone().with_strategy(beams(2, f64::NAN)));
    assert_eq!(message, "length_penalty = NaN: it must be a finite number");
    let message = told(config.clone().with_strategy(sampling(0.0)));
    assert_eq!(message, "top_p = 0: it must be above 0 and at most 1");
    for penalty in [0.0, -1.5, f64::NAN, f64::INFINITY] {
        let message = told(config.clone().with_repetition_penalty(penalty));
        let expected = "it must be a number above 0, and above 1 to avoid repetition";
        assert_eq!(
            message,
            format!("repetition_penalty = {penalty}: {expected}")
        );
    }
    let message = told(config.clone().with_no_repeat_ngram(Some(0)));
    assert_eq!(message, "no_repeat_ngram = 0: it must be at least 1");
    assert_eq!(generate(&model, &config, &[]), []);
    // Everything up to the last position may be used.
    assert_eq!(generate(&model, &config, &[vec![1; 24]])[0].tokens.len(), 8);
}

#[test]
fn logits_that_are_not_finite_are_an_error() {
    let mut model = model(&["full"]);
    model.norm.gamma = model.norm.gamma.map(|gamma| gamma * f32::NAN);
    let generator = Generator::new(&model, &GenerateConfig::new().with_max_new_tokens(8));
    let error = generator
        .generate(&prompts(), |_| ControlFlow::Continue(()))
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "prompt 1: the model's logits are not finite"
    );
}

#[test]
fn a_configuration_survives_its_text() {
    for strategy in strategies() {
        let config = GenerateConfig::new().with_strategy(strategy);
        let again: GenerateConfig = serde_json::from_str(&config.to_string()).unwrap();
        assert_eq!(again, config);
    }
}

/// A sequence of steps: which rows go on, and with what.
fn steps() -> impl proptest::strategy::Strategy<Value = Vec<Vec<(usize, u32)>>> {
    let extension = (0..8_usize, 0..VOCABULARY as u32);
    prop::collection::vec(prop::collection::vec(extension, 1..4), 1..12)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn cached_logits_are_those_of_the_whole(
        spans in prop::collection::vec(
            prop_oneof![
                Just("full".to_owned()),
                (1..9_usize, 0..3_usize).prop_map(|(width, sinks)| format!("window:{width}+{sinks}")),
                (1..9_usize).prop_map(|width| format!("block:{width}")),
            ],
            1..3,
        ),
        is_rotary in any::<bool>(),
        prompts in prop::collection::vec(prop::collection::vec(0..VOCABULARY as u32, 1..14), 1..4),
        steps in steps(),
    ) {
        let encoding = if is_rotary {
            PositionEncoding::Rotary { theta: 100.0 }
        } else {
            PositionEncoding::Learned
        };
        let spans: Vec<&str> = spans.iter().map(String::as_str).collect();
        let model = model_on(&Device::default(), &spans, encoding);
        let batch = |cache| Batch::new(&model, prompts.iter().map(Vec::as_slice), cache);
        let (mut cached, mut whole) = (batch(Some(model.cache())), batch(None));
        let mut rows = prompts.len();
        for step in steps {
            let (one, other) = (cached.logits().unwrap(), whole.logits().unwrap());
            prop_assert_eq!(one.len(), rows * VOCABULARY);
            let mut pairs = one.iter().zip(&other);
            prop_assert!(pairs.all(|(one, other)| (one - other).abs() < 1e-4));
            let extensions: Vec<Extension> = step
                .iter()
                .map(|&(row, id)| Extension { row: row % rows, id })
                .collect();
            rows = extensions.len();
            cached.extend(&extensions);
            whole.extend(&extensions);
        }
    }
}
