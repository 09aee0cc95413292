//! A task with its data, ready to train and to judge: what the pipeline needs to know of any task.

use std::{path::Path, sync::Arc};

use moebert_core::heads::Task as Head;

use crate::{
    data::{
        DataError,
        example::{Example, Label},
        glue::{GlueTask, Split},
        loader::Feature,
        squad::{
            self, SquadError, SquadExample, SquadVersion,
            spans::{SpanLogits, SpanPrediction, SpanSearch},
            windows::{self, SquadFeature, WindowConfig},
        },
        synthetic,
        tokenizer::Tokenizer,
    },
    metric::{Metric, Scores, evaluate, squad as squad_metric},
    recipe::{DataRecipe, SquadData, Task},
};

/// The texts of a task, before a tokenizer is known.
#[derive(Clone, Debug)]
pub enum Texts {
    /// Sentences and pairs of sentences.
    Sentences(Vec<Example>),
    /// Questions on passages.
    Questions(Vec<SquadExample>),
}

impl Texts {
    /// Every text, for a tokenizer to be trained on.
    pub fn lines(&self) -> Vec<&str> {
        match self {
            Self::Sentences(examples) => examples
                .iter()
                .flat_map(|example| [Some(&example.first), example.second.as_ref()])
                .flatten()
                .map(String::as_str)
                .collect(),
            Self::Questions(examples) => examples
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
                Texts::Questions(squad::read_to_train(&path, version)?)
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
                let examples = squad::read(&self.path.join(version.dev_file()), version)?;
                Ok(vec![(Texts::Questions(examples), self.squad_rule(version))])
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
                let examples = squad::read(&path, version)?;
                Ok(vec![(Texts::Questions(examples), self.squad_rule(version))])
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
            Texts::Questions(examples) => {
                let SquadData {
                    doc_stride,
                    max_query_length,
                    ..
                } = self.squad();
                let config = WindowConfig {
                    max_length: self.data.max_length(),
                    doc_stride,
                    max_query_length,
                };
                let windows = windows::features(&examples, tokenizer.inner(), &config)?;
                Sequences {
                    features: windows.iter().map(Feature::from).collect(),
                    answers: Answers::Passages { examples, windows },
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
            Self::Glue(task) => task.task(),
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

/// How predictions become scores.
#[derive(Clone, Debug)]
pub enum Rule {
    /// The metrics of a GLUE task on a split.
    Glue(GlueTask, Split),
    /// Exact match and F1 of the best spans.
    Squad(SquadVersion, SpanSearch),
    /// The share of right answers.
    Accuracy,
}

impl Rule {
    /// What the names of the metrics end in ([`Split::metric_suffix`]).
    pub fn suffix(&self) -> &'static str {
        match self {
            Self::Glue(_, split) => split.metric_suffix(),
            Self::Squad(..) | Self::Accuracy => "",
        }
    }

    /// The name of the file that is judged by the rule.
    fn file(&self) -> String {
        match self {
            Self::Glue(task, split) => task.file(*split).unwrap_or_else(|| split.to_string()),
            Self::Squad(version, _) => version.dev_file(),
            Self::Accuracy => Task::Synthetic.name().to_owned(),
        }
    }
}

/// A split as sequences, with what its predictions are compared with.
#[derive(Clone, Debug)]
pub struct Sequences {
    /// One entry a sequence; of a long passage, one a window.
    pub features: Arc<[Feature]>,
    answers: Answers,
}

#[derive(Clone, Debug)]
enum Answers {
    Labels {
        labels: Vec<Option<Label>>,
        /// The place of each example in its file.
        rows: Vec<usize>,
    },
    Passages {
        examples: Vec<SquadExample>,
        windows: Vec<SquadFeature>,
    },
}

/// What a model answers to one example.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    /// The scores of the classes `[C]`, before a softmax.
    Class(Vec<f32>),
    /// A number.
    Score(f32),
    /// A piece of a passage, or none.
    Span(SquadVersion, SpanPrediction),
}

/// What a model said of one sequence.
#[derive(Clone, Debug, PartialEq)]
pub enum Prediction {
    /// Class scores `[C]`, or the predicted number.
    Scores(Vec<f32>),
    /// Start and end scores of every token.
    Spans(SpanLogits),
}

impl Prediction {
    /// The first number that is not finite.
    pub fn not_finite(&self) -> Option<f32> {
        let (scores, more) = match self {
            Self::Scores(scores) => (scores.as_slice(), [].as_slice()),
            Self::Spans(spans) => (spans.start.as_slice(), spans.end.as_slice()),
        };
        let mut scores = scores.iter().chain(more);
        scores.find(|score| !score.is_finite()).copied()
    }
}

impl Sequences {
    /// The first `count` sequences, or all where there are fewer.
    pub fn first(&self, count: usize) -> Arc<[Feature]> {
        self.features[..count.min(self.features.len())].into()
    }

    /// How often each token id occurs, `V` entries.
    pub fn token_counts(&self, vocabulary: usize) -> Vec<u64> {
        let mut counts = vec![0; vocabulary];
        for id in self.features.iter().flat_map(|feature| &feature.input_ids) {
            counts[*id as usize] += 1;
        }
        counts
    }

    /// The names of the examples: the ids of questions, or places in a file ([`Example::row`]).
    pub fn ids(&self) -> Vec<String> {
        match &self.answers {
            Answers::Labels { rows, .. } => rows.iter().map(ToString::to_string).collect(),
            Answers::Passages { examples, .. } => {
                examples.iter().map(|example| example.id.clone()).collect()
            }
        }
    }

    /// The answer to every example, in their order.
    ///
    /// # Errors
    ///
    /// If the predictions do not fit the split.
    pub fn answers(
        &self,
        predictions: &[Prediction],
        rule: &Rule,
    ) -> Result<Vec<Answer>, DataError> {
        match (&self.answers, rule) {
            (Answers::Labels { .. }, Rule::Glue(..) | Rule::Accuracy) => {
                let is_number = matches!(rule, Rule::Glue(task, _) if task.labels().is_empty());
                let answers = predictions.iter().map(|prediction| match prediction {
                    Prediction::Scores(scores) if is_number => {
                        Ok(Answer::Score(scores.first().copied().unwrap_or_default()))
                    }
                    Prediction::Scores(scores) => Ok(Answer::Class(scores.clone())),
                    Prediction::Spans(_) => Err(DataError::Rule),
                });
                answers.collect()
            }
            (Answers::Passages { examples, windows }, Rule::Squad(version, search)) => {
                let spans = best_spans(examples, windows, search, predictions)?;
                let answers = spans.into_iter().map(|span| Answer::Span(*version, span));
                Ok(answers.collect())
            }
            _ => Err(DataError::Rule),
        }
    }

    /// Refuses a split without labels, which cannot be judged.
    ///
    /// # Errors
    ///
    /// If the split hides its labels.
    pub fn check_labels(&self, rule: &Rule) -> Result<(), DataError> {
        let Answers::Labels { labels, .. } = &self.answers else {
            return Ok(());
        };
        if labels.iter().all(Option::is_some) {
            return Ok(());
        }
        Err(DataError::NoLabels { file: rule.file() })
    }

    /// Scores the predictions, one a sequence.
    ///
    /// # Errors
    ///
    /// If the split has no labels, or the predictions do not fit it.
    pub fn judge(&self, predictions: &[Prediction], rule: &Rule) -> Result<Scores, DataError> {
        match (&self.answers, rule) {
            (Answers::Labels { labels, .. }, Rule::Glue(task, split)) => {
                let (answers, references) = label_pairs(labels, predictions, rule)?;
                Ok(evaluate(*task, *split, &answers, &references)?)
            }
            (Answers::Labels { labels, .. }, _) => {
                let (answers, references) = label_pairs(labels, predictions, rule)?;
                let accuracy = Metric::Accuracy.score(&answers, &references)?;
                Ok([(Metric::Accuracy.name().to_owned(), accuracy)].into())
            }
            (Answers::Passages { examples, windows }, Rule::Squad(version, search)) => {
                let spans = best_spans(examples, windows, search, predictions)?;
                let texts = spans
                    .iter()
                    .map(|span| (span.id.clone(), span.text(*version, 0.0).to_owned()))
                    .collect();
                let mut scores = squad_metric::evaluate(*version, examples, &texts);
                if *version == SquadVersion::V2 {
                    scores.extend(squad_metric::best_thresholds(examples, &spans));
                }
                Ok(scores)
            }
            (Answers::Passages { .. }, _) => Err(DataError::Rule),
        }
    }
}

/// The best span of every question.
fn best_spans(
    examples: &[SquadExample],
    windows: &[SquadFeature],
    search: &SpanSearch,
    predictions: &[Prediction],
) -> Result<Vec<SpanPrediction>, DataError> {
    let logits: Vec<SpanLogits> = predictions
        .iter()
        .filter_map(|prediction| match prediction {
            Prediction::Spans(logits) => Some(logits.clone()),
            Prediction::Scores(_) => None,
        })
        .collect();
    Ok(search.predictions(examples, windows, &logits)?)
}

/// Predicted and right labels.
fn label_pairs(
    labels: &[Option<Label>],
    predictions: &[Prediction],
    rule: &Rule,
) -> Result<(Vec<Label>, Vec<Label>), DataError> {
    labels
        .iter()
        .zip(predictions)
        .map(|(label, prediction)| {
            let hidden = || DataError::NoLabels { file: rule.file() };
            let reference = label.ok_or_else(hidden)?;
            let Prediction::Scores(scores) = prediction else {
                return Err(DataError::Rule);
            };
            Ok((answer(scores, reference), reference))
        })
        .collect()
}

/// The answer that scores stand for, of the kind of `like`: the best class (the first of equals), or the
/// number itself.
pub fn answer(scores: &[f32], like: Label) -> Label {
    match like {
        Label::Score(_) => Label::Score(scores.first().copied().unwrap_or_default()),
        Label::Class(_) => Label::Class(best_class(scores)),
    }
}

/// The class with the highest score, the first of equals.
pub fn best_class(scores: &[f32]) -> usize {
    let mut best = 0;
    for (class, score) in scores.iter().enumerate() {
        if *score > scores[best] {
            best = class;
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

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
            scores.extend(sequences.judge(&predictions, &rule).unwrap());
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
        let refused =
            "test_mismatched.tsv: this split has no labels to compare with; choose train or dev";
        let error = sequences.check_labels(rule).unwrap_err();
        assert_eq!(error.to_string(), refused);
        let error = sequences.judge(&[neutral()], rule).unwrap_err();
        assert_eq!(error.to_string(), refused);
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
