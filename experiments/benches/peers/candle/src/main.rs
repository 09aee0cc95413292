//! A forward pass of BERT-base with random weights in candle.
//!
//!     candle-peer BATCH LENGTH SECONDS
//!
//! It runs for as many seconds, and prints the median of the passes, `{"median_ms": 123.4}`. Threads are
//! those of `RAYON_NUM_THREADS`.

use std::{
    collections::HashMap,
    error::Error,
    hint::black_box,
    time::{Duration, Instant},
};

use candle_core::{D, DType, Device, IndexOp, Tensor};
use candle_nn::{Linear, Module, VarBuilder, VarMap, linear};
use candle_transformers::models::bert::{BertModel, Config};

// As in Kiln, so that page faults are not what differs.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const CLASSES: usize = 2;

struct Classifier {
    encoder: BertModel,
    pooler: Linear,
    head: Linear,
}

impl Classifier {
    fn load(weights: &VarBuilder) -> candle_core::Result<Self> {
        let config = Config::default();
        let hidden = config.hidden_size;
        Ok(Self {
            encoder: BertModel::load(weights.pp("bert"), &config)?,
            pooler: linear(hidden, hidden, weights.pp("pooler"))?,
            head: linear(hidden, CLASSES, weights.pp("classifier"))?,
        })
    }

    /// Constants, not variables: candle would keep a graph of what comes of these.
    fn random(device: &Device) -> candle_core::Result<Self> {
        let variables = VarMap::new();
        Self::load(&VarBuilder::from_varmap(&variables, DType::F32, device))?;
        let variables = variables.data().lock().expect("nobody panics with it");
        let constants: HashMap<String, Tensor> = variables
            .iter()
            .map(|(name, variable)| (name.clone(), variable.as_detached_tensor()))
            .collect();
        Self::load(&VarBuilder::from_tensors(constants, DType::F32, device))
    }

    fn logits(&self, ids: &Tensor) -> candle_core::Result<Tensor> {
        let hidden = self.encoder.forward(ids, &ids.zeros_like()?, None)?;
        let first = hidden.i((.., 0, ..))?.contiguous()?;
        self.head.forward(&self.pooler.forward(&first)?.tanh()?)
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [batch, length, seconds] = arguments.as_slice() else {
        return Err("usage: candle-peer BATCH LENGTH SECONDS".into());
    };
    let (batch, length) = (batch.parse::<usize>()?, length.parse::<usize>()?);
    let budget = Duration::from_secs_f64(seconds.parse()?);

    let device = Device::Cpu;
    let model = Classifier::random(&device)?;
    let ids: Vec<u32> = (0..(batch * length) as u32)
        .map(|place| place.wrapping_mul(7919) % 30522)
        .collect();
    let ids = Tensor::from_vec(ids, (batch, length), &device)?;
    let logits = model.logits(&ids)?;
    assert_eq!(logits.dims(), [batch, CLASSES]);
    assert!(
        logits
            .sum(D::Minus1)?
            .sum_all()?
            .to_scalar::<f32>()?
            .is_finite()
    );

    let start = Instant::now();
    let mut times = Vec::new();
    while times.len() < 3 || start.elapsed() < budget {
        let before = Instant::now();
        black_box(model.logits(&ids)?);
        times.push(before.elapsed().as_secs_f64() * 1e3);
    }
    times.sort_by(f64::total_cmp);
    println!(
        "{}",
        serde_json::json!({ "median_ms": times[times.len() / 2] })
    );
    Ok(())
}
