//! What routers add to the loss, and how evenly they keep their experts busy.

use std::collections::BTreeMap;

use burn::{nn::Linear, prelude::*};
use masformer_core::{Keep, Layers, RouteTrace};

use super::{LayerValues, Objective, Terms};
use crate::{MethodError, Signals};

/// The share of tokens of the busiest expert on the dashboard.
const LOAD: &str = "Busiest expert";
/// Real tokens of a batch by expert, in `layers.jsonl`.
const LAYER_LOAD: &str = "load";
/// The entropy of a gate in nats, in `layers.jsonl`.
const LAYER_ENTROPY: &str = "entropy";

/// Adds the losses of the routers to the loss, each summed over the layers and weighted: a balance loss (`MoEBERT`,
/// arXiv 2204.07675, after arXiv 2101.03961), for example.
///
/// Routers without weights have no losses and are left alone. The dashboard shows the share of tokens that goes to
/// the busiest expert, averaged over the layers, and each loss before it is weighted. `layers.jsonl` gets the tokens of
/// every expert (`load`) and the entropy of gates (`entropy`), layer by layer.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RouterLosses {
    losses: Vec<RouterLoss>,
}

/// A loss of the routers.
#[derive(Clone, Debug, PartialEq)]
struct RouterLoss {
    name: &'static str,
    title: &'static str,
    weight: f64,
}

impl RouterLosses {
    /// Adds the loss of this name with this weight; `title` is its name on the dashboard.
    #[must_use]
    pub fn with(mut self, name: &'static str, title: &'static str, weight: f64) -> Self {
        self.losses.push(RouterLoss {
            name,
            title,
            weight,
        });
        self
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

impl Objective for RouterLosses {
    fn name(&self) -> &'static str {
        "router-losses"
    }

    fn keep(&self) -> Keep {
        Keep {
            routes: Layers::All,
            ..Keep::default()
        }
    }

    fn shows(&self) -> Vec<&'static str> {
        let titles = self.losses.iter().map(|loss| loss.title);
        [LOAD].into_iter().chain(titles).collect()
    }

    fn adds_to_loss(&self) -> bool {
        self.losses.iter().any(|loss| loss.weight > 0.0)
    }

    fn terms(
        &self,
        _: &[Linear],
        student: &Signals,
        _: Option<&Signals>,
    ) -> Result<Terms, MethodError> {
        let trace = &student.trace;
        let mut terms = Terms::default();
        for loss in &self.losses {
            terms.add(loss.title, trace.router_loss(loss.name), loss.weight);
        }
        if let Some(share) = busiest_share(&trace.routes) {
            terms.shown.push((LOAD, share));
        }
        for (layer, route) in &trace.routes {
            let load = LayerValues::new(LAYER_LOAD, *layer, route.load.clone());
            terms.layers.push(load);
            let entropy = route.entropy.clone();
            let entropy = entropy.map(|value| LayerValues::new(LAYER_ENTROPY, *layer, value));
            terms.layers.extend(entropy);
        }
        Ok(terms)
    }
}

#[cfg(test)]
mod tests {
    use burn::train::metric::LossMetric;
    use masformer_core::Tokens;
    use serde_json::Value;

    use super::*;
    use crate::{
        LayerLine, Stage, StageConfig, Ui,
        toy::{Toy, ToyLoader, serial},
    };

    #[test]
    fn the_share_of_the_busiest_expert_is_averaged_over_layers() {
        let device = Device::default();
        let route = |load: [f32; 2]| RouteTrace {
            tokens: Tokens::new(Tensor::zeros([1, 4], &device), None),
            experts: Tensor::zeros([4, 1], &device),
            load: Tensor::from_data(load, &device),
            losses: vec![],
            entropy: None,
        };
        let share = busiest_share(&[(1, route([3.0, 1.0])), (3, route([2.0, 2.0]))].into());
        let share: f32 = share.unwrap().into_scalar();
        assert!((share - 0.625).abs() < 1e-6);
        assert!(busiest_share(&BTreeMap::new()).is_none());
    }

    /// The value of each metric over the whole epoch, of a training with this weight, and what it says of layers.
    fn epoch(weight: f64, accumulation: usize) -> (BTreeMap<String, f64>, Vec<LayerLine>) {
        let _turn = serial();
        let directory = tempfile::tempdir().unwrap();
        let config = StageConfig {
            ui: Ui::None,
            accumulation,
            ..StageConfig::new(directory.path(), 1, 1e-30)
        };
        let losses = RouterLosses::default().with("balance", "Balance loss", weight);
        let loader = || ToyLoader::new(12, 4).shared();
        let stage = Stage::new(config, loader(), loader())
            .metrics((LossMetric::new(),))
            .objective(losses);
        stage.fit(Toy::new(1, 3, 0.0).with_gate(2)).unwrap();
        let metrics = std::fs::read_to_string(directory.path().join("metrics.jsonl")).unwrap();
        let layers = std::fs::read_to_string(directory.path().join("layers.jsonl")).unwrap();
        let layers = layers
            .lines()
            .map(|line| serde_json::from_str(line).unwrap());
        let lines = metrics
            .lines()
            .map(|line| serde_json::from_str::<Value>(line).unwrap());
        let metrics = lines
            .filter(|line| line["split"] == "train" && line["last"] == true)
            .map(|line| {
                let name = line["name"].as_str().unwrap().to_owned();
                (name, line["value"].as_f64().unwrap())
            })
            .collect();
        (metrics, layers.collect())
    }

    #[test]
    fn the_weighted_balance_loss_joins_the_loss_and_all_three_are_shown() {
        // Three batches, in a group each or in two and one: the same means.
        for accumulation in [1, 2] {
            let (metrics, layers) = epoch(0.3, accumulation);
            // The loads of the toy are constant, and its gate has a probability for an entropy.
            let [entropy, load] = layers.as_slice() else {
                panic!("{layers:?}");
            };
            assert_eq!((load.name.as_str(), load.layer, load.epoch), ("load", 0, 1));
            assert_eq!(load.values, [3.0, 1.0]);
            assert_eq!(entropy.name, "entropy");
            assert!((0.5..1.0).contains(&entropy.values[0]), "{entropy:?}");
            assert!((metrics["Busiest expert"] - 0.75).abs() < 1e-6);
            let sum = metrics["Loss"] + 0.3 * metrics["Balance loss"];
            let total = metrics["Total loss"];
            assert!((total - sum).abs() < 1e-6, "{total} {sum}");
            assert!(metrics["Balance loss"] > 0.1, "{metrics:?}");
        }
    }

    #[test]
    fn a_loss_that_nothing_is_added_to_is_shown_once() {
        let (metrics, _) = epoch(0.0, 1);
        assert!(metrics.contains_key("Balance loss"), "{metrics:?}");
        assert!(!metrics.contains_key("Total loss"), "{metrics:?}");
    }
}
