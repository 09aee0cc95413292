//! Which process writes an event file.

use std::{env, fs, process};

/// The process that writes a file, for its name.
#[derive(Clone, Debug, PartialEq)]
pub struct Origin {
    /// The machine's name.
    pub host: String,
    /// The process's number on it.
    pub process: u32,
}

impl Origin {
    /// This process on this machine; `localhost` if the machine's name is unknown.
    pub fn here() -> Self {
        let host = fs::read_to_string("/proc/sys/kernel/hostname").ok();
        let named = |name| env::var(name).ok();
        let host = host
            .or_else(|| named("HOSTNAME"))
            .or_else(|| named("COMPUTERNAME"))
            .map(|host| host.trim().to_owned())
            .filter(|host| !host.is_empty());
        Self {
            host: host.unwrap_or_else(|| "localhost".to_owned()),
            process: process::id(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_a_host() {
        let here = Origin::here();
        assert!(!here.host.is_empty() && !here.host.contains('\n'));
        assert_eq!(here.process, process::id());
    }
}
