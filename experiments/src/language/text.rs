//! Plain text: how well a model predicts documents it has not seen.

mod files;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use burn::{data::dataset::Dataset, prelude::*};
pub use files::{TextFiles, TextFilesError};
use masformer_core::{Decoder, DecoderInput, Trace, ops::linear_cross_entropy};

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
    metric::{
        Scores,
        perplexity::{EvaluationWindow, Perplexity, SlidingWindows},
    },
    run::Progress,
};

/// Tokenized text with what divides it into sequences and windows.
#[derive(Debug)]
pub struct TextProblem {
    tokenizer: TextTokenizer,
    tokenizer_dir: PathBuf,
    train: Arc<Packing>,
    dev: Arc<Packing>,
    test: Arc<TokenFile>,
    windows: SlidingWindows,
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
        let open = |name: &str, corpus: &Corpus| -> Result<Arc<TokenFile>, TokenFileError> {
            let bar = progress.bar(&format!("tokenize {name}"), corpus.bytes() as usize);
            let file =
                TokenFile::open_or_make(&tokens.join(name), corpus, &tokenizer, &mut |done| {
                    bar.set_position(done);
                })?;
            bar.finish_and_clear();
            Ok(Arc::new(file))
        };
        let TextLayout {
            length,
            documents,
            windows,
        } = layout;
        let pack = |file| Packing::new(file, length, documents).map(Arc::new);
        let valid = open("valid", &files.valid)?;
        Ok(Self {
            train: pack(open("train", &files.train)?)?,
            test: match &files.test {
                Some(test) => open("test", test)?,
                None => valid.clone(),
            },
            dev: pack(valid)?,
            tokenizer,
            tokenizer_dir,
            windows,
        })
    }

    /// Adds the tokens that the windows of one document score, all windows of one length.
    fn score(
        &self,
        model: &Decoder,
        document: &[u32],
        windows: &[EvaluationWindow],
        perplexity: &mut Perplexity,
    ) -> Result<(), Error> {
        let device = model.token.weight.device();
        let length = windows[0].targets.len();
        let rows = windows.iter();
        let ids: Vec<i64> = rows
            .clone()
            .flat_map(|window| window.input_ids(document, self.tokenizer.end_id()))
            .map(i64::from)
            .collect();
        let scored = rows.enumerate().flat_map(|(row, window)| {
            let start = row * length;
            let first = window.targets.start;
            let tokens = window.scored.clone();
            tokens.map(move |token| (start + token - first, token))
        });
        let (places, tokens): (Vec<i64>, Vec<usize>) =
            scored.map(|(place, token)| (place as i64, token)).unzip();
        let targets: Vec<i64> = tokens.iter().map(|token| document[*token].into()).collect();
        let integers = |values: Vec<i64>| {
            let count = values.len();
            Tensor::<1, Int>::from_data(TensorData::new(values, [count]), &device)
        };
        let input = DecoderInput {
            input_ids: integers(ids).reshape([windows.len(), length]),
            padding: None,
        };
        let hidden = model
            .hidden(&input, &mut Trace::nothing())
            .flatten::<2>(0, 1);
        let hidden = hidden.select(0, integers(places));
        let nats = linear_cross_entropy(hidden, model.token.weight.val(), integers(targets));
        for (token, nats) in tokens.into_iter().zip(nats.try_into_data()?.iter::<f64>()) {
            let bytes = self.tokenizer.token_bytes(document[token]).len();
            perplexity
                .add(token, bytes, nats)
                .map_err(DataError::from)?;
        }
        Ok(())
    }
}

impl LanguageProblem for TextProblem {
    fn vocabulary(&self) -> usize {
        self.tokenizer.vocab_size()
    }

    fn tokenizer_dir(&self) -> Option<&Path> {
        Some(&self.tokenizer_dir)
    }

    fn pad_id(&self) -> u32 {
        self.tokenizer.end_id()
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

    /// Perplexity and bits per byte ([`Perplexity::scores`]) of the test text, or of the validation
    /// text where there is no other.
    fn judge(&self, model: &Decoder, watch: &Watch) -> Result<Scores, Error> {
        let header = self.test.header();
        let bar = watch.progress.bar("evaluate", header.tokens);
        let mut perplexity = Perplexity::default();
        for index in 0..header.documents.len() {
            let range = header.document(index);
            let document = self.test.read(range.clone()).map_err(DataError::from)?;
            let windows: Vec<EvaluationWindow> = self.windows.over(document.len()).collect();
            // The last window of a document may be shorter than the others.
            for alike in windows.chunk_by(|a, b| a.targets.len() == b.targets.len()) {
                for batch in alike.chunks(watch.batch_size) {
                    watch.stop.check()?;
                    self.score(model, &document, batch, &mut perplexity)?;
                    bar.set_position((range.start + batch[batch.len() - 1].scored.end) as u64);
                }
            }
        }
        bar.finish_and_clear();
        Ok(perplexity.scores().map_err(DataError::from)?)
    }

    fn columns(&self) -> &'static [&'static str] {
        &["bits_per_byte", "perplexity"]
    }
}
