//! The tokens of a continuation as text, which ends before the stop text.

use crate::data::text_tokenizer::{StreamDecoder, TextTokenizer};

/// Turns tokens into text.
pub(super) struct Transcript<'a> {
    tokenizer: &'a TextTokenizer,
    stop: Option<&'a str>,
}

/// Text from tokens that come one at a time.
pub(super) struct TranscriptStream<'a> {
    decoder: StreamDecoder,
    stop: Option<&'a str>,
    /// Text that may be the beginning of the stop text.
    held: String,
    is_over: bool,
}

impl<'a> Transcript<'a> {
    pub(super) fn new(tokenizer: &'a TextTokenizer, stop: Option<&'a str>) -> Self {
        Self { tokenizer, stop }
    }

    /// Whether the last token completes the stop text.
    pub(super) fn is_at_stop(&self, tokens: &[u32]) -> bool {
        let (Some(stop), Some((last, before))) = (self.stop, tokens.split_last()) else {
            return false;
        };
        // No more bytes before the last token's can be part of a stop text that ends in it.
        let (mut first, mut bytes) = (before.len(), 0);
        while first > 0 && bytes + 1 < stop.len() {
            first -= 1;
            bytes += self.tokenizer.token_bytes(before[first]).len();
        }
        let near = before[first..].iter().chain([last]);
        let near: Vec<u8> = near
            .flat_map(|id| self.tokenizer.token_bytes(*id))
            .copied()
            .collect();
        near.windows(stop.len())
            .any(|bytes| bytes == stop.as_bytes())
    }

    /// The text of a whole continuation.
    pub(super) fn text(&self, tokens: &[u32]) -> String {
        let mut text = self.tokenizer.decode(tokens);
        if let Some(end) = self.stop.and_then(|stop| text.find(stop)) {
            text.truncate(end);
        }
        text
    }

    pub(super) fn stream(&self) -> TranscriptStream<'a> {
        TranscriptStream {
            decoder: self.tokenizer.stream(),
            stop: self.stop,
            held: String::new(),
            is_over: false,
        }
    }
}

impl TranscriptStream<'_> {
    /// Takes a token; returns the text that has become certain.
    pub(super) fn push(&mut self, id: u32) -> String {
        let text = self.decoder.push(id).unwrap_or_default();
        self.take(&text)
    }

    /// Ends the text; returns the rest of it.
    pub(super) fn finish(mut self) -> String {
        let text = self.decoder.clone().finish().unwrap_or_default();
        let text = self.take(&text);
        if self.is_over {
            text
        } else {
            text + &self.held
        }
    }

    fn take(&mut self, text: &str) -> String {
        let Some(stop) = self.stop else {
            return text.to_owned();
        };
        if self.is_over {
            return String::new();
        }
        self.held += text;
        let end = if let Some(end) = self.held.find(stop) {
            self.is_over = true;
            end
        } else {
            let starts = self.held.char_indices().map(|(start, _)| start);
            let mut starts = starts.filter(|start| stop.starts_with(&self.held[*start..]));
            starts.next().unwrap_or(self.held.len())
        };
        let rest = self.held.split_off(end);
        std::mem::replace(&mut self.held, rest)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ids(text: &[u8]) -> Vec<u32> {
        text.iter().copied().map(u32::from).collect()
    }

    #[test]
    fn what_may_be_the_stop_text_is_held_back() {
        let tokenizer = TextTokenizer::bytes().unwrap();
        let transcript = Transcript::new(&tokenizer, Some("\n\nQ"));
        let mut stream = transcript.stream();
        let pieces: Vec<String> = ids(b"a\n\n\n\nb\n\nQ:")
            .into_iter()
            .map(|id| stream.push(id))
            .collect();
        assert_eq!(pieces, ["a", "", "", "\n", "\n", "\n\nb", "", "", "", ""]);
        assert_eq!(stream.finish(), "");
        let mut stream = transcript.stream();
        assert_eq!(stream.push(u32::from(b'\n')), "");
        assert_eq!(stream.push(0xE2), "");
        assert_eq!(stream.finish(), "\n\u{fffd}");
    }

    proptest! {
        #[test]
        fn streams_and_stops_agree_with_the_whole_text(
            bytes in prop::collection::vec(prop_oneof![4 => b'a'..b'c', 1 => any::<u8>()], 0..30),
            stop in "[ab\u{e9}]{1,4}",
        ) {
            let tokenizer = TextTokenizer::bytes().unwrap();
            let transcript = Transcript::new(&tokenizer, Some(&stop));
            let mut tokens = ids(&bytes);
            let end = (1..=tokens.len()).find(|end| transcript.is_at_stop(&tokens[..*end]));
            let text = tokenizer.decode(&tokens);
            prop_assert_eq!(end.is_some(), text.contains(&stop));
            if let Some(end) = end {
                prop_assert_eq!(tokenizer.decode(&tokens[..end]).find(&stop), text.find(&stop));
                tokens.truncate(end);
            }
            let mut stream = transcript.stream();
            let streamed: String = tokens.iter().map(|id| stream.push(*id)).collect();
            prop_assert_eq!(streamed + &stream.finish(), transcript.text(&tokens));
        }
    }
}
