//! What a model says of a split, and how that is judged.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use crate::{
    data::{
        DataError,
        example::Label,
        glue::{GlueTask, Split},
        loader::Feature,
        squad::{
            SquadExample, SquadVersion,
            spans::{SpanLogits, SpanPrediction, SpanSearch},
            windows::SquadFeature,
        },
    },
    examples::{self, Examples, Parts},
    metric::{Metric, Scores, evaluate, squad as squad_metric},
    recipe::Task,
};

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

    /// What is said of a file that hides its labels.
    fn no_labels(&self) -> DataError {
        let file = match self {
            Self::Glue(task, split) => task.file(*split).unwrap_or_else(|| split.to_string()),
            Self::Squad(version, _) => version.test_file(),
            Self::Accuracy => Task::Synthetic.name().to_owned(),
        };
        DataError::NoLabels { file }
    }
}

/// A split as sequences, with what its predictions are compared with.
#[derive(Clone, Debug)]
pub struct Sequences {
    /// One entry per sequence; for a long passage, one per window.
    pub features: Arc<[Feature]>,
    pub(super) answers: Answers,
}

#[derive(Clone, Debug)]
pub(super) enum Answers {
    Labels {
        labels: Vec<Option<Label>>,
        /// The place of each example in its file.
        rows: Vec<usize>,
    },
    Passages {
        examples: Vec<SquadExample>,
        windows: Vec<SquadFeature>,
        /// Whether the file says what the right answers are.
        has_answers: bool,
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

impl Answer {
    /// The label that the answer stands for; `None` for a span.
    fn label(&self) -> Option<Label> {
        match self {
            Self::Class(scores) => Some(Label::Class(best_class(scores))),
            Self::Score(score) => Some(Label::Score(*score)),
            Self::Span(..) => None,
        }
    }
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

    /// The names of the examples: the ids of questions, or places in a file
    /// ([`row`](crate::data::example::Example::row)).
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
            (
                Answers::Passages {
                    examples, windows, ..
                },
                Rule::Squad(version, search),
            ) => {
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
        let is_labelled = match &self.answers {
            Answers::Labels { labels, .. } => labels.iter().all(Option::is_some),
            Answers::Passages { has_answers, .. } => *has_answers,
        };
        if is_labelled {
            Ok(())
        } else {
            Err(rule.no_labels())
        }
    }

    /// Scores the answers ([`Self::answers`]).
    ///
    /// # Errors
    ///
    /// If the split has no labels, or the answers do not fit it.
    pub fn judge(&self, answers: &[Answer], rule: &Rule) -> Result<Scores, DataError> {
        match (&self.answers, rule) {
            (Answers::Labels { labels, .. }, Rule::Glue(..) | Rule::Accuracy) => {
                let [answers, references] = of_labels(answers, labels, rule)?;
                if let Rule::Glue(task, split) = rule {
                    return Ok(evaluate(*task, *split, &answers, &references)?);
                }
                let accuracy = Metric::Accuracy.score(&answers, &references)?;
                Ok([(Metric::Accuracy.name().to_owned(), accuracy)].into())
            }
            (Answers::Passages { examples, .. }, Rule::Squad(version, _)) => {
                let spans = of_spans(answers)?;
                let texts = texts_of(&spans, *version);
                let mut scores = squad_metric::evaluate(*version, examples, &texts);
                if *version == SquadVersion::V2 {
                    scores.extend(squad_metric::best_thresholds(examples, &spans));
                }
                Ok(scores)
            }
            _ => Err(DataError::Rule),
        }
    }

    /// What the scores of [`Self::judge`] are made of. Questions on one passage are a group.
    ///
    /// # Errors
    ///
    /// As [`Self::judge`].
    pub fn examples(&self, answers: &[Answer], rule: &Rule) -> Result<Examples, DataError> {
        let (content, groups, metrics) = match (&self.answers, rule) {
            (Answers::Labels { labels, .. }, Rule::Glue(..) | Rule::Accuracy) => {
                let [answers, references] = of_labels(answers, labels, rule)?;
                let metrics = match rule {
                    Rule::Glue(task, _) => task.metrics(),
                    _ => &[Metric::Accuracy],
                };
                let parts = metrics.iter().map(|metric| {
                    let name = format!("{}{}", metric.name(), rule.suffix());
                    Ok((name, Parts::of_labels(*metric, &answers, &references)?))
                });
                let right = references.iter().map(|label| format!("{label:?}"));
                let parts = parts.collect::<Result<_, DataError>>()?;
                (examples::content(right), vec![], parts)
            }
            (Answers::Passages { examples, .. }, Rule::Squad(version, _)) => {
                let texts = texts_of(&of_spans(answers)?, *version);
                let parts = squad_metric::parts(*version, examples, &texts);
                let right = examples.iter().flat_map(|example| {
                    let answers = example.answers.iter().map(|answer| answer.text.as_str());
                    answers.chain([example.question.as_str()])
                });
                (examples::content(right), passages(examples), parts)
            }
            _ => return Err(DataError::Rule),
        };
        Ok(Examples {
            ids: self.ids(),
            content,
            groups,
            metrics,
        })
    }
}

/// The labels that answers stand for, and the right ones.
fn of_labels(
    answers: &[Answer],
    labels: &[Option<Label>],
    rule: &Rule,
) -> Result<[Vec<Label>; 2], DataError> {
    let references: Option<Vec<Label>> = labels.iter().copied().collect();
    let references = references.ok_or_else(|| rule.no_labels())?;
    let answers: Option<Vec<Label>> = answers.iter().map(Answer::label).collect();
    Ok([answers.ok_or(DataError::Rule)?, references])
}

/// The answers as pieces of passages.
fn of_spans(answers: &[Answer]) -> Result<Vec<SpanPrediction>, DataError> {
    let span = |answer: &Answer| match answer {
        Answer::Span(_, span) => Some(span.clone()),
        Answer::Class(_) | Answer::Score(_) => None,
    };
    let spans: Option<Vec<_>> = answers.iter().map(span).collect();
    spans.ok_or(DataError::Rule)
}

/// The texts of answers by their questions.
fn texts_of(spans: &[SpanPrediction], version: SquadVersion) -> BTreeMap<String, String> {
    let texts = spans.iter();
    texts
        .map(|span| (span.id.clone(), span.text(version, 0.0).to_owned()))
        .collect()
}

/// The passage of each question, as a number by the order in which passages come first.
fn passages(examples: &[SquadExample]) -> Vec<String> {
    let mut numbers = HashMap::new();
    let mut number = |passage| {
        let next = numbers.len();
        *numbers.entry(passage).or_insert(next)
    };
    let passages = examples.iter();
    passages
        .map(|example| number(example.context.as_str()).to_string())
        .collect()
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
