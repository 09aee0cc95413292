//! The method `experts`: feed-forward layers become experts, and what their routers add to the loss.

use std::{collections::BTreeMap, fmt};

use distill::loss::Padding;
use moebert_core::partition::{NeuronOrder, PartitionConfig};
use moebert_core::router::{GateScale, RouterConfig, RouterKind, RouterSpec};
use serde::{Deserialize, Deserializer, Serialize};

/// The name of the method.
pub const EXPERTS: &str = "experts";

/// The settings of the method.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Experts {
    /// How layers are split, and where tokens go.
    #[serde(flatten)]
    pub split: ExpertsRecipe,
    /// What the routers add to the loss.
    #[serde(flatten)]
    pub routers: RouterWeights,
}

/// Weights of what routers add to the loss.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct RouterWeights {
    /// Whether padded tokens count in the losses of gates that decide for tokens: `exclude` (default) or `include` (as in
    /// the published code).
    pub padding: Padding,
    /// The weight of each loss that a router has ([`RouterKind::losses`]), by its name: the paper's `lambda_balance` is
    /// `balance`. Default 0.
    #[serde(flatten, deserialize_with = "with_defaults")]
    losses: BTreeMap<String, f64>,
}

impl RouterWeights {
    /// The weight of the loss of this name.
    pub fn of(&self, loss: &str) -> f64 {
        self.losses.get(loss).copied().unwrap_or(0.0)
    }
}

impl Default for RouterWeights {
    fn default() -> Self {
        Self {
            padding: Padding::default(),
            losses: unweighted(),
        }
    }
}

/// No weight for any loss of a router.
fn unweighted() -> BTreeMap<String, f64> {
    let losses = RouterKind::all_losses().into_iter();
    losses.map(|loss| (loss.name.to_owned(), 0.0)).collect()
}

/// Weights, those that are not given among them.
fn with_defaults<'de, D: Deserializer<'de>>(weights: D) -> Result<BTreeMap<String, f64>, D::Error> {
    let mut all = unweighted();
    all.extend(BTreeMap::<String, f64>::deserialize(weights)?);
    Ok(all)
}

/// How each feed-forward layer of width F becomes experts. Defaults are the published
/// ones for BERT-base.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ExpertsRecipe {
    /// Experts a layer, E. Default 4.
    pub count: usize,
    /// Neurons an expert. Default 768.
    pub width: usize,
    /// Most important neurons that every expert gets. Default 512.
    pub shared: usize,
    /// Which neurons count as important: `importance` (default), `random`, `inverse` or
    /// `contiguous`.
    pub order: NeuronOrder,
    /// Which tokens an expert sees: `hash-random` by default.
    pub router: RouterSpec,
    /// Experts that a token passes; more than one is for routers that can send it to several. Default 1.
    pub k: usize,
    /// A gate's factor on the output: `unit` (default; leaves the starting point as it is) or
    /// `probability` (as published).
    pub gate_scale: GateScale,
}

impl ExpertsRecipe {
    /// The routers; `seed` decides their tables and first weights.
    pub fn routers(&self, seed: u64) -> RouterConfig {
        RouterConfig {
            spec: self.router.clone(),
            k: self.k,
            gate_scale: self.gate_scale,
            seed,
        }
    }

    /// How neurons are dealt to the experts; `seed` decides random orders.
    pub fn partition(&self, seed: u64) -> PartitionConfig {
        PartitionConfig {
            experts: self.count,
            expert_width: self.width,
            shared: self.shared,
            order: self.order,
            seed,
        }
    }
}

/// As a table or a legend shows them, such as `4 experts of 768, hash-random`.
impl fmt::Display for ExpertsRecipe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} experts of {}, {}",
            self.count, self.width, self.router
        )?;
        if self.k > 1 {
            write!(f, ":{}", self.k)?;
        }
        Ok(())
    }
}

impl Default for ExpertsRecipe {
    fn default() -> Self {
        Self {
            count: 4,
            width: 768,
            shared: 512,
            order: NeuronOrder::default(),
            router: RouterSpec::default(),
            k: 1,
            gate_scale: GateScale::default(),
        }
    }
}
