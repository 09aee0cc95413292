//! The latency of an expert model against its dense teacher: BERT-base with random weights, batch 1,
//! length 128, 4 experts of 768 neurons with 512 shared.
//!
//!     cargo bench --workspace --bench expert_latency

use std::process::ExitCode;

use burn::tensor::Device;
use experiments::{
    error::Error,
    interrupt::Stop,
    latency::latencies,
    recipe::{ExpertsRecipe, LatencyRecipe},
    run::expert_plan,
};
use mimalloc::MiMalloc;
use moebert_core::{
    adapt::adapt,
    bert::BertConfig,
    cost::Cost,
    heads::{BertModelConfig, Task},
    partition::NeuronOrder,
};

#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("kiln: error: {}", error.line());
            ExitCode::from(2)
        }
    }
}

fn run() -> Result<(), Error> {
    let device = Device::default();
    let config = BertConfig::new();
    let dense = BertModelConfig::new(config.clone(), Task::Classification { classes: 2 });
    let dense = dense.init(&device);
    let recipe = ExpertsRecipe {
        order: NeuronOrder::Random,
        ..ExpertsRecipe::default()
    };
    let sizes = (config.num_hidden_layers, config.intermediate_size);
    let plan = expert_plan(&recipe, None, sizes, None, 1)?;
    let experts = adapt(dense.clone(), &plan.layout, &plan.router, None)?;

    let length = 128;
    let models = [dense, experts];
    for batch in [1, 8] {
        let latency = LatencyRecipe {
            batch,
            length,
            repeats: 20,
        };
        let times = latencies(&models, &latency, &Stop::default())?;
        for (name, model, time) in [
            ("dense", &models[0], times[0]),
            ("experts", &models[1], times[1]),
        ] {
            let cost = Cost::of(model, length).multiply_adds_per_token;
            println!(
                "batch {batch}, length {length}, {name}: {time:.1} ms, {:.2} of dense; {cost} multiply-adds a token",
                time / times[0]
            );
        }
    }
    Ok(())
}
