//! Keeps the experts of gated layers evenly busy.

use masformer_core::{Keep, RouteTrace};

use crate::{Batch, Callback, CallbackError, CallbackModel, Context, Gauge, Output, Step};

/// Adds `weight` times the routers' balance losses, summed over the layers, to the loss (`MoEBERT`,
/// arXiv 2204.07675, after arXiv 2101.03961).
///
/// Routers without weights have no balance loss and are left alone. The gauges show the share of
/// tokens that goes to the busiest expert, averaged over the layers, and the balance loss before it is
/// weighted.
pub struct RouterBalance {
    weight: f64,
    padding: bool,
    load: Gauge,
    loss: Gauge,
}

impl RouterBalance {
    /// Adds the balance losses with this weight, of real tokens alone.
    pub fn new(weight: f64) -> Self {
        Self {
            weight,
            padding: false,
            load: Gauge::new("Busiest expert"),
            loss: Gauge::new("Balance loss"),
        }
    }

    /// Whether padded tokens count in the balance losses, as in the published code of `MoEBERT`.
    #[must_use]
    pub fn with_padding(mut self, padding: bool) -> Self {
        self.padding = padding;
        self
    }

    /// The share of tokens of the busiest expert, for the dashboard.
    pub fn load_gauge(&self) -> Gauge {
        self.load.clone()
    }

    /// The balance loss before it is weighted, for the dashboard of a model with gates.
    pub fn loss_gauge(&self) -> Gauge {
        self.loss.clone()
    }
}

/// The share of tokens that went to the busiest expert, averaged over the layers.
fn busiest_share(routes: &[RouteTrace]) -> Option<f64> {
    let shares: Vec<f64> = routes
        .iter()
        .filter_map(|route| {
            let total: usize = route.load.iter().sum();
            let most = *route.load.iter().max()?;
            (total > 0).then(|| most as f64 / total as f64)
        })
        .collect();
    (!shares.is_empty()).then(|| shares.iter().sum::<f64>() / shares.len() as f64)
}

impl<M: CallbackModel> Callback<M> for RouterBalance {
    fn name(&self) -> &'static str {
        "router-balance"
    }

    fn keep(&self) -> Keep {
        Keep {
            routes: true,
            padded_balance: self.padding,
            ..Keep::default()
        }
    }

    fn adds_to_loss(&self) -> bool {
        self.weight > 0.0
    }

    fn after_forward(
        &mut self,
        _: &Context,
        _: &M,
        _: &Batch<M>,
        step: &mut Step<Output<M>>,
    ) -> Result<(), CallbackError> {
        let trace = &step.signals.trace;
        if let Some(balance) = trace.balance_loss() {
            self.loss.observe(balance.clone());
            step.loss = step.loss.clone() + balance.mul_scalar(self.weight);
        }
        if let Some(share) = busiest_share(&trace.routes) {
            self.load.set(share);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use burn::train::metric::LossMetric;
    use serde_json::Value;

    use super::*;
    use crate::{
        Stage, StageConfig, Ui,
        toy::{Toy, ToyBatch, ToyLoader, serial},
    };

    #[test]
    fn the_share_of_the_busiest_expert_is_averaged_over_layers() {
        let route = |load: &[usize]| RouteTrace {
            load: load.to_vec(),
            balance_loss: None,
        };
        let share = busiest_share(&[route(&[3, 1]), route(&[2, 2]), route(&[0, 0])]);
        assert!((share.unwrap() - 0.625).abs() < 1e-12);
        assert_eq!(busiest_share(&[]), None);
    }

    /// Checks, after the balance loss was added, by how much the loss grew.
    struct Check;

    impl Callback<Toy> for Check {
        fn name(&self) -> &'static str {
            "check"
        }

        fn order(&self) -> i32 {
            1
        }

        fn after_forward(
            &mut self,
            _: &Context,
            _: &Toy,
            _: &ToyBatch,
            step: &mut Step<Output<Toy>>,
        ) -> Result<(), CallbackError> {
            let balance = step.signals.trace.balance_loss().ok_or("no balance loss")?;
            let added = step.loss.clone() - step.output.loss.clone();
            let difference = (added - balance.mul_scalar(0.3)).into_scalar::<f32>();
            if difference.abs() > 1e-6 {
                return Err(format!("off by {difference}").into());
            }
            Ok(())
        }
    }

    /// The value of each metric over the whole epoch, of a training with this weight.
    fn epoch(weight: f64, accumulation: usize) -> BTreeMap<String, f64> {
        let _turn = serial();
        let directory = tempfile::tempdir().unwrap();
        let config = StageConfig {
            ui: Ui::None,
            accumulation,
            ..StageConfig::new(directory.path(), 1, 1e-30)
        };
        let balance = RouterBalance::new(weight);
        let loader = || ToyLoader::new(12, 4).shared();
        let stage = Stage::new(config, loader(), loader())
            .metrics((LossMetric::new(),))
            .gauge(balance.load_gauge())
            .gauge(balance.loss_gauge())
            .callback(balance);
        let stage = if weight > 0.0 {
            stage.callback(Check)
        } else {
            stage
        };
        stage.fit(Toy::new(1, 3, 0.0).with_gate(2)).unwrap();
        let metrics = std::fs::read_to_string(directory.path().join("metrics.jsonl")).unwrap();
        let lines = metrics
            .lines()
            .map(|line| serde_json::from_str::<Value>(line).unwrap());
        lines
            .filter(|line| line["split"] == "train" && line["last"] == true)
            .map(|line| {
                let name = line["name"].as_str().unwrap().to_owned();
                (name, line["value"].as_f64().unwrap())
            })
            .collect()
    }

    #[test]
    fn the_weighted_balance_loss_joins_the_loss_and_all_three_are_shown() {
        // Three batches, in a group each or in two and one: the same means.
        for accumulation in [1, 2] {
            let metrics = epoch(0.3, accumulation);
            assert!((metrics["Busiest expert"] - 0.75).abs() < 1e-9);
            let sum = metrics["Loss"] + 0.3 * metrics["Balance loss"];
            let total = metrics["Total loss"];
            assert!((total - sum).abs() < 1e-6, "{total} {sum}");
            assert!(metrics["Balance loss"] > 0.1, "{metrics:?}");
        }
    }

    #[test]
    fn a_loss_that_nothing_is_added_to_is_shown_once() {
        let metrics = epoch(0.0, 1);
        assert!(metrics.contains_key("Balance loss"), "{metrics:?}");
        assert!(!metrics.contains_key("Total loss"), "{metrics:?}");
    }

    #[test]
    fn a_balance_loss_with_padding_is_asked_for() {
        let keep = |padding| {
            let balance = RouterBalance::new(1.0).with_padding(padding);
            Callback::<Toy>::keep(&balance).padded_balance
        };
        assert!(keep(true) && !keep(false));
    }
}
