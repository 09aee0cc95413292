//! What single layers did: `layers.jsonl` of trainings, `routed.json` and `distances.json` of evaluations. Trainings and
//! evaluations of earlier versions have none of them.

use std::collections::BTreeMap;

use distill::LayerLine;

use super::{LoadError, Stages};
use crate::{
    inside::record::{Distances, Routed},
    json_file,
    layer_lines::layer_lines,
    report::layers::{Layers, OfModel, Series},
    results::Results,
};

/// A series has at most so many points: a sweep has thousands of series.
const POINTS: usize = 60;

/// Reads what the stages of all models have.
pub fn read(results: &Results, stages: &Stages) -> Result<Layers, LoadError> {
    let mut found = Layers::default();
    for arm in &results.arms {
        for seed in &arm.seeds {
            if let Some((_, folder)) = stages.find(arm, seed.seed, "train") {
                let lines = layer_lines(folder)?;
                found.series.extend(series(&arm.name, seed.seed, lines));
            }
            let Some((_, folder)) = stages.find(arm, seed.seed, "evaluate") else {
                continue;
            };
            if let Some(what) = json_file::read_if_there(&folder.join(Routed::FILE))? {
                found.routed.push(of_model(&arm.name, seed.seed, what));
            }
            if let Some(what) = json_file::read_if_there(&folder.join(Distances::FILE))? {
                found.distances.push(of_model(&arm.name, seed.seed, what));
            }
        }
    }
    Ok(found)
}

fn of_model<T>(arm: &str, seed: u64, what: T) -> OfModel<T> {
    OfModel {
        arm: arm.to_owned(),
        seed,
        what,
    }
}

/// The lines by name and layer.
fn series(arm: &str, seed: u64, lines: Vec<LayerLine>) -> impl Iterator<Item = Series> {
    let mut found: BTreeMap<(String, usize), Series> = BTreeMap::new();
    for line in lines {
        let place = (line.name, line.layer);
        let series = found
            .entry(place)
            .or_insert_with_key(|(name, layer)| Series {
                arm: arm.to_owned(),
                seed,
                name: name.clone(),
                layer: *layer,
                points: vec![],
            });
        series.points.push((line.step as u64, line.values));
    }
    found.into_values().map(|series| Series {
        points: binned(&series.points),
        ..series
    })
}

/// Means of neighbouring points, each at the last of their steps.
fn binned(points: &[(u64, Vec<f32>)]) -> Vec<(u64, Vec<f32>)> {
    let size = points.len().div_ceil(POINTS).max(1);
    let bins = points.chunks(size).filter_map(|bin| {
        let (step, last) = bin.last()?;
        let mean = |place: usize| {
            let values = bin.iter().filter_map(|(_, values)| values.get(place));
            values.sum::<f32>() / bin.len() as f32
        };
        Some((*step, (0..last.len()).map(mean).collect()))
    });
    bins.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_series_are_means_of_neighbours() {
        let points: Vec<(u64, Vec<f32>)> = (1..=200)
            .map(|step| (step, vec![step as f32, 1.0]))
            .collect();
        let found = binned(&points);
        assert_eq!((found.len(), &found[0]), (50, &(4, vec![2.5, 1.0])));
        assert_eq!(binned(&points[..3]), points[..3]);
        assert!(binned(&[]).is_empty());
    }
}
