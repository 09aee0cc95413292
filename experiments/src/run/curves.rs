//! Learning curves: how the models of a run come along, in one picture.

use std::collections::BTreeMap;

use crate::{
    chart::{Axis, Chart, Series},
    error::Error,
    metric_line::MetricLine,
    recipe::ModelPlan,
    record::{METRICS, RunFolder},
};

/// What the picture shows.
#[derive(Clone)]
pub(super) struct Curve {
    /// The metric of the validation.
    pub metric: String,
    /// What it is.
    pub label: String,
    /// What the steps are counted in.
    pub x: &'static str,
    /// So many of these make a step.
    pub scale: usize,
}

/// Writes `curves.svg`: the validation of every trained model after each epoch, the mean over the seeds. The first model
/// says what the axes are.
pub(super) fn write(
    name: &str,
    models: &[(&ModelPlan, Curve)],
    folder: &RunFolder,
) -> Result<(), Error> {
    let lines = MetricLine::read(&folder.path().join(METRICS))?;
    let Some((_, shown)) = models.first() else {
        return Ok(());
    };
    let trained = models
        .iter()
        .filter(|(plan, _)| plan.train.is_some() && plan.is_judged);
    let series = trained.map(|(plan, own)| Series {
        name: match &plan.legend {
            Some(legend) => format!("{} ({legend})", plan.name),
            None => plan.name.clone(),
        },
        points: curve(&lines, &plan.name, &own.metric, own.scale),
    });
    let chart = Chart {
        title: format!("{name}: validation while training"),
        x: Axis::linear(shown.x),
        y: Axis::linear(&shown.label),
        series: series.collect(),
    };
    Ok(folder.write_text("curves.svg", &chart.to_svg()?)?)
}

/// The metric of a model by its steps times `scale`, averaged over the seeds.
fn curve(lines: &[MetricLine], model: &str, metric: &str, scale: usize) -> Vec<(f64, f64)> {
    let mut steps: BTreeMap<u64, Vec<f64>> = BTreeMap::new();
    for line in lines {
        if line.model().1 == model && line.last && line.split == "valid" && line.name == metric {
            steps.entry(line.step).or_default().push(line.value);
        }
    }
    let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
    let points = steps.iter().map(|(step, values)| {
        let x = *step as f64 * scale as f64;
        (x, mean(values))
    });
    points.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_curve_is_the_mean_of_the_seeds_after_each_epoch() {
        let lines = r#"
            {"stage":"seed-1/full","step":10,"split":"valid","name":"Loss","value":2.0,"last":true}
            {"stage":"seed-2/full","step":10,"split":"valid","name":"Loss","value":4.0,"last":true}
            {"stage":"seed-1/full","step":5,"split":"train","name":"Loss","value":9.0}
            {"stage":"seed-1/full","step":20,"split":"valid","name":"Loss","value":1.0,"last":true}
            {"stage":"seed-1/full","step":20,"split":"train","name":"Loss","value":1.5,"last":true}
            {"stage":"seed-1/local","step":10,"split":"valid","name":"Loss","value":7.0,"last":true}"#;
        let lines: Vec<MetricLine> = lines
            .lines()
            .filter(|line| !line.trim().is_empty())
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        let curve = curve(&lines, "full", "Loss", 100);
        assert_eq!(curve, [(1000.0, 3.0), (2000.0, 1.0)]);
    }
}
