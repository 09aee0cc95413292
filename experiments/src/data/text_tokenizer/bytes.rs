//! Bytes as characters, as GPT-2 writes them in its vocabulary.

use std::collections::HashMap;

/// The character that stands for each byte in a byte-level vocabulary.
///
/// Printable characters of Latin-1 stand for themselves; the other bytes are, in their order, the
/// characters from U+0100.
pub(super) fn byte_characters() -> [char; 256] {
    let mut hidden = 0x100_u32..;
    std::array::from_fn(|byte| {
        let byte = byte as u8;
        if matches!(byte, b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF) {
            char::from(byte)
        } else {
            // 68 characters from U+0100, each of which there is: the default is never taken.
            hidden.next().and_then(char::from_u32).unwrap_or_default()
        }
    })
}

/// The text of every id below the vocabulary's size; none for `end_id`.
pub(super) fn token_bytes(tokenizer: &tokenizers::Tokenizer, end_id: u32) -> Vec<Vec<u8>> {
    let byte_of: HashMap<char, u8> = byte_characters().into_iter().zip(0..=255).collect();
    let vocabulary = tokenizer.get_vocab(true);
    let size = vocabulary.values().max().map_or(0, |id| *id as usize + 1);
    let added = tokenizer.get_added_tokens_decoder();
    let mut bytes = vec![Vec::new(); size];
    for (token, id) in vocabulary {
        bytes[id as usize] = match added.contains_key(&id) {
            _ if id == end_id => Vec::new(),
            // Tokens that were added to the vocabulary are written as they are.
            true => token.into_bytes(),
            false => token
                .chars()
                .filter_map(|c| byte_of.get(&c))
                .copied()
                .collect(),
        };
    }
    bytes
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use tokenizers::pre_tokenizers::byte_level::ByteLevel;

    use super::*;

    #[test]
    fn the_characters_are_those_of_the_tokenizers_crate() {
        let ours: HashSet<char> = byte_characters().into_iter().collect();
        assert_eq!(ours.len(), 256);
        assert!(
            ByteLevel::alphabet()
                .iter()
                .all(|character| ours.contains(character))
        );
        assert_eq!(
            (byte_characters()[b' ' as usize], byte_characters()[0xAD]),
            ('Ġ', 'Ń')
        );
    }
}
