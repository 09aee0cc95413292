//! How far a training is, in a file for those who watch it.

use std::{
    path::PathBuf,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use moebert_core::file;
use serde::{Deserialize, Serialize};

/// The shortest time between two writes.
const EVERY: Duration = Duration::from_secs(2);
/// How much of the speed since the last write goes into the speed that is told.
const NEW: f64 = 0.3;

/// How far a training is: the content of its progress file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// Optimiser steps taken.
    pub step: usize,
    /// Optimiser steps of the whole training, if nothing ends it earlier.
    pub steps: usize,
    /// The mean loss of the steps since the last write; none if it is not finite.
    pub loss: Option<f64>,
    /// Optimiser steps per second, validation included; none at the beginning.
    pub steps_per_second: Option<f64>,
    /// The epoch, from 1.
    pub epoch: usize,
    /// Epochs of the whole training.
    pub epochs: usize,
    /// When this process began or resumed the training, in seconds since 1970-01-01 UTC.
    pub started: u64,
}

/// Where a training is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct At {
    pub step: usize,
    pub steps: usize,
    pub epoch: usize,
    pub epochs: usize,
}

/// Replaces the progress file now and then.
#[derive(Debug)]
pub(crate) struct ProgressFile {
    path: PathBuf,
    started: u64,
    written: Option<Written>,
    /// The sum and the number of losses since the last write.
    losses: (f64, usize),
    rate: Option<f64>,
}

#[derive(Clone, Copy, Debug)]
struct Written {
    step: usize,
    at: Instant,
}

impl ProgressFile {
    pub fn new(path: PathBuf) -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        Self {
            path,
            started: since.map_or(0, |since| since.as_secs()),
            written: None,
            losses: (0.0, 0),
            rate: None,
        }
    }

    /// Tells of a step with its loss. At most every two seconds, the file is written.
    pub fn tell(&mut self, at: At, loss: f64) {
        self.tell_now(at, loss, Instant::now());
    }

    fn tell_now(&mut self, at: At, loss: f64, now: Instant) {
        self.losses = (self.losses.0 + loss, self.losses.1 + 1);
        if let Some(written) = self.written {
            let elapsed = now.saturating_duration_since(written.at);
            if elapsed < EVERY {
                return;
            }
            let rate = (at.step - written.step) as f64 / elapsed.as_secs_f64();
            self.rate = Some(
                self.rate
                    .map_or(rate, |before| before + NEW * (rate - before)),
            );
        }
        let (sum, count) = std::mem::take(&mut self.losses);
        let loss = sum / count as f64;
        let progress = Progress {
            step: at.step,
            steps: at.steps,
            loss: loss.is_finite().then_some(loss),
            steps_per_second: self.rate,
            epoch: at.epoch,
            epochs: at.epochs,
            started: self.started,
        };
        // No training ends for want of a file that only watchers read.
        if let Ok(json) = serde_json::to_vec(&progress) {
            let _ = file::replace(&self.path, &json);
        }
        let step = at.step;
        self.written = Some(Written { step, at: now });
    }
}

/// The optimiser steps of an epoch: so many of its items were in the first `batches`, and each step has `accumulation` of them.
pub(crate) fn steps_of_epoch(
    batches: usize,
    processed: usize,
    items: usize,
    accumulation: usize,
) -> usize {
    let all = (items * batches).div_ceil(processed.max(1)).max(batches);
    all.div_ceil(accumulation)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(file: &ProgressFile) -> Progress {
        serde_json::from_slice(&file::read(&file.path).unwrap()).unwrap()
    }

    #[test]
    fn the_file_is_replaced_every_two_seconds() {
        let folder = tempfile::tempdir().unwrap();
        let mut file = ProgressFile::new(folder.path().join("progress.json"));
        let (begin, steps) = (Instant::now(), 100);
        let mut tell = |step, loss, seconds| {
            let at = At {
                step,
                steps,
                epoch: 1,
                epochs: 2,
            };
            file.tell_now(at, loss, begin + Duration::from_secs_f64(seconds));
            read(&file)
        };
        let first = tell(1, 0.5, 0.0);
        assert_eq!((first.step, first.loss), (1, Some(0.5)));
        assert_eq!(first.steps_per_second, None);
        assert_eq!(tell(2, 0.25, 1.0), first);
        let second = tell(11, 0.75, 2.0);
        assert_eq!((second.step, second.loss), (11, Some(0.5)));
        assert_eq!(second.steps_per_second, Some(5.0));
        let third = tell(41, f64::NAN, 4.0);
        assert_eq!(third.loss, None);
        assert_eq!(third.steps_per_second, Some(8.0));
    }

    #[test]
    fn a_folder_that_is_gone_stops_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let mut file = ProgressFile::new(folder.path().join("gone/progress.json"));
        let at = At {
            step: 1,
            steps: 2,
            epoch: 1,
            epochs: 1,
        };
        file.tell(at, 1.0);
        assert!(!file.path.exists());
    }

    #[test]
    fn steps_follow_from_the_first_batches() {
        // 1,000 items in batches of 32: 31 whole ones and one of 8.
        for batches in 1..=31 {
            assert_eq!(steps_of_epoch(batches, 32 * batches, 1000, 1), 32);
        }
        assert_eq!(steps_of_epoch(32, 1000, 1000, 1), 32);
        assert_eq!(steps_of_epoch(3, 96, 1000, 3), 11);
    }
}
