//! `kiln adapt`: a dense model becomes an expert model.

use std::path::{Path, PathBuf};

use burn::tensor::Device;
use clap::Args;
use distill::Ui;
use masformer_core::{pretrained::DecoderFolder, seed::seed};
use moebert_core::{
    adapt::{AdaptError, adapt, check_causal},
    cost::Cost,
    expert_files::ExpertFiles,
    file,
    importance::Importance,
    layered::Layered,
    partition::NeuronOrder,
    pretrained::{SaveOptions, save, save_decoder},
    router::{GateScale, RouterKind, RouterSpec},
};
use serde_json::json;

use super::{decoder_task::DecoderTask, output, reading::ReadingArgs, task_folder::TaskFolder};
use crate::{
    backend,
    data::{DataError, language::token_counts},
    error::Error,
    recipe::{AnyTask, DataSplit, ExpertsRecipe},
    run::{Progress, expert_files, expert_plan, open_dense, open_dense_decoder},
    task_settings::TASK_FILE,
};

/// Split the feed-forward layers of a model into experts
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  kiln adapt MODEL --importance importance.safetensors --output EXPERTS"
)]
pub struct AdaptArgs {
    /// The dense model, a BERT or a decoder (GPT-2, GPT-Neo): a Hugging Face folder
    model: PathBuf,
    /// Scores from `kiln importance`; needed for the orders importance and inverse
    #[arg(long, value_name = "FILE.safetensors")]
    importance: Option<PathBuf>,
    /// Experts per layer
    #[arg(long, default_value_t = 4)]
    experts: usize,
    /// Neurons per expert
    #[arg(long, default_value_t = 768)]
    width: usize,
    /// Most important neurons that every expert gets
    #[arg(long, default_value_t = 512)]
    shared: usize,
    /// Which neurons count as important: importance, random, inverse or contiguous
    #[arg(long, default_value = "importance")]
    order: NeuronOrder,
    #[arg(long, default_value_t, help = routers())]
    router: RouterSpec,
    #[arg(long, default_value_t = 1, help = several())]
    k: usize,
    /// A gate's factor on the output: unit (does not change the initial model) or probability [default:
    /// unit]
    #[arg(long, value_parser = gate_scale)]
    gate_scale: Option<GateScale>,
    /// Text whose tokens are counted for hash-balance: a folder with a task's files, or a file, as `kiln importance`
    /// takes it, with --task
    #[arg(long, value_name = "PATH", requires = "task")]
    data: Option<PathBuf>,
    /// The task that --data holds
    #[arg(long, requires = "data")]
    task: Option<AnyTask>,
    #[command(flatten)]
    reading: ReadingArgs,
    /// Seed of random orders, tables and gates
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// The folder of the expert model
    #[arg(long, value_name = "DIR")]
    output: PathBuf,
    /// Print what the model costs as JSON
    #[arg(long)]
    json: bool,
}

impl AdaptArgs {
    /// Refuses options that lack what they need, and those that nothing would read.
    fn check(&self) -> Result<(), Error> {
        let Self { order, router, .. } = self;
        let kind = router.kind();
        let problem = match (order.needs_importance(), &self.importance) {
            (true, None) => Some(format!(
                "the order `{order}` needs --importance FILE, which `kiln importance` makes"
            )),
            (false, Some(_)) => Some(format!(
                "--importance is for the orders `importance` and `inverse`, and the order is `{order}`: \
                 leave it out, or choose one of these with --order"
            )),
            _ if kind.counts_tokens && self.data.is_none() => Some(format!(
                "the router `{router}` needs --data DIR and --task NAME, whose tokens it counts"
            )),
            _ if !kind.counts_tokens && self.data.is_some() => Some(format!(
                "--data and --task are for the router {counting}, and the router is `{router}`: \
                 leave them out, or choose {counting} with --router",
                counting = RouterKind::names(|kind| kind.counts_tokens)
            )),
            _ if !kind.is_gate && self.gate_scale.is_some() => Some(format!(
                "--gate-scale is for gates, and the router is `{router}`: leave it out, or choose \
                 {} with --router",
                RouterKind::names(|kind| kind.is_gate)
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

/// The sequence length for which costs are printed.
const COST_LENGTH: usize = 128;

fn routers() -> String {
    let names = RouterKind::names(|_| true);
    format!("Which tokens an expert sees: {names}")
}

fn several() -> String {
    let names = RouterKind::names(|kind| kind.takes_several);
    format!("Experts per token; more than one is for --router {names}")
}

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
    let costs = if DecoderFolder::is_in(&args.model)? {
        args.decoder(&device)?
    } else {
        args.encoder(&device)?
    };
    if let Some(settings) = file::read_if_there(&args.model.join(TASK_FILE))? {
        file::write(&args.output.join(TASK_FILE), &settings)?;
    }
    let [dense, cost] = costs;
    if args.json {
        let told = |cost: Cost| {
            json!({
                "parameters": cost.parameters,
                "active_parameters": cost.active_parameters,
                "multiply_adds_per_token": cost.multiply_adds_per_token,
            })
        };
        return super::print_json(&json!({
            "model": args.output,
            "length": COST_LENGTH,
            "experts": told(cost),
            "dense": told(dense),
        }));
    }
    super::print(&format!(
        "{}: {} parameters, {} active; {} multiply-adds per token at length {COST_LENGTH} (dense: {})\n",
        args.output.display(),
        cost.parameters,
        cost.active_parameters,
        cost.multiply_adds_per_token,
        dense.multiply_adds_per_token
    ))
}

impl AdaptArgs {
    /// Splits a BERT; what it costs before and after.
    fn encoder(&self, device: &Device) -> Result<[Cost; 2], Error> {
        let pretrained = open_dense(&self.model)?;
        let config = &pretrained.config().bert;
        let sizes = (config.num_hidden_layers, config.intermediate_size);
        self.recipe().partition(self.seed).validate(sizes.1)?;
        let counts = match (self.task, &self.data) {
            (Some(AnyTask::Encoder(task)), Some(data)) => {
                let data = self.reading.data(&pretrained, task, data)?;
                let folder = TaskFolder::open(pretrained.clone(), data)?;
                let (train, _) = folder.splits(DataSplit::Train)?.swap_remove(0);
                Some(train.token_counts(config.vocab_size))
            }
            (Some(task), Some(_)) => return Err(self.foreign(task, "a BERT")),
            _ => None,
        };
        let load = || super::load(&pretrained, device);
        let (model, files, costs) = self.split(load, sizes, counts.as_deref(), device)?;
        let options = SaveOptions {
            experts: Some(&files),
            tokenizer: Some(&self.model),
            ..SaveOptions::default()
        };
        save(&self.output, &model, pretrained.config(), options)?;
        Ok(costs)
    }

    /// Splits a decoder; what it costs before and after.
    fn decoder(&self, device: &Device) -> Result<[Cost; 2], Error> {
        let folder = open_dense_decoder(&self.model)?;
        let config = &folder.config().decoder;
        let sizes = (config.spans.len(), config.width);
        self.recipe().partition(self.seed).validate(sizes.1)?;
        check_causal(self.router.kind())?;
        let counts = match (self.task, &self.data) {
            (Some(AnyTask::Decoder(task)), Some(data)) => {
                let progress = Progress::new(Ui::Plain);
                let length = self.reading.max_length;
                self.reading.check_windows(&task, false)?;
                let task =
                    DecoderTask::open(&folder, task, data, DataSplit::Train, length, progress)?;
                let counts = token_counts(task.sequences.as_ref(), config.vocabulary);
                Some(counts.map_err(DataError::from)?)
            }
            (Some(task), Some(_)) => return Err(self.foreign(task, "a decoder")),
            _ => None,
        };
        let load = || super::load_decoder(&folder, device);
        let (model, files, costs) = self.split(load, sizes, counts.as_deref(), device)?;
        let tokenizer = Some(self.model.as_path());
        save_decoder(
            &self.output,
            &model,
            folder.config(),
            Some(&files),
            tokenizer,
        )?;
        Ok(costs)
    }

    fn recipe(&self) -> ExpertsRecipe {
        ExpertsRecipe {
            count: self.experts,
            width: self.width,
            shared: self.shared,
            order: self.order,
            router: self.router.clone(),
            k: self.k,
            gate_scale: self.gate_scale.unwrap_or_default(),
        }
    }

    fn foreign(&self, task: AnyTask, kind: &str) -> Error {
        let problem = format!(
            "`--task {task}` does not go with {kind}, which {} holds",
            self.model.display()
        );
        Error::Usage(problem)
    }

    /// The model with experts, its expert files, and what it costs before and after.
    fn split<M: Layered>(
        &self,
        load: impl FnOnce() -> Result<M, Error>,
        (layers, width): (usize, usize),
        counts: Option<&[u64]>,
        device: &Device,
    ) -> Result<(M, ExpertFiles, [Cost; 2]), Error> {
        let recipe = self.recipe();
        let importance = match &self.importance {
            Some(path) => Some(Importance::load(path)?.0),
            None => None,
        };
        let plan = expert_plan(
            &recipe,
            importance.as_ref(),
            (layers, width),
            counts,
            self.seed,
        )?;
        plan.router.check(recipe.count).map_err(AdaptError::from)?;
        seed(device, self.seed);
        let model = load()?;
        let dense = Cost::of(&model, COST_LENGTH);
        let counts = plan.token_counts.as_deref();
        let model = adapt(model, &plan.layout, &plan.router, counts)?;
        let importance = importance.filter(|_| recipe.order.needs_importance());
        let files = expert_files(&model, &plan, &recipe, width, importance)?;
        let cost = Cost::of(&model, COST_LENGTH);
        Ok((model, files, [dense, cost]))
    }
}
