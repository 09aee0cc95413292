//! Names of weights: Hugging Face's for files, ours for modules.

use burn::store::KeyRemapper;

use crate::heads::Task;

/// Names in files and in the model, `{l}` a layer and `{e}` an expert. Hugging Face has no name for
/// experts; theirs follow the dense layer's.
const NAMES: [(&str, &str); 16] = [
    ("bert.embeddings.word_embeddings.", "bert.embeddings.word."),
    (
        "bert.embeddings.position_embeddings.",
        "bert.embeddings.position.",
    ),
    (
        "bert.embeddings.token_type_embeddings.",
        "bert.embeddings.token_type.",
    ),
    ("bert.embeddings.LayerNorm.", "bert.embeddings.norm."),
    (
        "bert.encoder.layer.{l}.attention.self.query.",
        "bert.layers.{l}.attention.query.",
    ),
    (
        "bert.encoder.layer.{l}.attention.self.key.",
        "bert.layers.{l}.attention.key.",
    ),
    (
        "bert.encoder.layer.{l}.attention.self.value.",
        "bert.layers.{l}.attention.value.",
    ),
    (
        "bert.encoder.layer.{l}.attention.output.dense.",
        "bert.layers.{l}.attention.output.",
    ),
    (
        "bert.encoder.layer.{l}.attention.output.LayerNorm.",
        "bert.layers.{l}.attention_norm.",
    ),
    (
        "bert.encoder.layer.{l}.intermediate.dense.",
        "bert.layers.{l}.feed_forward.inner.",
    ),
    (
        "bert.encoder.layer.{l}.output.dense.",
        "bert.layers.{l}.feed_forward.outer.",
    ),
    (
        "bert.encoder.layer.{l}.output.LayerNorm.",
        "bert.layers.{l}.feed_forward.norm.",
    ),
    (
        "bert.encoder.layer.{l}.experts.{e}.intermediate.dense.",
        "bert.layers.{l}.feed_forward.experts.{e}.inner.",
    ),
    (
        "bert.encoder.layer.{l}.experts.{e}.output.dense.",
        "bert.layers.{l}.feed_forward.experts.{e}.outer.",
    ),
    (
        "bert.encoder.layer.{l}.experts.{e}.output.LayerNorm.",
        "bert.layers.{l}.feed_forward.experts.{e}.norm.",
    ),
    (
        "bert.encoder.layer.{l}.router.gate.",
        "bert.layers.{l}.feed_forward.router.linear.",
    ),
];
const POOLER: (&str, &str) = ("bert.pooler.dense.", "bert.pooler.");
const HEAD: &str = "head.";

/// The model's name of the pooler's weight, by which a checkpoint with a pooler is known.
pub(super) const POOLER_WEIGHT: &str = "bert.pooler.weight";

/// Renames between a file and a model with the head of a task.
pub(super) struct Names {
    import: KeyRemapper,
    export: KeyRemapper,
}

impl Names {
    pub(super) fn new(task: Task) -> Self {
        let head = match task {
            Task::Encoder => None,
            Task::Classification { .. } | Task::Regression => Some(("classifier.", HEAD)),
            Task::SpanQa => Some(("qa_outputs.", HEAD)),
        };
        let names = || NAMES.into_iter().chain([POOLER]).chain(head);
        // Layer normalisations are gamma and beta to us and to the first BERT checkpoints.
        let import = names()
            .map(|(file, module)| (pattern(file), replacement(module)))
            .chain([norm("weight", "gamma"), norm("bias", "beta")]);
        let export = names()
            .map(|(file, module)| (pattern(module), replacement(file)))
            .chain([norm("gamma", "weight"), norm("beta", "bias")]);
        Self {
            import: remapper(import),
            export: remapper(export),
        }
    }

    /// The model's name for a tensor in a file, which may lack the prefix `bert.`.
    pub(super) fn in_model(&self, file: &str) -> String {
        rename(&self.import, file)
    }

    /// The name in a file of a weight of the model.
    pub(super) fn in_file(&self, module: &str) -> String {
        rename(&self.export, module)
    }

    /// Renames on saving.
    pub(super) fn export(&self) -> KeyRemapper {
        self.export.clone()
    }
}

/// Whether a weight of the model may start anew when a checkpoint lacks it.
pub(super) fn is_optional(module: &str) -> bool {
    module.starts_with(HEAD) || module.starts_with(POOLER.1)
}

/// Whether a weight of the model belongs to the head.
pub(super) fn is_head(module: &str) -> bool {
    module.starts_with(HEAD)
}

/// Whether a name of the model belongs to a tensor of a weight file; routing tables have a file of
/// their own.
pub(super) fn is_weight(module: &str) -> bool {
    !module.ends_with(".router.table")
}

/// Whether a tensor is the constant `0..positions` that older versions of Transformers saved.
pub(super) fn is_constant(file: &str) -> bool {
    file.ends_with("embeddings.position_ids")
}

/// The shape in a file for a shape in the model: only linear weights differ, which we store
/// transposed; the other matrices are embeddings.
pub(super) fn shape_in_file(module: &str, shape: &[usize]) -> Vec<usize> {
    let mut shape = shape.to_vec();
    if shape.len() == 2 && !module.starts_with("bert.embeddings.") {
        shape.reverse();
    }
    shape
}

fn pattern(name: &str) -> String {
    let escaped = name
        .replace('.', r"\.")
        .replace("{l}", r"(\d+)")
        .replace("{e}", r"(\d+)");
    match escaped.strip_prefix(r"bert\.") {
        Some(rest) => format!(r"^(?:bert\.)?{rest}"),
        None => format!("^{escaped}"),
    }
}

fn replacement(name: &str) -> String {
    name.replace("{l}", "${1}").replace("{e}", "${2}")
}

/// Renames one parameter of every layer normalisation; the modules end in `norm`, the files'
/// in `LayerNorm`.
fn norm(from: &str, to: &str) -> (String, String) {
    (format!(r"([nN]orm)\.{from}$"), format!("${{1}}.{to}"))
}

fn remapper(patterns: impl Iterator<Item = (String, String)>) -> KeyRemapper {
    KeyRemapper::from_pattern_iter(patterns).expect("the table above makes valid patterns")
}

fn rename(remapper: &KeyRemapper, name: &str) -> String {
    remapper
        .patterns
        .iter()
        .fold(name.to_owned(), |name, (from, to)| {
            from.replace(&name, to.as_str()).into_owned()
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_of_the_table_comes_back() {
        let names = Names::new(Task::SpanQa);
        for (file, module) in NAMES.into_iter().chain([POOLER, ("qa_outputs.", HEAD)]) {
            let fill = |name: &str| name.replace("{l}", "11").replace("{e}", "3");
            let parameter = if file.ends_with("LayerNorm.") {
                "gamma"
            } else {
                "weight"
            };
            let (file, module) = (fill(file) + "weight", fill(module) + parameter);
            assert_eq!(names.in_model(&file), module);
            assert_eq!(names.in_file(&module), file);
        }
    }

    #[test]
    fn older_and_headless_names_are_understood() {
        let names = Names::new(Task::Encoder);
        for file in [
            "bert.encoder.layer.2.attention.output.LayerNorm.beta",
            "encoder.layer.2.attention.output.LayerNorm.bias",
        ] {
            assert_eq!(names.in_model(file), "bert.layers.2.attention_norm.beta");
        }
        assert_eq!(names.in_model("pooler.dense.weight"), "bert.pooler.weight");
    }

    #[test]
    fn only_the_head_of_the_task_is_a_head() {
        let classification = Names::new(Task::Classification { classes: 2 });
        assert_eq!(classification.in_model("classifier.bias"), "head.bias");
        assert_eq!(
            classification.in_model("qa_outputs.bias"),
            "qa_outputs.bias"
        );
        assert_eq!(
            Names::new(Task::Encoder).in_model("classifier.bias"),
            "classifier.bias"
        );
    }

    #[test]
    fn linear_weights_are_transposed_in_files() {
        assert_eq!(shape_in_file("head.weight", &[8, 3]), [3, 8]);
        assert_eq!(
            shape_in_file("bert.embeddings.word.weight", &[9, 8]),
            [9, 8]
        );
        assert_eq!(shape_in_file("head.bias", &[3]), [3]);
    }
}
