//! The sentence of a verdict.

use super::{
    Refusal, VerdictInput, VerdictKind, seeds_at_least,
    sentence_numbers::{counted, margin, measured},
};
use crate::number::{p_value, thousands};

/// The sentence of a kind of verdict, or of why there is none.
pub(super) fn of(input: &VerdictInput, outcome: &Result<VerdictKind, Refusal>) -> String {
    let VerdictInput { arm, reference, .. } = input;
    match outcome {
        Ok(VerdictKind::Identical) => input.agreement(),
        Ok(VerdictKind::Better) => format!("{arm} beats {reference}: {}", input.numbers()),
        Ok(VerdictKind::Worse) => format!("{arm} loses to {reference}: {}", input.numbers()),
        Ok(VerdictKind::Equivalent) => {
            format!(
                "{arm} is within {} of {reference}: {}",
                input.margin(),
                input.numbers()
            )
        }
        Ok(VerdictKind::NotWorse) => format!(
            "{arm} is not worse than {reference} by {}: {}",
            input.margin(),
            input.numbers()
        ),
        Ok(VerdictKind::Undecided | VerdictKind::Refused) => {
            format!(
                "{arm} against {reference} is not decided: {}",
                input.undecided()
            )
        }
        Err(refusal) => format!("{arm} against {reference}: no verdict: {refusal}"),
    }
}

impl VerdictInput<'_> {
    fn agreement(&self) -> String {
        let seeds = match self.seeds {
            1 => "1 seed".to_owned(),
            seeds => format!("all {} seeds", thousands(seeds)),
        };
        format!(
            "{} and {} agree on all {} in {seeds}",
            self.arm,
            self.reference,
            counted(self.examples, "example")
        )
    }

    fn margin(&self) -> String {
        margin(self.margin.unwrap_or_default(), self.unit)
    }

    fn difference(&self) -> String {
        format!(
            "{} {}",
            self.metric,
            measured(self.difference, self.interval, self.unit)
        )
    }

    fn sample(&self) -> String {
        format!(
            "{}, {}",
            counted(self.seeds, "seed"),
            counted(self.examples, "example")
        )
    }

    fn numbers(&self) -> String {
        format!(
            "{} ({}, {})",
            self.difference(),
            self.sample(),
            p_value(self.p)
        )
    }

    fn undecided(&self) -> String {
        if self.has_too_few_seeds() {
            return format!(
                "{} ({}); {} cannot decide, {} can",
                self.difference(),
                self.sample(),
                counted(self.seeds, "seed"),
                seeds_at_least(self.alpha)
            );
        }
        let what_it_takes = match self.needs {
            _ if self.interval.is_none() => {
                "the difference does not vary over seeds or examples, which leaves no interval"
                    .to_owned()
            }
            Some(needs) => {
                let seeds = counted(needs.max(self.seeds.saturating_add(1)), "seed");
                format!("about {seeds} would decide a difference of this size")
            }
            None => {
                "more seeds alone cannot decide a difference of this size, more examples are needed"
                    .to_owned()
            }
        };
        format!("{}; {what_it_takes}", self.numbers())
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::{Interval, testing::input, verdict},
        *,
    };

    fn sentence(change: impl Fn(&mut VerdictInput)) -> String {
        let mut input = input();
        change(&mut input);
        verdict(&input).sentence
    }

    #[test]
    fn what_cannot_be_judged_is_refused() {
        let sentence_of =
            |refusal: &Refusal| sentence(|input| input.refusal = Some(refusal.clone()));
        assert_eq!(
            sentence_of(&Refusal::SeedsThatChose),
            "A against R: no verdict: the seeds that chose the arm are the seeds reported"
        );
        assert_eq!(
            sentence(|input| input.examples = 1),
            "A against R: no verdict: there are fewer than 2 examples"
        );
        let not_finite = "A against R: no verdict: accuracy is not finite";
        assert_eq!(sentence(|input| input.difference = f64::NAN), not_finite);
        assert_eq!(sentence(|input| input.p = f64::NAN), not_finite);
        let infinite = Interval {
            low: 0.0,
            high: f64::INFINITY,
        };
        assert_eq!(
            sentence(|input| input.interval = Some(infinite)),
            not_finite
        );
    }

    #[test]
    fn a_difference_that_never_varies_is_not_decided() {
        let sentence = sentence(|input| {
            input.interval = None;
            input.difference = 1.0;
            input.p = 0.03125;
        });
        assert_eq!(
            sentence,
            "A against R is not decided: accuracy +100 points (6 seeds, 872 examples, p = 0.031); \
             the difference does not vary over seeds or examples, which leaves no interval"
        );
    }

    /// The interval excludes 0, and p is too large: the spread would ask for no more seeds.
    #[test]
    fn more_seeds_are_asked_for_than_there_are() {
        let sentence = sentence(|input| {
            input.interval = Some(Interval {
                low: 0.001,
                high: 0.019,
            });
            input.p = 0.0625;
            input.needs = Some(6);
        });
        assert!(
            sentence.ends_with("; about 7 seeds would decide a difference of this size"),
            "{sentence}"
        );
    }

    #[test]
    fn a_single_pair_that_agrees_is_no_plural() {
        let sentence = sentence(|input| {
            input.identical = true;
            input.seeds = 1;
        });
        assert_eq!(sentence, "A and R agree on all 872 examples in 1 seed");
    }
}
