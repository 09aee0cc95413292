//! A task with its data, ready to train and to judge: what the pipeline needs to know of any task.

mod sequences;

use std::path::Path;

use moebert_core::heads::Head;
pub use sequences::{Answer, Prediction, Rule, Sequences, answer, best_class};
use serde::Serialize;

use self::sequences::Answers;
use crate::{
    data::{
        DataError,
        example::Example,
        glue::{GlueTask, Split},
        loader::Feature,
        squad::{self, SquadError, SquadExample, SquadVersion, spans::SpanSearch, windows},
        synthetic,
        tokenizer::Tokenizer,
    },
    metric::Metric,
    recipe::{DataRecipe, SquadData, Task},
};

/// The texts of a task, before a tokenizer is known.
#[derive(Clone, Debug, Serialize)]
pub enum Texts {
    /// Sentences and pairs of sentences.
    Sentences(Vec<Example>),
    /// Questions on passages.
    Questions {
        /// The questions.
        examples: Vec<SquadExample>,
        /// Whether the file says what the right answers are.
        has_answers: bool,
    },
}

impl Texts {
    /// The number of examples.
    pub fn len(&self) -> usize {
        match self {
            Self::Sentences(examples) => examples.len(),
            Self::Questions { examples, .. } => examples.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Keeps the first `count` examples, or all where there are fewer; returns their share.
    pub fn keep(&mut self, count: usize) -> f64 {
        let all = self.len();
        match self {
            Self::Sentences(examples) => examples.truncate(count),
            Self::Questions { examples, .. } => examples.truncate(count),
        }
        self.len() as f64 / all.max(1) as f64
    }

    /// Every text, for a tokenizer to be trained on.
    pub fn lines(&self) -> Vec<&str> {
        match self {
            Self::Sentences(examples) => examples
                .iter()
                .flat_map(|example| [Some(&example.first), example.second.as_ref()])
                .flatten()
                .map(String::as_str)
                .collect(),
            Self::Questions { examples, .. } => examples
                .iter()
                .flat_map(|example| [example.question.as_str(), example.context.as_str()])
                .collect(),
        }
    }
}

/// Reads the splits of a task.
#[derive(Clone, Copy, Debug)]
pub struct Source<'a> {
    data: &'a DataRecipe,
    path: &'a Path,
}

impl<'a> Source<'a> {
    /// The task of a recipe, with its files in a folder; `synthetic` has no files.
    pub fn new(data: &'a DataRecipe, path: &'a Path) -> Self {
        Self { data, path }
    }

    /// The texts to train on.
    ///
    /// # Errors
    ///
    /// If a file is missing or malformed.
    pub fn train(&self) -> Result<Texts, DataError> {
        Ok(match self.data.task {
            Task::Glue(task) => Texts::Sentences(task.load(self.path, Split::Train)?),
            Task::Squad(version) => {
                let path = self.path.join(version.train_file());
                Texts::Questions {
                    examples: squad::read_to_train(&path, version)?,
                    has_answers: true,
                }
            }
            Task::Synthetic => Texts::Sentences(synthetic::train(&self.synthetic())),
        })
    }

    /// The splits to judge on, the first of which early stopping follows.
    ///
    /// # Errors
    ///
    /// If a file is missing or malformed.
    pub fn dev(&self) -> Result<Vec<(Texts, Rule)>, DataError> {
        match self.data.task {
            Task::Glue(task) => self.glue(task, task.validation_splits(self.path)),
            Task::Squad(version) => {
                let texts = Texts::Questions {
                    examples: squad::read(&self.path.join(version.dev_file()), version)?,
                    has_answers: true,
                };
                Ok(vec![(texts, self.squad_rule(version))])
            }
            Task::Synthetic => Ok(vec![(
                Texts::Sentences(synthetic::dev(&self.synthetic())),
                Rule::Accuracy,
            )]),
        }
    }

    /// The test splits, whose labels may be hidden ([`Sequences::check_labels`]).
    ///
    /// # Errors
    ///
    /// If the task has none, or a file is missing or malformed.
    pub fn test(&self) -> Result<Vec<(Texts, Rule)>, DataError> {
        match self.data.task {
            Task::Glue(task) => self.glue(task, task.test_splits()),
            Task::Squad(version) => {
                let path = self.path.join(version.test_file());
                if !path.exists() {
                    return Err(SquadError::NoTest { version }.into());
                }
                let (examples, has_answers) = squad::read_test(&path, version)?;
                let texts = Texts::Questions {
                    examples,
                    has_answers,
                };
                Ok(vec![(texts, self.squad_rule(version))])
            }
            task @ Task::Synthetic => Err(DataError::NoTest { task: task.name() }),
        }
    }

    fn glue(&self, task: GlueTask, splits: Vec<Split>) -> Result<Vec<(Texts, Rule)>, DataError> {
        splits
            .into_iter()
            .map(|split| {
                let examples = task.load(self.path, split)?;
                Ok((Texts::Sentences(examples), Rule::Glue(task, split)))
            })
            .collect()
    }

    /// How the training split is judged, for those who ask for it.
    pub fn train_rule(&self) -> Rule {
        match self.data.task {
            Task::Glue(task) => Rule::Glue(task, Split::Train),
            Task::Squad(version) => self.squad_rule(version),
            Task::Synthetic => Rule::Accuracy,
        }
    }

    /// Turns texts into sequences.
    ///
    /// # Errors
    ///
    /// If the lengths leave no room for the texts.
    pub fn features(&self, texts: Texts, tokenizer: &Tokenizer) -> Result<Sequences, DataError> {
        Ok(match texts {
            Texts::Sentences(examples) => {
                let features = tokenizer.features(&examples, self.data.max_length())?;
                let labels = examples.iter().map(|example| example.label).collect();
                let rows = examples.iter().map(|example| example.row).collect();
                Sequences {
                    features: features.into(),
                    answers: Answers::Labels { labels, rows },
                }
            }
            Texts::Questions {
                examples,
                has_answers,
            } => {
                let config = self.squad().windows(self.data.max_length());
                let mut windows = windows::features(&examples, tokenizer.inner(), &config)?;
                if !tokenizer.has_segments() {
                    for window in &mut windows {
                        window.type_ids.fill(0);
                    }
                }
                Sequences {
                    features: windows.iter().map(Feature::from).collect(),
                    answers: Answers::Passages {
                        examples,
                        windows,
                        has_answers,
                    },
                }
            }
        })
    }

    fn squad(&self) -> SquadData {
        self.data.squad.clone().unwrap_or_default()
    }

    fn squad_rule(&self, version: SquadVersion) -> Rule {
        Rule::Squad(
            version,
            SpanSearch {
                max_answer_length: self.squad().max_answer_length,
                ..SpanSearch::default()
            },
        )
    }

    fn synthetic(&self) -> crate::recipe::SyntheticData {
        self.data.synthetic.clone().unwrap_or_default()
    }
}

impl Task {
    /// The head that a model needs for the task.
    pub fn head(self) -> Head {
        match self {
            Self::Glue(task) => task.head(),
            Self::Squad(_) => Head::SpanQa,
            Self::Synthetic => Head::Classification {
                classes: synthetic::CLASSES,
            },
        }
    }

    /// The names of the classes, in their order; none where they have no names.
    pub fn labels(self) -> &'static [&'static str] {
        match self {
            Self::Glue(task) => task.labels(),
            Self::Squad(_) | Self::Synthetic => &[],
        }
    }

    /// The metric to compare models by.
    pub fn primary_metric(self) -> &'static str {
        match self {
            Self::Glue(task) => task.primary_metric().name(),
            Self::Squad(_) => "f1",
            Self::Synthetic => Metric::Accuracy.name(),
        }
    }

    /// The metric that the dashboard follows: the primary one, or for question answering the share of
    /// answer ends that are found.
    pub fn progress_metric(self) -> Metric {
        match self {
            Self::Glue(task) => task.primary_metric(),
            Self::Squad(_) | Self::Synthetic => Metric::Accuracy,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::metric::Scores;

    #[test]
    fn both_test_files_of_mnli_are_judged_if_they_have_labels() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
        let header = "sentence1\tsentence2\tgold_label\n";
        write("test_matched.tsv", &format!("{header}A\tB\tneutral\n"));
        let two = "A\tB\tcontradiction\nA\tB\tentailment\n";
        write("test_mismatched.tsv", &format!("{header}{two}"));
        let tokenizer = Tokenizer::train(vec!["A B"], 50).unwrap();
        let data = DataRecipe::new(Task::Glue(GlueTask::Mnli));
        let source = Source::new(&data, folder.path());
        let test = || {
            let splits = source.test().unwrap().into_iter();
            splits
                .map(|(texts, rule)| (source.features(texts, &tokenizer).unwrap(), rule))
                .collect::<Vec<_>>()
        };

        // The model always says neutral.
        let neutral = || Prediction::Scores(vec![0.0, 1.0, 0.0]);
        let mut scores = Scores::default();
        for (sequences, rule) in test() {
            sequences.check_labels(&rule).unwrap();
            let predictions = vec![neutral(); sequences.features.len()];
            let answers = sequences.answers(&predictions, &rule).unwrap();
            scores.extend(sequences.judge(&answers, &rule).unwrap());
        }
        let expected = [("accuracy", 1.0), ("accuracy_mismatched", 0.0)];
        let expected = expected.map(|(name, score)| (name.to_owned(), score));
        assert_eq!(scores, expected.into());

        write(
            "test_mismatched.tsv",
            "index\tsentence1\tsentence2\n0\tA\tB\n",
        );
        let splits = test();
        assert!(splits[0].0.check_labels(&splits[0].1).is_ok());
        let (sequences, rule) = &splits[1];
        let refused = "test_mismatched.tsv: this split has no labels to compare with; choose train or dev, or write its answers with \
             --predictions FILE";
        let error = sequences.check_labels(rule).unwrap_err();
        assert_eq!(error.to_string(), refused);
        let answers = sequences.answers(&[neutral()], rule).unwrap();
        let error = sequences.judge(&answers, rule).unwrap_err();
        assert_eq!(error.to_string(), refused);
    }

    #[test]
    fn a_test_file_of_squad_may_hide_its_answers() {
        let folder = tempfile::tempdir().unwrap();
        let has_answers = |version: SquadVersion, questions: &str| {
            let text = format!(
                r#"{{"data": [{{"paragraphs": [{{"context": "a cat", "qas": [{questions}]}}]}}]}}"#
            );
            fs::write(folder.path().join(version.test_file()), text).unwrap();
            let data = DataRecipe::new(Task::Squad(version));
            match &Source::new(&data, folder.path()).test().unwrap()[..] {
                [(Texts::Questions { has_answers, .. }, _)] => *has_answers,
                other => panic!("{other:?}"),
            }
        };
        let open = r#"{"id": 1, "question": "Who?"}"#;
        let answered =
            r#"{"id": 2, "question": "Who?", "answers": [{"text": "cat", "answer_start": 2}]}"#;
        let impossible = r#"{"id": 3, "question": "Who?", "answers": [], "is_impossible": true}"#;
        for version in [SquadVersion::V1, SquadVersion::V2] {
            assert!(!has_answers(version, open));
            assert!(has_answers(version, answered));
        }
        assert!(has_answers(
            SquadVersion::V2,
            &format!("{open}, {answered}")
        ));
        assert!(has_answers(
            SquadVersion::V2,
            &format!("{open}, {impossible}")
        ));
    }

    #[test]
    fn tasks_without_a_test_split_say_so() {
        for (task, message) in [
            (Task::Squad(SquadVersion::V2), "SQuAD 2.0 has no test split"),
            (Task::Synthetic, "`synthetic` has no test split"),
        ] {
            let data = DataRecipe::new(task);
            let error = Source::new(&data, Path::new("")).test().unwrap_err();
            assert!(error.to_string().starts_with(message), "{error}");
        }
    }
}
