//! Importance of neurons: `importance.safetensors` of the stages that score them.

use std::{fs, path::Path};

use moebert_core::tensor_file::TensorFile;
use serde_json::Value;

use super::Stages;
use crate::{report::data::Importance, results::Results};

/// The scores that arms use, in the order of the arms. Files that cannot be read are left out.
pub fn read(results: &Results, stages: &Stages) -> Vec<Importance> {
    let mut found: Vec<Importance> = vec![];
    for arm in &results.arms {
        for seed in &arm.seeds {
            let Some((key, folder)) = stages.find(arm, seed.seed, "importance") else {
                continue;
            };
            let shared = stages.find(arm, seed.seed, "train");
            let shared = shared.map_or(0, |(_, train)| shared_neurons(train));
            if let Some(scores) = found.iter_mut().find(|scores| scores.key == *key) {
                scores.arms.push(arm.name.clone());
                scores.shared = scores.shared.max(shared);
            } else if let Some(layers) = layers(folder) {
                found.push(Importance {
                    key: key.clone(),
                    seed: seed.seed,
                    arms: vec![arm.name.clone()],
                    layers,
                    shared,
                });
            }
        }
    }
    found
}

fn layers(folder: &Path) -> Option<Vec<Vec<f32>>> {
    let file = TensorFile::read(&folder.join("importance.safetensors")).ok()?;
    let ([_, neurons], scores) = file.f32("importance").ok()?;
    (neurons > 0).then(|| scores.chunks(neurons).map(<[f32]>::to_vec).collect())
}

/// How many neurons all experts of a model have.
fn shared_neurons(train: &Path) -> usize {
    let bytes = fs::read(train.join("model/experts.json")).unwrap_or_default();
    let settings: Value = serde_json::from_slice(&bytes).unwrap_or_default();
    let shared = settings.get("shared").and_then(Value::as_u64);
    shared
        .and_then(|shared| usize::try_from(shared).ok())
        .unwrap_or(0)
}
