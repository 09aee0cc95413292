//! `kiln forward`: hidden states and logits for given token ids, file to file.

use std::path::{Path, PathBuf};

use burn::prelude::*;
use clap::Args;
use masformer_core::{Keep, Trace};
use moebert_core::{
    bert::{BertConfig, BertInput},
    file::{self, FileError},
    heads::Logits,
    pretrained::Pretrained,
    tensor_file::{self, TensorFile, Values},
};

use crate::{backend, error::Error};

/// Run a model on token ids and write its outputs
///
/// In: `input_ids`, `attention_mask`, `token_type_ids`, int64 [B, T]. Out, in float32:
/// `hidden_states.0` to `hidden_states.L` [B, T, D], `pooled` [B, D], and when the model has a head
/// `logits`: [B, C], or for spans [B, T, 2], start and end.
#[derive(Debug, Args)]
pub struct ForwardArgs {
    /// The model, dense or expert: a Hugging Face folder
    model: PathBuf,
    /// The token ids
    #[arg(long, value_name = "IDS.safetensors")]
    input: PathBuf,
    /// Where the outputs go
    #[arg(long, value_name = "OUT.safetensors")]
    output: PathBuf,
    /// The device to compute on: one that `kiln devices` lists, or `remote:HOST:PORT`
    #[arg(long)]
    device: Option<String>,
}

/// Runs the model and writes its outputs.
///
/// # Errors
/// The model or the ids cannot be read, an id or a length is outside what the model knows, or the outputs cannot be
/// written.
pub fn run(args: ForwardArgs) -> Result<(), Error> {
    file::check_writable(&args.output)?;
    let device = backend::open(args.device.as_deref())?;
    let pretrained = Pretrained::open(&args.model)?;
    let input = read_input(&args.input, &pretrained.config().bert, &device)?;
    let model = super::load(&pretrained, &device)?;
    let mut trace = Trace::new(Keep {
        hidden_states: true,
        ..Keep::default()
    });
    let output = model.forward(&input, &mut trace);

    let mut tensors = vec![];
    for (index, state) in trace.hidden_states.into_iter().enumerate() {
        tensors.push(named(format!("hidden_states.{index}"), state)?);
    }
    if let Some(pooled) = output.pooled {
        tensors.push(named("pooled".to_owned(), pooled)?);
    }
    match output.logits {
        Some(Logits::Sequence(logits)) => tensors.push(named("logits".to_owned(), logits)?),
        Some(Logits::Span(logits)) => tensors.push(named("logits".to_owned(), logits)?),
        None => {}
    }
    Ok(tensor_file::write(&args.output, &tensors, vec![])?)
}

/// A tensor with its name and shape, off its device.
fn named<const D: usize>(
    name: String,
    tensor: Tensor<D>,
) -> Result<(String, Vec<usize>, Values), Error> {
    let shape = tensor.dims().to_vec();
    let values = tensor.try_into_data()?.iter::<f32>().collect();
    Ok((name, shape, Values::F32(values)))
}

/// The batch in a file, checked against what the model knows.
fn read_input(path: &Path, config: &BertConfig, device: &Device) -> Result<BertInput, FileError> {
    let file = TensorFile::read(path)?;
    let (shape, ids) = file.indices::<2>("input_ids")?;
    let [batch, length] = shape;
    if batch == 0 || length == 0 || length > config.max_position_embeddings {
        let positions = config.max_position_embeddings;
        let problem = format!("has shape {shape:?}; expected [B, T] with T from 1 to {positions}");
        return Err(file.entry("input_ids", problem));
    }
    let below = |name: &str, values: &[usize], limit: usize| match values
        .iter()
        .find(|value| **value >= limit)
    {
        Some(value) => Err(file.entry(name, format!("holds {value}; it must be below {limit}"))),
        None => Ok(()),
    };
    let same_shape = |name: &str| {
        let (found, values) = file.indices::<2>(name)?;
        if found == shape {
            return Ok(values);
        }
        let problem =
            format!("has shape {found:?} and `input_ids` {shape:?}; they must be the same");
        Err(file.entry(name, problem))
    };
    below("input_ids", &ids, config.vocab_size)?;
    let types = same_shape("token_type_ids")?;
    below("token_type_ids", &types, config.type_vocab_size)?;
    let mask = same_shape("attention_mask")?;
    below("attention_mask", &mask, 2)?;

    let integers = |values: Vec<usize>| {
        let values: Vec<i64> = values.into_iter().map(|value| value as i64).collect();
        Tensor::from_data(TensorData::new(values, shape), device)
    };
    let padding: Vec<bool> = mask.iter().map(|seen| *seen == 0).collect();
    let padding = padding.contains(&true).then_some(padding);
    Ok(BertInput {
        input_ids: integers(ids),
        token_type_ids: integers(types),
        padding: padding.map(|padding| Tensor::from_data(TensorData::new(padding, shape), device)),
    })
}
