//! Stand-ins until the real types are merged.
#![allow(missing_docs)]

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SquadVersion {
    V1,
    V2,
}
