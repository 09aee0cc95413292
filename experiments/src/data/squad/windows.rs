//! From questions to model inputs: `[CLS] question [SEP] window of the passage [SEP]`.
//!
//! A passage that is too long is cut into windows that overlap, and each window becomes an input of
//! its own, as in Transformers' `run_qa.py`. An answer no longer than the overlap is whole in at least
//! one of them.

use std::iter;
use std::ops::Range;

use tokenizers::{Encoding, PostProcessor, Tokenizer, TruncationDirection};

use super::SquadExample;
use crate::data::loader::{Feature, Target};

/// How passages are cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WindowConfig {
    /// The most tokens of an input: special tokens, question and window together.
    pub max_length: usize,
    /// How many tokens two neighbouring windows share.
    pub doc_stride: usize,
    /// The most tokens of a question; what is beyond is cut off.
    pub max_query_length: usize,
}

/// The special tokens around a question and a passage: `[CLS]` and two `[SEP]`.
pub const SPECIAL_TOKENS: usize = 3;

impl WindowConfig {
    /// Whether a window beside the longest question and `special` tokens holds more of the passage than it
    /// shares with the next one.
    pub fn has_room(&self, special: usize) -> bool {
        let taken = self
            .max_query_length
            .saturating_add(self.doc_stride)
            .saturating_add(special);
        taken < self.max_length
    }
}

impl Default for WindowConfig {
    /// The customary settings for BERT: 384, 128 and 64.
    fn default() -> Self {
        Self {
            max_length: 384,
            doc_stride: 128,
            max_query_length: 64,
        }
    }
}

/// One model input: a question and one window of its passage, not padded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SquadFeature {
    /// The token ids, special tokens included.
    pub input_ids: Vec<u32>,
    /// The segment of each token: 0 for the question, 1 for the passage.
    pub type_ids: Vec<u8>,
    /// The position of the first token of [`SquadExample::answer_bytes`]; 0, the class token, if the
    /// answer is not in this window.
    pub start: usize,
    /// The position of its last token; 0, the class token, if the answer is not in this window.
    pub end: usize,
    /// The index of the question among the examples.
    pub example: usize,
    /// The positions that the window of the passage takes.
    pub context: Range<usize>,
    /// For each position of `context`, the start and end of its token in bytes of the example's passage.
    pub offsets: Vec<(u32, u32)>,
}

impl SquadFeature {
    /// The bytes of the passage from the token at `start` to the token at `end`, both included, or
    /// `None` if they are not both in the passage, in this order.
    pub fn span(&self, start: usize, end: usize) -> Option<Range<usize>> {
        let offset = |position: usize| self.offsets.get(position.checked_sub(self.context.start)?);
        let (first, last) = (offset(start)?, offset(end)?);
        (start <= end).then_some(first.0 as usize..last.1 as usize)
    }

    /// The positions of the first and last token that overlap `answer`, in bytes of the passage, or
    /// `None` if part of the answer is outside this window.
    fn answer_tokens(&self, answer: &Range<usize>) -> Option<(usize, usize)> {
        let (first, last) = (self.offsets.first()?, self.offsets.last()?);
        if answer.start < first.0 as usize || answer.end > last.1 as usize {
            return None;
        }
        let start = self
            .offsets
            .partition_point(|token| token.1 as usize <= answer.start);
        let end = self
            .offsets
            .partition_point(|token| (token.0 as usize) < answer.end);
        (start < end).then(|| (self.context.start + start, self.context.start + end - 1))
    }
}

impl From<&SquadFeature> for Feature {
    /// What the model reads, with the answer in this window, or the class token, as its target.
    fn from(feature: &SquadFeature) -> Self {
        Self {
            input_ids: feature.input_ids.clone(),
            type_ids: feature.type_ids.clone(),
            target: Some(Target::Span {
                start: feature.start,
                end: feature.end,
            }),
        }
    }
}

/// Why no inputs could be made.
#[derive(Debug, thiserror::Error)]
pub enum WindowError {
    /// A window could not move on.
    #[error(
        "max_length {max_length} is too short: it must be greater than {} (max_query_length \
         {max_query_length} + doc_stride {doc_stride} + {special} special tokens)",
        .max_query_length.saturating_add(*.doc_stride).saturating_add(*.special)
    )]
    TooNarrow {
        /// The most tokens of an input.
        max_length: usize,
        /// The most tokens of a question.
        max_query_length: usize,
        /// The overlap.
        doc_stride: usize,
        /// How many special tokens the tokenizer adds to a pair.
        special: usize,
    },
    /// The tokenizer's pairs do not start with a class token, the target of questions without answer.
    #[error("the tokenizer puts no class token such as [CLS] before a pair of texts")]
    NoClassToken,
    /// The tokenizer failed.
    #[error("cannot tokenize question {id:?}")]
    Tokenize {
        /// The question.
        id: String,
        /// The tokenizer's reason.
        source: tokenizers::Error,
    },
}

/// Cuts every example into one or more inputs, in the order of the examples and of their passages.
///
/// The tokenizer's own truncation and padding are not used. Blanks before a question are dropped, as
/// in `run_qa.py`.
///
/// # Errors
///
/// If `config` leaves a window no room to move on, or the tokenizer fails or adds no class token.
pub fn features(
    examples: &[SquadExample],
    tokenizer: &Tokenizer,
    config: &WindowConfig,
) -> Result<Vec<SquadFeature>, WindowError> {
    let windower = Windower::new(tokenizer, config)?;
    let mut features = Vec::new();
    let mut index = 0;
    // The questions about a passage stand together: it is tokenized once for all of them.
    for paragraph in examples.chunk_by(|a, b| a.context == b.context) {
        let context = windower.encode(&paragraph[0].context, &paragraph[0].id)?;
        for example in paragraph {
            features.extend(windower.windows(example, index, context.clone())?);
            index += 1;
        }
    }
    Ok(features)
}

struct Windower<'a> {
    tokenizer: Tokenizer,
    config: &'a WindowConfig,
    special: usize,
}

impl<'a> Windower<'a> {
    fn new(tokenizer: &Tokenizer, config: &'a WindowConfig) -> Result<Self, WindowError> {
        let mut tokenizer = tokenizer.clone();
        tokenizer.with_padding(None);
        tokenizer
            .with_truncation(None)
            // Only settings are checked, and there are none.
            .expect("truncation can be switched off");
        let special = tokenizer
            .get_post_processor()
            .map_or(0, |processor| processor.added_tokens(true));
        if !config.has_room(special) {
            let WindowConfig {
                max_length,
                doc_stride,
                max_query_length,
            } = *config;
            return Err(WindowError::TooNarrow {
                max_length,
                max_query_length,
                doc_stride,
                special,
            });
        }
        Ok(Self {
            tokenizer,
            config,
            special,
        })
    }

    /// Tokens with their offsets in bytes, without special tokens.
    fn encode(&self, text: &str, id: &str) -> Result<Encoding, WindowError> {
        self.tokenizer
            .encode(text, false)
            .map_err(|source| WindowError::Tokenize {
                id: id.into(),
                source,
            })
    }

    fn windows(
        &self,
        example: &SquadExample,
        index: usize,
        mut context: Encoding,
    ) -> Result<Vec<SquadFeature>, WindowError> {
        let mut question = self.encode(example.question.trim_start(), &example.id)?;
        question.truncate(self.config.max_query_length, 0, TruncationDirection::Right);
        question.take_overflowing();

        let answer = answer_bytes(example);
        let room = self.config.max_length - self.special - question.len();
        context.truncate(room, self.config.doc_stride, TruncationDirection::Right);
        let rest = context.take_overflowing();
        iter::once(context)
            .chain(rest)
            .map(|window| {
                let input = self
                    .tokenizer
                    .post_process(question.clone(), Some(window), true)
                    .map_err(|source| WindowError::Tokenize {
                        id: example.id.clone(),
                        source,
                    })?;
                feature(&input, index, answer.as_ref())
            })
            .collect()
    }
}

/// The bytes of the answer, without blanks around it, which no token covers.
fn answer_bytes(example: &SquadExample) -> Option<Range<usize>> {
    let bytes = example.answer_bytes()?;
    let text = &example.context[bytes.clone()];
    let start = bytes.end - text.trim_start().len();
    Some(start..start + text.trim().len())
}

fn feature(
    input: &Encoding,
    example: usize,
    answer: Option<&Range<usize>>,
) -> Result<SquadFeature, WindowError> {
    let sequences = input.get_sequence_ids();
    if sequences.first() != Some(&None) {
        return Err(WindowError::NoClassToken);
    }
    let in_context = |sequence: &Option<usize>| *sequence == Some(1);
    let context = match (
        sequences.iter().position(in_context),
        sequences.iter().rposition(in_context),
    ) {
        (Some(first), Some(last)) => first..last + 1,
        _ => 0..0,
    };
    let offsets = input.get_offsets()[context.clone()]
        .iter()
        .map(|&(start, end)| (start as u32, end as u32))
        .collect();
    let mut feature = SquadFeature {
        input_ids: input.get_ids().to_vec(),
        type_ids: input.get_type_ids().iter().map(|&id| id as u8).collect(),
        start: 0,
        end: 0,
        example,
        context,
        offsets,
    };
    if let Some((start, end)) = answer.and_then(|answer| feature.answer_tokens(answer)) {
        (feature.start, feature.end) = (start, end);
    }
    Ok(feature)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;
    use crate::data::squad::GoldAnswer;

    /// A `WordPiece` tokenizer over single letters, in lower case and without accents.
    fn tokenizer(post_processor: &Value) -> Tokenizer {
        let special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"].map(String::from);
        let letters = "abcdeo0°".chars();
        let pieces = letters.flat_map(|letter| [letter.to_string(), format!("##{letter}")]);
        let vocab: serde_json::Map<String, Value> = special
            .into_iter()
            .chain(pieces)
            .enumerate()
            .map(|(id, piece)| (piece, id.into()))
            .collect();
        let parts = json!({
            "version": "1.0",
            "added_tokens": [],
            // As a saved tokenizer may have it: neither may cut or fill the windows.
            "truncation": { "max_length": 8, "strategy": "LongestFirst", "stride": 0 },
            "padding": { "strategy": { "Fixed": 64 }, "direction": "Right", "pad_to_multiple_of": null,
                "pad_id": 0, "pad_type_id": 0, "pad_token": "[PAD]" },
            "normalizer": { "type": "BertNormalizer", "clean_text": true,
                "handle_chinese_chars": true, "strip_accents": null, "lowercase": true },
            "pre_tokenizer": { "type": "BertPreTokenizer" },
            "post_processor": post_processor,
            "decoder": null,
            "model": { "type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
                "max_input_chars_per_word": 100, "vocab": vocab },
        });
        parts.to_string().parse().unwrap()
    }

    fn bert() -> Tokenizer {
        tokenizer(&json!({ "type": "BertProcessing", "sep": ["[SEP]", 3], "cls": ["[CLS]", 2] }))
    }

    /// An example whose answer takes the given bytes of the passage.
    fn example(question: &str, context: &str, answer: Option<Range<usize>>) -> SquadExample {
        let answers = answer.map(|bytes| GoldAnswer {
            start: Some(context[..bytes.start].chars().count()),
            text: context[bytes].to_owned(),
        });
        SquadExample {
            id: "q".into(),
            question: question.into(),
            context: context.into(),
            answers: answers.into_iter().collect(),
        }
    }

    fn find(context: &str, answer: &str) -> Option<Range<usize>> {
        context
            .find(answer)
            .map(|start| start..start + answer.len())
    }

    const CONFIG: WindowConfig = WindowConfig {
        max_length: 12,
        doc_stride: 2,
        max_query_length: 3,
    };

    #[test]
    fn a_long_passage_becomes_overlapping_windows() {
        let context = "a b c d e a b c d e";
        let examples = [example(" b c", context, find(context, "e a"))];
        let features = features(&examples, &bert(), &CONFIG).unwrap();
        // Room for 12 - 3 special - 2 question = 7 tokens, 5 further on each time.
        let ids = [
            vec![2, 6, 8, 3, 4, 6, 8, 10, 12, 4, 6, 3],
            vec![2, 6, 8, 3, 4, 6, 8, 10, 12, 3],
        ];
        assert_eq!(features.len(), 2);
        for (feature, ids) in features.iter().zip(ids) {
            assert_eq!(feature.input_ids, ids);
            let segment_one = |position: usize| u8::from(position > 3);
            let types: Vec<u8> = (0..ids.len()).map(segment_one).collect();
            assert_eq!(feature.type_ids, types);
            assert_eq!(feature.context, 4..ids.len() - 1);
        }
        assert_eq!((features[0].start, features[0].end), (8, 9));
        // The second window starts after the answer's first token.
        assert_eq!((features[1].start, features[1].end), (0, 0));
    }

    #[test]
    fn questions_are_cut_and_numbered() {
        let examples = [
            example("a b c d e", "a", None),
            example("a", "a", None),
            example("", "o", None),
        ];
        let features = features(&examples, &bert(), &CONFIG).unwrap();
        let ids: Vec<_> = features.iter().map(|f| f.input_ids.clone()).collect();
        assert_eq!(
            ids,
            [
                vec![2, 4, 6, 8, 3, 4, 3],
                vec![2, 4, 3, 4, 3],
                vec![2, 3, 14, 3]
            ]
        );
        assert_eq!(
            features.iter().map(|f| f.example).collect::<Vec<_>>(),
            [0, 1, 2]
        );
        assert!(features.iter().all(|f| f.start == 0 && f.end == 0));
    }

    #[test]
    fn answers_come_back_from_passages_with_many_bytes() {
        for (context, answer) in [
            ("é b°c 🥕 àb", "àb"),
            ("é b°c 🥕 àb", "🥕"),
            ("日本 abc –", "本"),
            // In two pieces: the mark has no token of its own, but the letter's end is the answer's.
            ("  cae\u{301}b d", "cae\u{301}b"),
            ("“ab” c", "ab"),
        ] {
            let examples = [example("a", context, find(context, answer))];
            let features = features(&examples, &bert(), &CONFIG).unwrap();
            let found = features.iter().find(|feature| feature.start > 0).unwrap();
            let span = found.span(found.start, found.end).unwrap();
            assert_eq!(&context[span], answer, "in {context:?}");
        }
    }

    #[test]
    fn blanks_around_an_answer_and_parts_of_words_take_the_tokens_they_touch() {
        let context = "  ab cd";
        for (answer, tokens) in [("  ab", "ab"), (" cd", "cd"), ("b c", "b c")] {
            let examples = [example("a", context, find(context, answer))];
            let feature = &features(&examples, &bert(), &CONFIG).unwrap()[0];
            let span = feature.span(feature.start, feature.end).unwrap();
            assert_eq!(&context[span], tokens);
        }
    }

    #[test]
    fn a_misplaced_answer_is_taken_where_its_text_stands() {
        let mut moved = example("a", "b c", Some(2..3));
        moved.answers[0].start = None;
        let feature = &features(&[moved.clone()], &bert(), &CONFIG).unwrap()[0];
        assert_eq!(feature.span(feature.start, feature.end), Some(2..3));
        moved.answers[0].text = "d".into();
        let feature = &features(&[moved], &bert(), &CONFIG).unwrap()[0];
        assert_eq!((feature.start, feature.end), (0, 0));
    }

    #[test]
    fn spans_stay_in_the_passage() {
        let examples = [example("a", "b c", None)];
        let feature = &features(&examples, &bert(), &CONFIG).unwrap()[0];
        assert_eq!(feature.context, 3..5);
        assert_eq!(feature.span(3, 4), Some(0..3));
        for (start, end) in [(0, 3), (2, 4), (3, 5), (4, 3), (9, 9)] {
            assert_eq!(feature.span(start, end), None);
        }
    }

    #[test]
    fn a_passage_without_tokens_is_one_window_without_answer() {
        let feature = &features(&[example("a", "\u{200b}", None)], &bert(), &CONFIG).unwrap()[0];
        assert_eq!(feature.input_ids, [2, 4, 3, 3]);
        assert!(feature.context.is_empty());
    }

    #[test]
    fn refuses_what_cannot_work() {
        let examples = [example("a", "b", None)];
        let narrow = WindowConfig {
            max_length: 8,
            ..CONFIG
        };
        let error = features(&examples, &bert(), &narrow).unwrap_err();
        assert!(
            error
                .to_string()
                .contains("max_length 8 is too short: it must be greater than 8")
        );
        let huge = WindowConfig {
            doc_stride: usize::MAX,
            ..CONFIG
        };
        assert!(matches!(
            features(&examples, &bert(), &huge),
            Err(WindowError::TooNarrow { .. })
        ));
        assert!(matches!(
            features(&examples, &tokenizer(&Value::Null), &CONFIG),
            Err(WindowError::NoClassToken)
        ));
    }

    /// Words that the tokenizer knows, does not know, or has no letters of.
    fn word() -> impl Strategy<Value = &'static str> {
        prop::sample::select(vec![
            "a",
            "bad",
            "é",
            "e\u{301}c",
            "0°",
            "日本",
            "🥕",
            "Xy",
            "–",
            "dob.",
        ])
    }

    proptest! {
        #[test]
        fn windows_cover_the_passage_and_keep_short_answers_whole(
            words in prop::collection::vec(word(), 1..40),
            question in prop::collection::vec(word(), 0..6),
            from in any::<prop::sample::Index>(),
            count in 1_usize..4,
            max_query_length in 0_usize..5,
            doc_stride in 0_usize..12,
            room in 1_usize..10,
        ) {
            let context = words.join(" ");
            let from = from.index(words.len());
            let to = (from + count).min(words.len());
            let before = words[..from].iter().map(|word| word.len() + 1).sum::<usize>();
            let answer = words[from..to].join(" ");
            let bytes = before..before + answer.len();
            let examples = [example(&question.join(" "), &context, Some(bytes.clone()))];
            let config = WindowConfig {
                max_length: max_query_length + doc_stride + 3 + room,
                doc_stride,
                max_query_length,
            };
            let features = features(&examples, &bert(), &config).unwrap();

            let mut plain = bert();
            plain.with_padding(None).with_truncation(None).unwrap();
            let tokens = plain.encode(context.as_str(), false).unwrap();
            let mut covered = 0;
            for feature in &features {
                prop_assert!(feature.input_ids.len() <= config.max_length);
                let ids = &feature.input_ids[feature.context.clone()];
                // Windows are pieces of the passage, in order and without a gap.
                let first = (0..=covered).rev().find(|&first| {
                    tokens.get_ids()[first..].starts_with(ids)
                        && tokens.get_offsets()[first].0 == feature.offsets[0].0 as usize
                });
                prop_assert!(first.is_some(), "a gap before {:?}", feature);
                covered = first.unwrap() + ids.len();
            }
            prop_assert_eq!(covered, tokens.len());

            let answer_tokens = tokens.get_offsets().iter()
                .filter(|token| token.0 < bytes.end && token.1 > bytes.start).count();
            let whole: Vec<_> = features.iter().filter(|feature| feature.start > 0).collect();
            if answer_tokens <= doc_stride {
                prop_assert!(!whole.is_empty());
            }
            for feature in whole {
                let span = feature.span(feature.start, feature.end).unwrap();
                prop_assert_eq!(&context[span], answer.as_str());
            }
        }
    }
}
