//! One sentence per arm.

use std::collections::BTreeMap;

use crate::report::{
    data::VerdictKind,
    number,
    section::{Block, Made, Section, Sentence},
    subject::Subject,
};

/// The section.
pub fn make(subject: &Subject<'_>) -> Made {
    let results = &subject.data.results;
    let mut counts: BTreeMap<VerdictKind, usize> = BTreeMap::new();
    let mut sentences = vec![];
    for comparison in results.primary() {
        let kind = comparison.verdict.kind;
        *counts.entry(kind).or_default() += 1;
        sentences.push(Sentence {
            sign: kind.sign(),
            word: kind.word(),
            class: kind.class(),
            text: comparison.verdict.sentence.clone(),
        });
    }
    if sentences.is_empty() {
        return Err("no arms were compared".to_owned());
    }
    let counts: Vec<String> = counts
        .iter()
        .map(|(kind, count)| format!("{count} {}", kind.word()))
        .collect();
    let is_crossed = results
        .primary()
        .any(|comparison| comparison.p_crossed.is_some());
    let p = if is_crossed {
        "p, the larger one of exact sign flips and of crossed random effects,"
    } else {
        "the adjusted p of exact sign flips"
    };
    let level = format!(
        "Of {} comparisons: {}. Intervals hold for all of them together at level {}; an arm is better or worse where its interval \
         excludes 0 and {p} is at most {}.",
        sentences.len(),
        counts.join(", "),
        number::short(1.0 - results.alpha, 4),
        results.alpha
    );
    Ok(Section {
        id: "verdicts",
        title: "Verdicts",
        blocks: vec![Block::Text(level), Block::Verdicts(sentences)],
    })
}
