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
