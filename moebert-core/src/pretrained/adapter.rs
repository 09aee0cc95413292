//! Folders of low-rank adapters, as the PEFT library writes and reads them: `adapter_config.json` and
//! `adapter_model.safetensors`.
//!
//! The factors of a weight `[in, out]`, `x W + s (x A) B`, are stored transposed: `lora_A.weight` `[r, in]` and
//! `lora_B.weight` `[out, r]`. The head of a task is trained with them and stored whole.

use std::{
    collections::{BTreeMap, HashMap},
    fs,
    path::Path,
};

use burn::{module::LoraAdapter, nn::Linear, prelude::*};
use masformer_core::{
    pretrained::Layout,
    tensor_file::{self, Values},
};
use serde_json::json;

use super::{
    PretrainedConfig, PretrainedError,
    family::{EncoderLayout, HEAD_WEIGHT, POOLER_WEIGHT},
};
use crate::{
    file::{self, FileError},
    heads::{BertModel, Head},
};

mod find;
mod read;

pub use find::has_adapters;
pub use read::load_adapter;

use find::{adapted_weights, linear_layers};

/// The settings of an adapter folder.
pub const ADAPTER_CONFIG: &str = "adapter_config.json";
const ADAPTER_WEIGHTS: &str = "adapter_model.safetensors";

/// What PEFT puts before the names of Transformers.
const PREFIX: &str = "base_model.model.";
const A: &str = ".lora_A.weight";
const B: &str = ".lora_B.weight";

/// Writes the adapters and the head of a model as a folder for PEFT; `config` is that of what the adapters belong to, and `base`
/// its folder or its name on the Hugging Face hub. Of the weights without an adapter, the folder has those of the head alone.
///
/// # Errors
///
/// If the model has no adapters, one of them belongs to a weight that Transformers' model has not, a number is not finite,
/// or a file cannot be written.
pub fn save_adapter(
    dir: &Path,
    model: &BertModel,
    config: &PretrainedConfig,
    base: Option<&str>,
) -> Result<(), PretrainedError> {
    let layout = EncoderLayout::new(config.family(), model.head_kind(), true);
    let layers: HashMap<String, &Linear> = linear_layers(model).into_iter().collect();
    let mut adapters = vec![];
    for weight in adapted_weights(model) {
        let layer = layers.get(&weight);
        let Some(adapter) = layer.and_then(|layer| layer.weight.adapter()) else {
            return Err(PretrainedError::AdapterWithoutName { weight });
        };
        adapters.push((module_in_file(&layout, &weight), adapter));
    }
    let Some((_, first)) = adapters.first() else {
        return Err(PretrainedError::NoAdapters);
    };
    let (rank, alpha) = settings(first);
    let mut tensors = vec![];
    let (mut ranks, mut alphas) = (BTreeMap::new(), BTreeMap::new());
    for (name, adapter) in &adapters {
        tensors.push(transposed(format!("{PREFIX}{name}{A}"), adapter.a.val()));
        tensors.push(transposed(format!("{PREFIX}{name}{B}"), adapter.b.val()));
        let (own_rank, own_alpha) = settings(adapter);
        if own_rank != rank {
            ranks.insert(name.clone(), own_rank);
        }
        if (own_alpha - alpha).abs() > 0.0 {
            alphas.insert(name.clone(), own_alpha);
        }
    }
    // PEFT takes every module whose name ends as the head's does, which may have several layers.
    let part = |module: &str| {
        module_in_file(&layout, module)
            .split('.')
            .next()
            .map(str::to_owned)
    };
    let whole = model.head.as_ref().and_then(|_| part(HEAD_WEIGHT));
    let is_whole = |module: &str| {
        let parts = part(module).zip(whole.as_ref());
        parts.is_some_and(|(part, whole)| part.ends_with(whole))
    };
    for (module, layer) in above(model) {
        if !is_whole(module) {
            continue;
        }
        let name = module_in_file(&layout, module);
        tensors.push(transposed(
            format!("{PREFIX}{name}.weight"),
            layer.weight.val(),
        ));
        if let Some(bias) = &layer.bias {
            let bias = numbers(bias.val());
            let shape = vec![bias.len()];
            tensors.push((format!("{PREFIX}{name}.bias"), shape, Values::F32(bias)));
        }
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
        "modules_to_save": whole.map(|part| [part]),
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

/// The linear layers above the stack, each with the name of its weight.
fn above(model: &BertModel) -> impl Iterator<Item = (&'static str, &Linear)> {
    let parts = [
        (POOLER_WEIGHT, &model.bert.pooler),
        (HEAD_WEIGHT, &model.head),
    ];
    let parts = parts.into_iter();
    parts.filter_map(|(name, layer)| Some((name, layer.as_ref()?)))
}

fn task_type(head: Head) -> Option<&'static str> {
    match head {
        Head::Classification { .. } | Head::Regression => Some("SEQ_CLS"),
        Head::SpanQa => Some("QUESTION_ANS"),
        Head::Encoder => None,
    }
}

/// The name in files of the module of a weight.
fn module_in_file(layout: &EncoderLayout, weight: &str) -> String {
    let name = layout.names().in_file(weight);
    name.strip_suffix(".weight").unwrap_or(&name).to_owned()
}

/// A matrix as a tensor of a file, in which it is transposed.
fn transposed(name: String, matrix: Tensor<2>) -> (String, Vec<usize>, Values) {
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
