//! The results of a run, from its store alone: whoever writes them, they are the same.

mod arms_file;
mod changes;
mod contrasts;
mod gather;

pub(super) use arms_file::arms_file;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::PathBuf,
    time::UNIX_EPOCH,
};

use self::{
    changes::changes,
    contrasts::{comparisons, directions, factors, metric},
    gather::Gathered,
};
use super::{Part, Print, cautions::cautions, curves, family::Family, standing::Standing};
use crate::{
    ablate::{
        compare::{CompareError, Comparisons},
        interval::intervals,
        latency_ratios::latency_ratios,
        statistics::Alpha,
    },
    error::Error,
    export::{error::ExportError, results_tables},
    graph::Store,
    recipe::{ModelPlan, Recipe, RecipeFamily},
    record::{RESULTS, RunFolder, TIMINGS},
    results::{ArmResults, Results, SCHEMA, StageTime, Status, Timings},
    stdout::print,
    table::{Intervals, Table},
    terminal::{columns, wrapped},
};

/// What the files of the results and the table say.
pub(super) struct Report<'a> {
    name: &'a str,
    results: Results,
    timings: Timings,
    table: Table,
    /// The metrics of every training that is done, with its name.
    trainings: Vec<(String, PathBuf)>,
    curves: Vec<(&'a ModelPlan, curves::Curve)>,
}

impl<'a> Report<'a> {
    /// What the store has of the stages of a run, with the seeds that are reported.
    ///
    /// # Errors
    ///
    /// If the store cannot be read, or arms cannot be compared.
    pub fn of<T: RecipeFamily, F: Family>(
        recipe: &'a Recipe<T>,
        seeds: &[u64],
        parts: &'a [Part<'_, F>],
        store: &Store,
    ) -> Result<Self, Error> {
        let standing = Standing::new(parts, store);
        let mut gathered = Gathered::default();
        for part in parts {
            part.gather(store, &standing, &mut gathered)?;
        }
        let models = recipe.plan();
        let places = models.iter().enumerate();
        let places: BTreeMap<&str, usize> = places
            .map(|(place, model)| (model.name.as_str(), place))
            .collect();
        let place = |name: &str| places.get(name).copied();
        let Gathered {
            mut rows,
            mut arms,
            mut latencies,
            mut trainings,
            mut curves,
            judged,
            before,
        } = gathered;
        rows.sort_by_key(|row| place(&row.name));
        arms.sort_by_key(|arm| place(&arm.name));
        latencies.sort_by_key(|passes| place(&passes.arm));
        curves.sort_by_key(|(plan, _)| place(&plan.name));
        trainings.sort();
        let changed = changes(recipe);
        for arm in &mut arms {
            if let Some(set) = changed.get(arm.name.as_str()) {
                (arm.set, arm.is_arm) = (set.clone(), true);
            }
        }
        let columns = parts.first().map(|part| part.run.family.columns(&rows));
        let columns = columns.unwrap_or_default();
        let asked = recipe.ablation.as_ref();
        let alpha = asked.map_or(Ok(Alpha::default()), |asked| Alpha::new(asked.alpha));
        let alpha = alpha.map_err(CompareError::from)?;
        let reference = asked.map(|ablation| ablation.arms[ablation.reference].name.clone());
        let sure = Intervals {
            alpha: alpha.into(),
            after: intervals(judged.values(), alpha),
            before: intervals(&before, alpha),
            ratios: latency_ratios(&latencies, alpha),
            reference: reference.clone(),
        };
        for arm in &mut arms {
            for (metric, estimate) in &mut arm.metrics {
                let interval = sure.after.get(&(arm.name.clone(), metric.clone()));
                (estimate.low, estimate.high) = interval.map(|it| (it.low, it.high)).unzip();
            }
        }
        let metric = metric(recipe, &columns, &judged);
        let compared = comparisons(recipe, metric.as_deref(), &judged)?;
        let (comparisons, margin) = match compared {
            Some(Comparisons { arms, margin }) => (arms, margin),
            None => (vec![], None),
        };
        let factors = factors(recipe, metric.as_deref(), &judged)?;
        let (stages, backends) = times(&standing, store)?;
        let mut notes = notes(&arms);
        if let (Some(metric), false) = (&metric, comparisons.is_empty()) {
            notes.extend(cautions(parts, metric, &judged, backends));
        }
        let results = Results {
            schema: SCHEMA,
            run: recipe.name.clone(),
            metric,
            directions: directions(&judged),
            alpha: alpha.into(),
            margin,
            reference,
            seeds: seeds.to_vec(),
            notes,
            arms,
            comparisons,
            factors,
            metrics: columns,
        };
        Ok(Self {
            name: &recipe.name,
            table: Table::new(&rows, &results.metrics, &sure),
            timings: Timings {
                schema: SCHEMA,
                stages,
                latencies,
            },
            results,
            trainings,
            curves,
        })
    }

    /// Writes the files into the run folder.
    ///
    /// # Errors
    ///
    /// If a file cannot be written.
    pub fn write(&self, folder: &RunFolder) -> Result<(), Error> {
        folder.gather_metrics(&self.trainings)?;
        curves::write(self.name, &self.curves, folder)?;
        folder.write_json(RESULTS, &self.results)?;
        folder.write_json(TIMINGS, &self.timings)?;
        results_tables::write(folder.path(), &self.results, &self.timings)
            .map_err(ExportError::from)?;
        let mut markdown = self.table.to_markdown();
        let lines: Vec<String> = self.lines().map(|line| format!("\n- {line}")).collect();
        if !lines.is_empty() {
            markdown.extend(lines);
            markdown.push('\n');
        }
        Ok(folder.write_text("results.md", &markdown)?)
    }

    /// Prints the results.
    ///
    /// # Errors
    ///
    /// If they cannot be printed.
    pub fn print(&self, what: Print) -> Result<(), Error> {
        match what {
            Print::Table => {
                let mut text = self.table.to_text();
                let lines = self.lines().map(|line| wrapped(line, columns(), 2));
                let lines = lines.collect::<String>();
                if !lines.is_empty() {
                    text.extend(["\n", &lines]);
                }
                print(&text)
            }
            Print::Json => {
                // Names, numbers and lists of them always have a form in JSON.
                let json = serde_json::to_string_pretty(&self.results);
                print(&(json.unwrap_or_default() + "\n"))
            }
            Print::Nothing => Ok(()),
        }
    }

    /// What the arms show, and what is missing, a sentence each.
    fn lines(&self) -> impl Iterator<Item = &String> {
        let Results {
            comparisons, notes, ..
        } = &self.results;
        let verdicts = comparisons
            .iter()
            .map(|comparison| &comparison.verdict.sentence);
        verdicts.chain(notes)
    }
}

/// What is missing, a line for each model.
fn notes(arms: &[ArmResults]) -> Vec<String> {
    let notes = arms.iter().filter_map(|arm| {
        let of = |status| {
            let seeds = arm.seeds.iter().filter(move |seed| seed.status == status);
            seeds.collect::<Vec<_>>()
        };
        let all = arm.seeds.len();
        let (what, seeds) = [
            ("failed", of(Status::Failed)),
            ("could not be done", of(Status::Blocked)),
            ("are yet to be done", of(Status::Open)),
        ]
        .into_iter()
        .find(|(_, seeds)| !seeds.is_empty())?;
        let first = seeds.first()?.failure.as_ref();
        let first = first.map_or(String::new(), |failure| {
            format!(": {}: {}", failure.title, failure.message)
        });
        let (name, count) = (&arm.name, seeds.len());
        Some(format!("{name}: {count} of {all} seeds {what}{first}"))
    });
    notes.collect()
}

/// What the stages took that are done, and the backends that computed them.
fn times(
    standing: &Standing<'_>,
    store: &Store,
) -> Result<(Vec<StageTime>, BTreeSet<String>), Error> {
    let (mut times, mut backends) = (vec![], BTreeSet::new());
    for (node, title) in standing.stages() {
        let Some(done) = store.read(&node.key)? else {
            continue;
        };
        backends.insert(done.backend);
        let written = fs::metadata(store.stage(&node.key).join("done.json"));
        let written = written.and_then(|file| file.modified()).ok();
        let since = written.and_then(|time| time.duration_since(UNIX_EPOCH).ok());
        times.push(StageTime {
            key: node.key.clone(),
            title: title.to_owned(),
            seed: node.seed,
            seconds: done.seconds,
            peak_memory: done.peak_memory,
            host: done.host,
            finished: since.map(|since| since.as_secs()),
        });
    }
    Ok((times, backends))
}
