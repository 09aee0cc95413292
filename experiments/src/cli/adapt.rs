//! `kiln adapt`: a dense model becomes an expert model.

use std::path::{Path, PathBuf};

use clap::Args;
use moebert_core::{
    adapt::adapt,
    cost::Cost,
    file,
    importance::Importance,
    partition::NeuronOrder,
    pretrained::{SaveOptions, save},
    router::{GateScale, RouterKind},
};

use super::{output, reading::ReadingArgs, task_folder::TaskFolder};
use crate::{
    backend,
    error::Error,
    recipe::{DataSplit, ExpertsRecipe, Task},
    run::{expert_files, expert_plan, open_dense},
    task_settings::TASK_FILE,
};

/// Cut the feed-forward layers of a model into experts
#[derive(Debug, Args)]
pub struct AdaptArgs {
    /// The dense model: a Hugging Face folder
    model: PathBuf,
    /// Scores from `kiln importance`; needed for the orders importance and inverse
    #[arg(long, value_name = "FILE.safetensors")]
    importance: Option<PathBuf>,
    /// Experts a layer
    #[arg(long, default_value_t = 4)]
    experts: usize,
    /// Neurons an expert
    #[arg(long, default_value_t = 768)]
    width: usize,
    /// Most important neurons that every expert gets
    #[arg(long, default_value_t = 512)]
    shared: usize,
    /// Which neurons count as important: importance, random, inverse or contiguous
    #[arg(long, default_value = "importance")]
    order: NeuronOrder,
    /// Which tokens an expert sees: hash-random, hash-balance, gate-token, gate-sentence or top-k
    #[arg(long, default_value = "hash-random")]
    router: RouterKind,
    /// Experts that a token passes; more than one is for --router top-k
    #[arg(long, default_value_t = 1)]
    k: usize,
    /// A gate's factor on the output: unit (leaves the starting point as it is) or probability [default:
    /// unit]
    #[arg(long, value_parser = gate_scale)]
    gate_scale: Option<GateScale>,
    /// Text whose tokens are counted for hash-balance: a folder with a task's files, with --task
    #[arg(long, value_name = "DIR", requires = "task")]
    data: Option<PathBuf>,
    /// The task that --data holds
    #[arg(long, requires = "data")]
    task: Option<Task>,
    #[command(flatten)]
    reading: ReadingArgs,
    /// Decides random orders, tables and gates
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// The folder of the expert model
    #[arg(long, value_name = "DIR")]
    output: PathBuf,
}

impl AdaptArgs {
    /// Refuses options that lack what they need, and those that nothing would read.
    fn check(&self) -> Result<(), Error> {
        let Self { order, router, .. } = self;
        let balances = *router == RouterKind::HashBalance;
        let problem = match (order.needs_importance(), &self.importance) {
            (true, None) => Some(format!(
                "the order `{order}` needs --importance FILE, which `kiln importance` makes"
            )),
            (false, Some(_)) => Some(format!(
                "--importance is for the orders `importance` and `inverse`, and the order is `{order}`: \
                 leave it out, or choose one of these with --order"
            )),
            _ if balances && self.data.is_none() => Some(format!(
                "the router `{router}` needs --data DIR and --task NAME, whose tokens it counts"
            )),
            _ if !balances && self.data.is_some() => Some(format!(
                "--data and --task are for the router `hash-balance`, and the router is `{router}`: \
                 leave them out, or choose --router hash-balance"
            )),
            _ if !router.is_gate() && self.gate_scale.is_some() => Some(format!(
                "--gate-scale is for gates, and the router is `{router}`: leave it out, or choose \
                 --router gate-token, gate-sentence or top-k"
            )),
            _ if self.data.is_none() && self.reading != ReadingArgs::default() => Some(
                "lengths are for --data DIR, whose tokens they cut: give it, or leave them out"
                    .to_owned(),
            ),
            _ => None,
        };
        problem.map_or(Ok(()), |problem| Err(Error::Usage(problem)))
    }
}

/// The sequence length that costs are told for.
const COST_LENGTH: usize = 128;

fn gate_scale(text: &str) -> Result<GateScale, &'static str> {
    let known = [GateScale::Unit, GateScale::Probability];
    known
        .into_iter()
        .find(|scale| scale.name() == text)
        .ok_or("expected unit or probability")
}

/// Adapts the model and saves it.
///
/// # Errors
/// The model or the scores cannot be read, the sizes do not fit, or the folder cannot be written.
pub fn run(args: AdaptArgs) -> Result<(), Error> {
    args.check()?;
    let inputs = [Some(&args.model), args.data.as_ref()];
    let inputs: Vec<&Path> = inputs.into_iter().flatten().map(PathBuf::as_path).collect();
    output::check_model_dir("--output", &args.output, &inputs)?;
    let device = backend::open(None)?;
    let recipe = ExpertsRecipe {
        count: args.experts,
        width: args.width,
        shared: args.shared,
        order: args.order,
        router: args.router,
        k: args.k,
        gate_scale: args.gate_scale.unwrap_or_default(),
    };
    let pretrained = open_dense(&args.model)?;
    let config = &pretrained.config().bert;
    let (layers, width) = (config.num_hidden_layers, config.intermediate_size);
    recipe.partition(args.seed).validate(width)?;
    let importance = match &args.importance {
        Some(path) => Some(Importance::load(path)?.0),
        None => None,
    };
    let token_counts = match (args.task, &args.data) {
        (Some(task), Some(data)) => {
            let data = args.reading.data(&pretrained, task, data)?;
            let folder = TaskFolder::open(pretrained.clone(), data)?;
            let (train, _) = folder.splits(DataSplit::Train)?.swap_remove(0);
            Some(train.token_counts(config.vocab_size))
        }
        _ => None,
    };
    let sizes = (layers, width);
    let counts = token_counts.as_deref();
    let plan = expert_plan(&recipe, importance.as_ref(), sizes, counts, args.seed)?;
    device.seed(args.seed);
    let model = super::load(&pretrained, &device)?;
    let dense = Cost::of(&model, COST_LENGTH);
    let model = adapt(
        model,
        &plan.layout,
        &plan.router,
        plan.token_counts.as_deref(),
    )?;
    let importance = importance.filter(|_| recipe.order.needs_importance());
    let files = expert_files(&model, &plan, &recipe, width, importance)?;
    let options = SaveOptions {
        experts: Some(&files),
        tokenizer: Some(&args.model),
        ..SaveOptions::default()
    };
    save(&args.output, &model, pretrained.config(), options)?;
    if let Some(settings) = file::read_if_there(&args.model.join(TASK_FILE))? {
        file::write(&args.output.join(TASK_FILE), &settings)?;
    }
    let cost = Cost::of(&model, COST_LENGTH);
    super::print(&format!(
        "{}: {} parameters, {} active; {} multiply-adds a token at length {COST_LENGTH} (dense: {})\n",
        args.output.display(),
        cost.parameters,
        cost.active_parameters,
        cost.multiply_adds_per_token,
        dense.multiply_adds_per_token
    ))
}
