//! The partition into experts against another implementation (`fixtures/partition_reference.py`): on
//! a committed example, and on the importance orders published with `MoEBERT` where they are at hand.

use std::{
    env, fs,
    path::{Path, PathBuf},
};

use moebert_core::{
    importance::Importance,
    partition::{NeuronOrder, PartitionConfig, partition},
};
use safetensors::SafeTensors;
use serde_json::Value;

/// The folder around `moebert-importance`, if given.
const DATA: &str = "KILN_SHARED_DATA";
const TASKS: [&str; 2] = ["mnli", "sst2"];
const LAYERS: usize = 12;
const WIDTH: usize = 3072;

fn fixture(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/moebert-importance");
    folder.join(name)
}

/// The published file of each task; none if they are not at hand.
fn official() -> Vec<(&'static str, Vec<u8>)> {
    let Some(folder) = env::var_os(DATA) else {
        eprintln!("{DATA} is not set: the published importance orders are not tested");
        return Vec::new();
    };
    let folder = Path::new(&folder).join("moebert-importance");
    TASKS
        .map(|task| {
            (
                task,
                fs::read(folder.join(format!("{task}.safetensors"))).unwrap(),
            )
        })
        .into()
}

/// The four-byte values of a tensor, in rows.
fn rows<T>(file: &[u8], name: &str, width: usize, value: fn([u8; 4]) -> T) -> Vec<Vec<T>> {
    let file = SafeTensors::deserialize(file).unwrap();
    let tensor = file.tensor(name).unwrap();
    let (values, rest) = tensor.data().as_chunks();
    assert!(rest.is_empty() && values.len().is_multiple_of(width));
    let rows = values.chunks(width);
    rows.map(|row| row.iter().map(|bytes| value(*bytes)).collect())
        .collect()
}

fn index(bytes: [u8; 4]) -> usize {
    usize::try_from(i32::from_le_bytes(bytes)).unwrap()
}

/// Reads `E.d_e.s`.
fn config(setting: &str, order: NeuronOrder) -> PartitionConfig {
    let numbers: Vec<_> = setting
        .split('.')
        .map(|text| text.parse().unwrap())
        .collect();
    let [experts, expert_width, shared] = numbers[..] else {
        panic!("`{setting}` is not E.d_e.s");
    };
    PartitionConfig {
        experts,
        expert_width,
        shared,
        order,
        seed: 0,
    }
}

#[test]
fn the_example_is_partitioned_as_by_the_reference() {
    let bytes = fs::read(fixture("example.safetensors")).unwrap();
    let scores = rows(&bytes, "importance", 120, f32::from_le_bytes);
    let importance = Importance::from_scores(scores, 1).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let settings: Vec<_> = file
        .names()
        .into_iter()
        .filter(|name| name.contains('.'))
        .collect();
    assert_eq!(settings.len(), 10);
    for name in settings {
        let (order, setting) = name.split_once('.').unwrap();
        let config = config(setting, order.parse().unwrap());
        let layout = partition(&config, Some(&importance), 3, 120).unwrap();
        let expected = rows(&bytes, name, config.expert_width, index);
        assert_eq!(layout.neurons.concat(), expected, "{name}");
    }
}

#[test]
fn the_published_orders_are_partitioned_as_by_the_reference() {
    let expected = fs::read_to_string(fixture("official.json")).unwrap();
    let expected: Value = serde_json::from_str(&expected).unwrap();
    for (task, bytes) in official() {
        // Their sort broke ties the other way in places: the ranks stand for the scores here.
        let ranks = rows(&bytes, "order", WIDTH, index)
            .into_iter()
            .map(|order| {
                let mut ranks = vec![0.0; WIDTH];
                for (place, neuron) in order.into_iter().enumerate() {
                    ranks[neuron] = (WIDTH - place) as f32;
                }
                ranks
            });
        let importance = Importance::from_scores(ranks.collect(), 1).unwrap();
        let settings = expected[task].as_object().unwrap();
        assert_eq!(settings.len(), 4);
        for (setting, checksums) in settings {
            let config = config(setting, NeuronOrder::Importance);
            let layout = partition(&config, Some(&importance), LAYERS, WIDTH).unwrap();
            let found: Vec<_> = layout
                .neurons
                .iter()
                .map(|experts| checksum(experts))
                .collect();
            assert_eq!(Value::from(found), *checksums, "{task} {setting}");
        }
    }
}

#[test]
fn the_published_scores_give_the_published_orders_but_for_ties() {
    for (task, bytes) in official() {
        let orders = rows(&bytes, "order", WIDTH, index);
        let falling = rows(&bytes, "importance", WIDTH, f32::from_le_bytes);
        let scores = orders.iter().zip(&falling).map(|(order, falling)| {
            let mut scores = vec![0.0; WIDTH];
            for (&neuron, &score) in order.iter().zip(falling) {
                scores[neuron] = score;
            }
            scores
        });
        let importance = Importance::from_scores(scores.collect(), 1).unwrap();
        for (layer, order) in orders.iter().enumerate() {
            let scores = importance.scores(layer);
            for (ours, &theirs) in importance.order(layer).into_iter().zip(order) {
                let tied = scores[ours].to_bits() == scores[theirs].to_bits();
                assert!(tied, "{task} layer {layer}: {ours} instead of {theirs}");
            }
        }
    }
}

/// 64-bit FNV-1a of the experts' neurons as little-endian int32, as hexadecimal.
fn checksum(experts: &[Vec<usize>]) -> String {
    let neurons = experts.iter().flatten().map(|&neuron| neuron as i32);
    let hash = neurons
        .flat_map(i32::to_le_bytes)
        .fold(0xCBF2_9CE4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3)
        });
    format!("{hash:016x}")
}
