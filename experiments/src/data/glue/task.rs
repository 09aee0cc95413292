//! The tasks of GLUE: names, labels, files and columns.

use std::{fmt, path::Path, str::FromStr};

use moebert_core::heads::Head;
use serde::{Deserialize, Serialize};

use crate::data::{example::Label, tsv::TsvRow};

/// A task of GLUE. Text forms: `cola`, `sst2`, `mrpc`, `qqp`, `stsb`, `mnli`, `qnli`, `rte`,
/// `wnli`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum GlueTask {
    /// Corpus of Linguistic Acceptability: is the sentence grammatical?
    Cola,
    /// Stanford Sentiment Treebank, two classes.
    Sst2,
    /// Microsoft Research Paraphrase Corpus: do both sentences say the same?
    Mrpc,
    /// Quora Question Pairs: do both questions ask the same?
    Qqp,
    /// Semantic Textual Similarity Benchmark: how similar are both sentences, 0 to 5?
    Stsb,
    /// Multi-Genre Natural Language Inference: does the first sentence entail the second?
    Mnli,
    /// Question Natural Language Inference: does the sentence answer the question?
    Qnli,
    /// Recognizing Textual Entailment.
    Rte,
    /// Winograd Natural Language Inference.
    Wnli,
}

/// A part of a task's data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Split {
    /// The training set.
    Train,
    /// The development set; MNLI's matched one.
    Dev,
    /// MNLI's development set of genres that the training set lacks.
    DevMismatched,
    /// `CoLA`'s development set of sources that the training set lacks. GLUE does not report it.
    DevOutOfDomain,
    /// The test set; MNLI's matched one.
    Test,
    /// MNLI's test set of genres that the training set lacks.
    TestMismatched,
}

/// A text that names no task of GLUE.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "unknown GLUE task `{0}`: expected one of cola, sst2, mrpc, qqp, stsb, mnli, qnli, rte, wnli"
)]
pub struct UnknownGlueTask(String);

impl Split {
    /// Whether the files of this split may hide their labels.
    pub fn is_test(self) -> bool {
        matches!(self, Self::Test | Self::TestMismatched)
    }

    /// What a metric's name ends in on this split: nothing, `_mismatched` or `_out_of_domain`.
    pub fn metric_suffix(self) -> &'static str {
        match self {
            Self::Train | Self::Dev | Self::Test => "",
            Self::DevMismatched | Self::TestMismatched => "_mismatched",
            Self::DevOutOfDomain => "_out_of_domain",
        }
    }
}

impl fmt::Display for Split {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Train => "train",
            Self::Dev => "dev",
            Self::DevMismatched => "dev_mismatched",
            Self::DevOutOfDomain => "out_of_domain_dev",
            Self::Test => "test",
            Self::TestMismatched => "test_mismatched",
        })
    }
}

impl GlueTask {
    /// Every task.
    pub const ALL: [Self; 9] = [
        Self::Cola,
        Self::Sst2,
        Self::Mrpc,
        Self::Qqp,
        Self::Stsb,
        Self::Mnli,
        Self::Qnli,
        Self::Rte,
        Self::Wnli,
    ];

    /// The text form.
    pub fn name(self) -> &'static str {
        match self {
            Self::Cola => "cola",
            Self::Sst2 => "sst2",
            Self::Mrpc => "mrpc",
            Self::Qqp => "qqp",
            Self::Stsb => "stsb",
            Self::Mnli => "mnli",
            Self::Qnli => "qnli",
            Self::Rte => "rte",
            Self::Wnli => "wnli",
        }
    }

    /// The names of the classes, in the order of Hugging Face's `glue` data set; none for
    /// regression.
    pub fn labels(self) -> &'static [&'static str] {
        match self {
            Self::Cola => &["unacceptable", "acceptable"],
            Self::Sst2 => &["negative", "positive"],
            Self::Mrpc => &["not_equivalent", "equivalent"],
            Self::Qqp => &["not_duplicate", "duplicate"],
            Self::Stsb => &[],
            Self::Mnli => &["entailment", "neutral", "contradiction"],
            Self::Qnli | Self::Rte => &["entailment", "not_entailment"],
            Self::Wnli => &["not_entailment", "entailment"],
        }
    }

    /// The head that the task needs.
    pub fn head(self) -> Head {
        match self.labels().len() {
            0 => Head::Regression,
            classes => Head::Classification { classes },
        }
    }

    /// The splits that the task has.
    pub fn splits(self) -> Vec<Split> {
        use Split::{Dev, DevMismatched, DevOutOfDomain, Test, TestMismatched, Train};
        match self {
            Self::Cola => vec![Train, Dev, DevOutOfDomain, Test],
            Self::Mnli => vec![Train, Dev, DevMismatched, Test, TestMismatched],
            _ => vec![Train, Dev, Test],
        }
    }

    /// The splits of `dir` to validate on, [`Split::Dev`] first: MNLI has two, and so has `CoLA`
    /// where the folder holds its out-of-domain file.
    pub fn validation_splits(self, dir: &Path) -> Vec<Split> {
        let there = |split| {
            split != Split::DevOutOfDomain
                || self.file(split).is_some_and(|file| dir.join(file).exists())
        };
        self.splits()
            .into_iter()
            .filter(|&split| split != Split::Train && !split.is_test() && there(split))
            .collect()
    }

    /// The test splits: MNLI has two.
    pub fn test_splits(self) -> Vec<Split> {
        let splits = self.splits().into_iter();
        splits.filter(|split| split.is_test()).collect()
    }

    /// The official file of a split, such as `dev_matched.tsv`; `None` if the task has no such
    /// split.
    pub fn file(self, split: Split) -> Option<String> {
        if !self.splits().contains(&split) {
            return None;
        }
        let matched = if self == Self::Mnli && matches!(split, Split::Dev | Split::Test) {
            "_matched"
        } else {
            ""
        };
        Some(format!("{split}{matched}.tsv"))
    }

    pub(super) fn files(self) -> Vec<String> {
        self.splits()
            .into_iter()
            .filter_map(|split| self.file(split))
            .collect()
    }

    /// Whether the first row of a file names its columns: in all files but `CoLA`'s with labels.
    pub(super) fn has_header(self, first: &TsvRow) -> bool {
        let [sentence, ..] = self.column_names();
        self != Self::Cola || first.cells.iter().any(|cell| cell.trim() == sentence)
    }

    /// The columns of the first sentence, the second (empty if there is none) and the label.
    pub(super) fn column_names(self) -> [&'static str; 3] {
        match self {
            Self::Cola | Self::Sst2 => ["sentence", "", "label"],
            Self::Mrpc => ["#1 String", "#2 String", "Quality"],
            Self::Qqp => ["question1", "question2", "is_duplicate"],
            Self::Stsb => ["sentence1", "sentence2", "score"],
            Self::Mnli => ["sentence1", "sentence2", "gold_label"],
            Self::Qnli => ["question", "sentence", "label"],
            Self::Rte | Self::Wnli => ["sentence1", "sentence2", "label"],
        }
    }

    /// Reads a label as the files write it: a name, the number of a class, or a score from 0 to 5.
    pub(super) fn parse_label(self, text: &str) -> Option<Label> {
        match self {
            Self::Stsb => text
                .parse()
                .ok()
                .filter(|score| (0.0..=5.0).contains(score))
                .map(Label::Score),
            Self::Mnli | Self::Qnli | Self::Rte => self
                .labels()
                .iter()
                .position(|label| *label == text)
                .map(Label::Class),
            _ => text
                .parse()
                .ok()
                .filter(|class| *class < self.labels().len())
                .map(Label::Class),
        }
    }

    /// The label of a class as the files write it, and as GLUE takes it in a submission.
    pub fn class_text(self, class: usize) -> String {
        match self {
            Self::Mnli | Self::Qnli | Self::Rte => self.labels().get(class),
            _ => None,
        }
        .map_or_else(|| class.to_string(), ToString::to_string)
    }

    /// What [`Self::parse_label`] accepts, for people.
    pub(super) fn label_texts(self) -> String {
        match self {
            Self::Stsb => "the numbers from 0 to 5".to_owned(),
            Self::Mnli | Self::Qnli | Self::Rte => self.labels().join(", "),
            _ => (0..self.labels().len())
                .map(|class| class.to_string())
                .collect::<Vec<_>>()
                .join(", "),
        }
    }
}

impl fmt::Display for GlueTask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for GlueTask {
    type Err = UnknownGlueTask;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let task = Self::ALL.into_iter().find(|task| task.name() == text);
        task.ok_or_else(|| UnknownGlueTask(text.to_owned()))
    }
}

impl TryFrom<String> for GlueTask {
    type Error = UnknownGlueTask;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<GlueTask> for String {
    fn from(task: GlueTask) -> Self {
        task.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn validation_splits_follow_the_folder() {
        let empty = tempfile::tempdir().unwrap();
        let cola = tempfile::tempdir().unwrap();
        std::fs::write(cola.path().join("out_of_domain_dev.tsv"), "").unwrap();
        assert_eq!(GlueTask::Cola.validation_splits(empty.path()), [Split::Dev]);
        assert_eq!(
            GlueTask::Cola.validation_splits(cola.path()),
            [Split::Dev, Split::DevOutOfDomain]
        );
        assert_eq!(
            GlueTask::Mnli.validation_splits(empty.path()),
            [Split::Dev, Split::DevMismatched]
        );
        assert_eq!(GlueTask::Rte.validation_splits(empty.path()), [Split::Dev]);
    }

    #[test]
    fn classes_are_written_as_they_are_read() {
        for task in GlueTask::ALL {
            for class in 0..task.labels().len() {
                let text = task.class_text(class);
                assert_eq!(task.parse_label(&text), Some(Label::Class(class)), "{task}");
            }
        }
        assert_eq!(GlueTask::Rte.class_text(1), "not_entailment");
        assert_eq!(GlueTask::Sst2.class_text(1), "1");
    }

    #[test]
    fn text_forms_and_heads() {
        for task in GlueTask::ALL {
            assert_eq!(task.to_string().parse(), Ok(task));
        }
        let unknown = "sst-2".parse::<GlueTask>().unwrap_err();
        assert!(
            unknown
                .to_string()
                .starts_with("unknown GLUE task `sst-2`: expected one of cola, sst2,")
        );
        assert_eq!(GlueTask::Mnli.head(), Head::Classification { classes: 3 });
        assert_eq!(GlueTask::Stsb.head(), Head::Regression);
    }
}
