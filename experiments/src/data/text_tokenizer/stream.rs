//! Text from tokens that come one at a time.

use std::sync::Arc;

/// Gives out text as soon as it is complete: a character's bytes may be spread over tokens.
///
/// The text that [`Self::push`] and [`Self::finish`] give out is that of
/// [`TextTokenizer::decode`](super::TextTokenizer::decode). (The stream of the `tokenizers` crate
/// borrows its tokenizer, decodes every token twice, and keeps a U+FFFD that is text.)
#[derive(Clone, Debug)]
pub struct StreamDecoder {
    token_bytes: Arc<[Vec<u8>]>,
    pending: Vec<u8>,
}

impl StreamDecoder {
    pub(super) fn new(token_bytes: Arc<[Vec<u8>]>) -> Self {
        Self {
            token_bytes,
            pending: Vec::new(),
        }
    }

    /// Takes a token; returns the text that it completes, if any. Bytes that cannot become UTF-8
    /// are U+FFFD.
    pub fn push(&mut self, id: u32) -> Option<String> {
        let bytes = self.token_bytes.get(id as usize)?;
        self.pending.extend_from_slice(bytes);
        let mut text = String::new();
        let mut rest = self.pending.as_slice();
        while let Some(chunk) = rest.utf8_chunks().next() {
            text += chunk.valid();
            rest = &rest[chunk.valid().len()..];
            let incomplete = str::from_utf8(rest).is_err_and(|error| error.error_len().is_none());
            if rest.is_empty() || incomplete {
                break;
            }
            text.push(char::REPLACEMENT_CHARACTER);
            rest = &rest[chunk.invalid().len()..];
        }
        self.pending = rest.to_vec();
        (!text.is_empty()).then_some(text)
    }

    /// Ends the text; returns U+FFFD for a character that stayed incomplete.
    pub fn finish(self) -> Option<String> {
        let text = String::from_utf8_lossy(&self.pending);
        (!text.is_empty()).then(|| text.into_owned())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use crate::data::text_tokenizer::TextTokenizer;

    fn stream(ids: &[u32]) -> Vec<Option<String>> {
        let mut decoder = TextTokenizer::bytes().unwrap().stream();
        let mut texts: Vec<_> = ids.iter().map(|id| decoder.push(*id)).collect();
        texts.push(decoder.finish());
        texts
    }

    #[test]
    fn characters_come_whole() {
        let some = |text: &str| Some(text.to_owned());
        let ids: Vec<u32> = "a€".bytes().map(u32::from).collect();
        assert_eq!(stream(&ids), [some("a"), None, None, some("€"), None]);
        // The end of a document and ids that no token has are no text, and part none.
        assert_eq!(
            stream(&[0xC3, 256, 999, 0xA9]),
            [None, None, None, some("é"), None]
        );
        // 0xE2 0x82 cannot go on with a letter, and stays incomplete at the end.
        assert_eq!(
            stream(&[0xE2, 0x82, 0x61, 0xFF, 0xE2]),
            [
                None,
                None,
                some("\u{fffd}a"),
                some("\u{fffd}"),
                None,
                some("\u{fffd}")
            ]
        );
    }

    proptest! {
        #[test]
        fn the_stream_is_the_text_of_all_tokens(
            parts in prop::collection::vec(prop_oneof![any::<char>().prop_map(|c| c.to_string().into_bytes()),
                prop::collection::vec(any::<u8>(), 1..4)], 0..20),
        ) {
            let ids: Vec<u32> = parts.concat().into_iter().map(u32::from).collect();
            let text: String = stream(&ids).into_iter().flatten().collect();
            prop_assert_eq!(text, TextTokenizer::bytes().unwrap().decode(&ids));
        }
    }
}
