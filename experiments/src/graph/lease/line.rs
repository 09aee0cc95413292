//! The line in a lease.

use std::str;

use crate::graph::owner::{Owner, Process};

/// In bytes. The length is constant, so that a line can be rewritten in place, even on a full disk.
const LENGTH: usize = 256;
const HELD: &str = "held";
const RELEASED: &str = "released";

/// The text has fields separated by spaces: id, host, boot, process number, start of the process, counter, and `held`
/// or `released`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Line {
    pub(super) owner: Owner,
    /// The number of heartbeats so far.
    pub(super) counter: u64,
    pub(super) released: bool,
}

impl Line {
    /// The line of a new lease.
    pub(super) fn first(owner: Owner) -> Self {
        Self {
            owner,
            counter: 0,
            released: false,
        }
    }

    pub(super) fn to_bytes(&self) -> [u8; LENGTH] {
        let Process {
            host,
            boot,
            pid,
            started,
        } = &self.owner.process;
        let state = if self.released { RELEASED } else { HELD };
        let text = format!(
            "{} {host} {boot} {pid} {started} {} {state}",
            self.owner.id, self.counter
        );
        let mut bytes = [b' '; LENGTH];
        // The text fits, because the host has at most 100 bytes. If a system had a longer boot id than Linux, the
        // truncated text would not parse, and the lease would expire as usual.
        let length = text.len().min(LENGTH - 1);
        bytes[..length].copy_from_slice(&text.as_bytes()[..length]);
        bytes[LENGTH - 1] = b'\n';
        bytes
    }

    /// `None` if the bytes are not a whole line.
    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        if bytes.len() != LENGTH {
            return None;
        }
        let text = str::from_utf8(bytes).ok()?;
        let mut fields = text.split_ascii_whitespace();
        let mut next = || fields.next();
        let line = Self {
            owner: Owner {
                id: next()?.to_owned(),
                process: Process {
                    host: next()?.to_owned(),
                    boot: next()?.to_owned(),
                    pid: next()?.parse().ok()?,
                    started: next()?.parse().ok()?,
                },
            },
            counter: next()?.parse().ok()?,
            released: match next()? {
                HELD => false,
                RELEASED => true,
                _ => return None,
            },
        };
        fields.next().is_none().then_some(line)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_line_fits_and_reads_back() {
        let mut line = Line::first(Owner::new());
        assert_eq!(Line::parse(&line.to_bytes()), Some(line.clone()));
        line.owner.process = Process {
            host: "h".repeat(100),
            boot: format!("{}/{}", "b".repeat(36), u32::MAX),
            pid: u32::MAX,
            started: u64::MAX,
        };
        line.counter = u64::MAX;
        line.released = true;
        let bytes = line.to_bytes();
        assert_eq!(bytes.last(), Some(&b'\n'));
        assert_eq!(Line::parse(&bytes), Some(line));
    }

    #[test]
    fn what_is_no_whole_line_is_none() {
        let bytes = Line::first(Owner::new()).to_bytes();
        assert_eq!(Line::parse(&bytes[..255]), None);
        assert_eq!(Line::parse(b""), None);
        assert_eq!(Line::parse(&[0; 256]), None);
        let text = str::from_utf8(&bytes).unwrap().replace("held", "hold");
        assert_eq!(Line::parse(text.as_bytes()), None);
    }
}
