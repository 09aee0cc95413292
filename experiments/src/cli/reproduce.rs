//! `kiln reproduce`: a committed result, run again.

use std::{
    fs,
    path::{Path, PathBuf},
};

use clap::Args;
use distill::Ui;
use serde_json::json;

use super::run::{RecipeArgs, StoreArgs, ui};
use crate::{
    ablate::arms::Command,
    error::Error,
    recipe::{AnyRecipe, about},
    reproduce::{Agreement, Repeated, compare},
    results::{Estimate, Results},
    run::{self, Print, RunOptions},
    table::{aligned, score_within},
    terminal::{columns, wrapped},
};

const EXAMPLE: &str = "\
Example: with the folders that the result does not contain
  kiln reproduce docs/results/partition model.path=MINILM data.path=SST-2";

/// Run a committed result again, and say whether it agrees within its interval
///
/// NAME.toml is run as `kiln run` or, with a table `[ablate]`, as `kiln ablate` does it, and what comes out is compared with
/// NAME.json, which is the results.json of a run. A mean agrees if it differs from the earlier one by no more than the intervals of both
/// explain. The exit code is 1 if one does not.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLE)]
pub struct ReproduceArgs {
    /// The result, as in docs/results/NAME, where NAME.json and NAME.toml are
    #[arg(value_name = "PATH/NAME")]
    result: PathBuf,
    /// Keys of the recipe to change: folders of models and data; with fewer seeds it is faster
    #[arg(value_name = "KEY=VALUE")]
    overrides: Vec<String>,
    /// The run folder [default: runs/NAME-reproduced, by the recipe]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    #[command(flatten)]
    store: StoreArgs,
    /// The device to compute on: one that `kiln devices` lists, or `remote:HOST:PORT`
    #[arg(long, env = "KILN_DEVICE")]
    device: Option<String>,
    /// How to show progress: tui (Burn's dashboard), plain (lines) or none
    #[arg(long, default_value = "plain", value_parser = ui)]
    ui: Ui,
    /// Print the comparison as JSON
    #[arg(long)]
    json: bool,
}

/// Runs the recipe of a result and compares.
///
/// # Errors
/// The files of the result cannot be read or do not belong together, the run fails, or it does not agree.
pub fn run(args: ReproduceArgs) -> Result<(), Error> {
    let [results, recipe] = ["json", "toml"].map(|ending| file(&args.result, ending));
    let then = Results::of_file(&results)?;
    let text = fs::read_to_string(&recipe).map_err(|source| Error::file(&recipe, source))?;
    let is_ablation = about(&text).command == "ablate";
    let arguments = RecipeArgs {
        recipe: recipe.display().to_string(),
        overrides: args.overrides,
        out: args.out,
        store: args.store,
        device: args.device,
    };
    let (run, options) = arguments.open_as("-reproduced", |source, arguments| {
        Ok(if is_ablation {
            AnyRecipe::load_ablation(source, &Command::parse(arguments)?)?
        } else {
            AnyRecipe::load(source, arguments)?
        })
    })?;
    let models = run.models();
    if let Some(arm) = then.arms.iter().find(|arm| !models.contains(&&*arm.name)) {
        return Err(Error::Usage(format!(
            "{} has no model `{}`, which {} has; they do not belong together",
            recipe.display(),
            arm.name,
            results.display()
        )));
    }
    let options = RunOptions {
        ui: args.ui,
        print: Print::Nothing,
        ..options
    };
    run::run(&run, &options)?;
    let repeated = compare(&then, &Results::read(&options.out)?);
    let agrees = agrees(&repeated);
    if args.json {
        super::print_json(&json!({ "result": results, "agrees": agrees, "metrics": repeated }))?;
    } else {
        super::print(&told(&repeated, &results, columns()))?;
    }
    if agrees {
        Ok(())
    } else {
        Err(Error::Disagrees { path: results })
    }
}

/// The file of a result, which may be named with or without an ending.
fn file(result: &Path, ending: &str) -> PathBuf {
    let name = result.file_name().unwrap_or_default().to_string_lossy();
    let endings = [".json", ".toml", ".md"];
    let stem = endings.iter().find_map(|other| name.strip_suffix(other));
    result.with_file_name(format!("{}.{ending}", stem.unwrap_or(&name)))
}

/// Whether something agrees and nothing differs.
fn agrees(repeated: &[Repeated]) -> bool {
    let has = |agreement| repeated.iter().any(|it| it.agreement == agreement);
    !has(Agreement::Outside) && (has(Agreement::Identical) || has(Agreement::Within))
}

/// A line for each metric, and what follows.
fn told(repeated: &[Repeated], results: &Path, columns: usize) -> String {
    let mut cells = vec![
        ["model", "metric", "earlier", "now", ""]
            .map(str::to_owned)
            .to_vec(),
    ];
    cells.extend(repeated.iter().map(|it| {
        let told = match it.agreement {
            Agreement::Identical => "identical",
            Agreement::Within => "agrees",
            Agreement::Outside => "differs",
            Agreement::Unknown => "no interval",
        };
        let now = it.now.as_ref().map_or("-".to_owned(), shown);
        vec![
            it.arm.clone(),
            it.metric.clone(),
            shown(&it.then),
            now,
            told.to_owned(),
        ]
    }));
    let count = |agreement| {
        repeated
            .iter()
            .filter(|it| it.agreement == agreement)
            .count()
    };
    let [identical, within, outside] =
        [Agreement::Identical, Agreement::Within, Agreement::Outside].map(count);
    let (all, path) = (repeated.len(), results.display());
    let sentence = if outside > 0 {
        format!("{outside} of {all} scores differ from {path} by more than the intervals explain")
    } else if identical == all {
        format!("agrees with {path}: all scores are the same, to the last bit")
    } else if identical + within > 0 {
        format!(
            "agrees with {path}: {} of {all} scores are the same or within the intervals, {identical} of them the same to the last bit",
            identical + within
        )
    } else {
        format!("{path} has no intervals, and the scores differ")
    };
    format!("{}\n{}", aligned(&cells), wrapped(&sentence, columns, 2))
}

fn shown(estimate: &Estimate) -> String {
    let Some(mean) = estimate.mean else {
        return "-".to_owned();
    };
    score_within(mean, estimate.low.zip(estimate.high))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_result_may_be_named_by_each_of_its_files() {
        for name in ["a/recall", "a/recall.json", "a/recall.md", "a/recall.toml"] {
            assert_eq!(file(Path::new(name), "toml"), Path::new("a/recall.toml"));
        }
        assert_eq!(file(Path::new("v1.2"), "json"), Path::new("v1.2.json"));
    }

    #[test]
    fn one_difference_is_enough() {
        let repeated = |agreement| Repeated {
            arm: "student".to_owned(),
            metric: "accuracy".to_owned(),
            then: Estimate::of(&[0.5]),
            now: None,
            agreement,
        };
        let all = [Agreement::Identical, Agreement::Within, Agreement::Outside].map(repeated);
        assert!(agrees(&all[..2]));
        assert!(!agrees(&all));
        assert!(!agrees(&[repeated(Agreement::Unknown)]));
        let text = told(&all, Path::new("recall.json"), 200);
        assert!(
            text.ends_with(
                "\n1 of 3 scores differ from recall.json by more than the intervals explain\n"
            ),
            "{text}"
        );
        let text = told(&all[..2], Path::new("recall.json"), 200);
        assert!(
            text.contains("2 of 2 scores are the same or within the intervals, 1 of them"),
            "{text}"
        );
    }
}
