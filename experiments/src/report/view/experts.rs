//! How evenly experts are used, while models train.

use std::collections::BTreeMap;

use super::{
    curves::{chart, how_to_read, slug},
    loads::{at_the_end, heat},
};
use crate::report::{
    data::Curve,
    figure::Figure,
    layers::Series,
    section::{Block, Made, Section},
    subject::Subject,
};

/// The loads of so many models are shown layer by layer.
const ARMS: usize = 2;

/// The section.
pub fn make(subject: &Subject<'_>) -> Made {
    let mut figures = metrics(subject);
    let mut blocks = vec![Block::Text(how_to_read(subject))];
    let series = &subject.data.layers.series;
    let experts = experts(series);
    let evenness = means(series, "load", evenness);
    let entropy = means(series, "entropy", |series, values| {
        let count = experts.get(&(series.arm.as_str(), series.layer))?;
        Some(f64::from(*values.first()?) / (*count as f64).ln())
    });
    for (curves, file, title, caption) in [
        (
            evenness,
            "experts-evenness",
            "Evenness of loads",
            "Entropy of the experts' shares of tokens as a share of the largest, mean over the layers: 1 where all get the \
             same, 0 where one gets everything.",
        ),
        (
            entropy,
            "experts-entropy",
            "Entropy of routers",
            "Entropy of a gate's probabilities as a share of the largest, mean over tokens and layers: 1 where it prefers no \
             expert, 0 where it is certain. A hash router has none.",
        ),
    ] {
        if curves.iter().any(|curve| curve.points.len() > 1) {
            let curves: Vec<&Curve> = curves.iter().collect();
            let mut figure = chart(subject, &curves, file, title);
            figure.caption = format!("{caption} {}", figure.caption);
            figures.push(figure);
        }
    }
    let shown = shown(subject, ARMS, |arm| {
        series
            .iter()
            .any(|series| series.name == "load" && series.arm == arm)
    });
    figures.extend(shown.iter().enumerate().filter_map(|(place, arm)| {
        let mut figure = heat(series, arm)?;
        figure.name = format!("experts-load-{}", place + 1);
        Some(figure)
    }));
    if figures.is_empty() {
        return Err("no router was watched while training".to_owned());
    }
    blocks.push(Block::Figures(figures));
    blocks.extend(at_the_end(subject).map(Block::Table));
    Ok(Section {
        id: "experts",
        title: "Expert load",
        blocks,
    })
}

/// The charts of the values on the dashboard.
fn metrics(subject: &Subject<'_>) -> Vec<Figure> {
    let curves = &subject.data.curves;
    let mut names: Vec<&str> = vec![];
    for curve in curves {
        let name = curve.name.to_lowercase();
        let is_of_experts = name.contains("expert") || name.contains("entropy");
        if is_of_experts && curve.points.len() > 1 && !names.contains(&curve.name.as_str()) {
            names.push(&curve.name);
        }
    }
    let figures = names.into_iter().map(|name| {
        let own = curves
            .iter()
            .filter(|curve| curve.name == name && curve.split == "train");
        let own: Vec<&Curve> = own.collect();
        let mut figure = chart(subject, &own, &format!("experts-{}", slug(name)), name);
        if name == "Busiest expert" {
            figure.caption = format!(
                "Share of tokens of the busiest expert; of E experts used evenly, each has 1/E. {}",
                figure.caption
            );
        }
        figure
    });
    figures.collect()
}

/// The models of the report that have something, at most so many: the reference first, then as in the table.
pub fn shown<'a>(
    subject: &'a Subject<'_>,
    most: usize,
    has: impl Fn(&str) -> bool,
) -> Vec<&'a str> {
    let results = &subject.data.results;
    let names = results.arms.iter().map(|arm| arm.name.as_str());
    let mut names: Vec<&str> = names.filter(|name| has(name)).collect();
    names.sort_by_key(|name| results.reference.as_deref() != Some(*name));
    names.truncate(most);
    names
}

/// By step: the sum of the layers' values, and their number.
type Sums = BTreeMap<u64, (f64, usize)>;

/// The mean over the layers of what is made of each line of a name, as a curve for each model and seed.
fn means(series: &[Series], name: &str, of: impl Fn(&Series, &[f32]) -> Option<f64>) -> Vec<Curve> {
    let mut by_model: Vec<(Curve, Sums)> = vec![];
    for series in series.iter().filter(|series| series.name == name) {
        // The series of a model stand together.
        let last = by_model.last();
        let is_new =
            last.is_none_or(|(curve, _)| (&curve.arm, curve.seed) != (&series.arm, series.seed));
        if is_new {
            let curve = Curve {
                arm: series.arm.clone(),
                seed: series.seed,
                split: "train".to_owned(),
                name: name.to_owned(),
                points: vec![],
            };
            by_model.push((curve, Sums::new()));
        }
        if let Some((_, sums)) = by_model.last_mut() {
            for (step, values) in &series.points {
                if let Some(value) = of(series, values).filter(|value| value.is_finite()) {
                    let sum = sums.entry(*step).or_default();
                    *sum = (sum.0 + value, sum.1 + 1);
                }
            }
        }
    }
    let curves = by_model.into_iter().map(|(curve, sums)| {
        let points = sums.into_iter();
        let points = points.map(|(step, (sum, count))| (step, sum / count as f64));
        Curve {
            points: points.collect(),
            ..curve
        }
    });
    curves.collect()
}

/// The entropy of loads as a share of the largest.
fn evenness(_: &Series, loads: &[f32]) -> Option<f64> {
    let sum: f64 = loads.iter().map(|load| f64::from(*load)).sum();
    if sum <= 0.0 || loads.len() < 2 {
        return None;
    }
    let shares = loads.iter().map(|load| f64::from(*load) / sum);
    let entropy: f64 = shares
        .filter(|share| *share > 0.0)
        .map(|share| -share * share.ln())
        .sum();
    Some(entropy / (loads.len() as f64).ln())
}

/// How many experts each layer of each model has.
fn experts(series: &[Series]) -> BTreeMap<(&str, usize), usize> {
    let loads = series.iter().filter(|series| series.name == "load");
    let counts = loads.filter_map(|series| {
        let (_, loads) = series.points.first()?;
        Some(((series.arm.as_str(), series.layer), loads.len()))
    });
    counts.filter(|(_, count)| *count > 1).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn evenness_is_1_where_all_get_the_same() {
        let of = |loads: &[f32]| evenness(&Series::default(), loads);
        assert!((of(&[5.0; 4]).unwrap() - 1.0).abs() < 1e-12);
        assert!(of(&[5.0, 0.0]).unwrap().abs() < 1e-12);
        assert!((of(&[2.0, 2.0, 0.0, 0.0]).unwrap() - 0.5).abs() < 1e-12);
        assert!(of(&[0.0, 0.0]).is_none() && of(&[1.0]).is_none());
    }

    #[test]
    fn means_are_over_the_layers_of_a_model() {
        let series = |seed, layer, value| Series {
            arm: "a".to_owned(),
            seed,
            name: "entropy".to_owned(),
            layer,
            points: vec![(10, vec![value]), (20, vec![2.0 * value])],
        };
        let all = [series(1, 0, 1.0), series(1, 1, 3.0), series(2, 0, 5.0)];
        let found = means(&all, "entropy", |_, values| {
            values.first().map(|value| f64::from(*value))
        });
        assert_eq!(found.len(), 2);
        assert_eq!(found[0].points, [(10, 2.0), (20, 4.0)]);
        assert_eq!((found[1].seed, found[1].points[0].1), (2, 5.0));
    }
}
