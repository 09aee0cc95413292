//! A training as a TensorBoard event file while it goes on.

use std::{
    fs::File,
    io::{self, Read, Seek, SeekFrom},
    path::PathBuf,
    sync::mpsc::{self, RecvTimeoutError, Sender},
    thread::{self, JoinHandle},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use moebert_core::file::FileError;

use super::{
    error::ExportError,
    tensorboard::{EventFile, Moment, Origin},
};
use crate::{json_file, metric_line::MetricLine};

/// How often the log of a training is looked at.
const EVERY: Duration = Duration::from_secs(1);

/// Writes what a training adds to its `metrics.jsonl` into an event file, in a thread of its own, until it is dropped. What it cannot write is
/// told once and stops no training.
#[derive(Debug)]
pub struct Follower {
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Follower {
    /// Follows the log at `log`, which may be yet to come, with an event file in `folder`.
    pub fn start(log: PathBuf, folder: PathBuf, complain: impl Fn(&str) + Send + 'static) -> Self {
        let (stop, stopped) = mpsc::channel::<()>();
        let thread = thread::spawn(move || {
            let mut follow = Follow {
                log,
                folder,
                file: None,
                read: 0,
            };
            loop {
                let is_over = stopped.recv_timeout(EVERY) != Err(RecvTimeoutError::Timeout);
                if let Err(error) = follow.catch_up() {
                    complain(&format!("tracking ends: {error}"));
                    return;
                }
                if is_over {
                    return;
                }
            }
        });
        Self {
            stop: Some(stop),
            thread: Some(thread),
        }
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            // It has said why, if it failed.
            let _ = thread.join();
        }
    }
}

struct Follow {
    log: PathBuf,
    folder: PathBuf,
    file: Option<EventFile>,
    /// Bytes of the log that are in the event file.
    read: u64,
}

impl Follow {
    /// Writes the lines that the log has got.
    fn catch_up(&mut self) -> Result<(), ExportError> {
        let lines = self.lines()?;
        if lines.is_empty() {
            return Ok(());
        }
        let seconds = SystemTime::now().duration_since(UNIX_EPOCH);
        let seconds = seconds.unwrap_or_default().as_secs_f64();
        let file = match self.file.take() {
            Some(file) => file,
            // Readers leave out what an earlier start has written.
            None => EventFile::create(&self.folder, &Origin::here(), seconds, Some(0))?,
        };
        let file = self.file.insert(file);
        for line in lines {
            let at = Moment {
                step: line.step as i64,
                seconds,
            };
            file.scalar(at, &line.tag(), line.value)?;
        }
        Ok(())
    }

    /// The whole lines that are new; none if there are none.
    fn lines(&mut self) -> Result<Vec<MetricLine>, FileError> {
        let text = self.unread().map_err(|source| FileError::Read {
            path: self.log.clone(),
            source,
        })?;
        let end = text.iter().rposition(|byte| *byte == b'\n');
        let whole = end.map_or(0, |end| end + 1);
        self.read += whole as u64;
        json_file::lines(&self.log, &text[..whole])
    }

    /// What the log has beyond what was read; nothing before there is a log.
    fn unread(&mut self) -> io::Result<Vec<u8>> {
        let mut log = match File::open(&self.log) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(vec![]),
            log => log?,
        };
        // A training that goes on after a stop takes back the lines of batches that it runs again.
        if log.metadata()?.len() < self.read {
            (self.read, self.file) = (0, None);
        }
        log.seek(SeekFrom::Start(self.read))?;
        let mut text = vec![];
        log.read_to_end(&mut text)?;
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use serde_json::json;

    use super::*;
    use crate::export::tensorboard::is_event_file;

    fn line(step: u64, value: f64) -> String {
        let line =
            json!({ "epoch": 1, "step": step, "split": "train", "name": "Loss", "value": value });
        format!("{line}\n")
    }

    #[test]
    fn lines_are_written_as_they_come() {
        let dir = tempfile::tempdir().unwrap();
        let (log, folder) = (dir.path().join("metrics.jsonl"), dir.path().join("events"));
        let mut follow = Follow {
            log: log.clone(),
            folder: folder.clone(),
            file: None,
            read: 0,
        };
        let bytes = |follow: &Follow| {
            fs::read(follow.file.as_ref().unwrap().path())
                .unwrap()
                .len()
        };
        follow.catch_up().unwrap();
        assert!(follow.file.is_none() && !folder.exists());
        // A line that is not whole is left for later.
        let (first, second) = (line(10, 0.5), line(20, 0.25));
        fs::write(&log, format!("{first}{}", &second[..9])).unwrap();
        follow.catch_up().unwrap();
        let one = bytes(&follow);
        follow.catch_up().unwrap();
        assert_eq!(bytes(&follow), one);
        fs::write(&log, format!("{first}{second}")).unwrap();
        follow.catch_up().unwrap();
        assert!(bytes(&follow) > one);
        // The training is resumed from an earlier step: all is written once more, into a later file.
        fs::write(&log, &first).unwrap();
        follow.catch_up().unwrap();
        assert_eq!(bytes(&follow), one);
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 2);
        fs::write(&log, format!("{first}{{}}\n")).unwrap();
        let error = follow.catch_up().unwrap_err().to_string();
        assert!(error.contains("metrics.jsonl: missing field"), "{error}");
    }

    #[test]
    fn the_last_lines_are_written_when_it_ends() {
        let dir = tempfile::tempdir().unwrap();
        let (log, folder) = (dir.path().join("metrics.jsonl"), dir.path().join("events"));
        fs::write(&log, line(10, 0.5)).unwrap();
        drop(Follower::start(log, folder.clone(), |_| {}));
        let mut files = fs::read_dir(folder).unwrap();
        assert!(is_event_file(&files.next().unwrap().unwrap().file_name()));
    }
}
