//! What is to be started: a command, how often, and what each copy may use.

use std::{
    num::NonZero,
    path::{Path, PathBuf},
    time::Duration,
};

use super::error::SubmitError;

/// The variable that tells a worker on how many threads it computes.
pub(super) const THREADS: &str = "KILN_THREADS";

/// N copies of one command, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Submission {
    command: Vec<String>,
    folder: String,
    run: String,
    workers: NonZero<usize>,
    resources: Resources,
}

/// What each worker may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resources {
    /// Cores, and threads that compute.
    pub cpus: NonZero<usize>,
    /// Memory in MiB; the engine's default if none. GNU parallel and `HyperQueue`'s Python interface do not limit it.
    pub memory: Option<NonZero<u64>>,
    /// How long a worker runs at most. Slurm then starts it again, other engines do not.
    pub time: Option<Duration>,
}

impl Default for Resources {
    /// One core, and the engine's limits.
    fn default() -> Self {
        Self {
            cpus: NonZero::<usize>::MIN,
            memory: None,
            time: None,
        }
    }
}

impl Submission {
    /// Copies of `command` (program and arguments), which start in `folder`, an absolute path, and whose logs go to
    /// `run/submit`.
    ///
    /// # Errors
    /// The command is empty, or no process could receive it; a folder is not UTF-8; the time limit is zero.
    pub fn new(
        command: Vec<String>,
        folder: &Path,
        run: &Path,
        workers: NonZero<usize>,
        resources: Resources,
    ) -> Result<Self, SubmitError> {
        if command.first().is_none_or(String::is_empty) {
            return Err(SubmitError::NoCommand);
        }
        if let Some(position) = command.iter().position(|word| word.contains('\0')) {
            return Err(SubmitError::Nul { position });
        }
        if resources.time.is_some_and(|time| time.as_secs() == 0) {
            return Err(SubmitError::NoTime);
        }
        let run = folder.join(run);
        Ok(Self {
            command,
            folder: text(folder)?,
            run: text(&run)?,
            workers,
            resources,
        })
    }

    /// The program and its arguments.
    pub fn command(&self) -> &[String] {
        &self.command
    }

    /// The folder in which the copies start.
    pub fn folder(&self) -> &str {
        &self.folder
    }

    /// The run folder, an absolute path.
    pub fn run(&self) -> &str {
        &self.run
    }

    /// How many copies there are.
    pub fn workers(&self) -> usize {
        self.workers.get()
    }

    /// Cores per worker.
    pub fn cpus(&self) -> usize {
        self.resources.cpus.get()
    }

    /// MiB per worker.
    pub fn memory(&self) -> Option<u64> {
        self.resources.memory.map(NonZero::get)
    }

    /// Seconds that a worker runs at most.
    pub fn seconds(&self) -> Option<u64> {
        self.resources.time.map(|time| time.as_secs())
    }

    /// The path of a file in `RUN/submit`.
    pub fn file(&self, name: &str) -> String {
        let slash = if self.run.ends_with('/') { "" } else { "/" };
        format!("{}{slash}submit/{name}", self.run)
    }

    /// A folder is one that the engine cannot work with.
    pub(super) fn refuse(folder: &str, problem: &'static str) -> SubmitError {
        let path = PathBuf::from(folder);
        SubmitError::Path { path, problem }
    }
}

/// A path as a text that a process can receive.
///
/// # Errors
/// It is not UTF-8.
pub fn text(folder: &Path) -> Result<String, SubmitError> {
    let problem = match folder.to_str() {
        Some(text) if !text.contains('\0') => return Ok(text.to_owned()),
        Some(_) => "contains a null character",
        None => "is not UTF-8",
    };
    let path = folder.to_owned();
    Err(SubmitError::Path { path, problem })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn new(command: &[&str], run: &str, time: Option<Duration>) -> Result<Submission, SubmitError> {
        let command = command.iter().copied().map(str::to_owned).collect();
        let resources = Resources {
            time,
            ..Resources::default()
        };
        let (folder, run) = (Path::new("/work"), Path::new(run));
        Submission::new(command, folder, run, NonZero::<usize>::MIN, resources)
    }

    #[test]
    fn what_no_process_could_receive_is_refused() {
        assert_eq!(new(&[], "r", None), Err(SubmitError::NoCommand));
        assert_eq!(new(&[""], "r", None), Err(SubmitError::NoCommand));
        let nul = SubmitError::Nul { position: 1 };
        assert_eq!(new(&["kiln", "a\0"], "r", None), Err(nul));
        let short = Some(Duration::from_millis(999));
        assert_eq!(new(&["kiln"], "r", short), Err(SubmitError::NoTime));
        assert!(new(&["kiln"], "r\0", None).is_err());
    }

    #[cfg(unix)]
    #[test]
    fn folders_are_utf_8() {
        use std::{ffi::OsString, os::unix::ffi::OsStringExt};
        let run = PathBuf::from(OsString::from_vec(vec![b'r', 0xff]));
        let command = vec!["kiln".to_owned()];
        let (folder, workers) = (Path::new("/"), NonZero::<usize>::MIN);
        let error = Submission::new(command, folder, &run, workers, Resources::default());
        let error = error.unwrap_err().to_string();
        assert!(error.ends_with("is not UTF-8; use another"), "{error}");
    }

    #[test]
    fn files_are_in_the_run_folder() {
        let path = |run| new(&["kiln"], run, None).unwrap().file("x.sh");
        assert_eq!(path("runs/a"), "/work/runs/a/submit/x.sh");
        assert_eq!(path("/a/"), "/a/submit/x.sh");
        assert_eq!(path("/"), "/submit/x.sh");
        assert_eq!(path("-a"), "/work/-a/submit/x.sh");
    }
}
