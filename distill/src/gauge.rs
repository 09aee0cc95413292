//! Numbers on the dashboard that are no function of the model's output.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use burn::{
    tensor::TensorReadError,
    train::metric::{
        Metric, MetricAttributes, MetricMetadata, MetricName, Numeric, NumericAttributes,
        NumericEntry, SerializedEntry,
        state::{FormatOptions, NumericMetricState},
    },
};

/// A training metric that shows what was [`set`](Self::set): the mean of the values since it was
/// shown last, and their mean over the epoch. Clones share the values.
#[derive(Clone)]
pub struct Gauge {
    name: MetricName,
    pending: Arc<Mutex<Mean>>,
    state: NumericMetricState,
}

#[derive(Default)]
struct Mean {
    sum: f64,
    count: usize,
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

    /// Adds a value.
    pub fn set(&self, value: f64) {
        let mut pending = self.pending();
        pending.sum += value;
        pending.count += 1;
    }

    fn pending(&self) -> MutexGuard<'_, Mean> {
        // A sum and a count stay valid whatever panicked while they were locked.
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&mut self) {
        let Mean { sum, count } = std::mem::take(&mut *self.pending());
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

    fn update(&mut self, _: &(), _: &MetricMetadata) -> Result<SerializedEntry, TensorReadError> {
        self.take();
        Ok(match self.value() {
            Some(_) => self.state.compute_update(self.format()),
            None => SerializedEntry::not_available(None),
        })
    }

    fn compute(&mut self) -> Result<SerializedEntry, TensorReadError> {
        self.take();
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

    fn shown(gauge: &mut Gauge) -> Option<f64> {
        let metadata = MetricMetadata {
            progress: Progress::new(1, 1, None),
            iteration: None,
            lr: None,
        };
        gauge.update(&(), &metadata).unwrap();
        gauge.value().map(|value| value.current())
    }

    #[test]
    fn averages_since_the_last_display_and_over_the_epoch() {
        let gauge = Gauge::new("load");
        let mut metric = gauge.clone();
        assert_eq!(shown(&mut metric), None);
        gauge.set(1.0);
        gauge.set(2.0);
        assert_eq!(shown(&mut metric), Some(1.5));
        assert_eq!(shown(&mut metric), None);
        gauge.set(6.0);
        assert_eq!(shown(&mut metric), Some(6.0));
        gauge.set(7.0);
        metric.compute().unwrap();
        assert!((metric.final_value().current() - 4.0).abs() < 1e-12);
    }
}
