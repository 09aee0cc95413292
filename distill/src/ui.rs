//! What a person sees of a stage.

use std::{
    collections::HashMap,
    fmt::Write as _,
    io::{self, IsTerminal, Write},
    time::{Duration, Instant},
};

use burn::train::{
    Interrupter, LearnerSummary,
    logger::{EvaluationProgressLogger, TrainingProgressLogger},
    metric::{MetricDefinition, MetricId, NumericEntry, format_float},
    renderer::{
        EvaluationName, MetricState, MetricsRenderer, MetricsRendererEvaluation,
        MetricsRendererTraining, tui::TuiMetricsRendererWrapper,
    },
};
use serde::{Deserialize, Serialize};

/// Shares of a pass over the data after which a line may be printed.
const LINES_A_PASS: usize = 10;
/// The least time between two lines within a pass.
const BETWEEN: Duration = Duration::from_secs(10);

/// What a person sees of a stage.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ui {
    /// burn-train's dashboard; plain lines where the output is no terminal.
    Tui,
    /// A line of progress and metrics now and then, on the standard error.
    #[default]
    Plain,
    /// Nothing.
    None,
}

impl Ui {
    pub(crate) fn renderer(
        self,
        interrupter: &Interrupter,
        resumed_from: Option<usize>,
    ) -> Box<dyn MetricsRenderer> {
        match self {
            Self::Tui if io::stdout().is_terminal() => Box::new(TuiMetricsRendererWrapper::new(
                interrupter.clone(),
                resumed_from,
            )),
            Self::Tui | Self::Plain => Box::new(PlainRenderer::new(io::stderr(), BETWEEN)),
            Self::None => Box::new(PlainRenderer::new(io::sink(), BETWEEN)),
        }
    }
}

/// Prints progress as lines such as `sst2 epoch 1/3 train 40%  Loss 0.4312  Accuracy 81.20`.
struct PlainRenderer<W> {
    out: W,
    /// The least time between two lines within a pass, and when the last one was printed.
    between: Duration,
    last: Option<Instant>,
    label: String,
    epoch: usize,
    epochs: usize,
    split: String,
    items: usize,
    /// Tenths of the pass that were printed.
    printed: usize,
    names: HashMap<MetricId, String>,
    /// Name, sum and weight of each metric since the last line, in the order of first sight.
    means: Vec<(String, f64, usize)>,
}

impl<W: Write + Send + Sync> PlainRenderer<W> {
    fn new(out: W, between: Duration) -> Self {
        Self {
            out,
            between,
            last: None,
            label: String::new(),
            epoch: 1,
            epochs: 0,
            split: String::new(),
            items: 0,
            printed: 0,
            names: HashMap::new(),
            means: Vec::new(),
        }
    }

    fn update(&mut self, state: MetricState) {
        let MetricState::Numeric(entry, Some(value)) = state else {
            return;
        };
        let Some(name) = self.names.get(&entry.metric_id) else {
            return;
        };
        let known = self.means.iter().position(|mean| mean.0 == *name);
        let index = known.unwrap_or_else(|| {
            self.means.push((name.clone(), 0.0, 0));
            self.means.len() - 1
        });
        let mean = &mut self.means[index];
        match value {
            // The value of the epoch takes the place of what was not printed yet.
            NumericEntry::Final(value) => (mean.1, mean.2) = (value, 1),
            NumericEntry::Value(value) => (mean.1, mean.2) = (mean.1 + value, mean.2 + 1),
            NumericEntry::Aggregated {
                aggregated_value,
                count,
            } => {
                mean.1 += aggregated_value * count as f64;
                mean.2 += count;
            }
        }
    }

    fn print(&mut self, at: &str) {
        let mut line = String::new();
        if !self.label.is_empty() {
            line.push_str(&self.label);
            line.push(' ');
        }
        // Writing to a string cannot fail, and a closed standard error is no reason to stop.
        let _ = write!(
            line,
            "epoch {}/{} {} {at}",
            self.epoch, self.epochs, self.split
        );
        for (name, sum, count) in self.means.drain(..) {
            let mean = sum / count as f64;
            if mean.is_finite() {
                let _ = write!(line, "  {name} {}", format_float(mean, 4));
            }
        }
        let _ = writeln!(self.out, "{line}");
        self.last = Some(Instant::now());
    }
}

impl<W: Write + Send + Sync> MetricsRendererTraining for PlainRenderer<W> {
    fn update_train(&mut self, state: MetricState) {
        self.update(state);
    }

    fn update_valid(&mut self, state: MetricState) {
        self.update(state);
    }

    fn on_train_end(
        &mut self,
        _: Option<LearnerSummary>,
    ) -> Result<(), Box<dyn std::error::Error>> {
        Ok(())
    }
}

impl<W: Write + Send + Sync> TrainingProgressLogger for PlainRenderer<W> {
    fn start(
        &mut self,
        total_epochs: usize,
        starting_epoch: usize,
        _: Option<usize>,
        label: Option<&str>,
    ) {
        self.epochs = total_epochs;
        self.epoch = starting_epoch;
        label.unwrap_or_default().clone_into(&mut self.label);
    }

    fn update_epoch(&mut self, epoch: usize) {
        self.epoch = epoch + 1;
    }

    fn start_split(&mut self, split: &str, total_items: usize) {
        split.clone_into(&mut self.split);
        self.items = total_items;
        self.printed = 0;
        self.means.clear();
    }

    fn update_split(&mut self, items_processed: usize) {
        let tenths = items_processed * LINES_A_PASS / self.items.max(1);
        let is_due = self.last.is_none_or(|last| last.elapsed() >= self.between);
        if self.split == "train" && tenths > self.printed && tenths < LINES_A_PASS && is_due {
            self.printed = tenths;
            self.print(&format!("{}%", tenths * 100 / LINES_A_PASS));
        }
    }

    fn end_split(&mut self) {
        self.print("mean");
    }

    fn end(&mut self) {}

    fn log_event_training(&mut self, _: String) {}
}

impl<W: Write + Send + Sync> MetricsRendererEvaluation for PlainRenderer<W> {
    fn update_test(&mut self, _: EvaluationName, _: MetricState) {}
}

impl<W: Write + Send + Sync> EvaluationProgressLogger for PlainRenderer<W> {
    fn start_global_progress(&mut self, _: usize) {}

    fn start_test(&mut self, _: &str, _: usize) {}

    fn update_test_progress(&mut self, _: usize) {}

    fn end_test(&mut self) {}

    fn end_global_progress(&mut self) {}

    fn log_event_evaluation(&mut self, _: String) {}
}

impl<W: Write + Send + Sync> MetricsRenderer for PlainRenderer<W> {
    fn manual_close(&mut self) {}

    fn register_metric(&mut self, definition: MetricDefinition) {
        self.names
            .insert(definition.metric_id, definition.name.to_string());
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use burn::train::metric::{LossMetric, MetricEntry, SerializedEntry};

    use super::*;

    /// The lines of a pass over 40 items.
    fn lines(between: Duration) -> Vec<String> {
        let mut renderer = PlainRenderer::new(Vec::new(), between);
        let id = MetricId::new(Arc::new("Loss".to_owned()));
        renderer.register_metric(MetricDefinition::new(id.clone(), &LossMetric::new()));
        let state = |value| {
            let entry = SerializedEntry::new(String::new(), String::new());
            MetricState::Numeric(MetricEntry::new(id.clone(), entry), Some(value))
        };
        renderer.start(2, 1, None, Some("sst2"));
        renderer.start_split("train", 40);
        for item in 1..=40 {
            renderer.update_train(state(NumericEntry::Aggregated {
                aggregated_value: f64::from(item),
                count: 1,
            }));
            renderer.update_split(item as usize);
        }
        renderer.update_train(state(NumericEntry::Final(20.5)));
        renderer.end_split();
        let text = String::from_utf8(renderer.out).unwrap();
        text.lines().map(str::to_owned).collect()
    }

    #[test]
    fn prints_a_line_every_tenth_and_one_for_the_pass() {
        let lines = lines(Duration::ZERO);
        assert_eq!(lines.len(), 10);
        assert_eq!(lines[0], "sst2 epoch 1/2 train 10%  Loss 2.5000");
        assert_eq!(lines[9], "sst2 epoch 1/2 train mean  Loss 20.5000");
    }

    #[test]
    fn a_quick_pass_has_two_lines() {
        let lines = lines(Duration::MAX);
        assert_eq!(
            lines,
            [
                "sst2 epoch 1/2 train 10%  Loss 2.5000",
                "sst2 epoch 1/2 train mean  Loss 20.5000"
            ]
        );
    }
}
