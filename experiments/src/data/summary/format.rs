//! From texts and summaries to the tokens that a decoder reads.

use burn::{config::Config, data::dataset::InMemDataset};

use super::{SummaryError, SummaryExample};
use crate::data::{language::Sequence, text_tokenizer::TextTokenizer};

/// What stands between a text and its summary: that by which GPT-2 was made to summarise (Radford et
/// al. 2019, section 3.6).
pub const SEPARATOR: &str = "\n\nTL;DR:";

/// Texts that are turned into tokens at a time; of each no more than fits is kept.
const CHUNK: usize = 64;

/// Configuration of [`SummaryFormat`].
#[derive(Config, Debug, PartialEq)]
pub struct SummaryConfig {
    /// The most tokens of text, separator and summary together.
    pub length: usize,
    /// The most tokens of a summary, with the one that ends it.
    #[config(default = 128)]
    pub max_new_tokens: usize,
    /// What stands between text and summary.
    #[config(default = "String::from(SEPARATOR)")]
    pub separator: String,
}

/// How a decoder reads a text and writes its summary: the beginning of the text, the separator, and
/// the summary with a space before it, ended by the token that ends a document.
#[derive(Clone, Debug)]
pub struct SummaryFormat {
    tokenizer: TextTokenizer,
    separator: Vec<u32>,
    config: SummaryConfig,
}

impl SummaryConfig {
    /// The format in the tokens of a model.
    ///
    /// # Errors
    ///
    /// If there is no room for a text beside separator and summary.
    pub fn init(&self, tokenizer: &TextTokenizer) -> Result<SummaryFormat, SummaryError> {
        let separator = tokenizer.encode(&[&self.separator])?.concat();
        if self.max_new_tokens == 0 {
            return Err(SummaryError::NoTokens);
        }
        let taken = self.max_new_tokens.saturating_add(separator.len());
        if taken >= self.length {
            return Err(SummaryError::Length {
                length: self.length,
                summary: self.max_new_tokens,
                separator: separator.len(),
            });
        }
        Ok(SummaryFormat {
            tokenizer: tokenizer.clone(),
            separator,
            config: self.clone(),
        })
    }
}

impl SummaryFormat {
    /// The configuration.
    pub fn config(&self) -> &SummaryConfig {
        &self.config
    }

    /// The tokenizer.
    pub fn tokenizer(&self) -> &TextTokenizer {
        &self.tokenizer
    }

    /// Sequences to train on, one for each text and reference, with targets at the summary and its end
    /// alone. A summary that is cut has no end. At most [`SummaryConfig::length`] tokens.
    ///
    /// # Errors
    ///
    /// If the tokenizer fails.
    pub fn sequences(
        &self,
        examples: &[SummaryExample],
    ) -> Result<InMemDataset<Sequence>, SummaryError> {
        let pairs: Vec<(&str, String)> = examples
            .iter()
            .flat_map(|example| {
                let references = example.references.iter();
                references
                    .map(|reference| (example.input.as_str(), format!(" {}", reference.trim())))
            })
            .collect();
        let mut sequences = Vec::with_capacity(pairs.len());
        for chunk in pairs.chunks(CHUNK) {
            let (inputs, outputs): (Vec<&str>, Vec<&str>) = chunk
                .iter()
                .map(|(input, output)| (*input, output.as_str()))
                .unzip();
            let inputs = self.tokenizer.encode(&inputs)?;
            let outputs = self.tokenizer.encode(&outputs)?;
            let rows = inputs.into_iter().zip(outputs);
            sequences.extend(rows.map(|(input, output)| self.sequence(input, output)));
        }
        Ok(InMemDataset::new(sequences))
    }

    /// The tokens after which a model is to write the summaries of texts; with a summary, at most
    /// [`SummaryConfig::length`].
    ///
    /// # Errors
    ///
    /// If the tokenizer fails.
    pub fn prompts<S: AsRef<str>>(&self, inputs: &[S]) -> Result<Vec<Vec<u32>>, SummaryError> {
        let mut prompts = Vec::with_capacity(inputs.len());
        for chunk in inputs.chunks(CHUNK) {
            let inputs = self.tokenizer.encode(chunk)?.into_iter();
            prompts.extend(inputs.map(|input| self.prompt(input, self.config.max_new_tokens)));
        }
        Ok(prompts)
    }

    /// The summary that a model wrote.
    pub fn summary(&self, tokens: &[u32]) -> String {
        self.tokenizer.decode(tokens).trim().to_owned()
    }

    fn sequence(&self, input: Vec<u32>, mut output: Vec<u32>) -> Sequence {
        output.push(self.tokenizer.end_id());
        output.truncate(self.config.max_new_tokens);
        // The last token of the summary is nothing but a target, and the first one is that of the last
        // token before it.
        let written = output.len() - 1;
        let mut input_ids = self.prompt(input, written);
        let mut targets = vec![None; input_ids.len() - 1];
        input_ids.extend(&output[..written]);
        targets.extend(output.into_iter().map(Some));
        Sequence { input_ids, targets }
    }

    /// The beginning of a text and the separator, so that `room` more tokens fit.
    fn prompt(&self, mut input: Vec<u32>, room: usize) -> Vec<u32> {
        input.truncate(self.config.length - self.separator.len() - room);
        input.extend(&self.separator);
        input
    }
}

#[cfg(test)]
mod tests {
    use burn::data::dataset::Dataset;
    use proptest::prelude::*;

    use super::*;

    fn format(length: usize, max_new_tokens: usize) -> Result<SummaryFormat, SummaryError> {
        let config = SummaryConfig::new(length)
            .with_max_new_tokens(max_new_tokens)
            .with_separator("=".to_owned());
        config.init(&TextTokenizer::bytes().unwrap())
    }

    fn example(input: &str, references: &[&str]) -> SummaryExample {
        SummaryExample {
            id: String::new(),
            input: input.to_owned(),
            references: references.iter().map(ToString::to_string).collect(),
        }
    }

    /// The bytes of tokens, `$` for the end.
    fn shown(ids: impl IntoIterator<Item = u32>) -> String {
        let byte = |id| if id == 256 { '$' } else { char::from(id as u8) };
        ids.into_iter().map(byte).collect()
    }

    fn sequences(format: &SummaryFormat, examples: &[SummaryExample]) -> Vec<(String, String)> {
        let sequences = format.sequences(examples).unwrap();
        let rows = sequences.iter().map(|sequence| {
            let Sequence { input_ids, targets } = sequence.unwrap();
            assert_eq!(input_ids.len(), targets.len());
            let asked = targets.iter().position(Option::is_some).unwrap();
            assert_eq!(input_ids[asked], u32::from(b'='));
            let targets = shown(targets[asked..].iter().map(|target| target.unwrap()));
            (shown(input_ids), targets)
        });
        rows.collect()
    }

    #[test]
    fn targets_are_the_summary_and_its_end() {
        let format = format(20, 6).unwrap();
        let examples = [example("text", &["one", " two\n"]), example("a", &["b"])];
        let rows = sequences(&format, &examples);
        let row = |ids: &str, targets: &str| (ids.to_owned(), targets.to_owned());
        assert_eq!(
            rows,
            [
                row("text= one", " one$"),
                row("text= two", " two$"),
                row("a= b", " b$"),
            ]
        );
    }

    #[test]
    fn texts_are_cut_to_leave_room_and_long_summaries_have_no_end() {
        let format = format(10, 5).unwrap();
        let rows = sequences(&format, &[example("0123456789", &["ab", "abcdef"])]);
        let row = |ids: &str, targets: &str| (ids.to_owned(), targets.to_owned());
        assert_eq!(
            rows,
            [row("012345= ab", " ab$"), row("01234= abc", " abcd")]
        );
        let prompts = format.prompts(&["0123456789", "0"]).unwrap();
        let prompts: Vec<String> = prompts.into_iter().map(shown).collect();
        assert_eq!(prompts, ["0123=", "0="]);
        assert_eq!(format.summary(&[32, 97, 98, 256]), "ab");
    }

    #[test]
    fn no_room_is_an_error() {
        let error = format(6, 5).unwrap_err().to_string();
        assert!(
            error.contains("the summary takes 5, the separator 1; expected at least 7"),
            "{error}"
        );
        assert!(format(7, 5).is_ok());
        assert!(matches!(format(7, 0), Err(SummaryError::NoTokens)));
    }

    proptest! {
        #[test]
        fn no_sequence_is_longer_than_asked_for(
            input in "[a-z]{1,40}",
            output in "[a-z]{1,40}",
            most in 1_usize..12,
            spare in 2_usize..20,
        ) {
            let format = format(most + spare, most).unwrap();
            let rows = sequences(&format, &[example(&input, &[&output])]);
            prop_assert!(rows[0].0.len() <= most + spare);
            prop_assert!(rows[0].1.len() <= most);
            // Nothing is cut without need.
            let whole = input.len() + 1 + rows[0].1.len() - 1;
            prop_assert_eq!(rows[0].0.len(), whole.min(most + spare));
            let prompt = &format.prompts(&[&input]).unwrap()[0];
            prop_assert!(prompt.len() + most <= most + spare);
        }
    }
}
