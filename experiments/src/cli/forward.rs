//! `kiln forward`: hidden states and logits for given token ids, file to file.

use std::path::{Path, PathBuf};

use burn::prelude::*;
use clap::Args;
use masformer_core::{DecoderInput, Keep, Layers, Trace, pretrained::DecoderFolder};
use moebert_core::{
    bert::BertInput,
    file::FileError,
    heads::Logits,
    tensor_file::{self, TensorFile, Values},
};

use super::{output, variant::VariantArgs};
use crate::{backend, error::Error};

/// Run a model on token ids and write its outputs
///
/// In: `input_ids`, `attention_mask`, and for an encoder with segments `token_type_ids`, int64 [B, T]. Out, in float32:
/// `hidden_states.0` to `hidden_states.L` [B, T, D], for an encoder with a pooler `pooled` [B, D], and when the model
/// has a head `logits`: [B, C], for spans [B, T, 2], start and end, and for a decoder [B, T, V].
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  kiln forward MODEL --input ids.safetensors --output out.safetensors"
)]
pub struct ForwardArgs {
    /// The model, an encoder (BERT) or a decoder (GPT-2, GPT-Neo), dense or with experts: a Hugging Face folder
    model: PathBuf,
    /// The token ids
    #[arg(long, value_name = "IDS.safetensors")]
    input: PathBuf,
    /// The file for the outputs
    #[arg(long, value_name = "OUT.safetensors")]
    output: PathBuf,
    #[command(flatten)]
    variant: VariantArgs,
    /// The device to compute on: one that `kiln devices` lists, or `remote:HOST:PORT`
    #[arg(long, env = "KILN_DEVICE")]
    device: Option<String>,
}

/// Runs the model and writes its outputs.
///
/// # Errors
/// The model or the ids cannot be read, an id or a length is outside what the model knows, or the outputs are not
/// finite or cannot be written.
pub fn run(args: ForwardArgs) -> Result<(), Error> {
    output::check_file("--output", &args.output, &[&args.model, &args.input])?;
    let device = backend::open(args.device.as_deref())?;
    let tensors = if DecoderFolder::is_in(&args.model)? {
        decode(&args, &device)?
    } else {
        encode(&args, &device)?
    };
    Ok(tensor_file::write(&args.output, &tensors, vec![])?)
}

type Named = (String, Vec<usize>, Values);

fn encode(args: &ForwardArgs, device: &Device) -> Result<Vec<Named>, Error> {
    let pretrained = args.variant.encoder(&args.model)?;
    let config = &pretrained.config().bert;
    let batch = Batch::read(&args.input)?.up_to(config.max_position_embeddings)?;
    let input = BertInput {
        input_ids: batch.indices("input_ids", config.vocab_size, device)?,
        token_type_ids: match config.type_vocab_size {
            0 => Tensor::zeros(batch.shape, device),
            segments => batch.indices("token_type_ids", segments, device)?,
        },
        padding: batch.padding(device)?,
    };
    let model = super::load(&pretrained, device)?;
    let mut trace = Trace::new(HIDDEN_STATES);
    let output = model.forward(&input, &mut trace);
    let mut tensors = hidden_states(trace)?;
    if let Some(pooled) = output.pooled {
        tensors.push(named("pooled".to_owned(), pooled)?);
    }
    match output.logits {
        Some(Logits::Sequence(logits)) => tensors.push(named("logits".to_owned(), logits)?),
        Some(Logits::Span(logits)) => tensors.push(named("logits".to_owned(), logits)?),
        None => {}
    }
    Ok(tensors)
}

fn decode(args: &ForwardArgs, device: &Device) -> Result<Vec<Named>, Error> {
    let folder = args.variant.decoder(&args.model)?;
    let batch = Batch::read(&args.input)?;
    let [_, length] = batch.shape;
    let folder = args.variant.lengthen(folder, length)?;
    let config = &folder.config().decoder;
    let input = DecoderInput {
        input_ids: batch.indices("input_ids", config.vocabulary, device)?,
        padding: batch.padding(device)?,
    };
    let model = super::load_decoder(&folder, device)?;
    let mut trace = Trace::new(HIDDEN_STATES);
    let output = model.forward(&input, &mut trace);
    let mut tensors = hidden_states(trace)?;
    tensors.push(named("logits".to_owned(), output.logits)?);
    Ok(tensors)
}

const HIDDEN_STATES: Keep = Keep {
    hidden: Layers::All,
    heads: Layers::None,
    routes: Layers::None,
    probes: Layers::None,
    logits: false,
};

fn hidden_states(trace: Trace) -> Result<Vec<Named>, Error> {
    let states = trace.hidden.into_iter();
    states
        .map(|(index, state)| named(format!("hidden_states.{index}"), state))
        .collect()
}

/// A tensor with its name and shape, off its device.
fn named<const D: usize>(name: String, tensor: Tensor<D>) -> Result<Named, Error> {
    let shape = tensor.dims().to_vec();
    let values = tensor.try_into_data()?.iter::<f32>().collect();
    Ok((name, shape, Values::F32(values)))
}

/// The batch in a file, checked against what the model knows.
struct Batch {
    file: TensorFile,
    /// `[B, T]`.
    shape: [usize; 2],
}

impl Batch {
    fn read(path: &Path) -> Result<Self, FileError> {
        let file = TensorFile::read(path)?;
        let (shape, _) = file.indices::<2>("input_ids")?;
        if shape.contains(&0) {
            let problem = format!("has shape {shape:?}; expected [B, T], both at least 1");
            return Err(file.entry("input_ids", problem));
        }
        Ok(Self { file, shape })
    }

    /// The batch, if the model has a position for each of its tokens.
    fn up_to(self, positions: usize) -> Result<Self, FileError> {
        let shape = self.shape;
        if shape[1] <= positions {
            return Ok(self);
        }
        let problem = format!("has shape {shape:?}; expected [B, T] with T from 1 to {positions}");
        Err(self.file.entry("input_ids", problem))
    }

    /// A tensor of numbers below a limit.
    fn values(&self, name: &str, limit: usize) -> Result<Vec<usize>, FileError> {
        let (found, values) = self.file.indices::<2>(name)?;
        if found != self.shape {
            let expected = self.shape;
            let problem =
                format!("has shape {found:?} and `input_ids` {expected:?}; they must be the same");
            return Err(self.file.entry(name, problem));
        }
        match values.iter().find(|value| **value >= limit) {
            Some(value) => {
                let problem = format!("holds {value}; it must be below {limit}");
                Err(self.file.entry(name, problem))
            }
            None => Ok(values),
        }
    }

    fn indices(
        &self,
        name: &str,
        limit: usize,
        device: &Device,
    ) -> Result<Tensor<2, Int>, FileError> {
        let values = self.values(name, limit)?;
        let values: Vec<i64> = values.into_iter().map(|value| value as i64).collect();
        Ok(Tensor::from_data(
            TensorData::new(values, self.shape),
            device,
        ))
    }

    /// Where the mask is 0; `None` where it never is.
    fn padding(&self, device: &Device) -> Result<Option<Tensor<2, Bool>>, FileError> {
        let mask = self.values("attention_mask", 2)?;
        let padding: Vec<bool> = mask.iter().map(|seen| *seen == 0).collect();
        Ok(padding
            .contains(&true)
            .then(|| Tensor::from_data(TensorData::new(padding, self.shape), device)))
    }
}
