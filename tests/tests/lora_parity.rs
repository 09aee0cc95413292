//! Low-rank adapters against PEFT, on the files of `fixtures/lora`.

mod fixture;

use std::path::Path;

use burn::{
    module::{LoraAdapter, Param, Reparameterizer},
    nn::Linear,
    prelude::*,
    tensor::Tolerance,
};
use fixture::Fixture;
use masformer_core::{Trace, feed_forward::apply_linear};
use moebert_core::{
    bert::BertInput,
    heads::{BertModel, Logits},
    pretrained::{ADAPTER_CONFIG, Pretrained, has_adapters, load_adapter, save_adapter},
};

/// Attaches one adapter to every matrix.
struct Attach(LoraAdapter);

impl Reparameterizer for Attach {
    type Reparam = LoraAdapter;

    fn reparameterize<const D: usize>(
        &mut self,
        _: &str,
        param: Param<Tensor<D>>,
    ) -> (Param<Tensor<D>>, Option<LoraAdapter>) {
        (
            param.set_require_grad(false),
            (D == 2).then(|| self.0.clone()),
        )
    }
}

#[test]
fn a_layer_and_its_gradients_are_those_of_peft() {
    for name in ["linear", "linear_rslora"] {
        let fixture = Fixture::open("lora", name);
        let tolerance = Tolerance::rel_abs(1e-4, 1e-5);
        // Files have matrices turned.
        let tracked = |name: &str| {
            fixture
                .tensor::<2>(name)
                .transpose()
                .autodiff()
                .require_grad()
        };
        let (a, b) = (tracked("lora_A"), tracked("lora_B"));
        let scale = f64::from(fixture.tensor::<1>("scaling").into_scalar::<f32>());
        let adapter = LoraAdapter {
            a: Param::from_tensor(a.clone()),
            b: Param::from_tensor(b.clone()),
            scale,
        };
        let layer = Linear {
            weight: Param::from_tensor(fixture.tensor::<2>("weight").transpose().autodiff()),
            bias: Some(Param::from_tensor(fixture.tensor::<1>("bias").autodiff())),
        };
        let layer = layer.apply_reparameterization(Attach(adapter));
        let input = fixture.tensor::<3>("x").autodiff().require_grad();
        let shape = fixture.tensor::<3>("y").dims();
        let output = apply_linear(&layer, input.clone().flatten(0, 1)).reshape(shape);
        fixture.assert_close("y", output.clone().inner(), tolerance);
        let gradients = (output * fixture.tensor::<3>("upstream").autodiff())
            .sum()
            .backward();
        fixture.assert_close("grad_x", input.grad(&gradients).unwrap(), tolerance);
        let factor = |factor: &Tensor<2>| factor.grad(&gradients).unwrap().transpose();
        fixture.assert_close("grad_lora_A", factor(&a), tolerance);
        fixture.assert_close("grad_lora_B", factor(&b), tolerance);
        assert!(layer.weight.base().grad(&gradients).is_none());
        let merged = layer.weight.val().inner().transpose();
        fixture.assert_close("merged_weight", merged, tolerance);
    }
}

fn folder(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("fixtures/lora/bert")
        .join(name)
}

fn base() -> BertModel {
    let (model, _) = Pretrained::open(folder("base"))
        .unwrap()
        .load(None, &Device::default())
        .unwrap();
    model
}

fn logits(model: &BertModel) -> Tensor<2> {
    let fixture = Fixture::open("lora/bert", "io");
    let integers = |name: &str| {
        let (shape, values) = fixture.file.indices::<2>(name).unwrap();
        let values: Vec<i64> = values.iter().map(|value| *value as i64).collect();
        Tensor::<2, Int>::from_data(TensorData::new(values, shape), &fixture.device)
    };
    let input = BertInput {
        input_ids: integers("input_ids"),
        token_type_ids: integers("token_type_ids"),
        padding: Some(integers("attention_mask").equal_elem(0)),
    };
    match model.forward(&input, &mut Trace::nothing()).logits {
        Some(Logits::Sequence(logits)) => logits,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_folder_of_peft_gives_its_logits() {
    let fixture = Fixture::open("lora/bert", "io");
    let tolerance = Tolerance::absolute(1e-4);
    fixture.assert_close("logits_base", logits(&base()), tolerance);
    let adapted = load_adapter(&folder("adapter"), base()).unwrap();
    assert!(has_adapters(&adapted));
    fixture.assert_close("logits_adapter", logits(&adapted), tolerance);
    let merged = adapted.clone().materialize();
    assert!(!has_adapters(&merged));
    fixture.assert_close("logits_merged", logits(&merged), Tolerance::absolute(1e-3));

    // Saved again, with ranks and scales that differ between layers.
    let saved = tempfile::tempdir().unwrap();
    save_adapter(saved.path(), &adapted, None).unwrap();
    let again = load_adapter(saved.path(), base()).unwrap();
    let same = logits(&adapted).into_data();
    logits(&again)
        .into_data()
        .assert_approx_eq::<f32>(&same, Tolerance::absolute(1e-6));
    assert!(save_adapter(saved.path(), &base(), None).is_err());
}

#[test]
fn what_the_folder_asks_for_and_is_not_there_is_refused_by_its_key() {
    let copy = tempfile::tempdir().unwrap();
    let file = "adapter_model.safetensors";
    std::fs::copy(folder("adapter").join(file), copy.path().join(file)).unwrap();
    let config = std::fs::read_to_string(folder("adapter").join(ADAPTER_CONFIG)).unwrap();
    let refused = |from: &str, to: &str, message: &str| {
        assert!(config.contains(from), "{from}");
        std::fs::write(copy.path().join(ADAPTER_CONFIG), config.replace(from, to)).unwrap();
        let error = load_adapter(copy.path(), base()).unwrap_err().to_string();
        assert!(error.contains(message), "{error}");
    };
    refused("\"LORA\"", "\"IA3\"", "`peft_type`");
    refused("\"bias\": \"none\"", "\"bias\": \"all\"", "`bias`");
    refused("\"use_dora\": false", "\"use_dora\": true", "`use_dora`");
    refused("\"lora_alpha\": 8,", "", "lora_alpha");
}

#[test]
#[ignore = "needs Python with PEFT; see fixtures/README.md"]
fn peft_reads_what_is_saved() {
    let adapted = load_adapter(&folder("adapter"), base()).unwrap();
    let saved = tempfile::tempdir().unwrap();
    save_adapter(saved.path(), &adapted, None).unwrap();
    let python = std::env::var("PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/check_adapter.py");
    let output = std::process::Command::new(python)
        .arg(script)
        .arg(saved.path())
        .output();
    let output = output.unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}
