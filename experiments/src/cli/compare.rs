//! `kiln compare`: two models that runs have judged, example by example.

use std::fmt::Write;

use clap::Args;
use serde::Serialize;

use crate::{
    ablate::{
        arms::Margin,
        compare::{Comparison, Comparisons, JudgedArm, Question},
        run_arm::RunArm,
        statistics::{McNemar, VerdictKind},
    },
    error::Error,
    number::p_value,
    table::aligned,
    terminal::{columns, wrapped},
};

/// Compare a model of a run with another one, on the seeds and examples that both have
///
/// Prints the keys of their recipes that differ, what both cost, and what the difference shows.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  kiln compare runs/quickstart:random runs/quickstart:importance"
)]
pub struct CompareArgs {
    /// What the other is compared with: a run folder and one of its models, RUN:NAME, or RUN where there is one alone
    reference: String,
    /// The other one
    model: String,
    /// The metric that decides [default: that of the task, as in `kiln ablate`]
    #[arg(long)]
    metric: Option<String>,
    /// The difference that does not matter: "0.5 points", "99 %" of the reference, or a number. The exit code is 1 unless the
    /// model is shown to be not worse than the reference by so much
    #[arg(long)]
    margin: Option<String>,
    /// The level of the tests, above 0 and below 1
    #[arg(long, default_value_t = 0.05)]
    alpha: f64,
    /// Print the comparison as JSON
    #[arg(long)]
    json: bool,
}

/// What is said of two models.
#[derive(Serialize)]
struct Report {
    keys: Vec<Difference>,
    metric: String,
    comparison: Comparison,
    examples: Vec<Gained>,
}

/// A key whose values differ.
#[derive(Serialize)]
struct Difference {
    key: String,
    reference: Option<String>,
    model: Option<String>,
}

/// The examples on which the models of one seed differ.
#[derive(Serialize)]
struct Gained {
    seed: u64,
    #[serde(flatten)]
    test: McNemar,
}

/// Prints the comparison.
///
/// # Errors
/// A run or a model of it is not there, they have no seed in common, or an argument is wrong; and with `--margin`, the model is not
/// shown to be as good.
pub fn run(args: &CompareArgs) -> Result<(), Error> {
    let (mut reference, mut model) = (RunArm::open(&args.reference)?, RunArm::open(&args.model)?);
    if reference.name == model.name {
        (reference.name, model.name) = (args.reference.clone(), args.model.clone());
    }
    let seeds: Vec<u64> = reference.seeds.keys().copied().collect();
    let seeds: Vec<u64> = seeds
        .into_iter()
        .filter(|seed| model.seeds.contains_key(seed))
        .collect();
    let Some(first) = seeds.first() else {
        let problem = format!(
            "`{}` and `{}` have no seed in common",
            args.reference, args.model
        );
        return Err(Error::Usage(problem));
    };
    let metric = args.metric.clone().or_else(|| {
        let mut splits = reference.seeds[first].iter();
        let has = |metric: &&String| splits.any(|split| split.metrics.contains_key(*metric));
        reference.metrics.iter().find(has).cloned()
    });
    let metric = metric.unwrap_or_default();
    let judged = |arm: &RunArm| JudgedArm {
        name: arm.name.clone(),
        seeds: seeds
            .iter()
            .map(|seed| (*seed, arm.seeds[seed].clone()))
            .collect(),
        failed: 0,
        is_dropped: false,
    };
    let margin = args.margin.as_deref().map(Margin::parse).transpose()?;
    let question = Question {
        metric: &metric,
        margin,
        alpha: args.alpha,
    };
    let arms = [judged(&reference), judged(&model)];
    let comparisons = Comparisons::of(&arms, 0, question)?;
    let Some(comparison) = comparisons.arms.into_iter().next() else {
        return Ok(());
    };
    let kind = comparison.verdict.kind;
    let tests = seeds.iter().zip(&comparison.mcnemar);
    let examples = tests.map(|(seed, test)| Gained {
        seed: *seed,
        test: *test,
    });
    let report = Report {
        keys: differences(&reference, &model),
        examples: examples.collect(),
        metric,
        comparison,
    };
    if args.json {
        super::print_json(&report)?;
    } else {
        super::print(&report.text(&reference, &model))?;
    }
    let is_as_good = matches!(
        kind,
        VerdictKind::Better
            | VerdictKind::Equivalent
            | VerdictKind::NotWorse
            | VerdictKind::Identical
    );
    if margin.is_some() && !is_as_good {
        return Err(Error::NotAsGood);
    }
    Ok(())
}

impl Report {
    fn text(&self, reference: &RunArm, model: &RunArm) -> String {
        let mut text = String::new();
        let mut cells = vec![vec![
            String::new(),
            reference.name.clone(),
            model.name.clone(),
        ]];
        let shown = |value: &Option<String>| value.clone().unwrap_or_else(|| "-".to_owned());
        for Difference {
            key,
            reference,
            model,
        } in &self.keys
        {
            cells.push(vec![key.clone(), shown(reference), shown(model)]);
        }
        if let (Some(reference), Some(model)) = (&reference.cost, &model.cost) {
            for (what, one, other) in [
                ("parameters", reference.parameters, model.parameters),
                (
                    "active parameters",
                    reference.active_parameters,
                    model.active_parameters,
                ),
                (
                    "multiply-adds a token",
                    reference.multiply_adds_per_token,
                    model.multiply_adds_per_token,
                ),
            ] {
                let ratio = other as f64 / one.max(1) as f64;
                cells.push(vec![
                    what.to_owned(),
                    one.to_string(),
                    format!("{other} ({ratio:.2}x)"),
                ]);
            }
        }
        text.push_str(&aligned(&cells));
        text.push('\n');
        for Gained { seed, test } in &self.examples {
            // Writing to a string cannot fail.
            let _ = writeln!(
                text,
                "seed {seed}: {} examples gained, {} lost (McNemar {})",
                test.gained,
                test.lost,
                p_value(test.p)
            );
        }
        text.push_str(&wrapped(&self.comparison.verdict.sentence, columns(), 2));
        text
    }
}

/// The keys of two recipes whose values differ.
fn differences(reference: &RunArm, model: &RunArm) -> Vec<Difference> {
    let mut keys: Vec<&String> = reference.recipe.keys().chain(model.recipe.keys()).collect();
    keys.sort_unstable();
    keys.dedup();
    let shown = |arm: &RunArm, key: &str| arm.recipe.get(key).map(ToString::to_string);
    let differ = keys.into_iter().filter_map(|key| {
        let (one, other) = (shown(reference, key), shown(model, key));
        (one != other).then(|| Difference {
            key: key.clone(),
            reference: one,
            model: other,
        })
    });
    differ.collect()
}
