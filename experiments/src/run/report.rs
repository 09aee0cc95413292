//! The results of a run, from its store alone: whoever writes them, they are the same.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::PathBuf,
    time::UNIX_EPOCH,
};

use serde_json::{Map, Value};

use super::{
    Part, Print,
    cautions::cautions,
    curves,
    family::Family,
    jobs::{Judged, title},
    nodes::{Nodes, SeedKeys},
    standing::Standing,
};
use crate::{
    ablate::{
        compare::{CompareError, Comparisons, FactorWorth, JudgedArm, Question, direction},
        interval::intervals,
        latency_ratios::latency_ratios,
        statistics::{Alpha, Direction},
    },
    error::Error,
    examples::{self, Examples},
    export::{error::ExportError, results_tables},
    graph::{Key, Store},
    latency::median,
    recipe::{ModelPlan, Recipe, RecipeFamily},
    record::{RESULTS, RunFolder, TIMINGS},
    results::{
        ArmResults, ArmStages, ArmsFile, Estimate, Latencies, ModelCost, Results, SCHEMA,
        SeedResults, SeedStages, StageLine, StageTime, Status, Timings,
    },
    stdout::print,
    table::{Intervals, Row, Table, summary},
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

/// What the parts of a run give.
#[derive(Default)]
struct Gathered<'a> {
    rows: Vec<Row>,
    arms: Vec<ArmResults>,
    latencies: Vec<Latencies>,
    trainings: Vec<(String, PathBuf)>,
    curves: Vec<(&'a ModelPlan, curves::Curve)>,
    /// By model.
    judged: BTreeMap<String, JudgedArm>,
    /// What models were before their training, where they go on from a given one.
    before: Vec<JudgedArm>,
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

/// What a run consists of, or a phase of it: the models of the arms on each base with their stages.
pub(super) fn arms_file<'a, T: RecipeFamily>(
    recipe: &Recipe<T>,
    seeds: &[u64],
    bases: impl Iterator<Item = (&'a [ModelPlan], &'a Nodes)>,
) -> ArmsFile {
    let changed = changes(recipe);
    let mut arms = vec![];
    let mut stages = vec![];
    for (plan, nodes) in bases {
        for (index, model) in plan.iter().enumerate() {
            let set = changed.get(model.name.as_str());
            let seeds = nodes.seeds.iter().map(|keys| SeedStages {
                seed: keys.seed,
                stages: stages_of(keys, index),
            });
            arms.push(ArmStages {
                name: model.name.clone(),
                is_arm: set.is_some(),
                set: set.cloned().unwrap_or_default(),
                seeds: seeds.collect(),
            });
        }
        stages.extend(nodes.nodes.iter().map(|node| StageLine {
            title: title(plan, node.seed, node.job),
            seed: node.seed,
            inputs: node.document.inputs.values().cloned().collect(),
            key: node.key.clone(),
        }));
    }
    let models = recipe.plan();
    arms.sort_by_key(|arm| models.iter().position(|model| model.name == arm.name));
    let asked = recipe.ablation.as_ref();
    ArmsFile {
        schema: SCHEMA,
        run: recipe.name.clone(),
        metric: asked.and_then(|ablation| ablation.metric.clone()),
        alpha: asked.map_or(0.05, |ablation| ablation.alpha),
        reference: asked.map(|ablation| ablation.arms[ablation.reference].name.clone()),
        seeds: seeds.to_vec(),
        arms,
        stages,
    }
}

/// The keys of the stages of a model, by what they are in its folder.
fn stages_of(keys: &SeedKeys, index: usize) -> BTreeMap<String, Key> {
    let stages = keys.models[index].stages();
    stages.map(|(name, key)| (name, key.clone())).collect()
}

/// The keys that each arm changes, with their values.
fn changes<T: RecipeFamily>(recipe: &Recipe<T>) -> BTreeMap<&str, Map<String, Value>> {
    let arms = recipe.arms.iter().filter_map(|arm| {
        let name = arm.get("name")?.as_str()?;
        let mut set = Map::new();
        for (key, value) in arm.iter().filter(|(key, _)| *key != "name") {
            flatten(key, value, &mut set);
        }
        Some((name, set))
    });
    arms.collect()
}

fn flatten(path: &str, value: &toml::Value, set: &mut Map<String, Value>) {
    match value {
        toml::Value::Table(table) if !table.is_empty() => {
            for (key, value) in table {
                flatten(&format!("{path}.{key}"), value, set);
            }
        }
        value => {
            // What TOML has, JSON has, but for times, which no recipe has.
            let value = serde_json::to_value(value).unwrap_or_default();
            set.insert(path.to_owned(), value);
        }
    }
}

/// The metric that decides: the one that was asked for, or the first of the table that examples of the reference have parts of.
fn metric<T: RecipeFamily>(
    recipe: &Recipe<T>,
    columns: &[String],
    judged: &BTreeMap<String, JudgedArm>,
) -> Option<String> {
    let ablation = recipe.ablation.as_ref()?;
    let reference = judged.get(&ablation.arms[ablation.reference].name)?;
    let has = |metric: &&String| reference.has_metric(metric);
    let metric = ablation.metric.as_ref().or(columns.iter().find(has));
    metric.cloned()
}

/// What the arms of an ablation show; none if there is nothing to compare.
fn comparisons<T: RecipeFamily>(
    recipe: &Recipe<T>,
    metric: Option<&str>,
    judged: &BTreeMap<String, JudgedArm>,
) -> Result<Option<Comparisons>, Error> {
    let (Some(ablation), Some(metric)) = (&recipe.ablation, metric) else {
        return Ok(None);
    };
    let arms = ablation.arms.iter();
    let mut arms: Vec<JudgedArm> = arms
        .filter_map(|arm| judged.get(&arm.name).cloned())
        .collect();
    for arm in ablation.contest.iter().flat_map(|contest| &contest.arms) {
        let name = &ablation.arms[*arm].name;
        let mut arms = arms.iter_mut();
        if let Some(arm) = arms.find(|arm| arm.name == *name && arm.failed == 0) {
            arm.is_dropped = arm.seeds.is_empty();
        }
    }
    let reference = &ablation.arms[ablation.reference].name;
    let Some(reference) = arms.iter().position(|arm| arm.name == *reference) else {
        return Ok(None);
    };
    if arms.len() < 2 {
        return Ok(None);
    }
    let question = Question {
        metric,
        margin: ablation.margin,
        alpha: ablation.alpha,
    };
    Ok(Some(Comparisons::of(&arms, reference, question)?))
}

/// What the factors of an ablation are worth.
fn factors<T: RecipeFamily>(
    recipe: &Recipe<T>,
    metric: Option<&str>,
    judged: &BTreeMap<String, JudgedArm>,
) -> Result<Vec<FactorWorth>, Error> {
    let (Some(ablation), Some(metric)) = (&recipe.ablation, metric) else {
        return Ok(vec![]);
    };
    let factors = ablation.blocks.iter().flat_map(|block| &block.factors);
    let arm = |place: usize| judged.get(&ablation.arms.get(place)?.name);
    let question = Question {
        metric,
        margin: None,
        alpha: ablation.alpha,
    };
    Ok(FactorWorth::of(factors, arm, question)?)
}

/// Which values of each metric are better.
fn directions(judged: &BTreeMap<String, JudgedArm>) -> BTreeMap<String, Direction> {
    let splits = judged.values().flat_map(|arm| arm.seeds.values().flatten());
    let metrics = splits.flat_map(|split| &split.metrics);
    metrics
        .map(|(metric, parts)| (metric.clone(), direction(parts)))
        .collect()
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

impl<F: Family> Part<'_, F> {
    /// Adds what the store has of the models.
    fn gather<'a>(
        &'a self,
        store: &Store,
        standing: &Standing<'_>,
        gathered: &mut Gathered<'a>,
    ) -> Result<(), Error> {
        let curve = self.run.family.curve();
        // All seeds of a model together, the models in their order.
        for (index, plan) in self.run.plan.iter().enumerate() {
            gathered.curves.push((plan, curve.clone()));
            let mut arm = ArmResults {
                name: plan.name.clone(),
                set: Map::new(),
                is_arm: false,
                layers: None,
                spans: vec![],
                mixers: vec![],
                experts: plan.experts.as_ref().map(ToString::to_string),
                seeds: vec![],
                metrics: BTreeMap::new(),
                cost: None,
            };
            let mut judged = JudgedArm::new(&plan.name);
            let mut judged_before = JudgedArm::new(&plan.name);
            for keys in &self.nodes.seeds {
                let model = &keys.models[index];
                let stand = standing.of_all(model.stages().map(|(_, key)| key))?;
                let mut seed = SeedResults {
                    seed: keys.seed,
                    stages: stages_of(keys, index),
                    status: stand.status,
                    failure: stand.failure,
                    metrics: [].into(),
                    examples: BTreeMap::new(),
                    before: None,
                };
                let trained = model
                    .train
                    .as_ref()
                    .map(|key| Ok::<_, Error>((key, store.read(key)?)));
                let trained = trained.transpose()?;
                if let Some((key, Some(_))) = &trained {
                    let metrics = store.stage(key).join("training/metrics.jsonl");
                    let name = format!("seed-{}/{}", keys.seed, plan.name);
                    gathered.trainings.push((name, metrics));
                }
                let failed = [Status::Failed, Status::Blocked].contains(&stand.status);
                judged.failed += usize::from(failed);
                let Some(evaluate) = &model.evaluate else {
                    continue;
                };
                if stand.status == Status::Done {
                    let found: Judged = store.result(evaluate)?;
                    let before: Option<Judged> = model
                        .before
                        .as_ref()
                        .map(|key| store.result(key))
                        .transpose()?;
                    if let Some(key) = &model.before {
                        let examples = Examples::read(&store.stage(key))?;
                        judged_before.seeds.insert(keys.seed, examples);
                    }
                    let passes = match &keys.measure {
                        Some(key) if store.is_done(key)? => store.result(key)?,
                        _ => Vec::<Vec<f64>>::new(),
                    };
                    let place = keys.judged().take_while(|place| *place < index).count();
                    let passes = passes.into_iter().nth(place);
                    let splits = Examples::read(&store.stage(evaluate))?;
                    seed.examples = examples::counts(&splits);
                    judged.seeds.insert(keys.seed, splits);
                    seed.metrics.clone_from(&found.scores);
                    seed.before = before.map(|judged| judged.scores);
                    gathered.rows.push(Row {
                        name: plan.name.clone(),
                        seed: keys.seed,
                        spans: found.spans.clone(),
                        mixers: found.mixers.clone(),
                        experts: arm.experts.clone(),
                        metrics_before: seed.before.clone(),
                        metrics: found.scores.clone(),
                        parameters: found.parameters,
                        active_parameters: found.active_parameters,
                        multiply_adds_per_token: found.multiply_adds_per_token,
                        attention: found.attention.clone(),
                        latency_ms: passes.clone().map(median),
                    });
                    gathered.latencies.extend(passes.map(|ms| Latencies {
                        arm: plan.name.clone(),
                        seed: keys.seed,
                        ms,
                    }));
                    describe(&mut arm, found);
                }
                arm.seeds.push(seed);
            }
            if plan.is_judged {
                arm.metrics = estimates(&arm.seeds);
                gathered.arms.push(arm);
                gathered.judged.insert(plan.name.clone(), judged);
                gathered.before.push(judged_before);
            }
        }
        Ok(())
    }
}

/// Says what a model is, which is the same with each seed.
fn describe(arm: &mut ArmResults, judged: Judged) {
    arm.layers = Some(summary(&judged.spans, &judged.mixers));
    (arm.spans, arm.mixers) = (judged.spans, judged.mixers);
    arm.cost = Some(ModelCost {
        parameters: judged.parameters,
        active_parameters: judged.active_parameters,
        multiply_adds_per_token: judged.multiply_adds_per_token,
        attention: judged.attention,
    });
}

/// The metrics over the seeds that are done.
fn estimates(seeds: &[SeedResults]) -> BTreeMap<String, Estimate> {
    let mut values: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
    for (metric, value) in seeds.iter().flat_map(|seed| seed.metrics.iter()) {
        values.entry(metric).or_default().push(*value);
    }
    let estimates = values.into_iter();
    estimates
        .map(|(metric, values)| (metric.to_owned(), Estimate::of(&values)))
        .collect()
}
