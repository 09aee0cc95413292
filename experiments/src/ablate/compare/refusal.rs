//! Why an arm gets no verdict.

use super::{JudgedArm, Measured};
use crate::ablate::statistics::Refusal;

/// Why an arm cannot be compared with the reference, if it cannot; `seeds` is the number of all.
pub(super) fn refusal(
    arm: &JudgedArm,
    measured: Option<&Measured<'_>>,
    reference: &JudgedArm,
    of_reference: Option<&Measured<'_>>,
    seeds: usize,
) -> Option<Refusal> {
    if arm.is_dropped {
        return Some(Refusal::SeedsThatChose);
    }
    let is_paired = arm.seeds.keys().eq(reference.seeds.keys());
    if let (true, Some(measured), Some(base)) = (is_paired, measured, of_reference) {
        return (!measured.is_paired(base)).then_some(Refusal::DifferentExamples);
    }
    // The arm that lacks seeds, or the one that lacks more of them.
    let lacks = |arm: &JudgedArm| seeds - arm.seeds.len();
    let of = if lacks(arm) >= lacks(reference) {
        arm
    } else {
        reference
    };
    let seeds = seeds.max(of.failed + of.seeds.len());
    Some(match of.failed {
        0 => Refusal::MissingSeeds {
            arm: of.name.clone(),
            missing: seeds - of.seeds.len(),
            seeds,
        },
        failed => Refusal::FailedSeeds {
            arm: of.name.clone(),
            failed,
            seeds,
        },
    })
}

#[cfg(test)]
mod tests {
    use super::super::{
        Comparisons,
        testing::{arm, question},
    };
    use crate::ablate::statistics::VerdictKind;

    #[test]
    fn other_examples_get_no_verdict() {
        let mut other = arm("other", 6, |_, example| example == 3);
        for seed in other.seeds.values_mut() {
            seed[0].ids[0] = "new".to_owned();
        }
        let mut data = arm("data", 6, |_, example| example == 5);
        for seed in data.seeds.values_mut() {
            seed[0].content = "of another file".to_owned();
        }
        let arms = [arm("reference", 6, |_, example| example == 4), other, data];
        let found = Comparisons::of(&arms, 0, question("accuracy")).unwrap();
        let expected =
            "other against reference: no verdict: the arms were judged on different examples";
        assert_eq!(found.arms[0].verdict.sentence, expected);
        for arm in &found.arms {
            assert_eq!(arm.verdict.kind, VerdictKind::Refused);
            assert!(arm.statistics.is_none());
        }
        let error = Comparisons::of(&arms, 0, question("acuracy")).unwrap_err();
        assert!(
            error.to_string().contains("did you mean `accuracy`?"),
            "{error}"
        );
    }

    #[test]
    fn an_arm_with_fewer_seeds_gets_no_verdict() {
        let mut arms = [
            arm("reference", 6, |_, example| example == 4),
            arm("broken", 6, |_, example| example == 3),
            arm("late", 6, |_, example| example == 3),
            arm("gone", 0, |_, _| false),
        ];
        arms[1].seeds.remove(&2);
        arms[1].failed = 1;
        arms[2].seeds.remove(&5);
        arms[3].failed = 6;
        let found = Comparisons::of(&arms, 0, question("accuracy")).unwrap();
        let sentences = found.sentences();
        let mut lines = sentences.lines();
        for expected in [
            "1 of 6 seeds of broken failed; leaving them out would favour it",
            "1 of 6 seeds of late are missing; leaving them out could favour it",
            "6 of 6 seeds of gone failed; leaving them out would favour it",
        ] {
            let line = lines.next().unwrap();
            assert!(line.ends_with(expected), "{line}");
        }
        // Where the reference lacks them, it is the one to blame.
        let found = Comparisons::of(&arms, 1, question("accuracy")).unwrap();
        let sentence = &found.arms[0].verdict.sentence;
        assert!(sentence.contains("seeds of broken failed"), "{sentence}");
    }
}
