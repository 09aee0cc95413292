//! How kinds of verdicts are told and drawn.

use crate::ablate::statistics::VerdictKind;

/// All kinds, in the order in which they are told.
pub const KINDS: [VerdictKind; 7] = [
    VerdictKind::Better,
    VerdictKind::Worse,
    VerdictKind::Equivalent,
    VerdictKind::NotWorse,
    VerdictKind::Identical,
    VerdictKind::Undecided,
    VerdictKind::Refused,
];

impl VerdictKind {
    /// A sign beside the word, so that colour says nothing alone.
    pub(in crate::report) fn sign(self) -> &'static str {
        match self {
            Self::Better => "\u{25b2}",
            Self::Worse => "\u{25bc}",
            Self::Equivalent => "\u{2248}",
            Self::NotWorse => "\u{2265}",
            Self::Identical => "=",
            Self::Undecided => "\u{25cb}",
            Self::Refused => "\u{d7}",
        }
    }

    /// The verdict in a word or two.
    pub(in crate::report) fn word(self) -> &'static str {
        match self {
            Self::Better => "better",
            Self::Worse => "worse",
            Self::Equivalent => "equivalent",
            Self::NotWorse => "not worse",
            Self::Identical => "identical",
            Self::Undecided => "not decided",
            Self::Refused => "no verdict",
        }
    }

    /// The name of its style.
    pub(in crate::report) fn class(self) -> &'static str {
        match self {
            Self::Better => "better",
            Self::Worse => "worse",
            Self::Equivalent | Self::NotWorse | Self::Identical => "same",
            Self::Undecided | Self::Refused => "open",
        }
    }

    /// Whether it says something of the arms.
    pub(in crate::report) fn is_decided(self) -> bool {
        !matches!(self, Self::Undecided | Self::Refused)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn each_kind_is_told_in_its_own_way() {
        let told: BTreeSet<_> = KINDS.map(|kind| (kind.sign(), kind.word())).into();
        assert_eq!(told.len(), KINDS.len());
        let decided: Vec<_> = KINDS.into_iter().filter(|kind| kind.is_decided()).collect();
        assert_eq!(decided, KINDS[..5]);
    }
}
