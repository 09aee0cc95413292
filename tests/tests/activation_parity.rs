//! Activations against those of Transformers, on what `fixtures/activation_fixtures.py` made.

use std::{collections::BTreeMap, fs, path::Path};

use burn::prelude::*;
use masformer_core::pretrained::activation_named;
use serde_json::Value;

#[test]
fn each_name_is_the_function_that_transformers_has() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/activations.json");
    let mut expected: Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    let inputs: Vec<f32> = serde_json::from_value(expected["inputs"].take()).unwrap();
    let functions: BTreeMap<String, Vec<Option<f64>>> =
        serde_json::from_value(expected["functions"].take()).unwrap();
    let inputs = Tensor::<1>::from_data(inputs.as_slice(), &Device::default());
    let mut unknown = vec![];
    for (name, expected) in functions {
        let Some(activation) = activation_named(&name) else {
            unknown.push(name);
            continue;
        };
        let found = activation.forward(inputs.clone()).into_data();
        for (found, expected) in found.iter::<f64>().zip(expected) {
            let expected = expected.unwrap();
            let tolerance = 1e-6 * expected.abs().max(1.0);
            assert!(
                (found - expected).abs() < tolerance,
                "{name}: {found} {expected}"
            );
        }
    }
    let others = [
        "gelu_10",
        "hardswish",
        "laplace",
        "leaky_relu",
        "linear",
        "mish",
        "relu2",
        "relu6",
        "sigmoid",
        "sqrtsoftplus",
        "tanh",
    ];
    assert_eq!(unknown, others);
}
