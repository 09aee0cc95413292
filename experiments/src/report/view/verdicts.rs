//! One sentence per arm.

use crate::report::{
    number,
    section::{Block, Made, Section, Sentence},
    subject::Subject,
    verdict::KINDS,
};

/// The section.
pub fn make(subject: &Subject<'_>) -> Made {
    let results = &subject.data.results;
    let sentences = results.primary().map(|comparison| Sentence {
        kind: comparison.verdict.kind,
        text: comparison.verdict.sentence.clone(),
    });
    let sentences: Vec<Sentence> = sentences.collect();
    if sentences.is_empty() {
        return Err("no arms were compared".to_owned());
    }
    let counts = KINDS.map(|kind| {
        let own = sentences.iter().filter(|sentence| sentence.kind == kind);
        (kind, own.count())
    });
    let counts: Vec<String> = counts
        .iter()
        .filter(|(_, count)| *count > 0)
        .map(|(kind, count)| format!("{count} {}", kind.word()))
        .collect();
    let is_crossed = results
        .primary()
        .any(|comparison| comparison.statistics.is_some());
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
