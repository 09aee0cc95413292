//! SHA-256 of texts and files.

use std::{fmt, fs::File, io, path::Path, str::FromStr};

use moebert_core::file::FileError;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// A SHA-256; its text is 64 lower-case hex digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Digest([u8; 32]);

/// A text that is not 64 lower-case hex digits.
#[derive(Debug, thiserror::Error)]
#[error("`{0}` is not a SHA-256 of 64 lower-case hex digits")]
pub struct DigestError(pub(super) String);

impl Digest {
    /// The digest of bytes.
    pub fn of(bytes: impl AsRef<[u8]>) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// The length in bytes and the digest of a file.
    ///
    /// # Errors
    ///
    /// If it cannot be opened or read.
    pub fn of_file(path: &Path) -> Result<(u64, Self), FileError> {
        let mut hasher = Sha256::new();
        let length = File::open(path)
            .and_then(|mut file| io::copy(&mut file, &mut hasher))
            .map_err(|source| FileError::Read {
                path: path.to_owned(),
                source,
            })?;
        Ok((length, Self(hasher.finalize().into())))
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> Self {
        digest.to_string()
    }
}

impl TryFrom<String> for Digest {
    type Error = DigestError;

    fn try_from(text: String) -> Result<Self, DigestError> {
        text.parse()
    }
}

impl FromStr for Digest {
    type Err = DigestError;

    fn from_str(text: &str) -> Result<Self, DigestError> {
        let error = || DigestError(text.to_owned());
        if text.len() != 64 || !is_lower_hex(text) {
            return Err(error());
        }
        let mut digest = [0; 32];
        for (index, byte) in digest.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&text[2 * index..2 * index + 2], 16).map_err(|_| error())?;
        }
        Ok(Self(digest))
    }
}

/// Whether all characters of a text are lower-case hex digits.
pub(super) fn is_lower_hex(text: &str) -> bool {
    text.bytes()
        .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// Precedes the digits of a fingerprint.
const PREFIX: &str = "sha256:";

/// The SHA-256 over the files that a stage reads; its text is `sha256:` and 64 hex digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Fingerprint(pub(super) Digest);

impl Fingerprint {
    /// The fingerprint of content that is not in files of its own.
    pub fn of(content: impl AsRef<[u8]>) -> Self {
        Self(Digest::of(content))
    }

    /// The fingerprint of several parts, by the role that each has.
    pub fn join<'a>(parts: impl IntoIterator<Item = (&'a str, Self)>) -> Self {
        let lines = parts.into_iter();
        let mut lines: Vec<String> = lines
            .map(|(role, part)| format!("{role}\t{part}\n"))
            .collect();
        lines.sort();
        Self::of(lines.concat())
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}{}", self.0)
    }
}

impl From<Fingerprint> for String {
    fn from(fingerprint: Fingerprint) -> Self {
        fingerprint.to_string()
    }
}

impl TryFrom<String> for Fingerprint {
    type Error = DigestError;

    fn try_from(text: String) -> Result<Self, DigestError> {
        match text.strip_prefix(PREFIX) {
            Some(digits) => Ok(Self(digits.parse()?)),
            None => Err(DigestError(text)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn the_published_digest_of_abc_and_back() {
        // FIPS 180-4.
        let text = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(Digest::of("abc").to_string(), text);
        assert_eq!(text.parse::<Digest>().unwrap(), Digest::of("abc"));
        for wrong in [&text[1..], &text.to_uppercase(), &"é".repeat(32)] {
            let error = wrong.parse::<Digest>().unwrap_err().to_string();
            assert!(error.contains(wrong), "{error}");
        }
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("abc");
        fs::write(&path, "abc").unwrap();
        assert_eq!(Digest::of_file(&path).unwrap(), (3, Digest::of("abc")));
    }
}
