//! Keeps the experts of gated layers evenly busy.

use masformer_core::{Keep, RouteTrace};

use crate::{Batch, Callback, CallbackError, CallbackModel, Context, Gauge, Output, Step};

/// Adds `weight` times the routers' balance losses, summed over the layers, to the loss (`MoEBERT`,
/// arXiv 2204.07675, after arXiv 2101.03961).
///
/// Routers without weights have no balance loss and are left alone. The gauge shows the share of
/// tokens that goes to the busiest expert, averaged over the layers.
pub struct RouterBalance {
    weight: f64,
    load: Gauge,
}

impl RouterBalance {
    /// Adds the balance losses with this weight.
    pub fn new(weight: f64) -> Self {
        Self {
            weight,
            load: Gauge::new("Busiest expert"),
        }
    }

    /// The share of tokens of the busiest expert, for the dashboard.
    pub fn gauge(&self) -> Gauge {
        self.load.clone()
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
            ..Keep::default()
        }
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

    #[test]
    fn the_weighted_balance_loss_joins_the_loss() {
        let _turn = serial();
        let directory = tempfile::tempdir().unwrap();
        let config = StageConfig {
            ui: Ui::None,
            ..StageConfig::new(directory.path(), 1, 0.01)
        };
        let balance = RouterBalance::new(0.3);
        let loader = || ToyLoader::new(4, 4).shared();
        Stage::new(config, loader(), loader())
            .gauge(balance.gauge())
            .callback(balance)
            .callback(Check)
            .fit(Toy::new(1, 3, 0.0).with_gate(2))
            .unwrap();
        let metrics = std::fs::read_to_string(directory.path().join("metrics.jsonl")).unwrap();
        let line = metrics
            .lines()
            .find(|line| line.contains("Busiest expert"))
            .unwrap();
        assert!(line.contains("\"value\":0.75"), "{line}");
    }
}
