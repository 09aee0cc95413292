//! `kiln bench`: how fast this machine computes, and how much memory that takes.

use std::{
    fs,
    num::NonZeroUsize,
    path::{Path, PathBuf},
    time::Duration,
};

use burn::tensor::Device;
use clap::{Args, Subcommand};
use distill::Ui;
use masformer_core::SpanSchedule;
use moebert_core::{bert::BertConfig, file};

use super::output;
use crate::{
    backend,
    bench::{
        self, Case, Plan,
        attention::AttentionBench,
        bert::BertBench,
        compare::Comparison,
        decode::DecodeBench,
        ops,
        report::{Measure, Report},
    },
    environment::Environment,
    error::Error,
    run::Progress,
    table::Table,
    terminal::{columns, wrapped},
};

/// Measure speed and memory
///
/// Cases take turns, three of them each; what counts is the median of all passes. `of peak` is the least
/// time in which this machine could do the work, by its measured matrix product and copy, as a share of the
/// time taken. Memory is what a pass allocates at most beside its inputs; on a GPU, what the device keeps
/// for tensors after it.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  kiln bench train --json > before.json\n  kiln bench train --compare before.json"
)]
pub struct BenchArgs {
    #[command(subcommand)]
    what: What,
    #[command(flatten)]
    how: How,
}

#[derive(Debug, Subcommand)]
enum What {
    Attention(AttentionArgs),
    Decode(DecodeArgs),
    Bert(BertArgs),
    Train(TrainArgs),
    Ops(OpsArgs),
}

/// How to measure, and what to do with the result.
#[derive(Debug, Args)]
struct How {
    /// About how long each case is measured, in seconds
    #[arg(long, global = true, default_value_t = 3.0, value_parser = seconds)]
    seconds: f64,
    /// Only cases with this text in their name; may be given several times
    #[arg(long, global = true, value_name = "TEXT")]
    case: Vec<String>,
    /// Print the report as JSON
    #[arg(long, global = true)]
    json: bool,
    /// Write the report into this folder, as JSON, as Markdown, and as pictures
    #[arg(long, global = true, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Compare with an earlier report; ends with exit code 1 if a case became slower or takes more memory
    #[arg(long, global = true, value_name = "FILE.json")]
    compare: Option<PathBuf>,
    /// With --compare: by how many percent a median may be above the earlier one
    #[arg(
        long, global = true, value_name = "PERCENT", default_value_t = 15, requires = "compare",
        value_parser = clap::value_parser!(u32).range(0..=1000)
    )]
    band: u32,
    /// The device to compute on: one that `kiln devices` lists, or `remote:HOST:PORT`
    #[arg(long, global = true, env = "KILN_DEVICE")]
    device: Option<String>,
}

/// One causal attention layer, full, with a window and with blocks, forward and in training
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  kiln bench attention --lengths 2048,4096 --out bench")]
struct AttentionArgs {
    /// Tokens of the input
    #[arg(
        long, value_delimiter = ',', default_value = "2048,4096,8192,16384",
        value_parser = clap::value_parser!(u32).range(1..=1_000_000)
    )]
    lengths: Vec<u32>,
    /// Tokens of the window, and of a block
    #[arg(long, default_value = "256")]
    width: NonZeroUsize,
    /// Heads of the layer
    #[arg(long, default_value_t = 12, value_parser = clap::value_parser!(u32).range(1..=1024))]
    heads: u32,
    /// Width of a head
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=8192))]
    head_width: u32,
    /// Sequences at once
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=65536))]
    batch: u32,
}

/// The next token of a decoder with random weights: by its position, and with and without a cache
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  kiln bench decode --spans full --spans \"bottom:1 window:256\""
)]
struct DecodeArgs {
    /// What the layers attend to; may be given several times
    #[arg(
        long, value_name = "SCHEDULE",
        default_values = ["full", "window:256", "bottom:1 window:256"]
    )]
    spans: Vec<SpanSchedule>,
    /// Tokens before the one that is timed
    #[arg(
        long, value_delimiter = ',', default_value = "64,128,256,512,1024,2048,4096",
        value_parser = clap::value_parser!(u32).range(0..=10_000_000)
    )]
    positions: Vec<u32>,
    /// Tokens of the prompt that is continued with and without a cache
    #[arg(long, default_value_t = 512, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    prompt: u32,
    /// Tokens that continue it
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    new_tokens: u32,
    /// Layers of the model
    #[arg(long, default_value_t = 6, value_parser = clap::value_parser!(u32).range(1..=1000))]
    layers: u32,
    /// Hidden width of the model, a multiple of 64
    #[arg(long, default_value_t = 512, value_parser = hidden)]
    hidden: u32,
    /// Token ids of the model
    #[arg(long, default_value_t = 8192, value_parser = clap::value_parser!(u32).range(2..=10_000_000))]
    vocabulary: u32,
}

/// A forward pass of BERT-base with random weights, dense and with experts
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  kiln bench bert --batches 1,8,32")]
struct BertArgs {
    /// Sequences at once
    #[arg(
        long, value_delimiter = ',', default_value = "1,8",
        value_parser = clap::value_parser!(u32).range(1..=65536)
    )]
    batches: Vec<u32>,
    /// Tokens of a sequence
    #[arg(long, default_value_t = 128, value_parser = clap::value_parser!(u32).range(1..=65536))]
    length: u32,
}

/// A step of training with 6 layers of 384 and random weights: of the dense model, and of experts that
/// learn from it
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  kiln bench train --json > before.json\n  kiln bench train --compare before.json"
)]
struct TrainArgs {
    /// Sequences at once
    #[arg(
        long, value_delimiter = ',', default_value = "32",
        value_parser = clap::value_parser!(u32).range(1..=65536)
    )]
    batches: Vec<u32>,
    /// Tokens of a sequence
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=65536))]
    length: u32,
}

/// The fused operations, forward and in training
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  kiln bench ops --burn --case softmax")]
struct OpsArgs {
    /// Also measure the same work with Burn's own operations
    #[arg(long)]
    burn: bool,
}

fn seconds(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(seconds) if (0.0..=3600.0).contains(&seconds) => Ok(seconds),
        _ => Err("give a number of seconds from 0 to 3600".to_owned()),
    }
}

fn hidden(text: &str) -> Result<u32, String> {
    match text.parse() {
        Ok(hidden) if hidden > 0 && hidden % 64 == 0 && hidden <= 65536 => Ok(hidden),
        _ => Err("give a multiple of 64, up to 65536".to_owned()),
    }
}

/// Measures, prints and writes.
///
/// # Errors
/// The device is not there or fails, a schedule does not fit, a file cannot be read or written, or
/// something became worse than in the report that is compared with.
pub fn run(args: &BenchArgs) -> Result<(), Error> {
    let how = &args.how;
    let earlier = how.compare.as_deref().map(Report::read).transpose()?;
    let device = backend::open(how.device.as_deref())?;
    let plan = args.what.plan(&device)?;
    let cases = how.chosen(plan.cases)?;
    if let Some(out) = &how.out {
        fs::create_dir_all(out).map_err(|source| Error::file(out, source))?;
        let compared: Vec<&Path> = how.compare.as_deref().into_iter().collect();
        for form in FORMS {
            output::check_file("--out", &report_file(out, plan.name, form), &compared)?;
        }
    }
    let device_name = how.device.as_deref().or(backend::default_name());
    let mut all: Vec<Case> = bench::machine::cases(&device).into();
    all.extend(cases);
    let progress = Progress::new(Ui::Plain);
    let patience = Duration::from_secs_f64(how.seconds);
    let report = Report {
        bench: plan.name.to_owned(),
        unit: plan.unit.to_owned(),
        environment: Environment::capture(device_name.unwrap_or_default(), &[]),
        rows: bench::measure(&all, patience, &device, progress)?,
    };
    let note = args.what.note(&device);
    let tables: Vec<Table> = [Some(report.table()), report.growth(), note]
        .into_iter()
        .flatten()
        .collect();
    if let Some(out) = &how.out {
        write(out, &report, plan.title, &tables)?;
    }
    if how.json {
        super::print(&report.to_json())?;
    } else {
        let texts: Vec<String> = tables.iter().map(Table::to_text).collect();
        super::print(&texts.join("\n"))?;
    }
    match (&how.compare, earlier) {
        (Some(path), Some(earlier)) => how.compare(path, &earlier, &report),
        _ => Ok(()),
    }
}

impl What {
    fn plan(&self, device: &Device) -> Result<Plan, Error> {
        Ok(match self {
            Self::Attention(args) => args.bench().plan(device),
            Self::Decode(args) => args.bench().plan(device)?,
            Self::Bert(args) => args.bench().inference(device)?,
            Self::Train(args) => args.bench().training(device)?,
            Self::Ops(args) => ops::plan(args.burn, device),
        })
    }

    /// What is to be known besides the measurements.
    fn note(&self, device: &Device) -> Option<Table> {
        match self {
            Self::Attention(args) => Some(args.bench().pairs_table(device)),
            Self::Decode(_) | Self::Bert(_) | Self::Train(_) | Self::Ops(_) => None,
        }
    }
}

impl How {
    /// The cases whose names hold what was asked for.
    fn chosen(&self, cases: Vec<Case>) -> Result<Vec<Case>, Error> {
        let names: Vec<String> = cases.iter().map(|case| case.name.clone()).collect();
        for text in &self.case {
            if !names.iter().any(|name| name.contains(text)) {
                let mut names = names;
                names.dedup();
                return Err(Error::Usage(format!(
                    "--case {text}: no case has this in its name; there is {}",
                    names.join("; ")
                )));
            }
        }
        let is_chosen = |case: &Case| {
            self.case.is_empty() || self.case.iter().any(|text| case.name.contains(text))
        };
        Ok(cases.into_iter().filter(is_chosen).collect())
    }

    /// Tells on the standard error what changed.
    fn compare(&self, path: &Path, earlier: &Report, report: &Report) -> Result<(), Error> {
        let comparison = Comparison::new(earlier, report, f64::from(self.band) / 100.0);
        if earlier.environment.device != report.environment.device {
            let devices = [earlier, report].map(|report| report.environment.device.as_str());
            eprintln!(
                "the earlier report is of {}, this one of {}",
                devices[0], devices[1]
            );
        }
        if comparison.is_empty() {
            return Err(Error::Incomparable {
                path: path.to_owned(),
                bench: report.bench.clone(),
            });
        }
        let rule = wrapped(&comparison.rule(), columns(), 2);
        eprint!("{}{rule}", comparison.table().to_text());
        let worse = comparison.worse();
        if worse.is_empty() {
            return Ok(());
        }
        Err(Error::Worse {
            path: path.to_owned(),
            cases: worse.join("; "),
        })
    }
}

/// Writes the report in its three forms.
fn write(out: &Path, report: &Report, title: &str, tables: &[Table]) -> Result<(), Error> {
    let mut text = format!("# {title}\n\n{}\n", report.origin());
    for table in tables {
        text.extend(["\n", &table.to_markdown()]);
    }
    for (of, suffix) in [(Measure::Time, "time"), (Measure::Memory, "memory")] {
        let Some(chart) = report.chart(title, of) else {
            continue;
        };
        let name = format!("{}-{suffix}.svg", report.bench);
        file::write(&out.join(&name), chart.to_svg()?.as_bytes())?;
        text.extend(["\n![", title, ": ", suffix, "](", &name, ")\n"]);
    }
    for (form, text) in FORMS.into_iter().zip([report.to_json(), text]) {
        file::write(&report_file(out, &report.bench, form), text.as_bytes())?;
    }
    Ok(())
}

/// The forms of a report besides its charts.
const FORMS: [&str; 2] = ["json", "md"];

fn report_file(out: &Path, bench: &str, form: &str) -> PathBuf {
    out.join(format!("{bench}.{form}"))
}

impl AttentionArgs {
    fn bench(&self) -> AttentionBench {
        AttentionBench {
            batch: self.batch as usize,
            heads: self.heads as usize,
            head_width: self.head_width as usize,
            lengths: sizes(&self.lengths),
            width: self.width,
        }
    }
}

impl DecodeArgs {
    fn bench(&self) -> DecodeBench {
        let mut schedules: Vec<SpanSchedule> = Vec::new();
        for schedule in &self.spans {
            if !schedules.contains(schedule) {
                schedules.push(schedule.clone());
            }
        }
        DecodeBench {
            layers: self.layers as usize,
            hidden: self.hidden as usize,
            vocabulary: self.vocabulary as usize,
            schedules,
            positions: sizes(&self.positions),
            prompt: self.prompt as usize,
            new_tokens: self.new_tokens as usize,
        }
    }
}

impl BertArgs {
    fn bench(&self) -> BertBench {
        bert_bench(BertConfig::new(), &self.batches, self.length)
    }
}

impl TrainArgs {
    fn bench(&self) -> BertBench {
        let bert = BertConfig::new()
            .with_hidden_size(384)
            .with_num_hidden_layers(6)
            .with_intermediate_size(1536);
        bert_bench(bert, &self.batches, self.length)
    }
}

/// A model with as many positions as the input needs, which change nothing else.
fn bert_bench(bert: BertConfig, batches: &[u32], length: u32) -> BertBench {
    let length = length as usize;
    let positions = bert.max_position_embeddings.max(length);
    BertBench {
        bert: bert.with_max_position_embeddings(positions),
        batches: sizes(batches),
        length,
    }
}

/// Sizes in their order, each of them once.
fn sizes(given: &[u32]) -> Vec<usize> {
    let mut sizes: Vec<usize> = given.iter().map(|&size| size as usize).collect();
    sizes.sort_unstable();
    sizes.dedup();
    sizes
}
