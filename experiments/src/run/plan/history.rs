//! The finished stages of a store that tell how long others will take on this machine.

use std::{cell::OnceCell, collections::HashMap, fs, path::PathBuf};

use serde_json::Value;

use super::{
    signature::{Signature, Signatures},
    work::{Costs, Work, length},
};
use crate::graph::{Document, Done, Key};

/// Where stages are computed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Machine {
    pub host: String,
    /// The name of the device.
    pub backend: String,
    /// Processors that the program may use.
    pub cpus: usize,
}

impl Machine {
    fn has_done(&self, done: &Done) -> bool {
        let cpus = done.environment.get("cpus").and_then(Value::as_u64);
        self.host == done.host
            && self.backend == done.backend
            && cpus == Some(self.cpus as u64)
            && done.seconds.is_finite()
    }
}

/// Finished stages that differ by their seed alone.
pub(super) struct Group {
    pub kind: String,
    /// What takes time in them.
    likeness: Option<Signature>,
    seconds: Vec<f64>,
    bytes: Vec<u64>,
    /// Peak memory in bytes, over all.
    pub memory: Option<u64>,
    /// None if a model was not judged.
    work: Option<Work>,
    /// The document and folder of one of them.
    document: Document,
    folder: PathBuf,
    tokens: OnceCell<Option<f64>>,
}

impl Group {
    /// The median time in seconds.
    pub fn seconds(&self) -> f64 {
        median(&self.seconds)
    }

    /// The median size of the folder in bytes.
    pub fn bytes(&self) -> u64 {
        let bytes: Vec<f64> = self.bytes.iter().map(|bytes| *bytes as f64).collect();
        median(&bytes) as u64
    }

    /// The work of each; for another reading of data, with the tokens that it passed.
    pub fn work(&self, for_another_reading: bool) -> Option<Work> {
        let work = self.work?;
        if !for_another_reading {
            return Some(work);
        }
        let tokens = self.tokens.get_or_init(|| {
            let metrics = self.folder.join("training/metrics.jsonl");
            let text = fs::read_to_string(metrics).ok()?;
            tokens(&self.document, &text)
        });
        Some(work.with_tokens(*tokens))
    }
}

/// The groups by their signatures.
#[derive(Default)]
pub(super) struct History {
    groups: HashMap<Signature, Group>,
    /// The groups of each likeness.
    alike: HashMap<Signature, Vec<Signature>>,
}

impl History {
    /// What the stages done on a machine tell; `folder` is where a stage is.
    pub fn of(
        records: &[(Key, Done)],
        machine: &Machine,
        [signatures, likenesses]: [&Signatures; 2],
        folder: impl Fn(&Key) -> PathBuf,
    ) -> Self {
        let mut costs = Costs::default();
        for (_, done) in records {
            costs.add(&done.document, &done.result);
        }
        let mut groups: HashMap<Signature, Group> = HashMap::new();
        for (key, done) in records {
            let Some(signature) = signatures.get(key).filter(|_| machine.has_done(done)) else {
                continue;
            };
            let document = &done.document;
            let group = groups.entry(signature).or_insert_with(|| Group {
                kind: document.kind.clone(),
                likeness: likenesses.get(key),
                seconds: vec![],
                bytes: vec![],
                memory: None,
                work: Work::finished(key, document, &done.result, &costs),
                document: document.clone(),
                folder: folder(key),
                tokens: OnceCell::new(),
            });
            group.seconds.push(done.seconds);
            group.bytes.push(bytes(done));
            group.memory = group.memory.max(done.peak_memory);
        }
        let mut alike: HashMap<Signature, Vec<Signature>> = HashMap::new();
        for (signature, group) in &groups {
            if let Some(likeness) = group.likeness {
                alike.entry(likeness).or_default().push(*signature);
            }
        }
        Self { groups, alike }
    }

    /// The group of a signature.
    pub fn get(&self, signature: Signature) -> Option<&Group> {
        self.groups.get(&signature)
    }

    /// The groups that take as long for each epoch.
    pub fn alike(&self, likeness: Signature) -> impl Iterator<Item = &Group> {
        let alike = self.alike.get(&likeness).into_iter().flatten();
        alike.filter_map(|signature| self.groups.get(signature))
    }

    /// All groups of a kind.
    pub fn of_kind(&self, kind: &str) -> impl Iterator<Item = &Group> {
        self.groups.values().filter(move |group| group.kind == kind)
    }
}

/// The size of a stage's files.
pub(super) fn bytes(done: &Done) -> u64 {
    done.files.values().map(|file| file.length).sum()
}

/// The tokens that an epoch of a training had, by its metrics: the last optimiser step of its last epoch.
fn tokens(document: &Document, metrics: &str) -> Option<f64> {
    let last = metrics.trim_end().lines().next_back()?;
    let last: Value = serde_json::from_str(last).ok()?;
    let train = document.settings.get("model")?.get("train")?;
    let number = |value: &Value, key: &str| value.get(key)?.as_f64();
    let sequences =
        number(&last, "step")? * number(train, "batch_size")? * number(train, "accumulate")?;
    Some(sequences / number(&last, "epoch")? * length(&document.settings)?)
}

/// The middle of some numbers, or the mean of the two in the middle; 0 for none.
pub(super) fn median(numbers: &[f64]) -> f64 {
    let mut sorted = numbers.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.get(middle) {
        None => 0.0,
        Some(upper) if sorted.len().is_multiple_of(2) => f64::midpoint(sorted[middle - 1], *upper),
        Some(middle) => *middle,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_middle() {
        let middles = [&[][..], &[3.0, 1.0, 2.0], &[4.0, 1.0, 2.0, 9.0]].map(median);
        assert_eq!(middles.to_vec(), vec![0.0, 2.0, 3.0]);
    }

    #[test]
    fn tokens_of_an_epoch_follow_from_the_last_step() {
        let train = json!({ "batch_size": 32, "accumulate": 2 });
        let document: Document = serde_json::from_value(json!({
            "format": 1, "kind": "train", "inputs": {}, "data": format!("sha256:{}", "0".repeat(64)),
            "settings": { "model": { "train": train }, "reading": { "max_length": 64 } }, "result_version": 1,
        }))
        .unwrap();
        let metrics = "{\"epoch\":1,\"step\":10}\n{\"epoch\":2,\"step\":30,\"name\":\"Loss\"}\n";
        assert_eq!(tokens(&document, metrics), Some(30.0 * 64.0 / 2.0 * 64.0));
        assert_eq!(tokens(&document, ""), None);
    }
}
