//! What lies beside an expert model's weights so that other tools can read its experts.
//!
//! `experts.json` holds the [`ExpertSettings`]; `experts.safetensors` holds, for each expert layer
//! `l` of the model,
//!
//! | tensor | type and shape | meaning |
//! |---|---|---|
//! | `layer.{l}.neurons` | int64 `[E, d_e]` | the dense layer's neurons in each expert |
//! | `layer.{l}.table` | int64 `[V]` | the expert of each token id; hash routers only |
//! | `layer.{l}.importance` | float32 `[F]` | the neurons' importance scores, where known |

use std::{collections::HashSet, path::Path};

use serde::{Deserialize, Serialize};

use crate::{
    file::{self, FileError},
    importance::{Importance, check_scores},
    partition::{ExpertLayout, NeuronOrder},
    tensor_file::{self, TensorFile, Values},
};

/// The settings' file in a model folder.
pub const SETTINGS_FILE: &str = "experts.json";
/// The tensors' file in a model folder.
pub const TENSORS_FILE: &str = "experts.safetensors";
/// The version of both files that this code writes and reads.
pub const FORMAT_VERSION: u64 = 1;

/// How the experts were made, as `experts.json` says it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExpertSettings {
    /// [`FORMAT_VERSION`].
    pub format_version: u64,
    /// Experts per layer, `E`.
    pub experts: usize,
    /// Neurons per expert, `d_e`.
    pub expert_width: usize,
    /// Neurons that every expert has, `s`.
    pub shared: usize,
    /// Neurons of the dense layer, `F`.
    pub dense_width: usize,
    /// The order in which neurons were assigned.
    pub order: NeuronOrder,
    /// The seed of a random order, of the routing tables and of the gates' first weights.
    pub seed: u64,
    /// The text form of the router, for example `hash-random`.
    pub router: String,
    /// Experts per token, `k`; 1 if the file does not set it.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub k: usize,
    /// The text form of what a gate's probability does to the output; `None` for hash routers.
    pub gate_scale: Option<String>,
    /// The model's expert layers, rising, counted from 0.
    pub layers: Vec<usize>,
}

fn one() -> usize {
    1
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde asks for it")]
fn is_one(k: &usize) -> bool {
    *k == 1
}

/// Settings, layout, routing tables and importance scores of a model's experts. The `i`-th layer of
/// each belongs to layer `settings.layers[i]` of the model.
#[derive(Clone, Debug, PartialEq)]
pub struct ExpertFiles {
    /// How the experts were made.
    pub settings: ExpertSettings,
    /// The neurons of each expert.
    pub layout: ExpertLayout,
    /// The hash routers' tables, `V` experts each.
    pub tables: Option<Vec<Vec<usize>>>,
    /// The importance scores that the layout follows, where known.
    pub importance: Option<Importance>,
}

impl ExpertFiles {
    /// Writes both files into a folder, each whole or not at all, the settings last.
    ///
    /// # Errors
    ///
    /// If the parts do not fit each other or a file cannot be written.
    pub fn save(&self, folder: &Path) -> Result<(), FileError> {
        self.validate(folder)?;
        let mut tensors = Vec::new();
        for (index, &layer) in self.settings.layers.iter().enumerate() {
            let neurons = self.layout.neurons[index].concat();
            let shape = vec![self.settings.experts, self.settings.expert_width];
            tensors.push((neurons_name(layer), shape, indices(&neurons)));
            if let Some(tables) = &self.tables {
                let table = &tables[index];
                tensors.push((table_name(layer), vec![table.len()], indices(table)));
            }
            if let Some(importance) = &self.importance {
                let scores = Values::F32(importance.scores(index));
                tensors.push((importance_name(layer), vec![importance.width()], scores));
            }
        }
        let samples = self.importance.as_ref().map(Importance::samples);
        let metadata = samples.map(|samples| (SAMPLES.to_owned(), samples.to_string()));
        let metadata = metadata.into_iter().collect();
        tensor_file::write(&folder.join(TENSORS_FILE), &tensors, metadata)?;

        let path = folder.join(SETTINGS_FILE);
        match serde_json::to_string_pretty(&self.settings) {
            Ok(text) => file::write(&path, (text + "\n").as_bytes()),
            Err(source) => Err(FileError::Json { path, source }),
        }
    }

    /// Reads what [`Self::save`] wrote and checks that everything fits together.
    ///
    /// # Errors
    ///
    /// If a file is missing or damaged, or a setting or tensor holds what cannot work.
    pub fn load(folder: &Path) -> Result<Self, FileError> {
        let settings = ExpertSettings::load(&folder.join(SETTINGS_FILE))?;
        let file = TensorFile::read(&folder.join(TENSORS_FILE))?;
        let mut neurons = Vec::new();
        let mut tables = Vec::new();
        let mut scores = Vec::new();
        for &layer in &settings.layers {
            let name = neurons_name(layer);
            let (shape, indices) = file.indices::<2>(&name)?;
            let expected = [settings.experts, settings.expert_width];
            if shape != expected {
                let problem = format!("has shape {shape:?}; the settings say {expected:?}");
                return Err(file.entry(&name, problem));
            }
            let experts = indices.chunks(settings.expert_width);
            neurons.push(experts.map(<[usize]>::to_vec).collect());
            let name = table_name(layer);
            if file.contains(&name) {
                tables.push(file.indices::<1>(&name)?.1);
            }
            let name = importance_name(layer);
            if file.contains(&name) {
                let row = file.f32::<1>(&name)?.1;
                check_scores(layer, &row)
                    .map_err(|error| file.entry(&name, format!("cannot be used: {error}")))?;
                scores.push(row);
            }
        }
        let samples = file.metadata(SAMPLES).and_then(|text| text.parse().ok());
        let importance = (!scores.is_empty())
            .then(|| Importance::from_scores(scores, samples.unwrap_or(0)))
            .transpose()
            .map_err(|error| file.entry("layer.*.importance", error))?;
        let files = Self {
            settings,
            layout: ExpertLayout { neurons },
            tables: (!tables.is_empty()).then_some(tables),
            importance,
        };
        files.validate(folder)?;
        Ok(files)
    }

    fn validate(&self, folder: &Path) -> Result<(), FileError> {
        let settings = &self.settings;
        settings.validate(&folder.join(SETTINGS_FILE))?;
        let path = folder.join(TENSORS_FILE);
        let error = |name: String, problem| FileError::entry(&path, name, problem);

        let counts = [
            ("neurons", Some(self.layout.layers())),
            ("table", self.tables.as_ref().map(Vec::len)),
            (
                "importance",
                self.importance.as_ref().map(Importance::layers),
            ),
        ];
        let expected = settings.layers.len();
        for (part, count) in counts {
            if let Some(count) = count.filter(|&count| count != expected) {
                let problem = format!("is there for {count} of {expected} expert layers");
                return Err(error(format!("layer.*.{part}"), problem));
            }
        }
        for (&layer, experts) in settings.layers.iter().zip(&self.layout.neurons) {
            check_experts(experts, settings)
                .map_err(|problem| error(neurons_name(layer), problem))?;
        }
        let tables = self.tables.as_deref().unwrap_or_default();
        for (&layer, table) in settings.layers.iter().zip(tables) {
            check_table(table, tables[0].len(), settings.experts)
                .map_err(|problem| error(table_name(layer), problem))?;
        }
        match self.importance.as_ref().map(Importance::width) {
            Some(width) if width != settings.dense_width => {
                let problem = format!("has {width} scores; expected {}", settings.dense_width);
                Err(error("layer.*.importance".to_owned(), problem))
            }
            _ => Ok(()),
        }
    }
}

impl ExpertSettings {
    fn load(path: &Path) -> Result<Self, FileError> {
        let bytes = file::read(path)?;
        let json = |source| FileError::Json {
            path: path.to_owned(),
            source,
        };
        let value: serde_json::Value = serde_json::from_slice(&bytes).map_err(json)?;
        // Before the other keys: those of another version may have other names.
        check_version(path, value["format_version"].as_u64())?;
        let settings: Self = serde_json::from_value(value).map_err(json)?;
        settings.validate(path)?;
        Ok(settings)
    }

    fn validate(&self, path: &Path) -> Result<(), FileError> {
        check_version(path, Some(self.format_version))?;
        let entry = |key, problem: String| Err(FileError::entry(path, key, problem));
        if self.experts == 0 {
            return entry("experts", "is 0; expected at least 1".to_owned());
        }
        if self.expert_width == 0 || self.expert_width > self.dense_width {
            let problem = format!(
                "is {}; expected 1 to `dense_width`, {}",
                self.expert_width, self.dense_width
            );
            return entry("expert_width", problem);
        }
        if self.shared > self.expert_width {
            let (shared, limit) = (self.shared, self.expert_width);
            let problem = format!("is {shared}; expected at most `expert_width`, {limit}");
            return entry("shared", problem);
        }
        if self.layers.is_empty() || !self.layers.is_sorted_by(|a, b| a < b) {
            let problem = format!("is {:?}; expected rising layer numbers", self.layers);
            return entry("layers", problem);
        }
        Ok(())
    }
}

const SAMPLES: &str = "samples";

fn neurons_name(layer: usize) -> String {
    format!("layer.{layer}.neurons")
}

fn table_name(layer: usize) -> String {
    format!("layer.{layer}.table")
}

fn importance_name(layer: usize) -> String {
    format!("layer.{layer}.importance")
}

fn indices(values: &[usize]) -> Values {
    Values::I64(values.iter().map(|&value| value as i64).collect())
}

fn check_version(path: &Path, version: Option<u64>) -> Result<(), FileError> {
    match version {
        Some(FORMAT_VERSION) => Ok(()),
        Some(other) => {
            let problem = format!("is {other}; this version of Kiln reads {FORMAT_VERSION}");
            Err(FileError::entry(path, "format_version", problem))
        }
        None => {
            let problem = format!("is missing or no count; expected {FORMAT_VERSION}");
            Err(FileError::entry(path, "format_version", problem))
        }
    }
}

/// What is wrong with a layer's experts, if anything.
fn check_experts(experts: &[Vec<usize>], settings: &ExpertSettings) -> Result<(), String> {
    if experts.len() != settings.experts {
        return Err(format!(
            "has {} experts; expected {}",
            experts.len(),
            settings.experts
        ));
    }
    for (expert, neurons) in experts.iter().enumerate() {
        let width = settings.expert_width;
        if neurons.len() != width {
            return Err(format!(
                "gives expert {expert} {} neurons; expected {width}",
                neurons.len()
            ));
        }
        let limit = settings.dense_width;
        if let Some(neuron) = neurons.iter().find(|&&neuron| neuron >= limit) {
            return Err(format!("gives expert {expert} neuron {neuron} of {limit}"));
        }
        if neurons.iter().collect::<HashSet<_>>().len() != width {
            return Err(format!("gives expert {expert} the same neuron twice"));
        }
        let shared = settings.shared;
        if neurons[..shared] != experts[0][..shared] {
            return Err(format!(
                "gives expert {expert} other shared neurons than expert 0; the first {shared} must agree"
            ));
        }
    }
    Ok(())
}

/// What is wrong with a routing table, if anything.
fn check_table(table: &[usize], vocabulary: usize, experts: usize) -> Result<(), String> {
    if table.is_empty() || table.len() != vocabulary {
        return Err(format!(
            "has {} tokens; expected the first table's, {vocabulary}, and at least 1",
            table.len()
        ));
    }
    match table.iter().position(|&expert| expert >= experts) {
        Some(token) => Err(format!(
            "sends token {token} to expert {} of {experts}",
            table[token]
        )),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::partition::{PartitionConfig, partition};

    fn example() -> ExpertFiles {
        let scores = vec![
            vec![0.5, 4.0, 1.0, 3.0, 2.0, 8.0],
            vec![6.0, 5.0, 4.0, 3.0, 2.0, 1.0],
        ];
        let importance = Importance::from_scores(scores, 9).unwrap();
        let config = PartitionConfig {
            experts: 2,
            expert_width: 3,
            shared: 2,
            order: NeuronOrder::Importance,
            seed: 0,
        };
        ExpertFiles {
            settings: ExpertSettings {
                format_version: FORMAT_VERSION,
                experts: 2,
                expert_width: 3,
                shared: 2,
                dense_width: 6,
                order: NeuronOrder::Importance,
                seed: 0,
                router: "hash-random".to_owned(),
                k: 1,
                gate_scale: None,
                layers: vec![1, 4],
            },
            layout: partition(&config, Some(&importance), 2, 6).unwrap(),
            tables: Some(vec![vec![0, 1, 1, 0, 1], vec![1, 1, 0, 0, 0]]),
            importance: Some(importance),
        }
    }

    #[track_caller]
    fn assert_message<T>(result: Result<T, FileError>, expected: &str) {
        let message = result.err().expect("an error").to_string();
        assert!(message.contains(expected), "{message}");
    }

    #[test]
    fn files_round_trip_with_and_without_the_optional_parts() {
        let folder = tempfile::tempdir().unwrap();
        let full = example();
        full.save(folder.path()).unwrap();
        assert_eq!(ExpertFiles::load(folder.path()).unwrap(), full);

        let bare = ExpertFiles {
            tables: None,
            importance: None,
            ..full
        };
        bare.save(folder.path()).unwrap();
        assert_eq!(ExpertFiles::load(folder.path()).unwrap(), bare);
    }

    #[test]
    fn tensors_have_the_documented_names() {
        let folder = tempfile::tempdir().unwrap();
        example().save(folder.path()).unwrap();
        let file = TensorFile::read(&folder.path().join(TENSORS_FILE)).unwrap();
        let (shape, neurons) = file.indices::<2>("layer.1.neurons").unwrap();
        assert_eq!((shape, neurons), ([2, 3], vec![5, 1, 3, 5, 1, 4]));
        assert_eq!(
            file.indices::<1>("layer.4.table").unwrap().1,
            [1, 1, 0, 0, 0]
        );
        assert_eq!(file.f32::<1>("layer.4.importance").unwrap().0, [6]);
    }

    #[test]
    fn parts_that_do_not_fit_are_refused_before_anything_is_written() {
        let refused = |change: fn(&mut ExpertFiles), expected: &str| {
            let folder = tempfile::tempdir().unwrap();
            let mut files = example();
            change(&mut files);
            assert_message(files.save(folder.path()), expected);
            assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
        };
        refused(|f| f.settings.experts = 0, "experts.json: `experts` is 0");
        refused(
            |f| f.settings.expert_width = 7,
            "`expert_width` is 7; expected 1 to",
        );
        refused(|f| f.settings.shared = 4, "`shared` is 4; expected at most");
        refused(
            |f| f.settings.layers = vec![4, 1],
            "`layers` is [4, 1]; expected rising",
        );
        refused(
            |f| f.settings.layers = vec![1],
            "`layer.*.neurons` is there for 2 of 1",
        );
        refused(
            |f| f.settings.dense_width = 5,
            "`layer.1.neurons` gives expert 0 neuron 5 of 5",
        );
        refused(
            |f| f.layout.neurons[0][1][2] = 5,
            "gives expert 1 the same neuron twice",
        );
        refused(
            |f| f.layout.neurons[1][1][0] = 5,
            "`layer.4.neurons` gives expert 1 other shared",
        );
        refused(
            |f| f.layout.neurons[1][0].truncate(2),
            "gives expert 0 2 neurons; expected 3",
        );
        refused(
            |f| f.layout.neurons[1].truncate(1),
            "has 1 experts; expected 2",
        );
        refused(
            |f| f.tables = Some(vec![vec![0]]),
            "`layer.*.table` is there for 1 of 2",
        );
        refused(
            |f| f.tables = Some(vec![vec![0], vec![2]]),
            "experts.safetensors: `layer.4.table` sends token 0 to expert 2 of 2",
        );
        refused(
            |f| f.tables = Some(vec![vec![0], vec![]]),
            "`layer.4.table` has 0 tokens",
        );
        refused(
            |f| f.importance = Some(Importance::new(2, 7)),
            "has 7 scores; expected 6",
        );
    }

    #[test]
    fn damaged_files_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let load = || ExpertFiles::load(folder.path());
        assert_message(load(), "experts.json");

        example().save(folder.path()).unwrap();
        let settings = folder.path().join(SETTINGS_FILE);
        let text = fs::read_to_string(&settings).unwrap();
        fs::write(
            &settings,
            text.replace("\"format_version\": 1", "\"format_version\": 2"),
        )
        .unwrap();
        assert_message(
            load(),
            "`format_version` is 2; this version of Kiln reads 1",
        );
        fs::write(&settings, "{}").unwrap();
        assert_message(load(), "`format_version` is missing");
        fs::write(&settings, &text[..text.len() / 2]).unwrap();
        assert_message(load(), "experts.json: EOF");
        fs::write(&settings, text.replace("\"shared\"", "\"sharing\"")).unwrap();
        assert_message(load(), "unknown field `sharing`");
        fs::write(
            &settings,
            text.replace("\"expert_width\": 3", "\"expert_width\": 2"),
        )
        .unwrap();
        assert_message(load(), "has shape [2, 3]; the settings say [2, 2]");
        fs::write(&settings, &text).unwrap();

        let tensors = folder.path().join(TENSORS_FILE);
        let bytes = fs::read(&tensors).unwrap();
        fs::write(&tensors, &bytes[..bytes.len() / 2]).unwrap();
        assert_message(
            load(),
            "experts.safetensors is not a whole safetensors file",
        );
        let neurons = || {
            let neurons = indices(&[0, 1, 2, 0, 1, 3]);
            ("layer.1.neurons".to_owned(), vec![2, 3], neurons)
        };
        let scores = Values::F32(vec![1.0, 2.0, -0.5, 4.0, 5.0, 6.0]);
        let scores = ("layer.1.importance".to_owned(), vec![6], scores);
        tensor_file::write(&tensors, &[neurons(), scores], vec![]).unwrap();
        assert_message(
            load(),
            "experts.safetensors: `layer.1.importance` cannot be used: the importance of neuron 2 in \
             layer 1 is -0.5",
        );
        tensor_file::write(&tensors, &[neurons()], vec![]).unwrap();
        assert_message(
            load(),
            "`layer.4.neurons` is missing; the file holds layer.1.neurons",
        );
    }
}
