//! Importance scores, expert plans and what is saved of them: the steps that `kiln run` shares with
//! `kiln importance` and `kiln adapt`.

use std::path::Path;

use burn::data::dataloader::DataLoader;
use distill::{Batch, Trainable, importance::score};
use moebert_core::{
    expert_files::{ExpertFiles, ExpertSettings, FORMAT_VERSION},
    importance::Importance,
    layered::Layered,
    partition::{PartitionError, partition},
    pretrained::{Pretrained, PretrainedDecoder},
    router::Route,
};

use crate::{error::Error, interrupt::Stop, learner::ExpertPlan, recipe::ExpertsRecipe};

/// Opens the folder of a dense model.
///
/// # Errors
///
/// If the folder cannot be read, or its model has experts already.
pub fn open_dense(dir: &Path) -> Result<Pretrained, Error> {
    let pretrained = Pretrained::open(dir)?;
    if pretrained.experts().is_some() {
        return Err(Error::Experts {
            path: dir.to_owned(),
        });
    }
    Ok(pretrained)
}

/// Opens the folder of a dense decoder.
///
/// # Errors
///
/// If the folder cannot be read, or its model has experts already.
pub fn open_dense_decoder(dir: &Path) -> Result<PretrainedDecoder, Error> {
    let folder = PretrainedDecoder::open(dir)?;
    if folder.experts().is_some() {
        return Err(Error::Experts {
            path: dir.to_owned(),
        });
    }
    Ok(folder)
}

/// The importance of every neuron of a dense model, of so many layers of so many neurons, over the batches of a
/// loader. A sample's loss is that of its task, and of a language model the sum over its tokens.
///
/// # Errors
///
/// If the model has no dense layers, a batch cannot be read or scored, or a stop is asked for.
pub fn score_neurons<M: Trainable>(
    learner: &M,
    (layers, width): (usize, usize),
    loader: &dyn DataLoader<Batch<M>>,
    stop: &Stop,
    mut progress: impl FnMut(usize, usize),
) -> Result<Importance, Error> {
    let mut importance = Importance::new(layers, width);
    let scored = score(learner, loader, &mut importance, |done, all| {
        progress(done, all);
        Ok(stop.check()?)
    });
    match scored {
        Ok(()) => Ok(importance),
        Err(_) if stop.requested() => Err(stop.error()),
        Err(error) => Err(Error::Importance(error)),
    }
}

/// Assigns the neurons of a model to experts.
///
/// # Errors
///
/// If the sizes do not fit, or the order needs scores that are not there.
pub fn expert_plan(
    recipe: &ExpertsRecipe,
    importance: Option<&Importance>,
    (layers, width): (usize, usize),
    token_counts: Option<&[u64]>,
    seed: u64,
) -> Result<ExpertPlan, PartitionError> {
    let layout = partition(&recipe.partition(seed), importance, layers, width)?;
    let balances = recipe.router.kind().counts_tokens;
    Ok(ExpertPlan {
        layout,
        router: recipe.routers(seed),
        token_counts: token_counts.filter(|_| balances).map(<[u64]>::to_vec),
    })
}

/// What is saved beside the weights of an expert model.
///
/// # Errors
///
/// If a routing table cannot be read from its device.
pub fn expert_files(
    model: &impl Layered,
    plan: &ExpertPlan,
    recipe: &ExpertsRecipe,
    dense_width: usize,
    importance: Option<Importance>,
) -> Result<ExpertFiles, Error> {
    let mut layers = vec![];
    let mut tables = vec![];
    let mut gated = false;
    for (index, layer) in model.stack().layers.iter().enumerate() {
        let Some(experts) = layer.feed_forward.experts() else {
            continue;
        };
        layers.push(index);
        gated |= experts.router.kind().is_gate;
        if let Some(table) = experts.router.table() {
            let table = table.try_into_data()?;
            tables.push(table.iter::<i64>().map(|expert| expert as usize).collect());
        }
    }
    Ok(ExpertFiles {
        settings: ExpertSettings {
            format_version: FORMAT_VERSION,
            experts: recipe.count,
            expert_width: recipe.width,
            shared: recipe.shared,
            dense_width,
            order: recipe.order,
            seed: plan.router.seed,
            router: plan.router.spec.to_string(),
            k: plan.router.k,
            gate_scale: gated.then(|| plan.router.gate_scale.name().to_owned()),
            layers,
        },
        layout: plan.layout.clone(),
        tables: (!tables.is_empty()).then_some(tables),
        importance,
    })
}
