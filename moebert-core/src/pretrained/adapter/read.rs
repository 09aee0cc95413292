//! Reads folders of adapters.

use std::{
    collections::{BTreeMap, HashMap},
    path::Path,
};

use burn::{
    module::{LoraAdapter, Param, ParamId, Reparameterizer},
    prelude::*,
};
use masformer_core::{
    pretrained::{Layout, kept_weight_forms, read_config},
    tensor_file::TensorFile,
};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{
    super::{
        PretrainedConfig, PretrainedError,
        family::{EncoderLayout, HEAD_WEIGHT},
    },
    A, ADAPTER_CONFIG, ADAPTER_WEIGHTS, B, PREFIX,
    find::linear_layers,
};
use crate::{file::FileError, heads::BertModel};

/// Keys of other forms of adapters, which change the meaning of the factors.
const OTHER: [&str; 6] = [
    "use_dora",
    "lora_bias",
    "use_qalora",
    "use_bdlora",
    "target_parameters",
    "layer_replication",
];

/// What has a meaning in a regular expression, but for the dot, which is a part of names.
const REGULAR_EXPRESSION: &str = r"\^$*+?{}[]|()";

/// The keys of [`ADAPTER_CONFIG`] that say how factors are scaled. Ranks follow from the factors themselves.
#[derive(Debug, Deserialize)]
struct Scales {
    lora_alpha: f64,
    /// `alpha_pattern`.
    #[serde(skip)]
    alphas: Vec<(String, f64)>,
    #[serde(default)]
    use_rslora: bool,
}

impl Scales {
    /// The scale of the factors of a module that have this rank.
    fn of(&self, module: &str, rank: usize) -> f64 {
        let mut patterns = self.alphas.iter();
        let own = patterns.find(|(pattern, _)| is_named(module, pattern));
        let alpha = own.map_or(self.lora_alpha, |(_, alpha)| *alpha);
        let rank = rank as f64;
        if self.use_rslora {
            alpha / rank.sqrt()
        } else {
            alpha / rank
        }
    }
}

/// Whether a pattern is the last parts of a module's name.
fn is_named(module: &str, pattern: &str) -> bool {
    let rest = module.strip_suffix(pattern);
    rest.is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}

/// Gives a model the adapters and the head of a folder that PEFT or [`save_adapter`](super::save_adapter) wrote; `config` is that of the model.
/// Other weights of the model stay as they are, and are frozen.
///
/// # Errors
///
/// If a file is missing or damaged, the folder asks for what is not supported, or does not fit the model.
pub fn load_adapter(
    dir: &Path,
    model: BertModel,
    config: &PretrainedConfig,
) -> Result<BertModel, PretrainedError> {
    if !kept_weight_forms(&model).is_empty() {
        return Err(PretrainedError::AdapterOfForms);
    }
    let scales = read_scales(&dir.join(ADAPTER_CONFIG))?;
    let path = dir.join(ADAPTER_WEIGHTS);
    let file = TensorFile::read(&path)?;
    let layout = EncoderLayout::new(config.family(), model.head_kind(), true);
    let device = model.bert.embeddings.word.weight.device();
    let layers: HashMap<String, (ParamId, [usize; 2])> = linear_layers(&model)
        .into_iter()
        .map(|(name, layer)| (name, (layer.weight.id, layer.weight.dims())))
        .collect();
    let (mut adapters, mut whole) = (HashMap::new(), BTreeMap::new());
    for name in file.names() {
        let Some(inner) = name.strip_prefix(PREFIX) else {
            let problem = format!("a name that begins with `{PREFIX}` is expected");
            return Err(file.entry(&name, problem).into());
        };
        if let Some(module) = inner.strip_suffix(B) {
            let a = format!("{PREFIX}{module}{A}");
            if !file.contains(&a) {
                let problem = format!("its other factor is missing: `{a}`");
                return Err(file.entry(&name, problem).into());
            }
            continue;
        }
        let Some(module) = inner.strip_suffix(A) else {
            whole.insert(layout.names().in_model(inner).swap_remove(0), name.clone());
            continue;
        };
        let a = matrix(&file, &name, &device)?;
        let b = matrix(&file, &format!("{PREFIX}{module}{B}"), &device)?;
        let weight = layout
            .names()
            .in_model(&format!("{module}.weight"))
            .swap_remove(0);
        let Some((id, shape)) = layers.get(&weight) else {
            let problem = match weight.as_str() {
                HEAD_WEIGHT => "an adapter of the head is not supported: the head is trained whole",
                _ => "the model has no such linear layer",
            };
            return Err(file.entry(&name, problem).into());
        };
        let ([rows, rank], [other, columns]) = (a.dims(), b.dims());
        if rank != other || [rows, columns] != *shape {
            let problem = format!(
                "factors of [{rows}, {rank}] and [{other}, {columns}] do not fit the model's weight of {shape:?}"
            );
            return Err(file.entry(&name, problem).into());
        }
        let adapter = LoraAdapter {
            a: Param::from_tensor(a),
            b: Param::from_tensor(b),
            scale: scales.of(module, rank),
        };
        adapters.insert(*id, adapter);
    }
    let mut model = model.apply_reparameterization(Attach(adapters));
    for (module, name) in whole {
        let (part, parameter) = module.rsplit_once('.').unwrap_or_default();
        let layer = match part {
            "head" => model.head.as_mut(),
            "bert.pooler" => model.bert.pooler.as_mut(),
            _ => None,
        };
        match (layer, parameter) {
            (Some(layer), "weight") => {
                let weight = matrix(&file, &name, &device)?;
                if weight.dims() != layer.weight.dims() {
                    let problem = format!("the model's `{part}` is {:?}", layer.weight.dims());
                    return Err(file.entry(&name, problem).into());
                }
                layer.weight = Param::from_tensor(weight);
            }
            (Some(layer), "bias") => {
                let (shape, values) = file.f32::<1>(&name)?;
                let [_, outputs] = layer.weight.dims();
                if shape != [outputs] {
                    let problem =
                        format!("it is {shape:?}, and the model's `{part}` has {outputs} outputs");
                    return Err(file.entry(&name, problem).into());
                }
                layer.bias = Some(Param::from_tensor(Tensor::from_data(
                    TensorData::new(values, shape),
                    &device,
                )));
            }
            _ => return Err(file.entry(&name, "the model has no such part").into()),
        }
    }
    Ok(model)
}

/// Reads the settings, and refuses what would change the meaning of the factors.
fn read_scales(path: &Path) -> Result<Scales, PretrainedError> {
    let json = read_config(path)?;
    let wrong = |key: &str, problem: &str| FileError::entry(path, key, problem);
    if json.get("peft_type") != Some(&json!("LORA")) {
        return Err(wrong("peft_type", "only \"LORA\" is supported").into());
    }
    if let Some(bias) = json.get("bias")
        && bias != "none"
    {
        return Err(wrong("bias", "only \"none\" is supported").into());
    }
    for key in OTHER {
        let is_unset = json.get(key).is_none_or(|value| {
            value.is_null() || *value == json!(false) || *value == json!([]) || *value == json!({})
        });
        if !is_unset {
            return Err(wrong(key, "this form of adapters is not supported").into());
        }
    }
    let alphas = patterns(path, &json, "alpha_pattern")?;
    let scales = serde_json::from_value(Value::Object(json));
    let scales: Scales = scales.map_err(|source| FileError::Json {
        path: path.to_owned(),
        source,
    })?;
    Ok(Scales { alphas, ..scales })
}

/// The numbers of the modules that patterns name, in the order of the file: PEFT takes the first one that fits.
fn patterns(
    path: &Path,
    json: &Map<String, Value>,
    key: &str,
) -> Result<Vec<(String, f64)>, FileError> {
    let wrong = |key: &str, problem: &str| FileError::entry(path, key, problem);
    let patterns = match json.get(key) {
        None | Some(Value::Null) => return Ok(vec![]),
        Some(Value::Object(patterns)) => patterns,
        Some(_) => return Err(wrong(key, "an object of numbers is expected")),
    };
    let number = |(pattern, value): (&String, &Value)| {
        let key = format!("{key}.{pattern}");
        if pattern.contains(|c: char| REGULAR_EXPRESSION.contains(c)) {
            let problem = "regular expressions are not supported; write the end of a module's name";
            return Err(wrong(&key, problem));
        }
        let number = value.as_f64();
        let number = number.ok_or_else(|| wrong(&key, "a number is expected"))?;
        Ok((pattern.clone(), number))
    };
    patterns.iter().map(number).collect()
}

/// A matrix that is stored transposed.
fn matrix(file: &TensorFile, name: &str, device: &Device) -> Result<Tensor<2>, FileError> {
    let (shape, values) = file.f32::<2>(name)?;
    Ok(Tensor::<2>::from_data(TensorData::new(values, shape), device).transpose())
}

/// Attaches adapters by the weights they belong to, and freezes all else.
struct Attach(HashMap<ParamId, LoraAdapter>);

impl Reparameterizer for Attach {
    type Reparam = LoraAdapter;

    fn reparameterize<const D: usize>(
        &mut self,
        _: &str,
        param: Param<Tensor<D>>,
    ) -> (Param<Tensor<D>>, Option<LoraAdapter>) {
        let adapter = self.0.remove(&param.id);
        (param.set_require_grad(false), adapter)
    }
}
