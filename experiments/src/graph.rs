//! The graph of stages: keys derived from content, the store, and leases that let any number of processes share it.
//!
//! A [`Document`] holds everything that determines the result of a stage, and its hash is the stage's [`Key`]. Finished
//! stages are folders of a [`Store`]; unfinished ones are claimed under a lease ([`claim`]). So the same command, run
//! again or on many machines, continues where another process stopped.

mod canonical;
mod digest;
mod done;
mod error;
pub mod failure;
mod fingerprint;
mod key;
mod lease;
mod owner;
pub mod prune;
mod stamp;
mod store;
#[cfg(test)]
mod testing;
mod walk;
mod work;

pub use self::{
    canonical::{CanonicalError, canonical},
    digest::{Digest, DigestError, Fingerprint},
    done::{Done, Written},
    error::StoreError,
    fingerprint::{FingerprintError, Fingerprints, Source},
    key::{Document, Format, Key, KeyError},
    lease::{Clock, Held, Lease, Leases, Life, Monotonic, Observer, Timing},
    owner::host,
    stamp::Stamp,
    store::{Finding, Store, is_store},
    walk::size,
    work::{Claim, Outcome, PROGRESS, Publication, Work, claim, work_folder},
};
