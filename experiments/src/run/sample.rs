//! Stages that are timed on a sample of their data: how much of it they pass, and clocks that say how fast.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use burn::{
    data::{
        dataloader::{DataLoader, DataLoaderIterator, Progress},
        dataset::DatasetError,
    },
    tensor::Device,
};

/// Batches of the sample to train on; as many as loaders sort by length at once, so that batches have as much padding as
/// those of the whole data.
pub(super) const BATCHES: usize = 64;
/// Batches of the samples to validate on and to judge by.
pub(super) const JUDGED: usize = 16;
/// Texts of the sample to judge by where models write their summaries.
pub(super) const SUMMARIES: usize = 16;

/// Optimiser steps before the clock counts, and those that it counts at least.
const STEPS: [usize; 2] = [3, 5];
/// How long a step may take before fewer of them suffice.
const SLOW: Duration = Duration::from_secs(1);

/// The shares of the data that a sample holds, from above 0 to 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Shares {
    /// Of the sequences of an epoch.
    pub train: f64,
    /// Of what is validated on.
    pub valid: f64,
    /// Of what is judged by.
    pub judged: f64,
}

/// A sample that a stage passes.
#[derive(Debug, Default)]
pub(super) struct Sample {
    /// How long enough steps run at least.
    pub enough: Duration,
    /// The passing of the data to train on.
    pub train: Clock,
    /// That of the data to validate on.
    pub dev: Clock,
}

impl Sample {
    /// The batches up to where the clock has seen enough of them; so many make an optimiser step.
    pub fn train<B: 'static>(
        &self,
        data: Arc<dyn DataLoader<B>>,
        step: usize,
    ) -> Arc<dyn DataLoader<B>> {
        let [warm_up, counted] = STEPS;
        // The batch after the one at hand is asked for before it is passed.
        self.train.expect(1 + warm_up * step, data.num_items());
        Arc::new(Clocked {
            data,
            clock: self.train.clone(),
            least: 2 + (warm_up + counted) * step,
            enough: self.enough,
        })
    }

    /// The batches, unless they are slow: they may be sorted by length, so that the first ones are short.
    pub fn dev<B: 'static>(&self, data: Arc<dyn DataLoader<B>>) -> Arc<dyn DataLoader<B>> {
        self.dev.expect(0, data.num_items());
        Arc::new(Clocked {
            data,
            clock: self.dev.clone(),
            least: JUDGED,
            enough: Duration::ZERO,
        })
    }
}

/// When batches were asked for; clones are one clock.
#[derive(Clone, Debug, Default)]
pub(super) struct Clock(Arc<Mutex<Ticks>>);

#[derive(Debug, Default)]
struct Ticks {
    /// Each with the number of items before it.
    at: Vec<(Instant, usize)>,
    /// Those that do not count.
    warm_up: usize,
    /// Items of the whole sample.
    items: usize,
}

impl Clock {
    fn expect(&self, warm_up: usize, items: usize) {
        let mut ticks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        (ticks.warm_up, ticks.items) = (warm_up, items);
    }

    fn tick(&self, items: usize) {
        let mut ticks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        ticks.at.push((Instant::now(), items));
    }

    /// When the first batch was asked for, and when the last one.
    pub fn span(&self) -> Option<[Instant; 2]> {
        let ticks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Some([ticks.at.first()?.0, ticks.at.last()?.0])
    }

    /// The time that all items of the sample take in seconds, by those that were passed after the first batches.
    pub fn seconds(&self) -> Option<f64> {
        let ticks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Where there are few batches, the first ones count, too.
        let first = ticks.at.get(ticks.warm_up.min(ticks.at.len() / 3))?;
        let last = ticks.at.last()?;
        let passed = last.1.checked_sub(first.1).filter(|passed| *passed > 0)?;
        let seconds = (last.0 - first.0).as_secs_f64();
        Some(seconds * ticks.items as f64 / passed as f64)
    }
}

/// A loader with a clock, which ends its pass early.
struct Clocked<B> {
    data: Arc<dyn DataLoader<B>>,
    clock: Clock,
    /// Batches that are passed at least, unless they are slow.
    least: usize,
    /// How long a pass takes at least.
    enough: Duration,
}

impl<B: 'static> Clocked<B> {
    fn with(&self, data: Arc<dyn DataLoader<B>>) -> Arc<dyn DataLoader<B>> {
        Arc::new(Self {
            data,
            clock: self.clock.clone(),
            ..*self
        })
    }

    /// Whether so many batches in so long are enough.
    fn is_enough(&self, batches: usize, elapsed: Duration) -> bool {
        let slow = SLOW * self.least as u32;
        let is_slow = elapsed >= slow && batches >= self.least.div_ceil(2);
        is_slow || batches >= self.least && elapsed >= self.enough
    }
}

impl<B: 'static> DataLoader<B> for Clocked<B> {
    fn iter<'a>(&'a self) -> Box<dyn DataLoaderIterator<B> + 'a> {
        Box::new(ClockedBatches {
            batches: self.data.iter(),
            loader: self,
            began: Instant::now(),
            passed: 0,
        })
    }

    fn num_items(&self) -> usize {
        self.data.num_items()
    }

    fn to_device(&self, device: &Device) -> Arc<dyn DataLoader<B>> {
        self.with(self.data.to_device(device))
    }

    fn slice(&self, start: usize, end: usize) -> Arc<dyn DataLoader<B>> {
        self.with(self.data.slice(start, end))
    }
}

struct ClockedBatches<'a, B> {
    batches: Box<dyn DataLoaderIterator<B> + 'a>,
    loader: &'a Clocked<B>,
    began: Instant,
    passed: usize,
}

impl<B: 'static> Iterator for ClockedBatches<'_, B> {
    type Item = Result<B, DatasetError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.loader
            .clock
            .tick(self.batches.progress().items_processed);
        if self.loader.is_enough(self.passed, self.began.elapsed()) {
            return None;
        }
        self.passed += 1;
        self.batches.next()
    }
}

impl<B: 'static> DataLoaderIterator<B> for ClockedBatches<'_, B> {
    fn progress(&self) -> Progress {
        self.batches.progress()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Ten batches of four items.
    #[derive(Clone)]
    struct Numbers;

    struct Counted(usize);

    impl Iterator for Counted {
        type Item = Result<usize, DatasetError>;

        fn next(&mut self) -> Option<Self::Item> {
            self.0 += 1;
            (self.0 <= 10).then(|| Ok(self.0))
        }
    }

    impl DataLoaderIterator<usize> for Counted {
        fn progress(&self) -> Progress {
            Progress::new(4 * self.0.min(10), 40, None)
        }
    }

    impl DataLoader<usize> for Numbers {
        fn iter<'a>(&'a self) -> Box<dyn DataLoaderIterator<usize> + 'a> {
            Box::new(Counted(0))
        }

        fn num_items(&self) -> usize {
            40
        }

        fn to_device(&self, _: &Device) -> Arc<dyn DataLoader<usize>> {
            Arc::new(Self)
        }

        fn slice(&self, _: usize, _: usize) -> Arc<dyn DataLoader<usize>> {
            Arc::new(Self)
        }
    }

    /// Passes batches that take so many milliseconds each; returns how many there were.
    fn pass(data: &dyn DataLoader<usize>, milliseconds: u64) -> usize {
        let batches = data.iter().map(|batch| {
            std::thread::sleep(Duration::from_millis(milliseconds));
            batch.unwrap()
        });
        batches.count()
    }

    #[test]
    fn a_clock_tells_how_long_all_items_take() {
        let (sample, began) = (Sample::default(), Instant::now());
        assert_eq!(pass(sample.dev(Arc::new(Numbers)).as_ref(), 10), 10);
        let (seconds, elapsed) = (sample.dev.seconds().unwrap(), began.elapsed());
        assert!(
            (0.1..=elapsed.as_secs_f64()).contains(&seconds),
            "{seconds}"
        );
        let [first, last] = sample.dev.span().unwrap();
        assert!((last - first).as_secs_f64() >= 0.1);
        // Eight steps and what is asked for ahead; the first ones do not count.
        let device = Device::default();
        let data = sample.train(Arc::new(Numbers), 1).to_device(&device);
        let began = Instant::now();
        assert_eq!(pass(data.as_ref(), 10), 10);
        let (seconds, elapsed) = (sample.train.seconds().unwrap(), began.elapsed());
        // Those that count are seven of ten.
        let most = elapsed.as_secs_f64() * 10.0 / 7.0;
        assert!((0.1..=most).contains(&seconds), "{seconds} {most}");
    }

    #[test]
    fn enough_is_enough() {
        let sample = Sample {
            enough: Duration::from_millis(1),
            ..Sample::default()
        };
        let is_enough = |data: &dyn DataLoader<usize>| pass(data, 1);
        assert_eq!(is_enough(sample.train(Arc::new(Numbers), 1).as_ref()), 10);
        let clocked = Clocked {
            data: Arc::new(Numbers),
            clock: Clock::default(),
            least: 4,
            enough: Duration::from_millis(1),
        };
        assert_eq!(is_enough(&clocked), 4);
        assert!(clocked.is_enough(2, 4 * SLOW) && !clocked.is_enough(1, 4 * SLOW));
        assert_eq!(Clock::default().seconds(), None);
    }
}
