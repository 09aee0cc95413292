//! Which tokens each expert gets.

use super::experts::shown;
use crate::{
    inside::record::{Routed, RoutedExpert, Word},
    number::thousands,
    report::{
        layers::OfModel,
        number,
        section::{Block, Made, Section, Table},
        subject::Subject,
    },
};

/// So many models are shown.
const ARMS: usize = 3;
/// So many tokens of an expert are shown.
const WORDS: usize = 8;
/// About so many rows of a model are shown.
const ROWS: usize = 64;

/// The section.
pub fn make(subject: &Subject<'_>) -> Made {
    let routed = &subject.data.layers.routed;
    if routed.is_empty() {
        return Err(
            "no evaluation recorded which tokens pass through which expert; models without experts have none, and those of \
             earlier versions did not"
                .to_owned(),
        );
    }
    let of = |arm: &str| routed.iter().find(|found| found.arm == arm);
    let arms = shown(subject, ARMS, |arm| of(arm).is_some());
    let all = shown(subject, usize::MAX, |arm| of(arm).is_some()).len();
    let others = if all > arms.len() {
        format!(" Shown are {} of {all} models.", arms.len())
    } else {
        String::new()
    };
    let mut blocks = vec![Block::Text(format!(
        "Entries of the vocabulary that are typical of each expert, on the data to validate on: those that come often and go to \
         it more than to others, by count \u{d7} ln(share / the expert's share of all tokens). Beside each is how often the \
         expert got it, and which part of all its occurrences that is, where others got some. A token with several experts \
         counts for each. \u{2423} is a space.{others}",
    ))];
    blocks.extend(
        arms.into_iter()
            .filter_map(of)
            .enumerate()
            .map(|(place, found)| {
                let mut table = table(found);
                table.is_folded = place > 0;
                Block::Table(table)
            }),
    );
    Ok(Section {
        id: "words",
        title: "Tokens of experts",
        blocks,
    })
}

fn table(found: &OfModel<Routed>) -> Table {
    let OfModel { arm, seed, what } = found;
    let experts = what.layers.iter().map(|layer| layer.experts.len());
    let most = (ROWS / experts.max().unwrap_or(1).max(1)).max(1);
    let layers: Vec<_> = what.layers.iter().collect();
    let layers = super::lines::thinned(&layers, most);
    let some = if layers.len() < what.layers.len() {
        format!(", {} of {} layers", layers.len(), what.layers.len())
    } else {
        String::new()
    };
    let mut table = Table::new(
        &format!("{arm}, seed {seed}{some}"),
        &["layer", "expert", "typical tokens", "tokens", "of all, %"],
        3,
    );
    for layer in layers {
        for (place, expert) in layer.experts.iter().take(ROWS).enumerate() {
            let share = expert.tokens as f64 / layer.tokens.max(1) as f64;
            table.rows.push(vec![
                (layer.layer + 1).to_string(),
                (place + 1).to_string(),
                typical(expert),
                thousands(expert.tokens as usize),
                number::fixed(100.0 * share, 1),
            ]);
        }
    }
    table
}

fn typical(expert: &RoutedExpert) -> String {
    let words = expert.words.iter().take(WORDS);
    let words: Vec<String> = words.map(told).collect();
    if words.is_empty() {
        return "\u{2013}".to_owned();
    }
    words.join(", ")
}

fn told(word: &Word) -> String {
    let count = thousands(word.count as usize);
    // How byte-level and SentencePiece vocabularies write a space.
    let token: String = word
        .token
        .chars()
        .map(|character| match character {
            ' ' | '\u{120}' | '\u{2581}' => '\u{2423}',
            '\n' => '\u{21b5}',
            other => other,
        })
        .collect();
    if word.share < 0.995 {
        format!(
            "{token} {count} ({} %)",
            number::fixed(100.0 * word.share, 0)
        )
    } else {
        format!("{token} {count}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_have_their_counts_and_the_share_where_others_get_some() {
        let word = |token: &str, share| Word {
            token: token.to_owned(),
            count: 1200,
            share,
        };
        let expert = RoutedExpert {
            tokens: 3000,
            words: vec![word("##ing", 1.0), word(" the\n", 0.345)],
        };
        let count = thousands(1200);
        assert_eq!(
            typical(&expert),
            format!("##ing {count}, \u{2423}the\u{21b5} {count} (34 %)")
        );
    }
}
