//! Summaries: how good those are that a model writes of texts it has not seen.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
};

use burn::data::dataset::{Dataset, InMemDataset};
use masformer_core::Decoder;
use moebert_core::half::Half;

use super::{LanguageProblem, Watch};
use crate::{
    data::{
        DataError,
        language::Sequence,
        summary::{SummaryError, SummaryExample, SummaryFormat, SummarySplit},
        text_tokenizer::TextTokenizer,
        tokenizer::TokenizerError,
    },
    error::Error,
    examples::{self, Examples, Parts},
    learner::language::LanguageLearner,
    metric::{
        Scores,
        perplexity::Perplexity,
        rouge::{Rouge, rouge},
    },
    predictions::{Judgement, of_summary},
    run::Shares,
    summarize::{SummarySearch, summaries},
    warning::warn,
};

/// Texts with summaries to train on, to validate on, and to judge by.
#[derive(Clone, Debug)]
pub struct SummaryFiles {
    /// `train.jsonl`.
    pub train: Vec<SummaryExample>,
    /// `validation.jsonl` or `dev.jsonl`.
    pub validation: Vec<SummaryExample>,
    /// `test.jsonl`, if it is there and has summaries.
    pub test: Option<Vec<SummaryExample>>,
}

impl SummaryFiles {
    /// Reads the files of a folder. A test file without summaries is left out with a warning.
    ///
    /// # Errors
    ///
    /// If there is no file to train on or none to validate on, one is not of the form, or the second
    /// has no summaries.
    pub fn read(dir: &Path) -> Result<Self, SummaryError> {
        let train = SummarySplit::Train.read(dir)?;
        let validation = SummarySplit::Validation.read_answered(dir)?;
        let test = SummarySplit::Test;
        let test = test.file_in(dir).map(|_| test.read_answered(dir));
        let test = match test.transpose() {
            Err(error @ SummaryError::NoSummaries { .. }) => {
                warn(&format!(
                    "{error}; models are judged on the validation split"
                ));
                None
            }
            test => test?,
        };
        Ok(Self {
            train,
            validation,
            test,
        })
    }

    /// The first examples of each split, and their shares.
    pub(crate) fn sampled(mut self, train: usize, judged: usize) -> (Self, Shares) {
        let keep = |examples: &mut Vec<SummaryExample>, count: usize| {
            let all = examples.len();
            examples.truncate(count);
            examples.len() as f64 / all.max(1) as f64
        };
        let (train, valid) = (
            keep(&mut self.train, train),
            keep(&mut self.validation, judged),
        );
        let test = self.test.as_mut().map(|test| keep(test, judged));
        let shares = Shares {
            train,
            valid,
            judged: test.unwrap_or(valid),
        };
        (self, shares)
    }

    /// Learns a vocabulary of at most `vocab_size` tokens from the texts and summaries to train on.
    ///
    /// # Errors
    ///
    /// If `vocab_size` is less than 257.
    pub fn train_tokenizer(&self, vocab_size: usize) -> Result<TextTokenizer, TokenizerError> {
        let texts = self.train.iter().flat_map(|example| {
            let references = example.references.iter();
            [&example.input].into_iter().chain(references)
        });
        TextTokenizer::train_on(texts, vocab_size)
    }
}

/// Texts with summaries, by which models are judged.
#[derive(Clone, Debug)]
pub struct SummaryJudge {
    /// How a model reads a text and writes its summary.
    pub format: SummaryFormat,
    /// The texts, at least one of them with a summary.
    pub examples: Vec<SummaryExample>,
    /// The hypotheses of a beam search; with 1 the likeliest token follows.
    pub beams: usize,
}

impl SummaryJudge {
    /// The summaries that a model writes of the texts that have some to compare with, and their scores
    /// ([`Self::judge_summaries`]).
    ///
    /// # Errors
    ///
    /// As [`summaries`], and if no text has a summary or a likelihood is not finite.
    pub fn judge(&self, model: &Decoder<Half>, watch: &Watch) -> Result<Judgement, Error> {
        let scored = self
            .examples
            .iter()
            .filter(|example| example.has_reference());
        let judge = Self {
            format: self.format.clone(),
            examples: scored.cloned().collect(),
            beams: self.beams,
        };
        let summaries = judge.summaries(model, watch)?;
        judge.judge_summaries(summaries, model, watch)
    }

    /// The scores of summaries of all texts, ROUGE ([`rouge`]) and the perplexity of the references, and what they are made of.
    /// Texts without references do not count.
    ///
    /// # Errors
    ///
    /// If no text has a summary, a likelihood is not finite, or a stop is asked for.
    pub fn judge_summaries(
        &self,
        summaries: Vec<String>,
        model: &Decoder<Half>,
        watch: &Watch,
    ) -> Result<Judgement, Error> {
        let pairs = self.examples.iter().zip(summaries);
        let pairs = pairs.filter(|(example, _)| example.has_reference());
        let (examples, summaries): (Vec<_>, Vec<_>) = pairs.unzip();
        let predictions = examples.iter().zip(&summaries);
        let predictions = predictions.map(|(example, summary)| of_summary(&example.id, summary));
        Ok(Judgement {
            scores: self.scores_of(&examples, &summaries, model, watch)?,
            predictions: predictions.collect(),
            examples: vec![parts(&examples, &summaries)],
        })
    }

    /// The summaries that a model writes of all texts, in their order.
    ///
    /// # Errors
    ///
    /// As [`summaries`].
    pub fn summaries(&self, model: &Decoder<Half>, watch: &Watch) -> Result<Vec<String>, Error> {
        let search = SummarySearch {
            beams: self.beams,
            batch_size: watch.batch_size,
        };
        let texts: Vec<&str> = self
            .examples
            .iter()
            .map(|example| example.input.as_str())
            .collect();
        let bar = watch.progress.bar("summarise", texts.len());
        let told = |done| bar.set_position(done as u64);
        let summaries = summaries(model, &texts, &self.format, search, &watch.stop, told)?;
        bar.finish_and_clear();
        Ok(summaries)
    }

    /// ROUGE ([`rouge`]) of summaries of `examples`, each against the best reference of its text, and `perplexity`,
    /// that of the references after their texts.
    fn scores_of(
        &self,
        examples: &[&SummaryExample],
        summaries: &[String],
        model: &Decoder<Half>,
        watch: &Watch,
    ) -> Result<Scores, Error> {
        let summaries: Vec<&str> = summaries.iter().map(String::as_str).collect();
        let references = examples.iter().map(|example| example.references.as_slice());
        let references: Vec<&[String]> = references.collect();
        let mut scores = rouge(&summaries, &references).map_err(DataError::from)?;
        scores.insert("perplexity".to_owned(), self.perplexity(model, watch)?);
        Ok(scores)
    }

    fn perplexity(&self, model: &Decoder<Half>, watch: &Watch) -> Result<f64, Error> {
        let learner = LanguageLearner::to_judge(model);
        let tokenizer = self.format.tokenizer();
        let sequences = self.format.sequences(&self.examples);
        let sequences = sequences.map_err(DataError::from)?;
        let bar = watch.progress.bar("evaluate", sequences.len());
        let mut perplexity = Perplexity::default();
        for start in (0..sequences.len()).step_by(watch.batch_size) {
            watch.stop.check()?;
            let end = sequences.len().min(start + watch.batch_size);
            let batch = sequences.get_many((start..end).collect());
            let batch = batch.map_err(DataError::from)?;
            let nats = learner.surprisals(&batch, tokenizer.end_id())?;
            let targets = batch.iter().flat_map(|sequence| {
                let targets = sequence.targets.iter().flatten();
                targets.enumerate()
            });
            for ((position, target), nats) in targets.zip(nats) {
                let bytes = tokenizer.token_bytes(*target).len();
                perplexity
                    .add(position, bytes, nats)
                    .map_err(DataError::from)?;
            }
            bar.set_position(end as u64);
        }
        bar.finish_and_clear();
        Ok(perplexity.total().perplexity())
    }
}

/// ROUGE of each summary, of which the scores are the means.
fn parts(examples: &[&SummaryExample], summaries: &[String]) -> Examples {
    let pairs = examples.iter().zip(summaries);
    let scores = pairs.map(|(example, summary)| Rouge::best(summary, &example.references));
    let scores: Vec<Rouge> = scores.collect();
    let part = |name: &str, measure: fn(&Rouge) -> f64| {
        let values = scores.iter().map(|score| Some(measure(score)));
        (name.to_owned(), Parts::Mean(values.collect()))
    };
    Examples {
        ids: examples.iter().map(|example| example.id.clone()).collect(),
        content: examples::content(examples.iter().flat_map(|example| &example.references)),
        groups: vec![],
        metrics: BTreeMap::from([
            part("rouge1", |score| score.rouge_1),
            part("rouge2", |score| score.rouge_2),
            part("rougeL", |score| score.rouge_l),
            part("rougeLsum", |score| score.rouge_lsum),
        ]),
    }
}

/// The task, its sequences at hand.
pub struct SummaryProblem {
    tokenizer_dir: PathBuf,
    train: Arc<InMemDataset<Sequence>>,
    dev: Arc<InMemDataset<Sequence>>,
    judge: SummaryJudge,
}

impl SummaryProblem {
    /// Makes sequences of texts and summaries. The tokenizer of the format is that of the folder
    /// `tokenizer_dir`; `beams` as in [`SummaryJudge`].
    ///
    /// # Errors
    ///
    /// If the tokenizer fails.
    pub fn new(
        files: SummaryFiles,
        format: SummaryFormat,
        tokenizer_dir: PathBuf,
        beams: usize,
    ) -> Result<Self, SummaryError> {
        Ok(Self {
            tokenizer_dir,
            train: Arc::new(format.sequences(&files.train)?),
            dev: Arc::new(format.sequences(&files.validation)?),
            judge: SummaryJudge {
                format,
                examples: files.test.unwrap_or(files.validation),
                beams,
            },
        })
    }

    fn tokenizer(&self) -> &TextTokenizer {
        self.judge.format.tokenizer()
    }
}

impl LanguageProblem for SummaryProblem {
    fn vocabulary(&self) -> usize {
        self.tokenizer().vocab_size()
    }

    fn tokenizer_dir(&self) -> Option<&Path> {
        Some(&self.tokenizer_dir)
    }

    fn pad_id(&self) -> u32 {
        self.tokenizer().end_id()
    }

    fn train(&self) -> Arc<dyn Dataset<Sequence>> {
        self.train.clone()
    }

    fn dev(&self) -> Arc<dyn Dataset<Sequence>> {
        self.dev.clone()
    }

    fn has_answers(&self) -> bool {
        false
    }

    /// The scores ([`SummaryJudge::judge`]) on the test texts, or on the validation texts where there
    /// are no others.
    fn judge(&self, model: &Decoder<Half>, watch: &Watch) -> Result<Judgement, Error> {
        self.judge.judge(model, watch)
    }

    fn columns(&self) -> &'static [&'static str] {
        &["rouge1", "rouge2", "rougeL", "perplexity"]
    }
}
