//! What to know beside a verdict.

/// With fewer examples or groups, intervals are less sure than they say.
const FEW: usize = 30;

/// A reason to trust a verdict less, which does not refuse it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Note {
    /// The checkpoint was kept, or the training stopped, by the score on these examples.
    #[error("judged on the examples that chose the checkpoint")]
    ChosenOnTheseExamples,
    /// Few examples.
    #[error("{0} examples are few: the interval is less sure than it says")]
    FewExamples(usize),
    /// Few groups of examples.
    #[error("{0} groups of examples are few: the interval is less sure than it says")]
    FewGroups(usize),
    /// The arms ran on two backends.
    #[error("run on two backends, {0} and {1}")]
    TwoBackends(String, String),
    /// The examples are parts of one document.
    #[error("blocks of one document, {0}: it speaks for this document alone")]
    BlocksOfOneDocument(String),
}

impl Note {
    /// The note that there are few examples or, if they come in groups, few groups.
    pub fn few(examples: usize, groups: Option<usize>) -> Option<Self> {
        match groups {
            Some(groups) => (groups < FEW).then_some(Self::FewGroups(groups)),
            None => (examples < FEW).then_some(Self::FewExamples(examples)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_examples_and_few_groups_are_noted() {
        assert_eq!(Note::few(30, None), None);
        assert_eq!(Note::few(29, None), Some(Note::FewExamples(29)));
        assert_eq!(Note::few(2000, Some(30)), None);
        let note = Note::few(2000, Some(7)).unwrap();
        assert_eq!(
            note.to_string(),
            "7 groups of examples are few: the interval is less sure than it says"
        );
    }
}
