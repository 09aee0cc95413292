//! Numbers on the dashboard that are no function of the model's output.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use burn::{
    prelude::*,
    tensor::{FloatDType, TensorReadError},
    train::metric::{
        Metric, MetricAttributes, MetricMetadata, MetricName, Numeric, NumericAttributes,
        NumericEntry, SerializedEntry,
        state::{FormatOptions, NumericMetricState},
    },
};

/// A training metric that shows what was [`set`](Self::set): the mean of a batch's values, and of the
/// epoch's. Clones share the values.
#[derive(Clone)]
pub struct Gauge {
    name: MetricName,
    pending: Arc<Mutex<Pending>>,
    state: NumericMetricState,
}

/// Values that were not shown yet.
#[derive(Default)]
struct Pending {
    /// The batch that values belong to now.
    iteration: usize,
    /// The batches of the values, with sum and count.
    sums: Vec<(usize, f64, usize)>,
    /// Values `[1]` that were not read from the device yet.
    unread: Vec<Tensor<1>>,
}

impl Gauge {
    /// A gauge of this name.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: Arc::new(name.into()),
            pending: Arc::default(),
            state: NumericMetricState::new(),
        }
    }

    /// Its name.
    pub(crate) fn title(&self) -> &str {
        &self.name
    }

    /// Adds a value.
    pub fn set(&self, value: f64) {
        self.add(value, 1);
    }

    /// Adds the sum of several values.
    pub(crate) fn add(&self, value: f64, values: usize) {
        let mut pending = self.pending();
        let now = pending.iteration;
        match pending.sums.last_mut() {
            Some((iteration, sum, count)) if *iteration == now => {
                *sum += value;
                *count += values;
            }
            _ => pending.sums.push((now, value, values)),
        }
    }

    /// Adds a value `[1]` that is on the device still. The stage reads it together with the loss of
    /// the optimiser's step, so that nothing waits for it.
    pub fn observe(&self, value: Tensor<1>) {
        let value = value.without_autodiff().cast(FloatDType::F32);
        self.pending().unread.push(value);
    }

    /// Hands out what was observed and not read, float32.
    pub(crate) fn take_unread(&self) -> Vec<Tensor<1>> {
        std::mem::take(&mut self.pending().unread)
    }

    /// Says which batch of the epoch the next values belong to. Metrics are shown by another thread,
    /// some batches later; without this, values would be counted by when it gets there.
    pub(crate) fn begin(&self, iteration: usize) {
        self.pending().iteration = iteration;
    }

    fn pending(&self) -> MutexGuard<'_, Pending> {
        // Sums and counts stay valid whatever panicked while they were locked.
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts the values up to this batch.
    fn take(&mut self, iteration: usize) {
        let mut total = (0.0, 0);
        self.pending().sums.retain(|(batch, sum, count)| {
            let later = *batch > iteration;
            if !later {
                total = (total.0 + sum, total.1 + count);
            }
            later
        });
        let (sum, count) = total;
        let mean = if count == 0 {
            f64::NAN
        } else {
            sum / count as f64
        };
        self.state.update(mean, count);
    }

    fn format(&self) -> FormatOptions {
        FormatOptions::new(self.name.clone()).precision(4)
    }
}

impl Metric for Gauge {
    type Input = ();

    fn name(&self) -> MetricName {
        self.name.clone()
    }

    fn attributes(&self) -> MetricAttributes {
        NumericAttributes {
            unit: None,
            higher_is_better: false,
        }
        .into()
    }

    fn update(
        &mut self,
        (): &(),
        metadata: &MetricMetadata,
    ) -> Result<SerializedEntry, TensorReadError> {
        self.take(metadata.iteration.unwrap_or(usize::MAX));
        Ok(match self.value() {
            Some(_) => self.state.compute_update(self.format()),
            None => SerializedEntry::not_available(None),
        })
    }

    fn compute(&mut self) -> Result<SerializedEntry, TensorReadError> {
        self.take(usize::MAX);
        Ok(self.state.compute_final(self.format()))
    }

    fn clear(&mut self) {
        self.state.reset();
    }
}

impl Numeric for Gauge {
    fn value(&self) -> Option<NumericEntry> {
        let value = self.state.current_value();
        (!value.current().is_nan()).then_some(value)
    }

    fn running_value(&self) -> Option<NumericEntry> {
        let value = self.state.running_value();
        (!value.current().is_nan()).then_some(value)
    }

    fn final_value(&self) -> NumericEntry {
        self.state.final_value()
    }
}

#[cfg(test)]
mod tests {
    use burn::data::dataloader::Progress;

    use super::*;

    fn shown(gauge: &mut Gauge, iteration: usize) -> Option<f64> {
        let metadata = MetricMetadata {
            progress: Progress::new(iteration, 9, None),
            iteration: Some(iteration),
            lr: None,
        };
        gauge.update(&(), &metadata).unwrap();
        gauge.value().map(|value| value.current())
    }

    #[test]
    fn averages_over_each_batch_and_the_epoch() {
        let gauge = Gauge::new("load");
        let mut metric = gauge.clone();
        assert_eq!(shown(&mut metric, 1), None);
        gauge.begin(2);
        gauge.set(1.0);
        gauge.set(2.0);
        // The training is ahead of the dashboard.
        gauge.begin(3);
        gauge.set(6.0);
        assert_eq!(shown(&mut metric, 2), Some(1.5));
        assert_eq!(shown(&mut metric, 3), Some(6.0));
        assert_eq!(shown(&mut metric, 4), None);
        gauge.set(7.0);
        metric.compute().unwrap();
        assert!((metric.final_value().current() - 4.0).abs() < 1e-12);
    }
}
