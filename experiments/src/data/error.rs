//! Why data cannot be used.

use burn::data::dataset::DatasetError;

use super::{
    corpus::CorpusError,
    glue::GlueError,
    loader::LoaderError,
    packing::PackingError,
    recall::RecallError,
    squad::{SquadError, spans::SpanSearchError, windows::WindowError},
    summary::SummaryError,
    token_file::TokenFileError,
    tokenizer::TokenizerError,
};
use crate::{
    language::text::TextFilesError,
    metric::{MetricError, perplexity::SlidingError},
};

/// Data that cannot be read, batched or scored.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// A GLUE file.
    #[error(transparent)]
    Glue(#[from] GlueError),
    /// A `SQuAD` file.
    #[error(transparent)]
    Squad(#[from] SquadError),
    /// Plain text.
    #[error(transparent)]
    Corpus(#[from] CorpusError),
    /// The text of a run.
    #[error(transparent)]
    Text(#[from] TextFilesError),
    /// The windows of passages.
    #[error(transparent)]
    Windows(#[from] WindowError),
    /// The spans of answers.
    #[error(transparent)]
    Spans(#[from] SpanSearchError),
    /// The tokenizer.
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
    /// The tokens of a corpus.
    #[error(transparent)]
    TokenFile(#[from] TokenFileError),
    /// The sequences of a token file.
    #[error(transparent)]
    Packing(#[from] PackingError),
    /// Texts and their summaries.
    #[error(transparent)]
    Summary(#[from] SummaryError),
    /// The synthetic recall task.
    #[error(transparent)]
    Recall(#[from] RecallError),
    /// The batches.
    #[error(transparent)]
    Loader(#[from] LoaderError),
    /// A batch.
    #[error(transparent)]
    Batch(#[from] DatasetError),
    /// The windows that slide over documents.
    #[error(transparent)]
    Sliding(#[from] SlidingError),
    /// The scores.
    #[error(transparent)]
    Metric(#[from] MetricError),
    /// The split hides its labels, as GLUE's test files do.
    #[error(
        "{file}: this split has no labels to compare with; choose train or dev, or write its answers with --predictions FILE"
    )]
    NoLabels {
        /// The name of its file.
        file: String,
    },
    /// The task has no test split.
    #[error(
        "`{task}` has no test split; choose train or dev, or write its answers with --predictions FILE"
    )]
    NoTest {
        /// The task's name.
        task: &'static str,
    },
    /// The model answers in another form than the task asks for.
    #[error("the model's predictions are not of the kind that the task is judged by")]
    Rule,
}
