//! Plain text: how well a model predicts documents it has not seen.

mod files;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
};

use burn::data::dataset::Dataset;
pub use files::{TextFiles, TextFilesError};
use masformer_core::Decoder;
use moebert_core::half::Half;
use serde_json::json;

use super::{LanguageProblem, Watch};
use crate::{
    data::{
        DataError,
        corpus::Corpus,
        language::Sequence,
        packing::{Documents, Packing},
        text_tokenizer::TextTokenizer,
        token_file::{TokenFile, TokenFileError},
    },
    error::Error,
    examples::{self, Examples, Parts},
    learner::language::LanguageLearner,
    metric::perplexity::{EvaluationWindow, Likelihood, Perplexity, SlidingWindows},
    predictions::Judgement,
    run::Progress,
};

/// Tokenized text, by which models are judged.
#[derive(Clone, Debug)]
pub struct TextJudge {
    /// The tokenizer that made the tokens.
    pub tokenizer: TextTokenizer,
    /// The text.
    pub text: Arc<TokenFile>,
    /// The windows that slide over each document.
    pub windows: SlidingWindows,
}

impl TextJudge {
    /// Perplexity and bits per byte, in all and by position ([`Perplexity::scores`]), and the likelihood of each document.
    ///
    /// # Errors
    ///
    /// If the text cannot be read, a likelihood is not finite, or a stop is asked for.
    pub fn judge(&self, model: &Decoder<Half>, watch: &Watch) -> Result<Judgement, Error> {
        let learner = LanguageLearner::to_judge(model);
        let header = self.text.header();
        let bar = watch.progress.bar("evaluate", header.tokens);
        let mut perplexity = Perplexity::default();
        let (mut predictions, mut documents) = (vec![], vec![]);
        for index in 0..header.documents.len() {
            let mut own = Perplexity::default();
            let range = header.document(index);
            let document = self.text.read(range.clone()).map_err(DataError::from)?;
            let windows: Vec<EvaluationWindow> = self.windows.over(document.len()).collect();
            for batch in windows.chunks(watch.batch_size) {
                watch.stop.check()?;
                self.score(&learner, &document, batch, [&mut perplexity, &mut own])?;
                bar.set_position((range.start + batch[batch.len() - 1].scored.end) as u64);
            }
            let Likelihood {
                tokens,
                bytes,
                nats,
            } = own.total();
            predictions
                .push(json!({ "document": index, "tokens": tokens, "bytes": bytes, "nats": nats }));
            documents.push((nats, bytes as u64, tokens as u64));
        }
        bar.finish_and_clear();
        let scores = perplexity.scores().map_err(DataError::from)?;
        let nats: Vec<f64> = documents.iter().map(|(nats, ..)| *nats).collect();
        let bytes = documents.iter().map(|(_, bytes, _)| *bytes).collect();
        let tokens = documents.iter().map(|(.., tokens)| *tokens).collect();
        let examples = Examples {
            ids: (0..documents.len())
                .map(|index| index.to_string())
                .collect(),
            content: examples::content(documents.iter().map(|(_, bytes, _)| bytes.to_le_bytes())),
            groups: vec![],
            metrics: BTreeMap::from([
                (
                    "bits_per_byte".to_owned(),
                    Parts::BitsPerByte {
                        nats: nats.clone(),
                        bytes,
                    },
                ),
                ("perplexity".to_owned(), Parts::Perplexity { nats, tokens }),
            ]),
        };
        Ok(Judgement {
            scores,
            predictions,
            examples: vec![examples],
        })
    }

    /// A window as a sequence that asks for the tokens it scores.
    fn sequence(&self, document: &[u32], window: &EvaluationWindow) -> Sequence {
        let targets = window.targets.clone();
        Sequence {
            input_ids: window.input_ids(document, self.tokenizer.end_id()),
            targets: targets
                .map(|token| window.scored.contains(&token).then(|| document[token]))
                .collect(),
        }
    }

    /// Adds the tokens that windows of a document score to each of the sums.
    fn score(
        &self,
        learner: &LanguageLearner,
        document: &[u32],
        windows: &[EvaluationWindow],
        mut sums: [&mut Perplexity; 2],
    ) -> Result<(), Error> {
        let sequences = windows
            .iter()
            .map(|window| self.sequence(document, window))
            .collect::<Vec<Sequence>>();
        let nats = learner.surprisals(&sequences, self.tokenizer.end_id())?;
        let tokens = windows.iter().flat_map(|window| window.scored.clone());
        for (token, nats) in tokens.zip(nats) {
            let bytes = self.tokenizer.token_bytes(document[token]).len();
            for sum in &mut sums {
                sum.add(token, bytes, nats).map_err(DataError::from)?;
            }
        }
        Ok(())
    }
}

/// The token file of a corpus at `path`, without extension; made with a bar if it is not there.
///
/// # Errors
///
/// As [`TokenFile::open_or_make`].
pub fn tokenize(
    path: &Path,
    corpus: &Corpus,
    tokenizer: &TextTokenizer,
    progress: Progress,
) -> Result<Arc<TokenFile>, TokenFileError> {
    let name = path.file_name().unwrap_or_default().display();
    let bar = progress.bar(&format!("tokenize {name}"), corpus.bytes() as usize);
    let file = TokenFile::open_or_make(path, corpus, tokenizer, &mut |done| {
        bar.set_position(done);
    })?;
    bar.finish_and_clear();
    Ok(Arc::new(file))
}

/// Tokenized text with what divides it into sequences and windows.
#[derive(Debug)]
pub struct TextProblem {
    tokenizer_dir: PathBuf,
    train: Arc<Packing>,
    dev: Arc<Packing>,
    judge: TextJudge,
}

/// How text is divided.
#[derive(Clone, Copy, Debug)]
pub struct TextLayout {
    /// Tokens of a sequence, `T`.
    pub length: usize,
    /// What a training sequence may span.
    pub documents: Documents,
    /// The windows that slide over a document to judge by.
    pub windows: SlidingWindows,
}

impl TextProblem {
    /// Tokenizes text into files in the folder `tokens`, or takes those that are there; the
    /// tokenizer is that of the folder `tokenizer_dir`.
    ///
    /// # Errors
    ///
    /// If text or tokens cannot be read or written, or there is less text than one sequence.
    pub fn new(
        files: &TextFiles,
        tokenizer: TextTokenizer,
        tokenizer_dir: PathBuf,
        tokens: &Path,
        layout: TextLayout,
        progress: Progress,
    ) -> Result<Self, DataError> {
        let open = |name: &str, corpus: &Corpus| {
            tokenize(&tokens.join(name), corpus, &tokenizer, progress)
        };
        let TextLayout {
            length,
            documents,
            windows,
        } = layout;
        let pack = |file| Packing::new(file, length, documents).map(Arc::new);
        let valid = open("valid", &files.valid)?;
        let train = pack(open("train", &files.train)?)?;
        let text = match &files.test {
            Some(test) => open("test", test)?,
            None => valid.clone(),
        };
        Ok(Self {
            tokenizer_dir,
            train,
            dev: pack(valid)?,
            judge: TextJudge {
                tokenizer,
                text,
                windows,
            },
        })
    }
}

impl LanguageProblem for TextProblem {
    fn vocabulary(&self) -> usize {
        self.judge.tokenizer.vocab_size()
    }

    fn tokenizer_dir(&self) -> Option<&Path> {
        Some(&self.tokenizer_dir)
    }

    fn pad_id(&self) -> u32 {
        self.judge.tokenizer.end_id()
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

    /// As [`TextJudge::judge`], on the test text, or on the validation text where there is no
    /// other.
    fn judge(&self, model: &Decoder<Half>, watch: &Watch) -> Result<Judgement, Error> {
        self.judge.judge(model, watch)
    }

    fn columns(&self) -> &'static [&'static str] {
        &["bits_per_byte", "perplexity"]
    }
}
