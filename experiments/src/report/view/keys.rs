//! How much each key of a sweep matters.

mod parallel;

use std::collections::BTreeMap;

use serde_json::Value;

use crate::{
    report::{
        figure::{DataTable, Figure, cell},
        measure::Measure,
        section::{Block, Made, Section},
        subject::Subject,
        summary::{suffix, value_text},
        svg::{Canvas, Marker, Rows, Scale},
    },
    results::ArmResults,
};

/// Fewer arms than this say little of keys.
const LEAST: usize = 6;
/// Numbers with more values than this are put into so many groups.
const GROUPS: usize = 4;

/// The section.
pub fn make(subject: &Subject<'_>) -> Made {
    let measure = subject.measure()?;
    let Some((keys, arms)) = sweep(&subject.data.results.arms, measure) else {
        return Err(format!("no {LEAST} arms set the same two or more keys"));
    };
    let mut figures = vec![figure(measure, &keys, &arms)];
    figures.extend(parallel::figure(measure, &keys, &arms));
    Ok(Section {
        id: "keys",
        title: "Importance of keys",
        blocks: vec![Block::Figures(figures)],
    })
}

type Swept<'a> = Vec<(&'a ArmResults, f64)>;

/// The keys that most arms set all of, and these arms with their means.
fn sweep<'a>(arms: &'a [ArmResults], measure: &Measure) -> Option<(Vec<&'a str>, Swept<'a>)> {
    let mut sets: BTreeMap<Vec<&str>, Swept<'_>> = BTreeMap::new();
    for arm in arms {
        let mut keys: Vec<&str> = arm.set.keys().map(String::as_str).collect();
        keys.sort_unstable();
        if let Some(mean) = arm.mean(&measure.name).filter(|mean| mean.is_finite()) {
            sets.entry(keys).or_default().push((arm, mean));
        }
    }
    let (keys, arms) = sets.into_iter().max_by_key(|(_, arms)| arms.len())?;
    let varies = |key: &&str| {
        let mut values = arms.iter().map(|(arm, _)| arm.set.get(*key));
        let first = values.next();
        values.any(|value| Some(value) != first)
    };
    let keys: Vec<&str> = keys.into_iter().filter(varies).collect();
    (keys.len() >= 2 && arms.len() >= LEAST).then_some((keys, arms))
}

/// The group of each arm by the value of a key: the value itself, or for numbers of many values, a quantile.
fn groups(key: &str, arms: &Swept<'_>) -> Vec<String> {
    let values: Vec<&Value> = arms
        .iter()
        .map(|(arm, _)| arm.set.get(key).unwrap_or(&Value::Null))
        .collect();
    let numbers: Option<Vec<f64>> = values.iter().map(|value| value.as_f64()).collect();
    let mut texts: Vec<String> = values.iter().map(|value| value_text(value)).collect();
    let mut different = texts.clone();
    different.sort_unstable();
    different.dedup();
    if let Some(numbers) = numbers
        && different.len() > GROUPS + 1
    {
        let mut sorted = numbers.clone();
        sorted.sort_by(f64::total_cmp);
        let group = |number: &f64| {
            let rank = sorted.partition_point(|other| other < number);
            (rank * GROUPS / sorted.len()).to_string()
        };
        texts = numbers.iter().map(group).collect();
    }
    texts
}

/// The share of the variance of the arms' means that lies between the groups of a key.
fn main_effect(key: &str, arms: &Swept<'_>) -> f64 {
    let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
    let all: Vec<f64> = arms.iter().map(|(_, mean)| *mean).collect();
    let middle = mean(&all);
    let total: f64 = all.iter().map(|value| (value - middle).powi(2)).sum();
    let mut by_group: BTreeMap<String, Vec<f64>> = BTreeMap::new();
    for (group, value) in groups(key, arms).into_iter().zip(&all) {
        by_group.entry(group).or_default().push(*value);
    }
    let between = by_group.values();
    let between: f64 = between
        .map(|values| values.len() as f64 * (mean(values) - middle).powi(2))
        .sum();
    if total > 0.0 { between / total } else { 0.0 }
}

fn figure(measure: &Measure, keys: &[&str], arms: &Swept<'_>) -> Figure {
    let mut effects: Vec<(&str, f64)> = keys
        .iter()
        .map(|key| (*key, 100.0 * main_effect(key, arms)))
        .collect();
    effects.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(b.0)));
    let mut data = DataTable::new(&["key", "share of variance %"]);
    for (key, share) in &effects {
        data.push([(*key).to_owned(), cell(*share)]);
    }
    let names: Vec<&str> = effects.iter().map(|(key, _)| suffix(key, keys)).collect();
    let mut canvas = Canvas::new();
    let title = format!(
        "share of the variance of {} between arms, %",
        measure.name.replace('_', " ")
    );
    let rows = Rows::draw(&mut canvas, &names, &title, Scale::exact(0.0, 100.0));
    for (row, (key, share)) in effects.iter().enumerate() {
        canvas.open_titled("c0", &format!("{key}: {} %", cell(*share)));
        let (start, end) = (rows.x.at(0.0), rows.x.at(*share));
        canvas.rect("half", (start, rows.y(row) - 5.0), (end - start, 10.0));
        canvas.mark("mk", Marker::Bar, (end, rows.y(row)), 5.0);
        canvas.close();
    }
    Figure {
        name: "keys".to_owned(),
        title: "What each key explains alone".to_owned(),
        caption: format!(
            "Main effects of {} arms that set these keys: the share of the variance between them that the values of one key \
             explain, exact for a whole grid. Numbers of many values are put into {GROUPS} groups. What is left are interactions \
             and noise, so small shares may be noise.",
            arms.len()
        ),
        drawing: canvas.finish(rows.bottom),
        data,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn main_effects_of_a_grid_are_its_anova() {
        let mut arms = vec![];
        for a in 0..2 {
            for b in 0..3 {
                let set = json!({"a": a, "b": b});
                arms.push((
                    ArmResults {
                        set: set.as_object().unwrap().clone(),
                        ..ArmResults::default()
                    },
                    f64::from(a) * 3.0 + f64::from(b),
                ));
            }
        }
        let swept: Swept<'_> = arms.iter().map(|(arm, mean)| (arm, *mean)).collect();
        let (a, b) = (main_effect("a", &swept), main_effect("b", &swept));
        assert!((a + b - 1.0).abs() < 1e-12, "{a} {b}");
        assert!((a - 2.25 / (2.25 + 2.0 / 3.0)).abs() < 1e-12);
    }
}
