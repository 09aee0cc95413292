//! The writer of one event file.

use std::{
    ffi::OsStr,
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
};

use super::{
    event::{Event, Moment, Payload, Value},
    origin::Origin,
    record::record,
};

/// An event file that cannot be written.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} {}: {source}", path.display())]
pub struct EventFileError {
    /// `create`, `read` or `write`.
    pub action: &'static str,
    /// The file or its folder.
    pub path: PathBuf,
    /// What the system said.
    pub source: io::Error,
}

/// The name of an event file. Readers take the files of a folder in the order of their names.
///
/// `seconds` are whole seconds since 1970. Characters of the host's name that are unusual in file names become `_`.
pub fn file_name(seconds: u64, origin: &Origin) -> String {
    let usual = |c: char| c.is_ascii_alphanumeric() || "-._".contains(c);
    let host = origin.host.chars();
    let host: String = host.map(|c| if usual(c) { c } else { '_' }).collect();
    format!("{PREFIX}{seconds:010}.{host}.{}.0", origin.process)
}

const PREFIX: &str = "events.out.tfevents.";

/// The writer of an event file. One record is one write, so that a killed process leaves at most one partial record, at the
/// end, which readers skip.
#[derive(Debug)]
pub struct EventFile {
    file: File,
    path: PathBuf,
}

impl EventFile {
    /// A new event file in `folder`, which is made if needed; a folder is one arm and seed.
    ///
    /// `seconds` is the time since 1970. The second in the file's name is later than those of the folder's files, so that
    /// readers take this one last. `resumes_at` is the first step that a resumed training repeats: readers drop older
    /// values from this step on.
    ///
    /// # Errors
    ///
    /// If the folder cannot be made or read, or the file cannot be created or written.
    pub fn create(
        folder: &Path,
        origin: &Origin,
        seconds: f64,
        resumes_at: Option<i64>,
    ) -> Result<Self, EventFileError> {
        let failed = |action, path: &Path| {
            let path = path.to_owned();
            move |source| EventFileError {
                action,
                path,
                source,
            }
        };
        fs::create_dir_all(folder).map_err(failed("create", folder))?;
        let last = last_second(folder).map_err(failed("read", folder))?;
        let second = last.map_or(seconds as u64, |last| {
            last.saturating_add(1).max(seconds as u64)
        });
        let path = folder.join(file_name(second, origin));
        let file = File::create_new(&path).map_err(failed("create", &path))?;
        let mut file = Self { file, path };
        let start = |step, payload| Event {
            at: Moment { step, seconds },
            payload,
        };
        file.event(&start(0, Payload::FileVersion))?;
        if let Some(step) = resumes_at {
            file.event(&start(step, Payload::SessionStart))?;
        }
        Ok(file)
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Appends one number, which is rounded to float32.
    ///
    /// # Errors
    ///
    /// If the file cannot be written.
    pub fn scalar(&mut self, at: Moment, tag: &str, value: f64) -> Result<(), EventFileError> {
        self.summary(at, vec![(tag.to_owned(), Value::Scalar(value))])
    }

    /// Appends values of one moment as one event.
    ///
    /// # Errors
    ///
    /// If the file cannot be written.
    pub fn summary(
        &mut self,
        at: Moment,
        values: Vec<(String, Value)>,
    ) -> Result<(), EventFileError> {
        let payload = Payload::Summary(values);
        self.event(&Event { at, payload })
    }

    fn event(&mut self, event: &Event) -> Result<(), EventFileError> {
        let written = self.file.write_all(&record(&event.to_bytes()));
        written.map_err(|source| EventFileError {
            action: "write",
            path: self.path.clone(),
            source,
        })
    }
}

/// Whether a name is that of an event file.
pub fn is_event_file(name: &OsStr) -> bool {
    name.to_string_lossy().starts_with(PREFIX)
}

/// The latest second in the names of a folder's event files.
fn last_second(folder: &Path) -> io::Result<Option<u64>> {
    let mut last = None;
    for entry in fs::read_dir(folder)? {
        let name = entry?.file_name();
        let name = name.to_string_lossy();
        let rest = name.strip_prefix(PREFIX);
        let second = rest.and_then(|rest| rest.split('.').next()?.parse().ok());
        last = last.max(second);
    }
    Ok(last)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::export::tensorboard::testing::{Field, field, payloads};

    fn origin() -> Origin {
        Origin {
            host: "node/1 a".to_owned(),
            process: 42,
        }
    }

    fn name(file: &EventFile) -> &str {
        file.path().file_name().unwrap().to_str().unwrap()
    }

    #[test]
    fn the_name_says_when_and_where() {
        let name = file_name(1_790_000_000, &origin());
        assert_eq!(name, "events.out.tfevents.1790000000.node_1_a.42.0");
        assert!(is_event_file(name.as_ref()) && !is_event_file("events.txt".as_ref()));
    }

    #[test]
    fn a_file_starts_with_its_version() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().join("arms/a/seed-1");
        let mut file = EventFile::create(&folder, &origin(), 1.75, None).unwrap();
        let at = Moment {
            step: 3,
            seconds: 2.0,
        };
        file.scalar(at, "loss", 0.1).unwrap();
        let payloads = payloads(&fs::read(file.path()).unwrap());
        assert_eq!(payloads.len(), 2);
        let version = field(&payloads[0], 3);
        assert_eq!(version, Some(Field::Bytes(b"brain.Event:2".to_vec())));
        assert_eq!(field(&payloads[0], 2), None);
        assert_eq!(field(&payloads[1], 2), Some(Field::Varint(3)));
    }

    #[test]
    fn a_resume_makes_a_later_file() {
        let folder = tempfile::tempdir().unwrap();
        let create =
            |seconds, step| EventFile::create(folder.path(), &origin(), seconds, step).unwrap();
        let first = create(100.5, None);
        let second = create(100.9, Some(7));
        let third = create(50.0, Some(0));
        let fourth = create(200.0, Some(9));
        assert!(name(&first).contains(".0000000100."));
        assert!(name(&second).contains(".0000000101."));
        assert!(name(&third).contains(".0000000102."));
        assert!(name(&fourth).contains(".0000000200."));
        let payloads = payloads(&fs::read(second.path()).unwrap());
        assert_eq!(field(&payloads[1], 2), Some(Field::Varint(7)));
        assert!(field(&payloads[1], 7).is_some());
    }

    #[test]
    fn an_error_names_the_folder() {
        let folder = tempfile::NamedTempFile::new().unwrap();
        let error = EventFile::create(folder.path(), &origin(), 1.0, None).unwrap_err();
        let expected = format!("cannot create {}: ", folder.path().display());
        assert!(error.to_string().starts_with(&expected), "{error}");
    }
}
