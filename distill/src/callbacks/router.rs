//! What routers add to the loss, and how evenly they keep their experts busy.

use std::collections::BTreeMap;

use burn::prelude::*;
use masformer_core::{Keep, Layers, RouteTrace};

use crate::{Batch, Callback, CallbackError, CallbackModel, Context, Gauge, Output, Step};

/// Adds the losses of the routers to the loss, each summed over the layers and weighted: a balance loss (`MoEBERT`,
/// arXiv 2204.07675, after arXiv 2101.03961), for example.
///
/// Routers without weights have no losses and are left alone. The gauges show the share of tokens that goes to
/// the busiest expert, averaged over the layers, and each loss before it is weighted.
pub struct RouterLosses {
    terms: Vec<Term>,
    load: Gauge,
}

/// A loss of the routers.
struct Term {
    name: &'static str,
    weight: f64,
    gauge: Gauge,
}

impl Default for RouterLosses {
    fn default() -> Self {
        Self {
            terms: vec![],
            load: Gauge::new("Busiest expert"),
        }
    }
}

impl RouterLosses {
    /// Adds the loss of this name with this weight; `title` is its name on the dashboard.
    #[must_use]
    pub fn with(mut self, name: &'static str, title: &str, weight: f64) -> Self {
        let gauge = Gauge::new(title);
        self.terms.push(Term {
            name,
            weight,
            gauge,
        });
        self
    }

    /// The share of tokens of the busiest expert, for the dashboard.
    pub fn load_gauge(&self) -> Gauge {
        self.load.clone()
    }

    /// The losses before they are weighted, for the dashboard of a model with gates.
    pub fn loss_gauges(&self) -> impl Iterator<Item = Gauge> {
        self.terms.iter().map(|term| term.gauge.clone())
    }
}

/// The share `[1]` of tokens that went to the busiest expert, averaged over the layers.
fn busiest_share(routes: &BTreeMap<usize, RouteTrace>) -> Option<Tensor<1>> {
    let shares = routes.values().map(|route| {
        let total = route.load.clone().sum().clamp_min(1.0);
        route.load.clone().max() / total
    });
    let sum = shares.reduce(|sum, share| sum + share)?;
    Some(sum / routes.len() as f64)
}

impl<M: CallbackModel> Callback<M> for RouterLosses {
    fn name(&self) -> &'static str {
        "router-losses"
    }

    fn keep(&self) -> Keep {
        Keep {
            routes: Layers::All,
            ..Keep::default()
        }
    }

    fn adds_to_loss(&self) -> bool {
        self.terms.iter().any(|term| term.weight > 0.0)
    }

    fn after_forward(
        &mut self,
        _: &Context,
        _: &M,
        _: &Batch<M>,
        step: &mut Step<Output<M>>,
    ) -> Result<(), CallbackError> {
        let trace = &step.signals.trace;
        let mut loss = step.loss.clone();
        for term in &self.terms {
            if let Some(value) = trace.router_loss(term.name) {
                term.gauge.observe(value.clone());
                loss = loss + value.mul_scalar(term.weight);
            }
        }
        if let Some(share) = busiest_share(&trace.routes) {
            self.load.observe(share);
        }
        step.loss = loss;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use burn::train::metric::LossMetric;
    use serde_json::Value;

    use super::*;
    use crate::{
        Stage, StageConfig, Ui,
        toy::{Toy, ToyBatch, ToyLoader, serial},
    };

    #[test]
    fn the_share_of_the_busiest_expert_is_averaged_over_layers() {
        let route = |load: [f32; 2]| RouteTrace {
            load: Tensor::from_data(load, &Device::default()),
            losses: vec![],
        };
        let share = busiest_share(&[(1, route([3.0, 1.0])), (3, route([2.0, 2.0]))].into());
        let share: f32 = share.unwrap().into_scalar();
        assert!((share - 0.625).abs() < 1e-6);
        assert!(busiest_share(&BTreeMap::new()).is_none());
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
            let balance = step
                .signals
                .trace
                .router_loss("balance")
                .ok_or("no balance loss")?;
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
        let losses = RouterLosses::default().with("balance", "Balance loss", weight);
        let loss_gauge = losses.loss_gauges().next().unwrap();
        let loader = || ToyLoader::new(12, 4).shared();
        let stage = Stage::new(config, loader(), loader())
            .metrics((LossMetric::new(),))
            .gauge(losses.load_gauge())
            .gauge(loss_gauge)
            .callback(losses);
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
            assert!((metrics["Busiest expert"] - 0.75).abs() < 1e-6);
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
}
