//! Training sequences of equal length from a token file.

use std::{ops::Range, path::PathBuf, sync::Arc};

use burn::data::dataset::{Dataset, DatasetError};
use serde::{Deserialize, Serialize};

use super::{
    language::Sequence,
    token_file::{TokenFile, TokenFileError},
};

/// Tokens that cannot be made sequences of.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PackingError {
    /// Sequences would be empty.
    #[error("sequences of 0 tokens: at least 1 is needed")]
    Length,
    /// There is not one whole sequence.
    #[error(
        "{} has {tokens} tokens, and one sequence of {length} needs {}: take more text or shorter sequences",
        path.display(), length + 1
    )]
    Short {
        /// The tokens.
        path: PathBuf,
        /// Number of tokens.
        tokens: usize,
        /// Tokens of a sequence, `T`.
        length: usize,
    },
}

/// What a sequence may span.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Documents {
    /// One document: no sequence goes on into another. The last sequence of a document is shorter
    /// where its length asks for that, and is padded in a batch.
    Separate,
    /// Any number of documents, with the end-of-document token between them. All sequences have the
    /// same length; up to `T - 1` tokens at the end of the last document are left out.
    #[default]
    Joined,
}

/// A token file as sequences of `T` tokens and their targets, which are `T + 1` tokens of the file.
///
/// A sequence begins with the last target of the one before it, so that every token but the first
/// of a document (of the file, where documents are joined) is a target once. The end of a document
/// is a target like any other token: a model learns where to stop.
#[derive(Debug)]
pub struct Packing {
    tokens: Arc<TokenFile>,
    length: usize,
    stretches: Vec<Stretch>,
    count: usize,
}

/// Tokens that follow each other, divided into sequences.
#[derive(Debug)]
struct Stretch {
    tokens: Range<usize>,
    /// How many sequences come before those of this one.
    before: usize,
}

impl Packing {
    /// Divides a token file into sequences of `length` tokens, `T`; reads none of them.
    ///
    /// # Errors
    ///
    /// If `length` is 0, or the file has less than `length + 1` tokens.
    pub fn new(
        tokens: Arc<TokenFile>,
        length: usize,
        documents: Documents,
    ) -> Result<Self, PackingError> {
        let header = tokens.header();
        if length == 0 {
            return Err(PackingError::Length);
        }
        if header.tokens <= length {
            return Err(PackingError::Short {
                path: tokens.path().to_owned(),
                tokens: header.tokens,
                length,
            });
        }
        let ranges: Vec<Range<usize>> = match documents {
            Documents::Separate => (0..header.documents.len())
                .map(|index| header.document(index))
                .collect(),
            Documents::Joined => {
                let targets = header.tokens - 1;
                let whole = targets - targets % length;
                [0..whole + 1].into()
            }
        };
        let mut count = 0;
        let stretch = |tokens: Range<usize>| {
            let before = count;
            count += (tokens.len() - 1).div_ceil(length);
            Stretch { tokens, before }
        };
        let stretches = ranges.into_iter().map(stretch).collect();
        Ok(Self {
            tokens,
            length,
            stretches,
            count,
        })
    }

    /// The positions in the file of a sequence and its last target.
    fn range(&self, index: usize) -> Range<usize> {
        assert!(index < self.count, "sequence {index} of {}", self.count);
        let after = self
            .stretches
            .partition_point(|stretch| stretch.before <= index);
        let Stretch { tokens, before } = &self.stretches[after - 1];
        let start = tokens.start + (index - before) * self.length;
        start..tokens.end.min(start + self.length + 1)
    }

    fn sequence(&self, index: usize) -> Result<Sequence, TokenFileError> {
        let mut input_ids = self.tokens.read(self.range(index))?;
        let targets = input_ids[1..].iter().copied().map(Some).collect();
        input_ids.pop();
        Ok(Sequence { input_ids, targets })
    }
}

impl Dataset<Sequence> for Packing {
    fn get(&self, index: usize) -> Result<Sequence, DatasetError> {
        self.sequence(index).map_err(DatasetError::new)
    }

    fn len(&self) -> usize {
        self.count
    }
}

#[cfg(test)]
mod tests {
    use burn::{data::dataloader::DataLoader, prelude::*};
    use proptest::prelude::*;

    use super::*;
    use crate::data::{
        language::{LanguageLoader, tests::integers},
        token_file::tests::byte_file,
    };

    const END: u32 = 256;

    /// The inputs and targets of every sequence of texts as bytes.
    fn sequences(texts: &[&str], length: usize, documents: Documents) -> Vec<Sequence> {
        let (_folder, file) = byte_file(texts);
        let packing = Packing::new(file.into(), length, documents).unwrap();
        packing.iter().map(Result::unwrap).collect()
    }

    /// A sequence of these tokens, the last of which is a target alone.
    fn sequence(tokens: &[u32]) -> Sequence {
        Sequence {
            input_ids: tokens[..tokens.len() - 1].to_vec(),
            targets: tokens[1..].iter().copied().map(Some).collect(),
        }
    }

    #[test]
    fn separate_documents_end_with_a_shorter_sequence() {
        let [a, b, c, d, e] = b"abcde".map(u32::from);
        assert_eq!(
            sequences(&["abcd", "e", "abc"], 3, Documents::Separate),
            [
                sequence(&[a, b, c, d]),
                sequence(&[d, END]),
                sequence(&[e, END]),
                sequence(&[a, b, c, END]),
            ]
        );
    }

    #[test]
    fn joined_documents_share_sequences_of_equal_length() {
        let [a, b, c, d, e] = b"abcde".map(u32::from);
        assert_eq!(
            sequences(&["abcd", "e"], 3, Documents::Joined),
            [sequence(&[a, b, c, d]), sequence(&[d, END, e, END])]
        );
        assert_eq!(
            sequences(&["abcd", "e"], 4, Documents::Joined),
            [sequence(&[a, b, c, d, END])]
        );
    }

    #[test]
    fn text_shorter_than_a_sequence_is_an_error() {
        let (_folder, file) = byte_file(&["ab", "c"]);
        let file = Arc::new(file);
        for documents in [Documents::Separate, Documents::Joined] {
            let pack = |length| Packing::new(file.clone(), length, documents);
            assert!(pack(4).is_ok());
            let error = pack(5).unwrap_err().to_string();
            let expected = "bytes.tokens has 5 tokens, and one sequence of 5 needs 6: \
                            take more text or shorter sequences";
            assert!(error.ends_with(expected), "{error}");
            assert_eq!(pack(0).unwrap_err(), PackingError::Length);
        }
    }

    #[test]
    fn a_loader_pads_the_ends_of_documents_and_reports_damage() {
        let (folder, file) = byte_file(&["abcd", "xy"]);
        let packing = Packing::new(file.into(), 3, Documents::Separate).unwrap();
        let device = Device::default();
        let loader = LanguageLoader::in_order(Arc::new(packing), 2, END, &device).unwrap();
        let batch = loader.iter().next().unwrap().unwrap();
        assert_eq!(
            integers(&batch.input_ids),
            [b'a', b'b', b'c', b'd', 0, 0].map(|id| if id == 0 { 256 } else { i64::from(id) })
        );
        assert!(batch.padding.is_some());

        std::fs::write(folder.path().join("bytes.tokens"), b"a").unwrap();
        let error = loader.iter().next().unwrap().unwrap_err().to_string();
        assert!(
            error.contains("cannot read") && error.contains("bytes.tokens"),
            "{error}"
        );
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        #[test]
        fn every_token_is_a_target_once(
            texts in prop::collection::vec("[a-z]{1,20}", 1..6),
            length in 1_usize..9,
        ) {
            let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
            let documents: Vec<Vec<u32>> = texts
                .iter()
                .map(|text| text.bytes().map(u32::from).chain([END]).collect())
                .collect();
            let stream = documents.concat();
            prop_assume!(stream.len() > length);
            let targets = |sequences: &[Sequence]| -> Vec<u32> {
                sequences.iter().flat_map(|sequence| sequence.targets.iter().flatten().copied()).collect()
            };
            let consistent = |sequence: &Sequence| {
                let next = sequence.input_ids[1..].iter().copied().map(Some);
                sequence.targets.len() == sequence.input_ids.len()
                    && next.eq(sequence.targets[..sequence.targets.len() - 1].iter().copied())
            };

            let separate = sequences(&texts, length, Documents::Separate);
            prop_assert!(separate.iter().all(consistent));
            prop_assert!(separate.iter().all(|sequence| sequence.input_ids.len() <= length));
            let expected: Vec<u32> = documents.iter().flat_map(|document| &document[1..]).copied().collect();
            prop_assert_eq!(targets(&separate), expected);
            // None goes past the end of a document.
            prop_assert!(separate.iter().all(|sequence| !sequence.input_ids.contains(&END)));

            let joined = sequences(&texts, length, Documents::Joined);
            prop_assert!(joined.iter().all(consistent));
            prop_assert!(joined.iter().all(|sequence| sequence.input_ids.len() == length));
            let found = targets(&joined);
            prop_assert_eq!(&found, &stream[1..=found.len()]);
            prop_assert!(stream.len() - 1 - found.len() < length);
        }
    }
}
