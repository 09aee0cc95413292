//! The process that holds a lease, and whether it is still running.

use std::{
    fs,
    hash::{BuildHasher, RandomState},
    io, process,
};

use super::digest::Digest;

/// Stands for an unknown value, so that every line has the same number of fields.
const NONE: &str = "-";
/// In bytes, so that a lease's line has room for it.
const LONGEST_HOST: usize = 100;

/// The owner of a lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Owner {
    /// 128 random bits, new for each claim.
    pub(super) id: String,
    pub(super) process: Process,
}

/// A process, distinguishable from those on other machines that share the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Process {
    pub(super) host: String,
    /// The machine's boot id and PID namespace. Containers on one machine share the boot id but do not see each
    /// other's processes.
    pub(super) boot: String,
    pub(super) pid: u32,
    /// When the process started, in clock ticks since boot, because process numbers are reused; 0 if unknown.
    pub(super) started: u64,
}

impl Owner {
    /// This process, with a new id.
    pub(super) fn new() -> Self {
        Self {
            id: unique(),
            process: Process::this(),
        }
    }
}

impl Process {
    pub(super) fn this() -> Self {
        let pid = process::id();
        Self {
            host: host(),
            boot: boot().unwrap_or_else(|| NONE.to_owned()),
            pid,
            started: stat(pid).ok().flatten().map_or(0, |stat| stat.started),
        }
    }

    /// Whether the process has certainly ended: it ran in this boot and PID namespace, and `/proc` does not list it.
    /// False if `/proc` cannot tell, as on systems other than Linux.
    pub(super) fn is_gone(&self) -> bool {
        self.is_running() == Some(false)
    }

    /// Whether the process is running; `None` if that cannot be told from here, because it belongs to another boot or PID
    /// namespace or `/proc` does not say.
    pub(super) fn is_running(&self) -> Option<bool> {
        if self.boot == NONE || boot().is_none_or(|boot| boot != self.boot) {
            return None;
        }
        match stat(self.pid) {
            Ok(Some(stat)) => Some(!stat.ended && stat.started == self.started),
            Ok(None) => None,
            // The mount option `hidepid` hides the processes of other users, and with them process 1.
            Err(error) => {
                let is_gone = error.kind() == io::ErrorKind::NotFound && stat(1).is_ok();
                is_gone.then_some(false)
            }
        }
    }
}

/// The host name of this machine; characters other than ASCII letters, digits, `.`, `_` and `-` become `_`.
pub fn host() -> String {
    let name = fs::read_to_string("/proc/sys/kernel/hostname")
        .ok()
        .or_else(|| std::env::var("HOSTNAME").ok())
        .or_else(|| std::env::var("COMPUTERNAME").ok())
        .unwrap_or_default();
    let name: String = name
        .trim()
        .chars()
        .take(LONGEST_HOST)
        .map(|char| match char {
            'a'..='z' | 'A'..='Z' | '0'..='9' | '.' | '_' | '-' => char,
            _ => '_',
        })
        .collect();
    if name.is_empty() {
        NONE.to_owned()
    } else {
        name
    }
}

/// 128 random bits in hex digits.
pub(super) fn unique() -> String {
    // The standard library seeds these hashers from the system's random numbers.
    let random = [(); 4].map(|()| RandomState::new().hash_one(process::id()).to_le_bytes());
    Digest::of(random.concat()).to_string()[..32].to_owned()
}

/// The boot id of this machine and this process's PID namespace; Linux only.
fn boot() -> Option<String> {
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    let namespace = fs::read_link("/proc/self/ns/pid").ok()?;
    let namespace = namespace.to_str()?;
    let digits = namespace.trim_matches(|char: char| !char.is_ascii_digit());
    Some(format!("{}/{digits}", boot.trim()))
}

struct Stat {
    started: u64,
    /// Whether it has ended and waits for its parent to read the exit code.
    ended: bool,
}

/// The state of a process; `None` if the file has another form. Source: `proc_pid_stat(5)`.
fn stat(pid: u32) -> io::Result<Option<Stat>> {
    let text = fs::read(format!("/proc/{pid}/stat"))?;
    Ok(parse_stat(&String::from_utf8_lossy(&text)))
}

fn parse_stat(text: &str) -> Option<Stat> {
    // The second field is the program's name in parentheses, which may contain spaces and parentheses.
    let (_, fields) = text.rsplit_once(')')?;
    let mut fields = fields.split_ascii_whitespace();
    let state = fields.next()?;
    // Field 22; the state is field 3.
    let started = fields.nth(18)?.parse().ok()?;
    Some(Stat {
        started,
        ended: matches!(state, "Z" | "X" | "x"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_differ_and_are_hex() {
        let ids = [unique(), unique()];
        assert_ne!(ids[0], ids[1]);
        assert!(ids.iter().all(|id| id.len() == 32));
    }

    #[test]
    fn hosts_are_part_of_a_file_name() {
        let host = host();
        assert!(
            !host.is_empty() && !host.contains(['/', ' ', '\n']),
            "{host}"
        );
    }

    #[test]
    fn a_name_with_parentheses_does_not_confuse() {
        let rest = "1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 4711 20 21";
        let stat = parse_stat(&format!("7 (a) b (c)) S {rest}")).unwrap();
        assert_eq!((stat.started, stat.ended), (4711, false));
        assert!(parse_stat(&format!("7 (a) Z {rest}")).unwrap().ended);
        assert!(parse_stat("7 (a) S 1 2").is_none());
        assert!(parse_stat("").is_none());
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn tells_processes_that_are_there_from_those_that_are_gone() {
        let this = Process::this();
        assert!(!this.is_gone());
        let reused = Process {
            started: this.started + 1,
            ..this.clone()
        };
        assert!(reused.is_gone());
        let elsewhere = Process {
            boot: "another boot".to_owned(),
            ..reused
        };
        assert!(!elsewhere.is_gone());
        let running = [&this, &elsewhere].map(Process::is_running);
        assert_eq!(running, [Some(true), None]);

        let mut child = process::Command::new("sleep").arg("60").spawn().unwrap();
        let started = stat(child.id()).unwrap().unwrap().started;
        let other = Process {
            pid: child.id(),
            started,
            ..this
        };
        assert!(!other.is_gone());
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(other.is_gone());
    }
}
