//! Names of weights: Hugging Face's for files, ours for modules.

use masformer_core::pretrained::{Layout, Names, is_of_mixers};

use crate::heads::Head;

/// Names in files and in the model, `{l}` a layer.
const NAMES: [(&str, &str); 13] = [
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
        "bert.stack.layers.{l}.mixer.query.",
    ),
    (
        "bert.encoder.layer.{l}.attention.self.key.",
        "bert.stack.layers.{l}.mixer.key.",
    ),
    (
        "bert.encoder.layer.{l}.attention.self.value.",
        "bert.stack.layers.{l}.mixer.value.",
    ),
    (
        "bert.encoder.layer.{l}.attention.output.dense.",
        "bert.stack.layers.{l}.mixer.output.",
    ),
    // Of any other mixer than attention.
    (
        "bert.encoder.layer.{l}.mixer.",
        "bert.stack.layers.{l}.mixer.",
    ),
    (
        "bert.encoder.layer.{l}.attention.output.LayerNorm.",
        "bert.stack.layers.{l}.mixer_norm.",
    ),
    (
        "bert.encoder.layer.{l}.intermediate.dense.",
        "bert.stack.layers.{l}.feed_forward.inner.",
    ),
    (
        "bert.encoder.layer.{l}.output.dense.",
        "bert.stack.layers.{l}.feed_forward.outer.",
    ),
    (
        "bert.encoder.layer.{l}.output.LayerNorm.",
        "bert.stack.layers.{l}.feed_forward.norm.",
    ),
];
const POOLER: (&str, &str) = ("bert.pooler.dense.", "bert.pooler.");
const HEAD: &str = "head.";

/// The model's name of the pooler's weight, by which a checkpoint with a pooler is known.
pub(super) const POOLER_WEIGHT: &str = "bert.pooler.weight";

/// Where the weights of a BERT with the head of a task lie in files.
pub(super) struct BertLayout {
    names: Names,
    is_own_head: bool,
    /// The layers whose mixer is not that of the files.
    pub(super) new_mixers: Vec<usize>,
}

impl BertLayout {
    /// The layout for a head; `is_own_head` where the folder was saved for it, so that
    /// its head has to fit.
    pub(super) fn new(head: Head, is_own_head: bool) -> Self {
        let head = match head {
            Head::Encoder => None,
            Head::Classification { .. } | Head::Regression => Some(("classifier.", HEAD)),
            Head::SpanQa => Some(("qa_outputs.", HEAD)),
        };
        Self {
            names: Names::new(NAMES.into_iter().chain([POOLER]).chain(head), "bert."),
            is_own_head,
            new_mixers: vec![],
        }
    }
}

impl Layout for BertLayout {
    const PART: &'static str = "encoder";

    fn names(&self) -> &Names {
        &self.names
    }

    fn is_embedding(&self, module: &str) -> bool {
        module.starts_with("bert.embeddings.")
    }

    /// The constant `0..positions`, which older versions of Transformers saved.
    fn is_constant(&self, file: &str) -> bool {
        file.ends_with("embeddings.position_ids")
    }

    /// Routing tables have a file of their own.
    fn is_weight(&self, module: &str) -> bool {
        !module.ends_with(".router.table")
    }

    fn is_optional(&self, module: &str) -> bool {
        module.starts_with(HEAD)
            || module.starts_with(POOLER.1)
            || is_of_mixers(module, &self.new_mixers)
    }

    fn may_differ(&self, module: &str) -> bool {
        let is_other_head = !self.is_own_head && module.starts_with(HEAD);
        is_other_head || is_of_mixers(module, &self.new_mixers)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_of_the_table_comes_back() {
        let layout = BertLayout::new(Head::SpanQa, true);
        let names = layout.names();
        for (file, module) in NAMES.into_iter().chain([POOLER, ("qa_outputs.", HEAD)]) {
            let fill = |name: &str| name.replace("{l}", "11").replace("{e}", "3");
            let parameter = if file.ends_with("LayerNorm.") {
                "gamma"
            } else {
                "weight"
            };
            let (file, module) = (fill(file) + "weight", fill(module) + parameter);
            assert_eq!(names.in_model(&file), [module.as_str()]);
            assert_eq!(names.in_file(&module), file);
        }
    }

    #[test]
    fn older_and_headless_names_are_understood() {
        let layout = BertLayout::new(Head::Encoder, true);
        let names = layout.names();
        for file in [
            "bert.encoder.layer.2.attention.output.LayerNorm.beta",
            "encoder.layer.2.attention.output.LayerNorm.bias",
        ] {
            assert_eq!(
                names.in_model(file),
                ["bert.stack.layers.2.mixer_norm.beta"]
            );
        }
        assert_eq!(names.in_model("pooler.dense.weight"), [POOLER_WEIGHT]);
    }

    #[test]
    fn only_the_head_of_the_task_is_a_head() {
        let name = |head, file| BertLayout::new(head, true).names().in_model(file);
        let classes = Head::Classification { classes: 2 };
        assert_eq!(name(classes, "classifier.bias"), ["head.bias"]);
        assert_eq!(name(classes, "qa_outputs.bias"), ["qa_outputs.bias"]);
        assert_eq!(name(Head::Encoder, "classifier.bias"), ["classifier.bias"]);
    }
}
