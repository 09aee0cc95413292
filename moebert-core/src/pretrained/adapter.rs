//! Folders of low-rank adapters, as the PEFT library writes and reads them: `adapter_config.json` and
//! `adapter_model.safetensors`.
//!
//! The factors of a weight `[in, out]`, `x W + s (x A) B`, are stored turned: `lora_A.weight` `[r, in]` and `lora_B.weight`
//! `[out, r]`. The head of a task is trained with them and stored whole.

use std::{
    collections::{BTreeMap, HashMap},
    fs,
    path::Path,
};

use burn::{
    module::{LoraAdapter, Param, ParamId, Reparameterizer},
    nn::Linear,
    prelude::*,
};
use masformer_core::{
    Mixer, Mlp,
    pretrained::{Layout, read_config},
    tensor_file::{self, TensorFile, Values},
};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{BertLayout, PretrainedError};
use crate::{
    file::{self, FileError},
    half::Half,
    heads::{BertModel, Head},
};

/// The settings of an adapter folder.
pub const ADAPTER_CONFIG: &str = "adapter_config.json";
const ADAPTER_WEIGHTS: &str = "adapter_model.safetensors";

/// What PEFT puts before the names of Transformers.
const PREFIX: &str = "base_model.model.";
const A: &str = ".lora_A.weight";
const B: &str = ".lora_B.weight";

/// The keys of [`ADAPTER_CONFIG`] that say how factors are scaled.
#[derive(Debug, Deserialize)]
struct Scales {
    lora_alpha: f64,
    #[serde(default)]
    alpha_pattern: BTreeMap<String, f64>,
    #[serde(default)]
    use_rslora: bool,
}

impl Scales {
    /// The scale of the factors of a module that have this rank.
    fn of(&self, module: &str, rank: usize) -> f64 {
        let mut patterns = self.alpha_pattern.iter();
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

/// Writes the adapters and the head of a model as a folder for PEFT; `base` is what the adapters belong to, a folder or a
/// name on the Hugging Face hub.
///
/// # Errors
///
/// If the model has no adapters, a number is not finite, or a file cannot be written.
pub fn save_adapter(
    dir: &Path,
    model: &BertModel,
    base: Option<&str>,
) -> Result<(), PretrainedError> {
    let layout = BertLayout::new(model.head_kind(), true);
    let mut adapters = vec![];
    for (weight, layer) in linear_layers(model) {
        if let Some(adapter) = layer.weight.adapter() {
            adapters.push((module_in_file(&layout, &weight), adapter));
        }
    }
    let Some((_, first)) = adapters.first() else {
        return Err(PretrainedError::NoAdapters);
    };
    let (rank, alpha) = settings(first);
    let mut tensors = vec![];
    let (mut ranks, mut alphas) = (BTreeMap::new(), BTreeMap::new());
    for (name, adapter) in &adapters {
        tensors.push(turned(format!("{PREFIX}{name}{A}"), adapter.a.val()));
        tensors.push(turned(format!("{PREFIX}{name}{B}"), adapter.b.val()));
        let (own_rank, own_alpha) = settings(adapter);
        if own_rank != rank {
            ranks.insert(name.clone(), own_rank);
        }
        if (own_alpha - alpha).abs() > 0.0 {
            alphas.insert(name.clone(), own_alpha);
        }
    }
    let mut whole = vec![];
    if let Some(head) = &model.head {
        let name = module_in_file(&layout, "head.weight");
        tensors.push(turned(format!("{PREFIX}{name}.weight"), head.weight.base()));
        if let Some(bias) = &head.bias {
            let bias = numbers(bias.val());
            let shape = vec![bias.len()];
            tensors.push((format!("{PREFIX}{name}.bias"), shape, Values::F32(bias)));
        }
        whole.push(name);
    }
    let targets: Vec<&String> = adapters.iter().map(|(name, _)| name).collect();
    let config = json!({
        "peft_type": "LORA",
        "task_type": task_type(model.head_kind()),
        "base_model_name_or_path": base,
        "r": rank,
        "lora_alpha": alpha,
        "lora_dropout": 0.0,
        "target_modules": targets,
        "modules_to_save": if whole.is_empty() { Value::Null } else { json!(whole) },
        "rank_pattern": ranks,
        "alpha_pattern": alphas,
        "bias": "none",
        "use_rslora": false,
        "fan_in_fan_out": false,
        "inference_mode": true,
    });
    fs::create_dir_all(dir).map_err(|source| FileError::Write {
        path: dir.to_owned(),
        source,
    })?;
    let metadata = vec![("format".to_owned(), "pt".to_owned())];
    tensor_file::write(&dir.join(ADAPTER_WEIGHTS), &tensors, metadata)?;
    let path = dir.join(ADAPTER_CONFIG);
    let text = serde_json::to_string_pretty(&config).map_err(|source| FileError::Json {
        path: path.clone(),
        source,
    })?;
    Ok(file::write(&path, format!("{text}\n").as_bytes())?)
}

fn task_type(head: Head) -> Option<&'static str> {
    match head {
        Head::Classification { .. } | Head::Regression => Some("SEQ_CLS"),
        Head::SpanQa => Some("QUESTION_ANS"),
        Head::Encoder => None,
    }
}

/// The name in files of the module of a weight.
fn module_in_file(layout: &BertLayout, weight: &str) -> String {
    let name = layout.names().in_file(weight);
    name.strip_suffix(".weight").unwrap_or(&name).to_owned()
}

/// Gives a model the adapters and the head of a folder that PEFT or [`save_adapter`] wrote. The weights of the model stay
/// as they are, and are frozen.
///
/// # Errors
///
/// If a file is missing or damaged, the folder asks for what is not supported, or does not fit the model.
pub fn load_adapter(dir: &Path, model: BertModel) -> Result<BertModel, PretrainedError> {
    let scales = read_scales(&dir.join(ADAPTER_CONFIG))?;
    let path = dir.join(ADAPTER_WEIGHTS);
    let file = TensorFile::read(&path)?;
    let layout = BertLayout::new(model.head_kind(), true);
    let device = model.bert.embeddings.word.weight.device();
    let layers: HashMap<String, (ParamId, [usize; 2])> = linear_layers(&model)
        .into_iter()
        .map(|(name, layer)| (name, (layer.weight.id, layer.weight.dims())))
        .collect();
    let (mut adapters, mut head) = (HashMap::new(), BTreeMap::new());
    for name in file.names() {
        let Some(inner) = name.strip_prefix(PREFIX) else {
            let problem = format!("a name that begins with `{PREFIX}` is expected");
            return Err(file.entry(&name, problem).into());
        };
        if inner.ends_with(B) {
            continue;
        }
        let Some(module) = inner.strip_suffix(A) else {
            head.insert(layout.names().in_model(inner).swap_remove(0), name.clone());
            continue;
        };
        let a = matrix(&file, &name, &device)?;
        let b = matrix(&file, &format!("{PREFIX}{module}{B}"), &device)?;
        let weight = layout
            .names()
            .in_model(&format!("{module}.weight"))
            .swap_remove(0);
        let Some((id, shape)) = layers.get(&weight) else {
            return Err(file
                .entry(&name, "the model has no such linear layer")
                .into());
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
    for (module, name) in head {
        let part = model.head.as_mut();
        match (module.as_str(), part) {
            ("head.weight", Some(head)) => {
                let weight = matrix(&file, &name, &device)?;
                if weight.dims() != head.weight.dims() {
                    let problem = format!("the model's head is {:?}", head.weight.dims());
                    return Err(file.entry(&name, problem).into());
                }
                head.weight = Param::from_tensor(weight);
            }
            ("head.bias", Some(head)) => {
                let (shape, values) = file.f32::<1>(&name)?;
                head.bias = Some(Param::from_tensor(Tensor::from_data(
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
    const OTHER: [&str; 6] = [
        "use_dora",
        "lora_bias",
        "use_qalora",
        "use_bdlora",
        "target_parameters",
        "layer_replication",
    ];
    for key in OTHER {
        let is_unset = json.get(key).is_none_or(|value| {
            value.is_null() || *value == json!(false) || *value == json!([]) || *value == json!({})
        });
        if !is_unset {
            return Err(wrong(key, "this form of adapters is not supported").into());
        }
    }
    serde_json::from_value(Value::Object(json)).map_err(|source| {
        FileError::Json {
            path: path.to_owned(),
            source,
        }
        .into()
    })
}

/// A matrix that is stored turned.
fn matrix(file: &TensorFile, name: &str, device: &Device) -> Result<Tensor<2>, FileError> {
    let (shape, values) = file.f32::<2>(name)?;
    Ok(Tensor::<2>::from_data(TensorData::new(values, shape), device).transpose())
}

/// A matrix as a tensor of a file, in which it is turned.
fn turned(name: String, matrix: Tensor<2>) -> (String, Vec<usize>, Values) {
    let matrix = matrix.transpose();
    (name, matrix.dims().into(), Values::F32(numbers(matrix)))
}

/// Rank and alpha of an adapter.
fn settings(adapter: &LoraAdapter) -> (usize, f64) {
    let [_, rank] = adapter.a.dims();
    (rank, adapter.scale * rank as f64)
}

fn numbers<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    #[expect(
        clippy::disallowed_methods,
        reason = "what is written to a file has to be read from the device"
    )]
    let data = tensor.without_autodiff().into_data();
    data.iter().collect()
}

/// Whether some linear layer has a low-rank adapter.
pub fn has_adapters(model: &BertModel) -> bool {
    let layers = linear_layers(model);
    layers
        .iter()
        .any(|(_, layer)| layer.weight.adapter().is_some())
}

/// The linear layers of a model, each with the name of its weight.
fn linear_layers(model: &BertModel) -> Vec<(String, &Linear)> {
    let mut layers: Vec<(String, &Linear)> = vec![];
    for (index, layer) in model.bert.stack.layers.iter().enumerate() {
        let layer_name = format!("bert.stack.layers.{index}");
        if let Mixer::Attention(attention) = &layer.mixer {
            let parts = [
                ("query", &attention.query),
                ("key", &attention.key),
                ("value", &attention.value),
                ("output", &attention.output),
            ];
            let named = |(name, part)| (format!("{layer_name}.mixer.{name}.weight"), part);
            layers.extend(parts.map(named));
        }
        let halves: Vec<(String, &Mlp)> = match &layer.feed_forward {
            Half::Dense(mlp) => vec![(String::new(), mlp)],
            Half::Experts(experts) => {
                let experts = experts.experts.iter().enumerate();
                experts
                    .map(|(index, mlp)| (format!("experts.{index}."), mlp))
                    .collect()
            }
        };
        for (half, mlp) in halves {
            for (name, part) in [("inner", &mlp.inner), ("outer", &mlp.outer)] {
                layers.push((
                    format!("{layer_name}.feed_forward.{half}{name}.weight"),
                    part,
                ));
            }
        }
    }
    let pooler = model
        .bert
        .pooler
        .iter()
        .map(|pooler| ("bert.pooler.weight".to_owned(), pooler));
    layers.extend(pooler);
    layers
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
