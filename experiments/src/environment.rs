//! Where and how a run was started, for its record.

use std::thread;

use serde::{Deserialize, Serialize};

use crate::unix_time::now;

/// The version of Burn that Cargo.toml pins.
const BURN: &str = "0.22.1";

/// One start of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Environment {
    /// Kiln's version.
    pub kiln: String,
    /// The commit it was built from; known when `KILN_COMMIT` was set while building.
    pub commit: Option<String>,
    /// Burn's version.
    pub burn: String,
    /// Operating system and processor, as in `linux x86_64`.
    pub system: String,
    /// The device computed on.
    pub device: String,
    /// Processors the program may use.
    pub cpus: usize,
    /// The command line.
    pub command: Vec<String>,
    /// The seeds of the run.
    pub seeds: Vec<u64>,
    /// The time of the start, in seconds since 1970-01-01 UTC.
    pub started_unix_s: u64,
}

impl Environment {
    /// This process, now, computing on `device`.
    pub fn capture(device: &str, seeds: &[u64]) -> Self {
        Self {
            kiln: env!("CARGO_PKG_VERSION").to_owned(),
            commit: option_env!("KILN_COMMIT").map(str::to_owned),
            burn: BURN.to_owned(),
            system: format!("{} {}", std::env::consts::OS, std::env::consts::ARCH),
            device: device.to_owned(),
            cpus: thread::available_parallelism().map_or(1, usize::from),
            command: std::env::args_os()
                .map(|argument| argument.to_string_lossy().into_owned())
                .collect(),
            seeds: seeds.to_vec(),
            started_unix_s: now(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_of_burn_is_the_pinned_one() {
        let manifest: toml::Table =
            toml::from_str(include_str!("../../Cargo.toml")).expect("a manifest");
        let pinned = &manifest["workspace"]["dependencies"]["burn"]["version"];
        assert_eq!(pinned.as_str(), Some(format!("={BURN}").as_str()));
    }
}
