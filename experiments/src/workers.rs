//! Processes that work on the stages of a run for the one that started them. One that dies, because memory ran out for one, takes
//! its stage with it and nothing else: another one is started in its place.

use std::{
    env,
    ffi::OsString,
    io::{BufRead, BufReader, Read, Write},
    num::NonZero,
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
    sync::mpsc::{self, Receiver},
    thread::{self, JoinHandle},
    time::Duration,
};

use crate::{
    error::Error,
    graph::{Store, failure},
    interrupt::Stop,
    threads::THREADS,
    warning::{self, warn},
};

/// The option by which a process knows that it works for another one.
pub const OPTION: &str = "--worker";
/// How often workers are looked at.
const POLL: Duration = Duration::from_millis(50);
/// A worker that dies so many times in a row, before it could begin a stage, is not started again.
const DEATHS: usize = 10;
/// What begins the line of an error.
const ERROR: &str = "kiln: error: ";

/// Starts `jobs` workers with the arguments of this process, waits until nothing is left for them to do, and replaces those
/// that die.
///
/// # Errors
///
/// What a worker says that cannot go on, or a stop, which reaches the workers, too.
pub fn work(jobs: NonZero<usize>, command: &str, store: &Path, stop: &Stop) -> Result<(), Error> {
    let store = Store::open(store)?;
    let threads = rayon::current_num_threads() / jobs;
    let start = || Worker::start(command, threads.max(1));
    let mut workers: Vec<Worker> = (0..jobs.get()).map(|_| start()).collect::<Result<_, _>>()?;
    let mut deaths = Deaths::default();
    let mut fatal = None;
    let mut is_told = false;
    let checkpoint = stop.checkpoint_request();
    while !workers.is_empty() {
        if (stop.requested() || fatal.is_some()) && !is_told {
            workers.iter().for_each(Worker::stop);
            is_told = true;
        }
        if checkpoint.take() {
            workers.iter().for_each(Worker::save);
        }
        let mut left = vec![];
        for mut worker in workers {
            let Some(status) = worker.child.try_wait().map_err(cannot_start)? else {
                left.push(worker);
                continue;
            };
            let said = worker.said();
            match End::of(status) {
                End::Done | End::Stopped => {}
                End::Died if is_told => {}
                End::Died if deaths.count(&store)? < DEATHS => left.push(start()?),
                End::Died => {
                    fatal.get_or_insert(Error::Worker {
                        message: format!(
                            "workers die before they begin a stage ({status}); does the memory suffice?"
                        ),
                        code: 1,
                    });
                }
                End::Failed(code) => {
                    let message = said.unwrap_or_else(|| format!("a worker ended with {status}"));
                    fatal.get_or_insert(Error::Worker { message, code });
                }
            }
        }
        workers = left;
        thread::sleep(POLL);
    }
    match fatal {
        Some(error) => Err(error),
        None => stop.check(),
    }
}

/// How a worker ended.
enum End {
    /// It left nothing to do.
    Done,
    /// It was asked to stop.
    Stopped,
    /// It cannot go on.
    Failed(u8),
    /// The system ended it.
    Died,
}

impl End {
    fn of(status: ExitStatus) -> Self {
        match status.code() {
            Some(0) => Self::Done,
            Some(129 | 130 | 143) => Self::Stopped,
            Some(code @ (1 | 2)) => Self::Failed(code as u8),
            _ => Self::Died,
        }
    }
}

/// The deaths in a row after which nothing had changed in the store.
#[derive(Default)]
struct Deaths {
    count: usize,
    seen: Option<(usize, usize)>,
}

impl Deaths {
    /// One more; how many there were since something was done, or was found to be lost.
    fn count(&mut self, store: &Store) -> Result<usize, Error> {
        let failed = failure::all(store)?;
        let attempts = failed.values().map(|record| record.attempts.len()).sum();
        let seen = Some((store.done()?.len(), attempts));
        if self.seen != seen {
            (self.seen, self.count) = (seen, 0);
        }
        self.count += 1;
        Ok(self.count)
    }
}

/// A process at work.
struct Worker {
    child: Child,
    errors: Option<Receiver<String>>,
    reader: Option<JoinHandle<()>>,
}

impl Worker {
    fn start(command: &str, threads: usize) -> Result<Self, Error> {
        let mut process = Command::new(env::current_exe().map_err(cannot_start)?);
        process
            .args(arguments(env::args_os().skip(1), command))
            .env(THREADS, threads.to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        let mut child = process.spawn().map_err(cannot_start)?;
        let (sender, errors) = mpsc::channel();
        let reader = child.stderr.take().map(|lines| {
            thread::spawn(move || {
                tell(lines, |error| {
                    // Nobody listens when the worker is given up.
                    let _ = sender.send(error);
                });
            })
        });
        Ok(Self {
            child,
            errors: Some(errors),
            reader,
        })
    }

    /// Asks the process to stop where it can go on. It may have the same signal as this process, as Ctrl-C and engines send
    /// it to all; another one of that kind would end it at once.
    fn stop(&self) {
        #[cfg(unix)]
        self.signal(rustix::process::Signal::USR2);
    }

    /// Asks the process for a checkpoint.
    fn save(&self) {
        #[cfg(unix)]
        self.signal(rustix::process::Signal::USR1);
    }

    #[cfg(unix)]
    fn signal(&self, signal: rustix::process::Signal) {
        if let Some(id) = rustix::process::Pid::from_raw(self.child.id().cast_signed()) {
            // It may be gone.
            let _ = rustix::process::kill_process(id, signal);
        }
    }

    /// The error that the process ended with, if it told one.
    fn said(&mut self) -> Option<String> {
        if let Some(reader) = self.reader.take() {
            // A reader does not panic.
            let _ = reader.join();
        }
        self.errors.take().and_then(|errors| errors.iter().last())
    }
}

/// Lets the system end this process with the one that started it, where it can.
pub fn end_with_parent() {
    #[cfg(target_os = "linux")]
    {
        // Without it the process works on alone, which is correct as well.
        let _ =
            rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::TERM));
    }
}

/// The arguments of this process with the option of workers after the command.
fn arguments(own: impl Iterator<Item = OsString>, command: &str) -> Vec<OsString> {
    let mut arguments: Vec<OsString> = own.collect();
    let place = arguments.iter().position(|argument| argument == command);
    arguments.insert(place.map_or(0, |place| place + 1), OPTION.into());
    arguments
}

/// Tells what a worker says, warnings once and errors to `failed`.
fn tell(lines: impl Read, mut failed: impl FnMut(String)) {
    for line in BufReader::new(lines).lines().map_while(Result::ok) {
        if let Some(warning) = line.strip_prefix(warning::BEGIN) {
            warn(warning);
        } else if let Some(error) = line.strip_prefix(ERROR) {
            failed(error.to_owned());
        } else {
            // Work goes on when standard error is closed.
            let _ = writeln!(std::io::stderr(), "{line}");
        }
    }
}

fn cannot_start(source: std::io::Error) -> Error {
    Error::Worker {
        message: format!("cannot start a worker: {source}"),
        code: 2,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_option_stands_after_the_command() {
        let own = ["--quiet", "ablate", "quickstart", "a=1,2"].map(OsString::from);
        let found = arguments(own.into_iter(), "ablate");
        assert_eq!(found, ["--quiet", "ablate", OPTION, "quickstart", "a=1,2"]);
    }

    #[test]
    fn errors_are_kept_and_told_by_whoever_waits() {
        let mut errors = vec![];
        let text = "kiln: error: the disk is full\n";
        tell(text.as_bytes(), |error| errors.push(error));
        assert_eq!(errors, ["the disk is full"]);
    }
}
