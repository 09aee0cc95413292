//! Encoders that drop tokens, against a reference (`fixtures/latency`) and against themselves.

mod fixture;

use burn::{
    module::{ModuleMapper, Param},
    prelude::*,
    tensor::Tolerance,
};
use distill::surgery::{DropTokens, Surgery};
use fixture::Fixture;
use masformer_core::{
    Direction, Flow, Keep, Layers, Span, TokenDropping, Tokens, Trace,
    ops::{SpanAttentionOptions, attention_received},
    relative::RelativeConfig,
};
use moebert_core::{
    bert::{BertConfig, BertInput},
    cost::Cost,
    half::Half,
    heads::{BertModel, BertModelConfig, Head, Logits},
    pretrained::{Pretrained, PretrainedConfig, SaveOptions, save},
};

#[test]
fn scores_and_the_tokens_that_are_left_are_those_of_the_reference() {
    let fixture = Fixture::open("latency", "scores");
    let attention = fixture.tensor::<4>("attention");
    let [batch, heads, length, _] = attention.dims();
    let real = fixture.tensor::<2>("mask");
    let padding = real.clone().equal_elem(0);
    // Scores whose softmax is the attention of the file.
    let keys = Tensor::<2>::eye(length, &fixture.device).unsqueeze::<4>();
    let options = SpanAttentionOptions {
        span: Span::Full,
        direction: Direction::Bidirectional,
        scale: 1.0,
        dropout: None,
    };
    let received = attention_received(
        attention.clamp_min(1e-30).log(),
        keys.expand([batch, heads, length, length]),
        Some(&padding),
        options,
    );
    let queries = real.clone().sum_dim(1);
    fixture.assert_close(
        "score",
        received.clone() / queries,
        Tolerance::absolute(1e-6),
    );
    for share in ["0.25", "0.5", "0.75"] {
        let places = Tensor::<1, Int>::arange(0..length as i64, &fixture.device);
        let places = places.unsqueeze::<2>().expand([batch, length]);
        let hidden = places.clone().float().unsqueeze_dim(2);
        let flow = Flow::new(hidden, Tokens::new(places, Some(padding.clone())));
        let dropping = TokenDropping::new(share.parse().unwrap()).unwrap();
        let left = dropping.apply(flow, received.clone());
        // Only what is left changes.
        let marked = Flow {
            hidden: left.hidden.full_like(-1.0),
            ..left
        };
        let kept = marked.all_hidden().equal_elem(-1.0).float();
        fixture.assert_close(
            &format!("keep_{share}"),
            kept.squeeze_dim::<2>(2),
            Tolerance::absolute(0.0),
        );
    }
}

fn bert_config() -> BertConfig {
    BertConfig::new()
        .with_vocab_size(50)
        .with_hidden_size(16)
        .with_num_hidden_layers(3)
        .with_num_attention_heads(4)
        .with_intermediate_size(24)
        .with_max_position_embeddings(12)
        .with_hidden_dropout_prob(0.0)
        .with_attention_probs_dropout_prob(0.0)
}

fn model(head: Head, spans: &[&str]) -> BertModel {
    let spans = spans.iter().map(|span| span.parse().unwrap());
    of_config(bert_config().with_spans(spans.collect()), head)
}

fn of_config(bert: BertConfig, head: Head) -> BertModel {
    let model = BertModelConfig::new(bert, head).init(&Device::default());
    model.map(&mut Waves(0.0))
}

/// Weights that are the same in every run: tests share the generator.
struct Waves(f64);

impl ModuleMapper for Waves {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        param.map(|value| {
            let shape = value.shape();
            if D == 1 {
                return value;
            }
            let count = shape.num_elements() as i64;
            let numbers = Tensor::<1, Int>::arange(0..count, &value.device()).float();
            self.0 += 1.0;
            ((numbers * 1.7 + self.0).sin() * 0.5).reshape(shape)
        })
    }
}

fn dropping(model: BertModel, keep: &[f64]) -> BertModel {
    let surgery = DropTokens {
        keep: Some(keep.to_vec()),
        ..DropTokens::default()
    };
    Surgery::<BertModel>::check(&surgery).unwrap();
    surgery.apply(model).unwrap()
}

/// Sequences of these lengths, padded to the longest of 12 tokens.
fn input(lengths: &[usize], padded: usize) -> BertInput {
    let device = Device::default();
    let token = |row: usize, place: usize| ((row * 7 + place * 3) % 49 + 1) as i32;
    let (mut ids, mut padding) = (vec![], vec![]);
    for (row, &length) in lengths.iter().enumerate() {
        ids.extend((0..padded).map(|place| token(row, place)));
        padding.extend((0..padded).map(|place| place >= length));
    }
    let shape = [lengths.len(), padded];
    let input_ids = Tensor::<2, Int>::from_data(TensorData::new(ids, shape), &device);
    BertInput {
        token_type_ids: input_ids.zeros_like(),
        input_ids,
        padding: Some(Tensor::from_data(TensorData::new(padding, shape), &device)),
    }
}

fn logits(model: &BertModel, input: &BertInput) -> TensorData {
    match model.forward(input, &mut Trace::nothing()).logits.unwrap() {
        Logits::Sequence(logits) => logits.into_data(),
        Logits::Span(logits) => logits.into_data(),
    }
}

#[test]
fn a_share_of_one_changes_no_bit_and_less_changes_the_answer_and_the_cost() {
    let head = Head::Classification { classes: 3 };
    let whole = model(head, &[]);
    let input = input(&[12, 7], 12);
    let expected = logits(&whole, &input);
    let same = dropping(whole.clone(), &[1.0; 3]);
    logits(&same, &input).assert_eq(&expected, true);
    let fewer = dropping(whole.clone(), &[1.0, 0.5, 0.25]);
    assert_ne!(logits(&fewer, &input), expected);
    let [all, less] = [&whole, &fewer].map(|model| Cost::of(model, 12));
    // Halves: 12, 6 and 3 tokens; attention: 12, 12 and 6.
    let [projections, pairs, half] = [4 * 16 * 16, 2 * 16, 2 * 16 * 24];
    let expected = projections * 30 + pairs * (144 + 144 + 36) + half * 21;
    assert_eq!(less.multiply_adds_per_token, expected / 12);
    assert_eq!(less.parameters, all.parameters);
}

#[test]
fn the_batch_that_a_sequence_is_in_changes_nothing() {
    let head = Head::Classification { classes: 2 };
    let relative = RelativeConfig::new().with_buckets(4).with_distances(12);
    let relative = bert_config()
        .with_relative(Some(relative))
        .with_mixers(vec!["disentangled".parse().unwrap(); 3]);
    for (what, model) in [
        ("full", model(head, &[])),
        ("spans", model(head, &["full", "window:4", "window:4"])),
        ("relative", of_config(relative, head)),
    ] {
        let model = dropping(model, &[0.8, 0.5, 0.3]);
        let together = logits(&model, &input(&[5, 12, 9], 12));
        let alone = logits(&model, &input(&[5], 5));
        for (one, other) in alone.iter::<f32>().zip(together.iter::<f32>()) {
            assert!((one - other).abs() < 1e-4, "{what}: {one} {other}");
        }
    }
}

/// Of nine tokens both shares leave five, of eight the second leaves one fewer.
#[test]
fn a_batch_in_which_the_longest_drops_nothing_more_changes_nothing() {
    let model = dropping(model(Head::Regression, &[]), &[0.55, 0.5, 0.5]);
    let together = logits(&model, &input(&[8, 9], 9));
    let alone = logits(&model, &input(&[8], 8));
    for (one, other) in alone.iter::<f32>().zip(together.iter::<f32>()) {
        assert!((one - other).abs() < 1e-4, "{one} {other}");
    }
}

#[test]
fn heads_and_objectives_see_every_token() {
    let model = dropping(model(Head::SpanQa, &[]), &[0.7, 0.4, 0.4]);
    let input = input(&[12, 8], 12);
    let mut trace = Trace::new(Keep {
        hidden: Layers::All,
        ..Keep::default()
    });
    let output = model.forward(&input, &mut trace);
    for hidden in trace.hidden.values() {
        assert_eq!(hidden.dims(), [2, 12, 16]);
    }
    match output.logits {
        Some(Logits::Span(logits)) => assert_eq!(logits.dims(), [2, 12, 2]),
        _ => panic!("a head for spans"),
    }
    // What the second layer drops stays as it is from there on.
    let changed = (trace.hidden[&3].clone() - trace.hidden[&2].clone())
        .abs()
        .sum_dim(2);
    let still = changed.equal_elem(0.0).int().sum_dim(1);
    let still: Vec<i32> = still.into_data().convert::<i32>().iter().collect();
    assert_eq!(still, [12 - 5, 12 - 4]);
}

#[test]
fn layers_without_attention_and_decoders_drop_nothing() {
    let bert = BertConfig::new()
        .with_vocab_size(9)
        .with_hidden_size(8)
        .with_num_hidden_layers(1)
        .with_num_attention_heads(2)
        .with_intermediate_size(8)
        .with_max_position_embeddings(4)
        .with_mixers(vec!["s4d".parse().unwrap()]);
    let model = BertModelConfig::new(bert, Head::Encoder).init(&Device::default());
    let error = DropTokens::default().apply(model).unwrap_err();
    assert_eq!(
        error.to_string(),
        "layer 0 cannot drop tokens: its mixer `s4d` has no attention, which says which are left"
    );
    let rises = DropTokens {
        keep: Some(vec![0.5, 0.6]),
        ..DropTokens::default()
    };
    assert!(Surgery::<BertModel>::check(&rises).is_err());
}

#[test]
fn a_folder_keeps_what_is_dropped_and_refuses_what_cannot_be() {
    let dir = tempfile::tempdir().unwrap();
    let head = Head::Classification { classes: 3 };
    let bert = dropping(model(head, &[]), &[1.0, 0.6, 0.4]);
    let config = bert_config();
    let config = PretrainedConfig::new(config, head);
    save(dir.path(), &bert, &config, SaveOptions::default()).unwrap();
    let load = || {
        let folder = Pretrained::open(dir.path())?;
        folder.load(None, &Device::default())
    };
    let (again, report) = load().unwrap();
    assert!(report.is_exact());
    let input = input(&[12, 7], 12);
    logits(&again, &input).assert_eq(&logits(&bert, &input), true);

    let path = dir.path().join("config.json");
    let text = std::fs::read_to_string(&path).unwrap();
    let json: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(json["model_type"], "kiln-bert");
    for (key, shares, problem) in [
        (
            "drop_tokens",
            "[1.0, 0.5]",
            "a share of tokens is needed for each of 3 layers, not 2",
        ),
        (
            "drop_tokens",
            "[1.0, 0.5, 0.0]",
            "must be above 0 and at most 1, not 0",
        ),
        (
            "drop_token",
            "[1.0, 0.5, 0.5]",
            "`structure.drop_token` is unknown; there is drop_tokens",
        ),
    ] {
        let mut changed = json.clone();
        let structure = format!("{{\"{key}\": {shares}}}");
        changed["kiln"]["structure"] = serde_json::from_str(&structure).unwrap();
        std::fs::write(&path, changed.to_string()).unwrap();
        let error = load().unwrap_err().to_string();
        assert!(
            error.contains("config.json") && error.contains(problem),
            "{error}"
        );
    }
}

#[test]
fn gradients_reach_every_layer_through_what_is_left() {
    // The first layer alone drops, before its half: no change of a half changes what is left.
    let model = dropping(model(Head::SpanQa, &[]), &[0.5; 3]).train();
    let input = input(&[12, 7], 12);
    let loss = |model: &BertModel| {
        let tracked = BertInput {
            input_ids: input.input_ids.clone().autodiff(),
            token_type_ids: input.token_type_ids.clone().autodiff(),
            padding: input.padding.clone().map(Tensor::autodiff),
        };
        match model.forward(&tracked, &mut Trace::nothing()).logits {
            Some(Logits::Span(logits)) => logits.square().mean(),
            _ => panic!("a head for spans"),
        }
    };
    let gradients = loss(&model).backward();
    for layer in &model.bert.stack.layers {
        let inner = &layer.feed_forward.dense().unwrap().inner.weight;
        let gradient = inner.val().grad(&gradients).unwrap();
        // Along its gradient, the loss changes by the square of its length.
        let step = 1e-3 / gradient.clone().square().sum().sqrt().into_scalar::<f32>();
        let moved = |factor: f32| {
            let mut model = model.clone();
            let layers = &mut model.bert.stack.layers;
            let place = layers
                .iter_mut()
                .find_map(|other| match &mut other.feed_forward {
                    Half::Dense(mlp) if mlp.inner.weight.id == inner.id => {
                        Some(&mut mlp.inner.weight)
                    }
                    _ => None,
                });
            let place = place.unwrap();
            let change = gradient.clone() * (factor * step);
            *place = place
                .clone()
                .map(|weight| (weight.inner() + change).autodiff());
            loss(&model).into_scalar::<f32>()
        };
        let found = (moved(1.0) - moved(-1.0)) / 2.0;
        let length = gradient.square().sum().sqrt().into_scalar::<f32>();
        assert!(
            (found / (length * 1e-3) - 1.0).abs() < 0.05,
            "{found} {length}"
        );
    }
}
